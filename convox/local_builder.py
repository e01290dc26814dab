"""The builder of a machine that has none: a buildkitd of this user's own, started when a build needs it.

It belongs to the user whose cache folder it lives in and to nobody else: it listens on one unix socket in a folder of
mode 0700, on no port, and keeps its cache, its log and who it is beside it. As root it is plain ``buildkitd``; as
another user it runs in a user namespace that ``rootlesskit`` makes, with the host's network, so that a registry on this
machine is reached. It stays until it is stopped.

Whether it runs is asked, not remembered: ``state.json`` says which process was started and where its socket is, and
counts only while that very process runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from convox.buildkitd_setup import Programs, config_text, daemon_environ, log_reason, start_hint
from convox.daemon_process import end_daemon, is_running, let_go, pid_of, spawn
from convox.errors import BuilderError
from convox.private_files import locked_folder, make_private_folder, read_private_file, write_private_file
from convox.store.process import process_id

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from convox.settings import Settings

Status = Literal["running", "not answering", "stopped"]

# buildkitd refuses a socket's path of more than 104 bytes, and in this folder the longest has 24 more.
_MAX_RUN_PATH_BYTES = 80
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")  # reads the same in an address, a URI and a configuration file
_STATE_LIMIT_BYTES = 64 * 1024
_ANSWER_S = 5.0
_POLL_S = 0.05


class ShowStep(Protocol):
    """Shows a step while it is under way, as :meth:`convox.output.console.Console.step` does."""

    def __call__(self, text: str, /) -> AbstractContextManager[object]:
        """Return what is open while the step runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderState:
    """What is known of the local builder.

    Attributes:
        status: ``not answering`` while it starts or ends, or hangs.
        address: Where it listens, ``unix:///...``; empty when stopped.
        pid: Of buildkitd, or of the rootlesskit above it; None when stopped, or started where we cannot look.
        version: For example ``v0.34.2``; empty unless it answers.
        root_path: Folder of its build cache.
        log_path: File with its output since its last start.
    """

    status: Status
    address: str = ""
    pid: int | None = None
    version: str = ""
    root_path: Path
    log_path: Path


