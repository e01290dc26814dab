"""Export and import of a large build beside what Convox runs: ``skopeo copy`` for each image, then ``tar czf``.

    benchmarks/bench_builds_export.py [--size-mb 1024] [--registry 127.0.0.1:5000] [--dir FOLDER]

The image has four layers of random bytes in gzip, as layers of real images hardly compress any further. Wall time and
the highest resident memory of each program are printed; of several programs in a row, times add up and the largest
memory counts. With a registry, the same is measured on a rack that keeps its images there.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from buildkit_client.oci import Descriptor, Digest, ImageLayout, ImageManifest
from convox.models import Build, BuildStatus, now
from convox.store import open_store, sqlite_url

BUILD_ID = "BBENCHMARKX"
LAYERS = 4
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    seconds: float
    rss_mb: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, max(self.rss_mb, other.rss_mb))


def run(command: list[str], **env: str) -> Cost:
    """Run a program and measure it.

    Its memory is looked at while it runs: what a parent learns at the end includes what the child was before it became
    another program.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, **env})
        peak_kb = 0
        while process.poll() is None:
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
                peak_kb = max(peak_kb, int(found[1]) if found else 0)
            time.sleep(0.01)
        seconds = time.monotonic() - started
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{errors.read().decode(errors='replace')}")
    return Cost(seconds, peak_kb / 1024)


def show(what: str, cost: Cost, size_mb: int) -> None:
    print(
        f"{what:<44} {cost.seconds:8.2f} s {size_mb / cost.seconds:8.0f} MB/s {cost.rss_mb:8.0f} MB memory", flush=True
    )


def make_image(layout: ImageLayout, size_mb: int) -> Descriptor:
    layers, diff_ids = [], []
    for _ in range(LAYERS):
        plain = Digest.of(b"").new_hash()
        with layout.begin_blob() as writer:
            with gzip.GzipFile("", "wb", 0, writer, mtime=0) as packer:  # type: ignore[arg-type]  # only writes
                for _ in range(size_mb // LAYERS):
                    chunk = os.urandom(MIB)
                    plain.update(chunk)
                    packer.write(chunk)
            digest = writer.commit()
            layers.append(Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest, writer.size_bytes))
        diff_ids.append(str(Digest.from_hash(plain)))
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    layout.put_blob(config)
    document = ImageManifest(
        Descriptor.of("application/vnd.oci.image.config.v1+json", config), tuple(layers)
    ).to_bytes()
    layout.put_blob(document)
    return Descriptor.of("application/vnd.oci.image.manifest.v1+json", document)


def add_record(rack: Path, repository: str, digest: str) -> None:
    store = open_store(sqlite_url(rack / "store.db"), logs_dir=rack / "logs")
    store.create_build(
        Build(
            id=BUILD_ID,
            app="app",
            status=BuildStatus.COMPLETE,
            manifest="services:\n  web:\n    build: .\n",
            repository=repository,
            started=now(),
            ended=now(),
            images={"web": digest},
        )
    )
    store.close()


def measure(convox: list[str], folder: Path, source: str, size_mb: int, rack: str) -> None:
    """Export a build with both, then import it."""
    ours, theirs = folder / "ours.tgz", folder / "theirs"
    env = {"CONVOX_CONFIG": str(folder / "config"), "CONVOX_RACK": rack}
    cost = run([*convox, "builds", "export", BUILD_ID, "-a", "app", "-f", str(ours)], **env)
    show(f"convox builds export ({rack})", cost, size_mb)
    theirs.mkdir()
    (theirs / "build.json").write_text("{}")
    skopeo = os.environ.get("SKOPEO", "skopeo")
    archive = theirs / f"web.{BUILD_ID}.tar"
    cost = run([skopeo, "copy", "--src-tls-verify=false", source, f"oci-archive:{archive}"])
    show("  skopeo copy alone", cost, size_mb)
    cost += run(["tar", "czf", str(folder / "theirs.tgz"), "-C", str(theirs), "build.json", archive.name])
    show("  skopeo copy + tar czf", cost, size_mb)
    shutil.rmtree(theirs)
    (folder / "theirs.tgz").unlink()
    cost = run([*convox, "builds", "import", "-a", "app", "-f", str(ours)], **env)
    show(f"convox builds import, all there ({rack})", cost, size_mb)
    cost = run([*convox, "builds", "import", "-a", "other", "-r", "fresh", "-f", str(ours)], **env)
    show("convox builds import, nothing there (fresh)", cost, size_mb)
    shutil.rmtree(folder / "config" / "racks" / "fresh" / "images")
    ours.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=1024)
    parser.add_argument("--registry", default=os.environ.get("TEST_REGISTRY", ""))
    parser.add_argument("--dir", type=Path, help="where to make a temporary folder of some three times the size")
    options = parser.parse_args()
    convox = [sys.executable, "-m", "convox.cli.app"]
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="bench-") as name:
        folder = Path(name)
        racks = folder / "config" / "racks"
        for rack, params in (("local", {}), ("fresh", {}), ("remote", {"registry": options.registry})):
            (racks / rack).mkdir(parents=True)
            (racks / rack / "params.json").write_text(
                json.dumps({key: value for key, value in params.items() if value})
            )
        layout = ImageLayout.create(racks / "local" / "images")
        image = make_image(layout, options.size_mb)
        tag = f"localhost/app:web.{BUILD_ID}"
        layout.add_image(image, [tag])
        add_record(racks / "local", "localhost/app", image.digest)
        measure(convox, folder, f"oci:{layout.path}:web.{BUILD_ID}", options.size_mb, "local")
        if options.registry:
            target = f"docker://{options.registry}/app:web.{BUILD_ID}"
            skopeo = os.environ.get("SKOPEO", "skopeo")
            run([skopeo, "copy", "--dest-tls-verify=false", f"oci:{layout.path}:web.{BUILD_ID}", target])
            shutil.rmtree(layout.path)
            add_record(racks / "remote", f"{options.registry}/app", image.digest)
            measure(convox, folder, target, options.size_mb, "remote")


if __name__ == "__main__":
    main()
