"""W9 and W10: ``convox builds export`` and ``import`` beside ``skopeo copy`` and ``tar``.

The image is in one registry and is imported into another one, so that nobody can take a blob that is there already.
Then it is imported once more over a proxy that only counts.
"""

from __future__ import annotations

import functools
import hashlib
import http
import http.client
import itertools
import os
import shutil
import time
from typing import TYPE_CHECKING

from benchmarks import contexts
from benchmarks.compare import Arm, Goal, Row
from benchmarks.daemons import Registry
from benchmarks.link_proxy import SlowLink
from benchmarks.measure import MIB, BenchmarkError, Cost, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.lab import Lab

OUR_NAME, PEER_NAME = "convox", "skopeo and tar"
_FAST_MBIT = 1_000_000.0


class _BigBuild:
    """A finished build with a large image in the registry, and its exports."""

    def __init__(self, lab: Lab, mib: int) -> None:
        self._site = lab
        self._skopeo: list[str | Path] = [
            lab.skopeo,
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]
        self.mib = mib
        self.folder = lab.folder / "exports"
        self.folder.mkdir()
        self._ours, self._theirs = self.folder / "ours.tgz", self.folder / "theirs.tgz"
        make = functools.partial(contexts.image_app, base_image=lab.base_image, mib=mib)
        with lab.context("image", make) as app:
            text = lab.convox.ask("build", app, "-a", "large", "-r", "near")
        self._id = next(line.split()[1] for line in text.splitlines() if line.startswith("Build:"))
        lab.daemon.prune()

    def export(self) -> Cost:
        return self._site.convox.run("builds", "export", self._id, "-a", "large", "-r", "near", "-f", self._ours)

    def peer_export(self) -> Cost:
        name = f"web.{self._id}.tar"
        source = f"docker://{self._site.registry.host}/large:web.{self._id}"
        with self._site.scratch() as scratch:
            (scratch / "build.json").write_text("{}")
            cost = timed([*self._skopeo, source, f"oci-archive:{scratch / name}"])
            return cost.then(timed(["tar", "czf", self._theirs, "-C", scratch, "build.json", name]))

    def import_into(self, rack: str, app: str) -> Cost:
        if not self._ours.exists():
            self.export()
        return self._site.convox.run("builds", "import", "-a", app, "-r", rack, "-f", self._ours)

    def peer_import(self, repository: str) -> Cost:
        if not self._theirs.exists():
            self.peer_export()
        with self._site.scratch() as scratch:
            cost = timed(["tar", "xzf", self._theirs, "-C", scratch])
            archive = f"oci-archive:{scratch}/web.{self._id}.tar"
            return cost.then(timed([*self._skopeo, archive, f"docker://{repository}:web.IMPORTED"]))


@functools.lru_cache(1)
def _big_build(lab: Lab) -> _BigBuild:
    """Return the large build, made the first time; about seven times its size has to fit."""
    return _BigBuild(lab, min(lab.count(2048, 16), shutil.disk_usage(lab.folder).free // (8 * MIB)))


def w9(lab: Lab) -> Iterator[Row]:
    """Export from a registry."""
    build = _big_build(lab)
    arms = (Arm(OUR_NAME, build.export), Arm(PEER_NAME, build.peer_export))
    yield Row("W9", f"export of an image of {build.mib} MiB", *arms, [Goal("wall_s", 0.2)], warm_ups=0)


def w10(lab: Lab) -> Iterator[Row]:
    """Import where nothing is, and where everything is."""
    build = _big_build(lab)
    folder = lab.folder / "other"
    folder.mkdir()
    registry = Registry(folder, lab.base_image, lab.skopeo)
    numbers = itertools.count(1)
    try:
        lab.convox.add_rack("other", registry=registry.host, registry_insecure="true")
        arms = (
            Arm(OUR_NAME, lambda: build.import_into("other", f"new-{next(numbers)}")),
            Arm(PEER_NAME, lambda: build.peer_import(f"{registry.host}/theirs-{next(numbers)}")),
        )
        what = f"import of an image of {build.mib} MiB"
        note = functools.partial(_what_bounds_w10, registry, build.mib)
        yield Row("W10", what, *arms, [Goal("wall_s", 0.5)], warm_ups=0, note=note)
        build.import_into("other", "again")
        build.peer_import(f"{registry.host}/again-theirs")
        arms = (
            Arm(OUR_NAME, lambda: _counted(lab, build, registry, lambda rack, _: build.import_into(rack, "again"))),
            Arm(
                PEER_NAME,
                lambda: _counted(lab, build, registry, lambda _, host: build.peer_import(f"{host}/again-theirs")),
            ),
        )
        goals = (Goal("wall_s", 0.5), Goal("sent_part", 0.05, "ours"))
        yield Row("W10 again", "import where everything is already", *arms, goals, warm_ups=0)
    finally:
        registry.stop()
        shutil.rmtree(folder)
        shutil.rmtree(build.folder)
        _big_build.cache_clear()


def _what_bounds_w10(registry: Registry, mib: int) -> str:
    """Measure how long the registry needs for as many bytes that are at hand already."""
    piece = os.urandom(MIB)
    hasher = hashlib.sha256()
    for _ in range(mib):
        hasher.update(piece)
    connection = http.client.HTTPConnection(registry.host)
    connection.request("POST", "/v2/bare/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    place = answer.headers["Location"].removeprefix(f"http://{registry.host}")
    began = time.perf_counter()
    headers = {"Content-Length": str(mib * MIB), "Content-Type": "application/octet-stream"}
    target = f"{place}&digest=sha256:{hasher.hexdigest()}"
    connection.request("PUT", target, body=itertools.repeat(piece, mib), headers=headers)
    answer = connection.getresponse()
    seconds = time.perf_counter() - began
    connection.close()
    if answer.status != http.HTTPStatus.CREATED:
        raise BenchmarkError(f"the registry refused a bare upload: {answer.status} {answer.reason}")
    return f"the registry alone takes {seconds:.1f} s for {mib} MiB that are at hand, sent in one request"


def _counted(lab: Lab, build: _BigBuild, registry: Registry, run: Callable[[str, str], Cost]) -> Cost:
    """Run something with a rack and a registry behind a proxy, and add which part of the image was sent."""
    with SlowLink(0, _FAST_MBIT, {"127.0.0.1:0": registry.host}) as proxy:
        host = f"127.0.0.1:{proxy.ports[0]}"
        rack = f"counted-{proxy.ports[0]}"
        lab.convox.add_rack(rack, registry=host, registry_insecure="true")
        cost = run(rack, host)
    return cost.then(Cost(0.0, 0.0, 0.0, {"sent_part": proxy.sent_bytes / (build.mib * MIB)}))