@dataclass(frozen=True, slots=True)
class _Record:
    """What ``state.json`` says: the process that was started, and the folder of its socket."""

    process: str
    run_path: Path

    @property
    def address(self) -> str:
        return f"unix://{self.run_path}/buildkitd.sock"

    @property
    def pid(self) -> int:
        return pid_of(self.process)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBuilder:
    """The local builder of one cache folder.

    Attributes:
        path: Its folder; made when needed, mode 0700.
        config_path: The user's configuration for it (``buildkitd.toml``), which may be missing.
        runtime_path: Where the socket goes when its path below ``path`` would be too long; None takes ``/tmp``.
        environ: Has PATH, and what the builder inherits a part of.
        start_timeout_s: How long it may take to answer after its start.
        stop_grace_s: How long builds may hold up its end.
    """

    path: Path
    config_path: Path
    runtime_path: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    start_timeout_s: float = 30.0
    stop_grace_s: float = 10.0

    @classmethod
    def of(cls, settings: Settings) -> LocalBuilder:
        """Return the local builder of this run's user."""
        return cls(
            path=settings.cache_path / "builder",
            config_path=settings.config_path / "buildkitd.toml",
            runtime_path=settings.runtime_path,
            environ=settings.environ,
        )

    @property
    def root_path(self) -> Path:
        """Folder of the build cache."""
        return self.path / "root"

    @property
    def log_path(self) -> Path:
        """File with its output."""
        return self.path / "buildkitd.log"

    def state(self) -> BuilderState:
        """Return whether it runs, and where.

        Raises:
            BuilderError: Its files cannot be read.
        """
        record = self._record()
        is_ours = is_running(record.process)
        version = _ask_version(record)
        status: Status = "running" if version is not None else "not answering" if is_ours else "stopped"
        return BuilderState(
            status=status,
            address=record.address if status != "stopped" else "",
            pid=record.pid if is_ours else None,
            version=version or "",
            root_path=self.root_path,
            log_path=self.log_path,
        )

    def start(self, show_step: ShowStep | None = None) -> BuilderState:
        """Start it unless it runs, and return its state when it answers. Several callers at once start one.

        Args:
            show_step: Shows the start as a step; not called when it runs already.

        Raises:
            ProgramsMissingError: Programs are missing; nothing was started.
            BuilderError: It ended at once or does not answer, or its files cannot be written.
        """
        found = self.state()
        if found.status == "running":
            return found
        with _errors_about(self.path):
            make_private_folder(self.path)
            with locked_folder(self.path):
                record = self._record()  # somebody may have started it while we waited
                if is_running(record.process):
                    self._wait(record)
                elif _ask_version(record) is None:
                    programs = Programs.find(self.environ, is_root=os.geteuid() == 0)
                    with show_step("Starting a local builder") if show_step else nullcontext():
                        self._launch(programs)
        return self.state()

    def stop(self, show_step: ShowStep | None = None) -> bool:
        """End it, also in the middle of builds, and return whether it ran.

        Args:
            show_step: Shows the end as a step; not called when it does not run.

        Raises:
            BuilderError: It is another user's or was started on another machine, or cannot be ended.
        """
        if self.state().status == "stopped":
            return False
        with _errors_about(self.path), locked_folder(self.path):
            record = self._record()
            if not is_running(record.process):
                if _ask_version(record) is None:
                    return False
                raise BuilderError(
                    "the local builder cannot be stopped from here",
                    why="it was started on another machine or in another container that shares its folder",
                    hint=f"stop it there; its folder is {self.path}",
                )
            with show_step("Stopping the local builder") if show_step else nullcontext():
                self._end(record)
        return True

    # -- processes ---------------------------------------------------------------------------------------------

    def _launch(self, programs: Programs) -> None:
        """Start it, leave a record of it, and wait until it answers; of a start that fails nothing is left."""
        run_path = self._make_run_folder()
        config_path = self.path / "buildkitd.toml"
        with _errors_about(self.config_path):
            config = config_text(self.config_path, run_path=run_path)
        write_private_file(config_path, config.encode())
        child = spawn(
            programs.command(config_path=config_path, root_path=self.root_path, run_path=run_path),
            environ=daemon_environ(self.environ, run_path=run_path, is_root=not programs.rootlesskit),
            log_path=self.log_path,
        )
        record = _Record(process_id(child.pid), run_path)
        try:
            state = {"process": record.process, "run": str(run_path)}
            write_private_file(self.path / "state.json", json.dumps(state).encode())
            self._wait(record, child)
        except BaseException:
            if end_daemon(record.process, grace_s=1.0):
                child.wait()
            self._forget(record)
            raise
        let_go(child)

    def _wait(self, record: _Record, child: subprocess.Popen[bytes] | None = None) -> None:
        """Wait until it answers.

        Raises:
            BuilderError: It ended, or does not answer in time.
        """
        deadline = time.monotonic() + self.start_timeout_s
        while _ask_version(record) is None:
            if (child is not None and child.poll() is not None) or not is_running(record.process):
                reason = log_reason(self.log_path)
                raise BuilderError(
                    "the local builder did not start", why=reason, hint=start_hint(reason, self.log_path)
                )
            if time.monotonic() >= deadline:
                raise BuilderError(
                    f"the local builder (pid {record.pid}) does not answer",
                    why=log_reason(self.log_path),
                    hint=f"see {self.log_path}; convox builder stop ends one that hangs",
                )
            time.sleep(_POLL_S)

    def _end(self, record: _Record) -> None:
        try:
            is_gone = end_daemon(record.process, grace_s=self.stop_grace_s)
        except PermissionError as exc:
            raise BuilderError(
                f"the local builder (pid {record.pid}) cannot be stopped",
                why="it belongs to another user",
                hint="stop it as the user that started it",
            ) from exc
        if not is_gone:
            raise BuilderError(
                f"the local builder (pid {record.pid}) does not end",
                why="it was killed and is still there, as a process is that waits for a disk",
                hint=f"see {self.log_path}",
            )
        self._forget(record)

    # -- files -------------------------------------------------------------------------------------------------

    def _make_run_folder(self) -> Path:
        """Return the folder for sockets: ours, or another where a socket in ours would have too long a path."""
        name = f"convox-{sha256(os.fsencode(self.path)).hexdigest()[:12]}"
        for folder in (self.path, *([self.runtime_path / name] if self.runtime_path else [])):
            if _PLAIN_PATH.fullmatch(str(folder)) and len(str(folder)) <= _MAX_RUN_PATH_BYTES:
                with suppress(OSError):
                    make_private_folder(folder)
                    return folder
        return Path(tempfile.mkdtemp(prefix="convox-", dir="/tmp"))  # a name that nobody can have taken before us

    def _record(self) -> _Record:
        """Return which process was started last and where; names no process when there is no record."""
        path = self.path / "state.json"
        with _errors_about(path):
            data = read_private_file(path, limit_bytes=_STATE_LIMIT_BYTES)
        try:
            state = json.loads(data or b"null")
            return _Record(str(state["process"]), Path(str(state["run"])))
        except (ValueError, TypeError, KeyError, RecursionError):
            return _Record("", self.path)

    def _forget(self, record: _Record) -> None:
        (self.path / "state.json").unlink(missing_ok=True)
        if record.run_path != self.path:
            shutil.rmtree(record.run_path, ignore_errors=True)


def _ask_version(record: _Record) -> str | None:
    """Return the version of the builder that answers, None when none does."""
    if not (record.run_path / "buildkitd.sock").exists():
        return None
    from buildkit_client import BuildKitError, Client  # noqa: PLC0415 (slow, and not needed where none was started)

    try:
        with Client(record.address, connect_timeout_s=_ANSWER_S) as client:
            return client.info().version
    except BuildKitError:
        return None


@contextmanager
def _errors_about(path: Path) -> Iterator[None]:
    """Say which file an error of the operating system is about."""
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads what we write: not about a file
    except OSError as exc:
        raise BuilderError(
            f"cannot use {exc.filename or path}",
            why=exc.strerror or str(exc),
            hint="check its owner and mode; the local builder belongs to one user",
        ) from exc
