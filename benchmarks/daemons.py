"""The daemon and the registry of a benchmark, in a folder of their own and nobody else's.

The registry listens on 127.0.0.2. The daemon has a hosts file of its own, in which ``localhost`` is that address, while
for every client it is 127.0.0.1, where the slow link's proxy can listen on the same port. So ``localhost:PORT`` is one
registry for both, near the daemon and far from the client, as racks have it.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from benchmarks.measure import BenchmarkError, ask

REGISTRY_ADDRESS = "127.0.0.2"
_START_S = 60


class Process:
    """A server that runs for as long as the benchmark does."""

    def __init__(self, words: list[str | Path], log: Path, **environ: str) -> None:
        self._log = log
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian has runc
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, "PATH": path, **environ}
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            BenchmarkError: It ended.
        """
        if self._process.poll() is not None:
            raise BenchmarkError(f"a server ended:\n{self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Ask it to end and wait for that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Registry:
    """A docker-registry with one base image.

    Attributes:
        host: Its address and port.
        base_image: Repository and tag of the base image.
    """

    def __init__(self, folder: Path, base_image: str, skopeo: Path) -> None:
        self.port = free_port(REGISTRY_ADDRESS, "127.0.0.1")
        self.host = f"{REGISTRY_ADDRESS}:{self.port}"
        self.base_image = ("library/busybox", "latest")
        config = folder / "registry.yml"
        config.write_text(
            f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: "{folder}/registry"}}}}\n'
            f"http: {{addr: '{self.host}', secret: benchmark}}\n"
        )
        self._process = Process(["docker-registry", "serve", config], folder / "registry.log")
        try:
            self._wait()
            ask(
                [
                    *(skopeo, "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"),
                    *(f"docker://{base_image}", f"docker://{self.host}/{':'.join(self.base_image)}"),
                ]
            )
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            self._process.check()
            try:
                connection = http.client.HTTPConnection(self.host, timeout=5)
                connection.request("GET", "/v2/")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.05)
            finally:
                connection.close()
        raise BenchmarkError("the registry does not answer")

    def stop(self) -> None:
        """End it."""
        self._process.stop()


class Buildkitd:
    """A daemon whose cache may be emptied at will.

    Attributes:
        address: Its unix socket, as clients take it.
        socket_path: The same as a path.
        version: What it says of itself.
    """

    def __init__(self, binary: Path, buildctl: Path, folder: Path, registry: Registry) -> None:
        self._buildctl = buildctl
        self.socket_path = folder / "bk.sock"
        self.address = f"unix://{self.socket_path}"
        config = folder / "buildkitd.toml"
        names = (registry.host, f"localhost:{registry.port}")
        config.write_text("".join(f'[registry."{name}"]\n  http = true\n' for name in names))
        hosts = folder / "hosts"
        hosts.write_text(f"{REGISTRY_ADDRESS} localhost\n")
        start = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'  # seen by the daemon alone: a mount namespace
        words: list[str | Path] = ["unshare", "--mount", "sh", "-c", start, "sh", hosts, binary, "--config", config]
        words += ["--root", folder / "root", "--addr", self.address, "--oci-worker=true", "--containerd-worker=false"]
        words += ["--oci-worker-gc=false"]
        unlimited = {"BUILDKIT_STEP_LOG_MAX_SIZE": "-1", "BUILDKIT_STEP_LOG_MAX_SPEED": "-1"}  # W13 wants every line
        self._process = Process(words, folder / "buildkitd.log", **unlimited)
        try:
            self.version = self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> str:
        end = time.monotonic() + _START_S
        while True:
            self._process.check()
            try:
                return " ".join(self.ask("debug", "info").split())
            except BenchmarkError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def ask(self, *words: str) -> str:
        """Run buildctl on it, not measured."""
        return ask([self._buildctl, "--addr", self.address, *words])

    def prune(self) -> None:
        """Empty its cache."""
        self.ask("prune", "--all")

    def identity(self) -> str:
        """Return its version and the ids of its worker, which another root would not have, and of its process."""
        form = "{{range .}}{{.BuildkitVersion.Version}} {{.BuildkitVersion.Revision}}, worker {{.ID}}{{end}}"
        return f"{self.ask('debug', 'workers', '--format', form)}, process {self._process.pid}"

    def cpu_s(self) -> float:
        """Return the processor time that it has had, that of its steps which ended included."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, cutime, cstime

    def stop(self) -> None:
        """End it; its mounts go with its namespace."""
        self._process.stop()


def free_port(*addresses: str) -> int:
    """Return a port that is free on all of some addresses."""
    for _ in range(100):
        sockets = []
        try:
            port = 0
            for address in addresses:
                sockets.append(socket.create_server((address, port)))
                port = sockets[0].getsockname()[1]
        except OSError:
            continue
        else:
            return port
        finally:
            for one in sockets:
                one.close()
    raise BenchmarkError(f"no port is free on {' and '.join(addresses)}")


def has_room(folder: Path, needed_bytes: int) -> bool:
    """Say whether a folder is there and its file system has so much room."""
    return folder.is_dir() and shutil.disk_usage(folder).free > needed_bytes
