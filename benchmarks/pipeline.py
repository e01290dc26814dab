"""An app built twice: by what Convox runs, step by step, and by ``convox build``.

Convox packs the app's folder into a tar.gz, uploads it, unpacks it beside the builder, and runs one ``buildctl build``
after the other, each followed by ``skopeo inspect --config``. It gets every benefit of a doubt: its steps start without
a pause, no pod has to be scheduled, and its builder is as warm as ours, though it has a new and empty one each time.
``tar xm`` gives every file a new time, as its own unpacking does.

Reference: convox/convox pkg/cli/build.go, build; pkg/build/build.go, prepareSourceObject; pkg/build/buildkit.go, build.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.contexts import ALONE, SHARED, place_of
from benchmarks.measure import Cost, ask, environment, timed

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.link_proxy import SlowLink

_CACHE_EXPORT = "mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true,type=registry,ref="


@dataclass
class Pipeline:
    """What Convox runs.

    Attributes:
        app: The app's folder.
        folder: For everything that is written.
        docker: Folder that stands for ``~/.docker``.
        buildctl: The peer's client.
        skopeo: Reads the images.
        address: Of the daemon, which it always runs beside.
        repository: Where images go.
        link: What the packed app has to cross; None for nothing.
    """

    app: Path
    folder: Path
    docker: Path
    buildctl: Path
    skopeo: Path
    address: str
    repository: str
    link: SlowLink | None = None

    def run(self) -> Cost:
        """Build the app once; return the cost of all steps together."""
        build_id = f"B{time.monotonic_ns():x}"[-11:].upper()
        scratch = self.folder / "unpacked"
        archive = self.folder / "app.tgz"
        scratch.mkdir()
        try:
            cost = timed(["tar", "czf", archive, "-C", self.app, "."])
            if self.link is not None:
                began = time.perf_counter()
                self.link.upload(archive)
                cost = cost.then(Cost(time.perf_counter() - began, 0.0, 0.0))
            cost = cost.then(timed(["tar", "xzmf", archive, "-C", scratch]))
            for service in (*SHARED, *ALONE):
                cost = cost.then(self._build(scratch, service, build_id))
        finally:
            shutil.rmtree(scratch)
            archive.unlink(missing_ok=True)
        return cost

    def _build(self, source: Path, service: str, build_id: str) -> Cost:
        place, dockerfile = place_of(service)
        tag = f"{self.repository}:{service}.{build_id}"
        cache = f"{self.repository}:{service}.buildcache"
        environ = environment(DOCKER_CONFIG=str(self.docker))
        build: list[str | Path] = [
            *(self.buildctl, "--addr", self.address, "build", "--frontend", "dockerfile.v0"),
            *("--local", f"context={source / place}", "--local", f"dockerfile={source / place}"),
            *("--opt", f"filename={dockerfile}", "--output", f"type=image,name={tag},push=true"),
            *("--export-cache", f"{_CACHE_EXPORT}{cache}", "--import-cache", f"type=registry,ref={cache}"),
        ]
        inspect: list[str | Path] = [self.skopeo, "inspect", "--config", "--tls-verify=false", f"docker://{tag}"]
        return timed(build, environ=environ).then(timed(inspect, environ=environ))


@dataclass(frozen=True)
class Convox:
    """Our command with a configuration of its own.

    Attributes:
        command: The program.
        folder: For its configuration.
        docker: Folder that stands for ``~/.docker``.
    """

    command: Path
    folder: Path
    docker: Path

    def add_rack(self, name: str, **params: str) -> None:
        """Make a rack, if it is not there yet."""
        rack = self.folder / "racks" / name
        if not rack.exists():
            rack.mkdir(parents=True, mode=0o700)
            (rack / "params.json").write_text(json.dumps(params))
            (rack / "params.json").chmod(0o600)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its runs."""
        return environment(CONVOX_CONFIG=str(self.folder), DOCKER_CONFIG=str(self.docker), HOME=str(self.folder))

    def run(self, *words: str | Path) -> Cost:
        """Run it."""
        return timed([self.command, *words], environ=self.environ)

    def ask(self, *words: str | Path) -> str:
        """Run it unmeasured and return what it prints."""
        return ask([self.command, *words], environ=self.environ)
