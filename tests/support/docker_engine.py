"""A Docker Engine of the tests' own: Debian's dockerd with a socket, a state and a configuration in folders of its own.

It runs in namespaces of its own for processes and mounts, so killing it takes its containerd and containers with it.
It makes no network and touches no firewall: steps of builds need ``network=none``, containers ``--network none``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

_START_TIMEOUT_S = 60
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"  # where Debian has dockerd and runc


class EngineMissingError(Exception):
    """This machine cannot run an engine; the text says what is missing and how to get it."""


class DockerEngine:
    """One engine; use it as a context manager.

    Args:
        folder: Where its state lies; it is deleted at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "docker-engine"
        self._run = Path(tempfile.mkdtemp(prefix="dk-"))  # sockets of its containerd lie below: 107 bytes at most
        self.socket_path = self._run / "docker.sock"
        self.address = f"docker://{self.socket_path}"
        self.host = f"unix://{self.socket_path}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            EngineMissingError: There is no dockerd, or nobody may start it.
        """
        if (daemon := shutil.which("dockerd", path=_PATH)) is None:
            raise EngineMissingError("there is no dockerd; try: apt-get install --no-install-recommends docker.io")
        if os.geteuid() != 0:
            raise EngineMissingError("a Docker Engine of the tests' own needs root")
        self._root.mkdir(parents=True, exist_ok=True)
        (self._run / "daemon.json").write_text("{}")  # not the machine's
        command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", daemon]
        command += ["--config-file", f"{self._run}/daemon.json", "--data-root", str(self._root)]
        command += ["--exec-root", f"{self._run}/exec", "--pidfile", f"{self._run}/pid", "-H", self.host]
        command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        log_path = self._run / "log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PATH": _PATH},
            )  # fmt: skip
        end = time.monotonic() + _START_TIMEOUT_S
        while self.docker("version", check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"dockerd does not start:\n{log_path.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Ask the engine something with the docker command."""
        done = subprocess.run(
            ["docker", *words], env={**os.environ, "PATH": _PATH, "DOCKER_HOST": self.host, "DOCKER_CONTEXT": ""},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"docker {' '.join(words)}: {done.stderr}")
        return done

    def stop(self) -> None:
        """Kill it and everything it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.rmtree(self._run, ignore_errors=True)
