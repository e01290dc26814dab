"""A buildkitd of the tests' own, which may be killed, stopped, frozen and emptied.

It runs in namespaces of its own for processes and mounts: killing it takes everything with it, as when a machine dies,
and leaves nothing mounted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.support.services import Services

_START_TIMEOUT_S = 60


class OwnBuildkitd:
    """One daemon on a socket in a folder of its own; use it as a context manager.

    Args:
        services: Names the binary, which lies next to buildctl, and the registries, which speak plain HTTP.
        folder: Where its state lies; it is deleted at the end.
        arguments: Further flags of the daemon.
    """

    def __init__(self, services: Services, folder: Path, arguments: Sequence[str] = ()) -> None:
        self._arguments = tuple(arguments)
        self._buildctl = services.buildctl
        self._binary = services.buildctl.with_name("buildkitd")
        self._registries = (services.registry, services.registry_htpasswd, services.registry_token)
        self.root = folder / "buildkitd"
        self._sockets = Path(tempfile.mkdtemp(prefix="bk-"))  # a socket's path has at most 107 bytes
        self.address = f"unix://{self._sockets}/sock"
        self.socket_path = self._sockets / "sock"
        self.log_path = self._sockets / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it answers; skips the test where that cannot be."""
        if os.geteuid() != 0 or not self._binary.is_file():
            pytest.skip(f"a buildkitd of the test's own needs root and {self._binary}")
        self.root.mkdir(parents=True, exist_ok=True)
        config = self._sockets / "buildkitd.toml"
        config.write_text("".join(f'[registry."{name}"]\n  http = true\n' for name in self._registries))
        command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", str(self._binary)]
        command += ["--config", str(config), "--root", str(self.root), "--addr", self.address]
        command += ["--oci-worker=true", "--containerd-worker=false", "--oci-worker-gc=false"]
        command += self._arguments
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            )  # fmt: skip
        end = time.monotonic() + _START_TIMEOUT_S
        while self.buildctl("debug", "workers", check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"buildkitd does not start:\n{self.log_path.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def buildctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Ask the daemon something with buildctl."""
        command = [str(self._buildctl), "--addr", self.address, "--timeout", "5", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)

    def prune_all(self) -> None:
        """Empty the build cache."""
        self.buildctl("prune", "--all")

    @property
    def pid(self) -> int:
        """The daemon's process, as this machine's process ids go."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def kill(self) -> None:
        """Kill it and everything it started, without a word to anybody."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """Let it stand still: connections stay open and nothing answers. Returns once every thread has stopped."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + 10
        while any(_state(task) != "T" for task in Path(f"/proc/{pid}/task").iterdir()):
            if time.monotonic() > end:
                raise RuntimeError("buildkitd does not stand still")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        if self._process is not None:
            os.kill(self.pid, signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self._sockets, ignore_errors=True)


def _state(task: Path) -> str:
    """Return the letter for what a thread does."""
    return (task / "stat").read_text().rpartition(") ")[2][:1]


def running_processes(mark: str) -> Sequence[int]:
    """Return the processes of this machine, containers included, whose command line contains a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if mark.encode() in line and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found
