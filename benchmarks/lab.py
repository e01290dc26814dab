"""The place where everything is measured: a folder, on tmpfs where there is room, with a daemon and a registry."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.daemons import Buildkitd, Registry, has_room
from benchmarks.identity import Surroundings, Tools, find_tool
from benchmarks.link_proxy import LinkCheck, SlowLink
from benchmarks.measure import BenchmarkError, in_child
from benchmarks.pipeline import Convox, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
SHM = Path("/dev/shm")
_ROOM_BYTES = 10 << 30
LINK_RTT_MS, LINK_MBIT = 40, 100


@dataclass(eq=False)
class Lab:
    """Where rows are run.

    Attributes:
        folder: For everything that is written; deleted at the end.
        scale: Part of the full sizes.
        buildctl: The Go client.
        skopeo: The Go tool for images.
        bin: Folder of our commands, and of the interpreter that they run on.
        registry: For images and caches.
        daemon: The builder of both arms.
        is_tmpfs: Whether the folder is in memory.
    """

    folder: Path
    scale: float
    buildctl: Path
    skopeo: Path
    bin: Path
    registry: Registry
    daemon: Buildkitd
    is_tmpfs: bool
    _link: SlowLink | None = None
    _link_check: LinkCheck | None = None
    _end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def ours(self) -> Path:
        """Our command of the library."""
        return self.bin / "buildkit-client"

    @property
    def python(self) -> Path:
        """The interpreter of our commands."""
        return self.bin / "python"

    @property
    def convox(self) -> Convox:
        """Our ``convox``, with two racks: ``near``, and ``far`` behind the slow link."""
        convox = Convox(self.bin / "convox", self.folder / "convox", self.folder / "docker")
        convox.add_rack("near", builder=self.daemon.address, registry=self.registry.host, registry_insecure="true")
        return convox

    @property
    def base_image(self) -> str:
        """The image that contexts start from."""
        return f"{self.registry.host}/{':'.join(self.registry.base_image)}"

    @property
    def surroundings(self) -> Surroundings:
        """What both arms have in common."""
        tools = (self.buildctl, self.skopeo, find_tool("tar"), find_tool("gzip"))
        return Surroundings(self.daemon, self.registry, Tools(tools))

    def count(self, full: int, least: int = 1) -> int:
        """Return a number of things at this lab's scale."""
        return max(least, int(full * self.scale))

    @contextlib.contextmanager
    def context(self, name: str, make: Callable[[Path], None], *, is_kept: bool = False) -> Iterator[Path]:
        """Make a folder to build, in a process of its own, and delete it afterwards unless others need it too."""
        folder = self.folder / "contexts" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            in_child(lambda: make(folder))
        yield folder
        if not is_kept:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a folder for outputs."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)

    def pipeline(self, app: Path, *, link: SlowLink | None = None) -> Pipeline:
        """Return what Convox runs."""
        return Pipeline(
            app=app,
            folder=self.folder,
            docker=self.folder / "docker",
            buildctl=self.buildctl,
            skopeo=self.skopeo,
            address=self.daemon.address,
            repository=f"{self.registry.host}/peer",
            link=link,
        )

    def link(self) -> SlowLink:
        """Return the slow link, started, checked and printed the first time; its first port leads to the daemon."""
        if self._link is None:
            registry = {f"127.0.0.1:{self.registry.port}": self.registry.host}
            forwards = {"127.0.0.1:0": str(self.daemon.socket_path), **registry}
            self._link = self._end.enter_context(SlowLink(LINK_RTT_MS, LINK_MBIT, forwards))
            self._link_check = self._link.check()
            print(f"link: {self._link_check} (wanted: {LINK_RTT_MS} ms, {LINK_MBIT} Mbit/s)", flush=True)
            far = {"builder": f"tcp://127.0.0.1:{self._link.ports[0]}", "registry": f"localhost:{self.registry.port}"}
            self.convox.add_rack("far", **far, registry_insecure="true")
        return self._link

    def describe(self) -> dict[str, object]:
        """Return what the JSON file says of this lab."""
        processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        return {
            "scale": self.scale,
            "tmpfs": self.is_tmpfs,
            "processors": len(os.sched_getaffinity(0)),
            "processor": processors[0].partition(": ")[2] if processors else "",
            "link": str(self._link_check or ""),
            **self.surroundings.identify(),
        }


@contextlib.contextmanager
def open_lab(scale: float) -> Iterator[Lab]:
    """Start everything, and end and delete it afterwards.

    Raises:
        BenchmarkError: Something is missing or does not start.
    """
    missing = [name for name in ("BUILDCTL", "SKOPEO", "TEST_BASE_IMAGE") if not os.environ.get(name)]
    if missing:
        raise BenchmarkError(f'{", ".join(missing)} not set; run: eval "$(scripts/services.sh env)"')
    buildctl, skopeo = Path(os.environ["BUILDCTL"]), Path(os.environ["SKOPEO"])
    commands = Path(sys.executable).parent
    if not (commands / "buildkit-client").exists():
        commands = ROOT / ".venv" / "bin"
    is_tmpfs = has_room(SHM, int(_ROOM_BYTES * max(scale, 0.2)))
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=SHM if is_tmpfs else None))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "docker").mkdir()
        registry = Registry(folder, os.environ["TEST_BASE_IMAGE"], skopeo)
        stack.callback(registry.stop)
        daemon = Buildkitd(buildctl.with_name("buildkitd"), buildctl, folder, registry)
        stack.callback(daemon.stop)
        with contextlib.ExitStack() as end:
            yield Lab(folder, scale, buildctl, skopeo, commands, registry, daemon, is_tmpfs, _end=end)
