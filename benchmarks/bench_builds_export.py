"""Export and import of a large build beside what Convox runs, W9 and W10 of ``benchmarks/run``.

    benchmarks/bench_builds_export.py [--size-mb 2048] [--rounds 3] [--registry HOST:PORT] [--dir DIR] [--json FILE]

Convox runs ``skopeo copy`` to an OCI archive for each image and ``tar czf``; to import, ``tar xzf`` and ``skopeo copy``
from each. The image has four layers of random bytes in gzip, as layers of real images hardly compress any further.
Each round runs both sides once, one after the other; ratios are of one round, and their median counts. Wall time and
the highest resident memory of each program are printed; of several programs in a row, times add up and the largest
memory counts. With a registry, the same is measured on a rack that keeps its images there, and a last import of what
is there already goes through a proxy that counts the bytes that are sent.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.oci import Descriptor, Digest, ImageLayout, ImageManifest
from convox.models import Build, BuildStatus, now
from convox.store import open_store, sqlite_url

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@dataclass
class Row:
    """One work: what it cost us and the others, a figure for each round."""

    name: str
    goal: float
    ours: list[Cost] = field(default_factory=list)
    theirs: list[Cost] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(a.seconds / b.seconds for a, b in zip(self.ours, self.theirs, strict=True))

    def show(self) -> None:
        ours, theirs = (statistics.median(cost.seconds for cost in costs) for costs in (self.ours, self.theirs))
        memory = [max(cost.rss_mb for cost in costs) for costs in (self.ours, self.theirs)]
        print(
            f"{self.name:<28} {ours:8.2f} s {theirs:8.2f} s   {self.ratio:6.3f}  (goal {self.goal:g})"
            f"  {memory[0]:5.0f} MB {memory[1]:5.0f} MB",
            flush=True,
        )


class CountingProxy:
    """Passes TCP connections on to a registry, and counts what clients send."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.sent_bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            registry = socket.create_connection(self._target)
            threading.Thread(target=self._pass, args=(client, registry, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(registry, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_counted:
                    self.sent_bytes += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


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


@dataclass(frozen=True)
class Bench:
    """Runs both sides.

    Attributes:
        folder: For everything that is written.
        registry: Of the rack ``remote``, or empty.
    """

    folder: Path
    registry: str

    def convox(self, rack: str, *words: str) -> Cost:
        command = [sys.executable, "-m", "convox.cli.app", "builds", *words, "-r", rack]
        return run(command, CONVOX_CONFIG=str(self.folder / "config"))

    def export(self, rack: str) -> Cost:
        return self.convox(rack, "export", BUILD_ID, "-a", "app", "-f", str(self.folder / "ours.tgz"))

    def import_new(self, rack: str) -> Cost:
        """Import to where nothing is."""
        cost = self.convox(rack, "import", "-a", f"new-{secrets.token_hex(4)}", "-f", str(self.folder / "ours.tgz"))
        shutil.rmtree(self.folder / "config" / "racks" / rack / "images", ignore_errors=True)
        return cost

    def peer_export(self, source: str) -> Cost:
        with self._scratch() as scratch:
            (scratch / "build.json").write_text("{}")
            name = f"web.{BUILD_ID}.tar"
            cost = run([*SKOPEO, "copy", "--src-tls-verify=false", source, f"oci-archive:{scratch / name}"])
            return cost + run(["tar", "czf", str(self.folder / "theirs.tgz"), "-C", str(scratch), "build.json", name])

    def peer_import(self, *, is_remote: bool) -> Cost:
        with self._scratch() as scratch:
            cost = run(["tar", "xzf", str(self.folder / "theirs.tgz"), "-C", str(scratch)])
            target = f"docker://{self.registry}/new-{secrets.token_hex(4)}:web" if is_remote else f"oci:{scratch}/l:web"
            archive = f"oci-archive:{scratch}/web.{BUILD_ID}.tar"
            return cost + run([*SKOPEO, "copy", "--dest-tls-verify=false", archive, target])

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)


SKOPEO = [os.environ.get("SKOPEO", "skopeo"), "--insecure-policy"]


def compare(bench: Bench, rounds: int, source: str, rack: str, target: str) -> list[Row]:
    """Export a build from a rack with both, then import it to where nothing is, in every round."""
    exports, imports = Row(f"export ({rack})", 0.2), Row(f"import ({rack})", 0.5)
    for _ in range(rounds):
        exports.ours.append(bench.export(rack))
        exports.theirs.append(bench.peer_export(source))
        if rack != "local":
            # A file of this rack names its repository, whose blobs the registry would share with a new one. That of
            # the other rack does not, so that both sides have to send all of it.
            bench.export("local")
        imports.ours.append(bench.import_new(target))
        imports.theirs.append(bench.peer_import(is_remote=rack == "remote"))
    for row in (exports, imports):
        row.show()
    return [exports, imports]


def import_again(bench: Bench, proxy: CountingProxy, size_mb: int) -> float:
    """Import what is there already; return the part of its bytes that is sent."""
    words = ("import", "-a", "app", "-f", str(bench.folder / "ours.tgz"))
    cost = bench.convox("counted", *words)
    part = proxy.sent_bytes / (size_mb * MIB)
    print(
        f"{'import again (remote)':<28} {cost.seconds:8.2f} s   {proxy.sent_bytes} bytes sent, {part:.6f} (goal 0.05)"
    )
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--registry", default=os.environ.get("TEST_REGISTRY", ""))
    parser.add_argument("--dir", type=Path, help="where to make a temporary folder of some five times the size")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="bench-") as name:
        folder = Path(name)
        racks = folder / "config" / "racks"
        proxy = CountingProxy(options.registry) if options.registry else None
        remote = {"registry": options.registry}
        params = {"local": {}, "fresh": {}, "remote": remote, "counted": {"registry": proxy.host if proxy else ""}}
        for rack, values in params.items():
            (racks / rack).mkdir(parents=True)
            (racks / rack / "params.json").write_text(json.dumps({key: one for key, one in values.items() if one}))
        layout = ImageLayout.create(racks / "local" / "images")
        image = make_image(layout, options.size_mb)
        tag = f"localhost/app:web.{BUILD_ID}"
        layout.add_image(image, [tag])
        add_record(racks / "local", "localhost/app", image.digest)
        print(f"{options.size_mb} MB, {options.rounds} rounds: ours, theirs, ratio, memory of ours and theirs")
        bench = Bench(folder, options.registry)
        rows = compare(bench, options.rounds, f"oci:{layout.path}:web.{BUILD_ID}", "local", "fresh")
        part = None
        if proxy is not None:
            source = f"docker://{options.registry}/app:web.{BUILD_ID}"
            run([*SKOPEO, "copy", "--dest-tls-verify=false", f"oci:{layout.path}:web.{BUILD_ID}", source])
            add_record(racks / "remote", f"{options.registry}/app", image.digest)
            rows += compare(bench, options.rounds, source, "remote", "remote")
            part = import_again(bench, proxy, options.size_mb)
        if options.json:
            figures = [{**asdict(row), "ratio": row.ratio} for row in rows]
            options.json.write_text(json.dumps({"rows": figures, "sent_again": part}, indent=2))


if __name__ == "__main__":
    main()
