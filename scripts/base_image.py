#!/usr/bin/env python3
"""Make the base image of tests and examples: a static busybox with every applet linked, as an OCI image layout.

The same busybox gives the same digests on every run: fixed times and owners, sorted entries, no build date.
Standard library only, since it runs before anything is installed.

    base_image.py --busybox /bin/busybox --output DIR [--tag latest]

prints the digest of the image manifest.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

# Name and mode, parents before their children.
DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "sbin": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/tmp": 0o1777,
}

FILES = {
    "etc/group": "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nnogroup:x:65534:\n",
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "www-data:x:33:33:www-data:/home:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
}

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EPOCH = "1970-01-01T00:00:00Z"


def applet_paths(busybox: Path) -> list[str]:
    """Return where busybox wants its applets, for example "usr/bin/env", sorted."""
    listed = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True).stdout
    return sorted({line.strip().lstrip("/") for line in listed.splitlines()} - {"", "bin/busybox"})


def layer_tar(busybox: Path) -> bytes:
    """Return the root file system as an uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), target
            tar.addfile(entry, io.BytesIO(content))

        for name, mode in DIRECTORIES.items():
            add(name, tarfile.DIRTYPE, mode)
        add("bin/busybox", tarfile.REGTYPE, 0o755, busybox.read_bytes())
        for name, text in FILES.items():
            add(name, tarfile.REGTYPE, 0o644, text.encode())
        for name in applet_paths(busybox):
            if "/" in name:  # "linuxrc" belongs to initial ram disks
                add(name, tarfile.SYMTYPE, 0o777, target="/bin/busybox")
    return buffer.getvalue()


def gzipped(content: bytes) -> bytes:
    """Return content as gzip without time and name; GzipFile writes the same header with every Python version."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()


def write_layout(output: Path, layer: bytes, *, architecture: str, tag: str) -> str:
    """Write an OCI image layout with one image, replacing what was there, and return the manifest's digest."""
    shutil.rmtree(output, ignore_errors=True)
    blobs = output / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(media_type: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def add_json(media_type: str, value: object) -> dict[str, object]:
        return add(media_type, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())

    config = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": {"Cmd": ["sh"], "Env": [f"PATH={PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created": EPOCH, "created_by": "busybox, every applet linked"}],
    }
    manifest = add_json(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": add_json(CONFIG, config),
            "layers": [add(LAYER, gzipped(layer))],
        },
    )
    named = manifest | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (output / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}))
    (output / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return str(manifest["digest"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busybox", type=Path, default=Path("/bin/busybox"), help="a statically linked busybox")
    parser.add_argument("--output", type=Path, required=True, help="folder to make; an older one is replaced")
    parser.add_argument("--tag", default="latest")
    arguments = parser.parse_args()
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        print(f"base_image: no image architecture is known for {platform.machine()}", file=sys.stderr)
        return 1
    print(write_layout(arguments.output, layer_tar(arguments.busybox), architecture=architecture, tag=arguments.tag))
    return 0


if __name__ == "__main__":
    sys.exit(main())
