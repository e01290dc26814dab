"""Which carrier an address needs, the two that go through a Docker Engine's API, and TLS for old daemons.

The engine has a BuildKit of its own, and it can run ``buildctl dial-stdio`` in a container as ``docker exec`` does.

Reference: github.com/docker/buildx driver/docker/driver.go and driver/docker-container/driver.go.
"""

from __future__ import annotations

import shutil
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from buildkit_client.transport.address import parse_address
from buildkit_client.transport.commands import DIAL, command_for
from buildkit_client.transport.engine import Engine, TlsStream, keep_alive, splice
from buildkit_client.transport.process import FIRST_BYTE, STDERR_BYTES, CommandCarrier, one_line
from buildkit_client.transport.relay import Carrier, CarrierError, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.transport.address import Address
    from buildkit_client.transport.engine_http import ByteStream
    from buildkit_client.transport.tls import TlsConfig, TlsFiles

_FRAME_HEAD_BYTES = 8  # stream, three zeros, length in four bytes: docs.docker.com, "Attach to a container"
_STDOUT, _STDERR = 1, 2
_CONNECT_TIMEOUT_S = 10.0


def carrier_for(address: Address, environ: Mapping[str, str], tls: TlsConfig | None) -> Carrier:
    """Choose the carrier for an address that the gRPC library cannot connect to itself.

    A container is reached by the ``docker`` command, or without it through the engine's API when there is none.

    Args:
        address: Of another scheme than ``unix`` and ``tcp``.
        environ: Says where the engine is.
        tls: For a ``docker://`` address: how to speak TLS with the engine.

    Raises:
        ConnectError: ``DOCKER_HOST`` is no address of an engine.
        OptionError: A TLS file cannot be read.
    """
    if address.scheme == "docker":
        return EngineCarrier(Engine.find(address, environ, tls))
    if address.scheme == "docker-container" and not address.context and shutil.which("docker") is None:
        return ExecCarrier(Engine.find(parse_address("docker://"), environ), address.name)
    return CommandCarrier(command_for(address))


class TlsCarrier:
    """Speaks TLS with a daemon whose TLS does not name HTTP/2.

    buildkitd does so from 0.17 on, and the gRPC library insists on it. Python's TLS does not; both check certificates.

    Args:
        address: A ``tcp`` address.
        tls: How to speak TLS.
        server_name: Name the daemon's certificate must carry.

    Reference: cmd/buildkitd/main.go, serverCredentials.
    """

    def __init__(self, address: Address, tls: TlsFiles, server_name: str) -> None:
        self._address = address
        self._tls = tls
        self._server_name = server_name

    def carry(self, stream: socket.socket) -> None:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        where = (self._address.host, self._address.port)
        try:
            plain = socket.create_connection(where, _CONNECT_TIMEOUT_S)
        except OSError as exc:
            raise CarrierError("connect", exc.strerror or str(exc), "check that buildkitd listens there") from exc
        with closing(plain):
            keep_alive(plain)
            try:
                remote = TlsStream(plain, self._tls.context("h2"), self._server_name)
            except OSError as exc:
                raise CarrierError("tls", exc.strerror or str(exc), "check the TLS files and the server name") from exc
            plain.settimeout(None)
            if splice(stream, remote):
                raise CarrierError("connect", f"buildkitd at {self._address} closed the connection")

    def unanswered(self) -> Failure:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        return Failure("handshake", "TLS is spoken there, and no buildkitd answers", "check what listens there")


class EngineCarrier:
    """Carries gRPC to the BuildKit that is built into a Docker Engine.

    Args:
        engine: Where the engine is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def carry(self, stream: socket.socket) -> None:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        remote, first = self._engine.upgrade("/grpc", "h2c")
        with closing(remote):
            if splice(stream, remote, first):
                raise CarrierError("connect", f"the Docker Engine at {self._engine} closed the connection")

    def unanswered(self) -> Failure:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        return Failure("handshake", f"the Docker Engine at {self._engine} does not answer", "see the engine's log")


class ExecCarrier:
    """Runs ``buildctl dial-stdio`` in a container, through the engine's API.

    Args:
        engine: Where the engine is.
        container: Name of the container.
    """

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container

    def carry(self, stream: socket.socket) -> None:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        wanted = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": list(DIAL)}
        made = self._engine.call(f"/containers/{self._container}/exec", wanted)
        name = made.get("Id") if isinstance(made, dict) else None
        if not isinstance(name, str) or not name.isalnum():
            raise CarrierError("handshake", "the Docker Engine gave no id for the command in the container")
        remote, first = self._engine.upgrade(f"/exec/{name}/start", "tcp", body={"Detach": False, "Tty": False})
        with closing(remote):
            output = _ExecStream(remote, first)
            if splice(stream, output):
                said = one_line(output.said)
                why = f"`{' '.join(DIAL)}` in the container {self._container} ended" + (f": {said}" if said else "")
                raise CarrierError("connect", why, "buildctl and buildkitd must be in that container")

    def unanswered(self) -> Failure:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        why = f"nothing answers in the container {self._container}"
        return Failure("handshake", why, "see whether buildkitd runs there, with buildctl beside it: docker logs")


class _ExecStream:
    """A process's streams: writes go to its input, reads give its output, what it says in words is kept.

    Attributes:
        said: The end of what came on stderr, and of what came on stdout instead of HTTP/2.
    """

    def __init__(self, remote: ByteStream, first: bytes) -> None:
        self.said = b""
        self._remote = remote
        self._first = first
        self._stream = 0
        self._left = 0  # of the frame that is being read
        self._has_begun = False
        self.sendall = remote.sendall
        self.shutdown = remote.shutdown
        self.settimeout = remote.settimeout
        self.close = remote.close

    def recv(self, size: int, /) -> bytes:
        while True:
            if not self._left:
                head = self._exactly(_FRAME_HEAD_BYTES)
                if len(head) < _FRAME_HEAD_BYTES:
                    return b""
                self._stream, self._left = head[0], int.from_bytes(head[4:])
                if head[0] > _STDERR or any(head[1:4]):
                    # The engine says in plain text, where frames should be, that it cannot run the command.
                    self._keep(head)
                    self._stream, self._left = _STDERR, sys.maxsize
                continue
            data = self._some(min(size, self._left))
            if not data:
                return b""
            self._left -= len(data)
            if self._stream == _STDOUT and (self._has_begun or data.startswith(FIRST_BYTE)):
                self._has_begun = True
                return data
            self._keep(data)

    def _keep(self, said: bytes) -> None:
        self.said = (self.said + said)[-STDERR_BYTES:]

    def _some(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._remote.recv(size)

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size and (data := self._some(size - len(received))):
            received += data
        return received
