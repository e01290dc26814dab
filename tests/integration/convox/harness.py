"""The real command ``convox``, each time a process of its own, with a config folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convox.models import Build, Release
from convox.store import Store, open_store, sqlite_url
from tests.support.services import Services

STEPS = "Packaging source... OK\nUploading source... OK\nStarting build... OK\n"
TIMEOUT_S = 60

_IDS = re.compile(r"Build:   (B[A-Z]{10})\nRelease: (R[A-Z]{10})\n\Z")


@dataclass(frozen=True)
class Result:
    """What a command wrote, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def ids(self) -> tuple[str, str]:
        """Ids of the build and the release at the end of what a build prints."""
        match = _IDS.search(self.stdout)
        assert match is not None, f"no ids in\n{self.stdout}\n{self.stderr}"
        return match[1], match[2]

    @property
    def log(self) -> str:
        """What a build printed of its log: all but the steps and the ids."""
        rest = _IDS.sub("", self.stdout)
        for step in STEPS.splitlines(keepends=True):
            before, found, after = rest.partition(step)
            assert found, self.stdout
            rest = before + after
        return rest


@dataclass
class Convox:
    """Runs commands.

    Attributes:
        config: The config folder.
        services: What the commands find in their environment.
        environ: More of the environment; None takes a variable away.
        prefix: Words before the command, for example of ``nsenter``.
    """

    config: Path
    services: Services
    environ: dict[str, str | None] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)

    def run(self, *words: str, cwd: Path | None = None, stdin: str = "", umask: int = -1) -> Result:
        """Run a command to its end; one that does not end fails the test."""
        done = subprocess.run(
            self._command(words),
            env=self._env(),
            cwd=cwd or self.config.parent,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            umask=umask,
        )
        assert self.environ.get("CONVOX_DEBUG") or "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, cwd: Path | None = None) -> Result:
        """Run a command that must succeed."""
        result = self.run(*words, cwd=cwd)
        assert result.code == 0, f"convox {' '.join(words)}\n{result.stdout}\n{result.stderr}"
        return result

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            self._command(words),
            env=self._env(),
            cwd=self.config.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def set_params(self, **params: str) -> None:
        """Set rack parameters, secrets too, without a shell's history."""
        self.ok("rack", "params", "set", *(f"{name}={value}" for name, value in params.items()))

    def store(self, rack: str = "local") -> Store:
        """Open a rack's records; the caller closes them."""
        folder = self.rack_path(rack)
        return open_store(sqlite_url(folder / "store.db"), logs_dir=folder / "logs")

    def build(self, app: str, build_id: str = "") -> Build:
        """Return the record of a build, of the newest where no id is given."""
        store = self.store()
        try:
            return store.get_build(app, build_id) if build_id else store.list_builds(app, limit=1)[0]
        finally:
            store.close()

    def builds(self, app: str) -> list[Build]:
        """Return the records of all builds, newest first."""
        store = self.store()
        try:
            return store.list_builds(app, limit=1000)
        finally:
            store.close()

    def release(self, app: str, release_id: str) -> Release:
        """Return the record of a release."""
        store = self.store()
        try:
            return store.get_release(app, release_id)
        finally:
            store.close()

    def log(self, app: str, build_id: str) -> str:
        """Return the stored log of a build."""
        return (self.rack_path() / "logs" / app / f"{build_id}.log").read_text()

    def rack_path(self, rack: str = "local") -> Path:
        """Return a rack's folder."""
        return self.config / "racks" / rack

    @property
    def layout_path(self) -> Path:
        """The image layout of the rack ``local``."""
        return self.rack_path() / "images"

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [*self.prefix, str(Path(sys.executable).with_name("convox")), *words]

    def _env(self) -> dict[str, str]:
        clean = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
        clean |= {
            "HOME": str(self.config.parent),
            "CONVOX_CONFIG": str(self.config),
            "BUILDKIT_HOST": self.services.buildkit_host,
        }
        return {name: value for name, value in {**clean, **self.environ}.items() if value is not None}


def write_app(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files, and the folders that they need, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def steps_of(log: str, service: str) -> list[str]:
    """Return the lines of one service without their prefix, of the first try where a push was tried again."""
    log = log.partition(f"{service} | WARNING: the registry lost a blob")[0]
    return [
        line.removeprefix(f"{service} |").removeprefix(" ")
        for line in log.splitlines()
        if line.startswith(f"{service} |")
    ]


def outcome_of(log: str, service: str, step: str) -> str:
    """Return how a step ended: ``CACHED``, ``DONE``, ``CANCELED`` or ``ERROR``.

    Args:
        log: The log.
        service: The service.
        step: Text that the step's name ends with.
    """
    lines = steps_of(log, service)
    numbers = {line.split(" ", 1)[0] for line in lines if line.startswith("#") and line.endswith(step)}
    assert len(numbers) == 1, f"{step!r} is {numbers} in\n{log}"
    number = numbers.pop()
    ends = [
        line.split(" ")[1].rstrip(":")
        for line in lines
        if line.startswith(f"{number} ") and line.split(" ")[1].rstrip(":") in ("CACHED", "DONE", "CANCELED", "ERROR")
    ]
    assert ends, f"{step!r} has no end in\n{log}"
    return ends[-1]
