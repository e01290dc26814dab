"""A Docker Engine's HTTP API, as far as reaching a buildkitd needs it: requests, and connections that it hands over.

After ``Upgrade`` and the status 101 a connection carries another protocol: gRPC for ``/grpc``, a process's streams for
an exec. No docker command is needed, only the engine's socket.

Reference: github.com/docker/docker/client/hijack.go; docs.docker.com/reference/api/engine.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit_client.errors import ConnectError, OptionError
from buildkit_client.transport.address import EXAMPLES, parse_address
from buildkit_client.transport.engine_http import CHUNK, ByteStream, receive_body, receive_head, send_post
from buildkit_client.transport.relay import CarrierError
from buildkit_client.transport.tls import TlsConfig, TlsFiles

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from buildkit_client.transport.address import Address

DEFAULT_SOCKET = "/var/run/docker.sock"
ENVIRONMENT_HOST = "DOCKER_HOST"
_PORTS = {False: 2375, True: 2376}  # the engine's customary ports, without and with TLS

_CONNECT_TIMEOUT_S = 10.0
_TCP_KEEPALIVE_S = 30  # as customary for connections that the engine hands over


@dataclass(frozen=True, slots=True)
class Engine:
    """Where a Docker Engine's API is.

    Attributes:
        path: Its Unix socket, or empty.
        host: Else its host.
        port: And its port.
        tls: Whether, and how, to speak TLS; only with a host.
        server_name: Name that the engine's certificate must carry.
    """

    path: str = ""
    host: str = ""
    port: int = 0
    tls: TlsFiles | None = field(default=None, repr=False)
    server_name: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host} port {self.port}"

    @classmethod
    def find(cls, address: Address, environ: Mapping[str, str], tls: TlsConfig | None = None) -> Engine:
        """Find the engine that an address means.

        Args:
            address: A ``docker://`` address with a path, a host, or neither; the latter takes ``DOCKER_HOST``.
            environ: Also says, as for docker itself, whether an engine on a host speaks TLS: ``DOCKER_TLS_VERIFY``
                and ``DOCKER_CERT_PATH``.
            tls: Goes before the environment.

        Raises:
            ConnectError: ``DOCKER_HOST`` is no address of an engine.
            OptionError: A TLS file cannot be read, or is of no use.
        """
        path, host, port = address.path, address.host, address.port
        if not path and not host:
            path, host, port = _from_environment(environ.get(ENVIRONMENT_HOST, ""))
        if not host:
            if tls is not None:
                raise OptionError(
                    "TLS files were given for a Docker Engine at a Unix socket",
                    why="the engine speaks TLS over TCP only",
                    hint="leave them out, or name the engine's port: docker://host:2376",
                )
            return cls(path=path or DEFAULT_SOCKET)
        if tls is None and environ.get("DOCKER_TLS_VERIFY"):
            folder = environ.get("DOCKER_CERT_PATH") or str(Path(environ.get("HOME", "/")) / ".docker")
            tls = TlsConfig.from_directory(Path(folder))
        files = tls.load() if tls is not None else None
        name = (tls.server_name if tls is not None else "") or host
        return cls(host=host, port=port or _PORTS[files is not None], tls=files, server_name=name)

    def connect(self) -> ByteStream:
        """Open a connection.

        Raises:
            CarrierError: It cannot be opened.
        """
        hint = "start the Docker Engine, or name its socket: docker:///path/to/docker.sock, or DOCKER_HOST"
        try:
            if self.path:
                stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                stream.settimeout(_CONNECT_TIMEOUT_S)
                try:
                    stream.connect(self.path)
                except OSError:
                    stream.close()
                    raise
                return stream
            stream = socket.create_connection((self.host, self.port), _CONNECT_TIMEOUT_S)
        except PermissionError as exc:
            raise CarrierError(
                "connect",
                f"permission denied at the Docker Engine's socket {self.path}",
                "join the group that owns it, usually docker",
            ) from exc
        except (OSError, UnicodeError) as exc:  # UnicodeError: of a name that is no host's
            phase = "resolve" if isinstance(exc, (socket.gaierror, UnicodeError)) else "connect"
            raise CarrierError(phase, f"no Docker Engine answers at {self}: {_text(exc)}", hint) from exc
        keep_alive(stream)
        if self.tls is None:
            return stream
        try:
            return TlsStream(stream, self.tls.context("http/1.1"), self.server_name)
        except OSError as exc:
            stream.close()
            why = f"the TLS handshake with the Docker Engine at {self} failed: {_text(exc)}"
            raise CarrierError("tls", why, "check DOCKER_TLS_VERIFY and the files in DOCKER_CERT_PATH") from exc

    def upgrade(
        self, path: str, protocol: str, *, body: object = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> tuple[ByteStream, bytes]:
        """Make a request after which the connection carries another protocol.

        Args:
            path: Of the request.
            protocol: For the header ``Upgrade``.
            body: Becomes JSON; None sends none.
            headers: Further ones.

        Returns:
            The connection, and what came on it already.

        Raises:
            CarrierError: The engine cannot be reached or does not hand the connection over.
        """
        stream = self.connect()
        try:
            send_post(stream, path, body, (("Connection", "Upgrade"), ("Upgrade", protocol), *headers))
            status, fields, rest = receive_head(stream)
            if status != 101:
                raise _refused(path, status, receive_body(stream, fields, rest))
            stream.settimeout(None)
        except OSError as exc:
            stream.close()
            raise _no_answer(self, exc) from exc
        except CarrierError:
            stream.close()
            raise
        return stream, rest

    def call(self, path: str, body: object) -> Any:
        """POST JSON and return the JSON that comes back.

        Raises:
            CarrierError: The engine cannot be reached or refuses.
        """
        with closing(self.connect()) as stream:
            try:
                send_post(stream, path, body, (("Connection", "close"),))
                status, fields, rest = receive_head(stream)
                answer = receive_body(stream, fields, rest)
            except OSError as exc:
                raise _no_answer(self, exc) from exc
        if status not in (200, 201):
            raise _refused(path, status, answer)
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as exc:
            raise CarrierError("handshake", f"the Docker Engine's answer to {path} is no JSON") from exc


def splice(stream: socket.socket, remote: ByteStream, first: bytes = b"") -> bool:
    """Copy both ways between two connections until either ends; both are shut down then.

    Args:
        stream: The gRPC library's connection.
        remote: The engine's.
        first: What came from the engine already.

    Returns:
        Whether it was the engine's side that ended.
    """
    is_left = threading.Event()

    def upload() -> None:
        with suppress(OSError):
            while data := stream.recv(CHUNK):
                remote.sendall(data)
        is_left.set()
        with suppress(OSError):
            remote.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=upload, name="build-carrier-upload", daemon=True)
    thread.start()
    with suppress(OSError):
        data = first or remote.recv(CHUNK)
        while data:
            stream.sendall(data)
            data = remote.recv(CHUNK)
    is_theirs = not is_left.is_set()
    for one in (remote, stream):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    thread.join()
    return is_theirs


class TlsStream:
    """TLS over a socket, for one thread that reads and one that writes.

    An ``ssl.SSLSocket`` may be used by one thread at a time only, and reading waits; here only the socket waits, and
    the cipher is a step between, behind a lock.
    """

    def __init__(self, stream: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        import ssl  # noqa: PLC0415 - most connections do without

        self._stream = stream
        self._wants_more = ssl.SSLWantReadError
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._lock = threading.Lock()
        self.settimeout = stream.settimeout
        self.shutdown = stream.shutdown
        self.close = stream.close
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except OSError:
                with suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return

    def recv(self, size: int, /) -> bytes:
        """Wait for bytes; none at the end."""
        while True:
            with self._lock, suppress(self._wants_more):
                return self._tls.read(size)
            if not self._feed():
                return b""

    def sendall(self, data: bytes, /) -> None:
        """Send bytes."""
        with self._lock:
            self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._stream.sendall(data)

    def _feed(self) -> bool:
        data = self._stream.recv(CHUNK)
        with self._lock:
            self._incoming.write(data) if data else self._incoming.write_eof()
        return bool(data)


def _from_environment(text: str) -> tuple[str, str, int]:
    """Read ``DOCKER_HOST``: path, host and port."""
    scheme, _, rest = text.partition("://")
    if not text:
        return "", "", 0
    try:
        if scheme == "unix":
            return parse_address(f"docker://{rest}").path, "", 0
        if scheme == "tcp":
            host = rest.rstrip("/")
            needs_port = ":" not in host.rpartition("]")[2]
            address = parse_address(f"docker://{host}{':1' if needs_port else ''}")
            return "", address.host, 0 if needs_port else address.port
    except ConnectError as exc:
        why = exc.why
    else:
        why = f"the scheme {scheme[:40]!r} is none that this library reaches an engine by"
    raise ConnectError(
        f"{ENVIRONMENT_HOST} is not an address of a Docker Engine",
        phase="address",
        why=why,
        hint=f"set it to unix:///var/run/docker.sock or tcp://host:2375, or name the engine: {EXAMPLES['docker']}",
    )


def keep_alive(stream: socket.socket) -> None:
    """Have the kernel notice a dead connection, and send at once."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if (option := getattr(socket, name, None)) is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, _TCP_KEEPALIVE_S)


def _refused(path: str, status: int, answer: bytes) -> CarrierError:
    text = answer.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        message = json.loads(text)
        text = str(message["message"]) if isinstance(message, dict) and "message" in message else text
    said = "".join(character if character.isprintable() else " " for character in text[:500]).strip()
    hint = "the engine's BuildKit needs Docker 18.09 or newer" if path == "/grpc" else "look at it with docker ps"
    why = f"the Docker Engine answered {status} to {path}" + (f": {said}" if said else "")
    return CarrierError("handshake", why, hint)


def _no_answer(engine: Engine, exc: OSError) -> CarrierError:
    why = "it does not answer" if isinstance(exc, TimeoutError) else _text(exc)
    return CarrierError("handshake", f"the Docker Engine at {engine}: {why}", "see the engine's log")


def _text(exc: OSError | UnicodeError) -> str:
    return (exc.strerror if isinstance(exc, OSError) else "") or str(exc)
