"""What a buildkitd needs to run for one user: programs, environment, configuration; and what its log says when it ends.

Reference: moby/buildkit docs/rootless.md; docs/buildkitd.toml.md; cmd/buildkitd/main.go.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convox.errors import BuilderError
from convox.private_files import read_private_file

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_A_BUILDER = "name one that runs: convox rack params set builder=tcp://HOST:PORT, or set BUILDKIT_HOST"
# Debian keeps runc there, and leaves these folders out of an ordinary user's PATH.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# What it may know of the environment it happens to be started in: it serves later builds as well.
_INHERITED = ("HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_CONFIG_LIMIT_BYTES = 1024 * 1024
_LOG_TAIL_BYTES = 64 * 1024

_CONFIG = """\
[worker.oci]
  gc = true
  reservedSpace = "2GB"
  maxUsedSpace = "20GB"
  minFreeSpace = "10%"
"""


class ProgramsMissingError(BuilderError):
    """A builder cannot be started on this machine: programs are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Paths of the programs that a buildkitd is made of.

    Attributes:
        buildkitd: The daemon.
        runtime: Runs the steps of a build: ``buildkit-runc``, ``runc`` or ``crun``.
        rootlesskit: Makes the user namespace; empty as root, which needs none.
    """

    buildkitd: str
    runtime: str
    rootlesskit: str = ""

    @classmethod
    def find(cls, environ: Mapping[str, str], *, is_root: bool) -> Programs:
        """Find the programs on PATH and in the system's own folders.

        Args:
            environ: Has PATH.
            is_root: Whether the daemon will run as root.

        Raises:
            ProgramsMissingError: They are not all there; names each that is missing.
        """
        what = "a local builder cannot be started"
        if os.uname().sysname != "Linux":
            raise ProgramsMissingError(what, why="buildkitd builds on Linux only", hint=_NAME_A_BUILDER)
        wanted = {"buildkitd": ("buildkitd",), "runc": ("buildkit-runc", "runc", "crun")}
        if not is_root:
            wanted |= {"rootlesskit": ("rootlesskit",), "newuidmap": ("newuidmap",)}
        path = _search_path(environ)
        found = {
            name: next((place for program in programs if (place := shutil.which(program, path=path))), "")
            for name, programs in wanted.items()
        }
        old_crun = found["runc"] if Path(found["runc"]).name == "crun" and not _can_keep(found["runc"]) else ""
        if old_crun:
            found["runc"] = ""
        if missing := [name for name, place in found.items() if not place]:
            why = f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} not on PATH"
            if old_crun:
                why += f"; {old_crun} is too old for buildkitd, which needs crun 1.14.4"
            if "rootlesskit" in missing:
                why += "; rootlesskit is needed where buildkitd does not run as root"
            packages = _listed(["uidmap" if name == "newuidmap" else name for name in missing])
            source = " (buildkitd: github.com/moby/buildkit/releases)" if "buildkitd" in missing else ""
            raise ProgramsMissingError(what, why=why, hint=f"install {packages}{source}, or {_NAME_A_BUILDER}")
        return cls(buildkitd=found["buildkitd"], runtime=found["runc"], rootlesskit=found.get("rootlesskit", ""))

    def command(self, *, config_path: Path, root_path: Path, run_path: Path) -> list[str]:
        """Return the command line of a daemon that listens on ``<run_path>/buildkitd.sock`` and nowhere else."""
        words = [
            self.buildkitd,
            f"--config={config_path}",
            f"--root={root_path}",
            f"--addr=unix://{run_path}/buildkitd.sock",
            "--oci-worker=true",
            "--containerd-worker=false",
        ]
        if Path(self.runtime).name == "crun":  # the others it finds by itself
            words.append(f"--oci-worker-binary={self.runtime}")
        return [self.rootlesskit, f"--state-dir={run_path}/rootlesskit", *words] if self.rootlesskit else words


def daemon_environ(environ: Mapping[str, str], *, run_path: Path, is_root: bool) -> dict[str, str]:
    """Return the daemon's environment: where programs are, proxies and certificates, and nothing else of ours.

    Args:
        environ: The environment of this run.
        run_path: Folder for what lives as long as the daemon.
        is_root: Whether it runs as root.
    """
    names = {*_INHERITED, *(name.lower() for name in _INHERITED)}
    kept = {name: value for name, value in environ.items() if name in names}
    kept["PATH"] = _search_path(environ)
    if not is_root:
        # In a user namespace buildkitd and runc keep their sockets and records there when they know that the user is
        # not root. The session's own folder will not do: it goes when the user logs out.
        kept["XDG_RUNTIME_DIR"] = str(run_path)
        kept["USER"] = _user_name()
    return kept


def config_text(own_path: Path, *, run_path: Path) -> str:
    """Return the daemon's configuration: the user's where there is one, else ours, which bounds the cache.

    What the command line says stands above both. A socket for traces is added, which would otherwise be that of the
    machine's own buildkitd.

    Args:
        own_path: The user's ``buildkitd.toml``; may be missing.
        run_path: Folder for the socket; its path needs no quoting.

    Raises:
        BuilderError: The user's is not TOML.
        OSError: It cannot be read.
    """
    own = read_private_file(own_path.resolve(), limit_bytes=_CONFIG_LIMIT_BYTES)
    try:
        text = _CONFIG if own is None else own.decode()
        has_socket = "otel" in tomllib.loads(text)
    except ValueError as exc:
        raise BuilderError(f"cannot read {own_path}", why=str(exc), hint="correct or delete it") from exc
    return text if has_socket else f'{text}\n[otel]\n  socketPath = "{run_path}/otel.sock"\n'


def log_reason(path: Path) -> str:
    """Return the last lines of the daemon's log that say something; the frames of Go's traces do not."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as exc:
        return f"its log cannot be read: {exc.strerror}"
    # A frame is a line with a function's name, and one with its place behind a tab.
    told = [
        line
        for line, after in zip(lines, [*lines, ""][1:], strict=True)
        if line.strip() and not line.startswith("\t") and not after.startswith("\t")
    ]
    return "\n".join(told[-5:]) or "it wrote nothing"


def start_hint(reason: str, log_path: Path) -> str:
    """Return what to try when the daemon ended with what :func:`log_reason` returned."""
    if "subuid" in reason or "subgid" in reason:
        ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
        return f"give this user ids for a user namespace: usermod {ranges} {_user_name()}"
    return f"see {log_path}"


def _can_keep(crun: str) -> bool:
    """Return whether a crun knows the option ``--keep``, without which buildkitd cannot run a step."""
    try:
        done = subprocess.run([crun, "run", "--help"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--keep" in done.stdout


def _search_path(environ: Mapping[str, str]) -> str:
    return os.pathsep.join([environ.get("PATH") or os.defpath, *_SYSTEM_FOLDERS])


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
