"""The gRPC channel to a daemon; the one hand-written module that imports the gRPC library.

Message and metadata limits are raised to what BuildKit sends: 16 MiB messages, and error details that embed a whole
Dockerfile in a trailer, which the library's defaults would replace by a bare "stream removed".

Reference: client/client.go, New; google.golang.org/grpc defaults.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import grpc

from buildkit_client.errors import BuildKitError, ConnectError
from buildkit_client.protocol.grpc_framing import MAX_MESSAGE_BYTES
from buildkit_client.transport.address import Address
from buildkit_client.transport.diagnose import diagnose
from buildkit_client.transport.status import error_from_rpc
from buildkit_client.transport.tls import TlsConfig, TlsFiles

CONTROL = "/moby.buildkit.v1.Control/"

_METADATA_BYTES = 16 << 20


class Message(Protocol):
    """What the channel needs of a protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the wire form."""


class MessageType(Protocol[TypeVar("M_co", covariant=True)]):  # type: ignore[misc]
    """A generated message class."""


M = TypeVar("M")


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _as_is(data: bytes) -> bytes:
    return data


class Channel:
    """One connection to a daemon, shared by every call.

    Args:
        address: Where the daemon is.
        tls: How to speak TLS; only for ``tcp``.
        connect_timeout_s: How long the first answer may take.
    """

    def __init__(self, address: Address, *, tls: TlsConfig | None = None, connect_timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = connect_timeout_s
        self._tls: TlsFiles | None = tls.load() if tls is not None and address.scheme == "tcp" else None
        self._server_name = (tls.server_name if tls is not None else "") or address.host
        self._reached = False
        self._reaching = threading.Lock()
        self._channel = self._open()

    def _open(self) -> grpc.Channel:
        options: list[tuple[str, object]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", _METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
            ("grpc.enable_http_proxy", 0),  # the daemon's address is meant as it is, as Go's client takes it
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config_disable_resolution", 1),
        ]
        if self.address.scheme == "unix":
            options.append(("grpc.default_authority", "localhost"))
            return grpc.insecure_channel(f"unix://{self.address.path}", options=options)
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        target = f"dns:///{host}:{self.address.port}"
        if self._tls is None:
            return grpc.insecure_channel(target, options=options)
        options.append(("grpc.ssl_target_name_override", self._server_name))
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self._tls.ca, private_key=self._tls.key, certificate_chain=self._tls.certificate
        )
        return grpc.secure_channel(target, credentials, options=options)

    # -- calls -------------------------------------------------------------------------------------------------

    def unary(self, path: str, request: Message, response: Callable[[bytes], M], *, timeout_s: float | None = None) -> M:
        """Make a call with one request and one response.

        Raises:
            BuildKitError: What the daemon or the connection answered, translated.
        """
        self.reach()
        with self.translated():
            call = self._channel.unary_unary(path, _serialize, response)
            return call(request, timeout=timeout_s)

    def unary_future(
        self, path: str, request: Message, response: Callable[[bytes], M]
    ) -> grpc.CallFuture[M]:
        """Start a call with one request and one response; its errors are gRPC's, see :meth:`translated`."""
        self.reach()
        return self._channel.unary_unary(path, _serialize, response).future(request)

    def server_stream(self, path: str, request: Message, response: Callable[[bytes], M]) -> grpc.CallIterator[M]:
        """Start a call with one request and many responses; its errors are gRPC's, see :meth:`translated`."""
        self.reach()
        return self._channel.unary_stream(path, _serialize, response)(request)

    def session_stream(self, outgoing: Iterator[bytes], metadata: Sequence[tuple[str, str]]) -> grpc.CallIterator[bytes]:
        """Start ``Control.Session`` with messages that are serialised already, both ways."""
        self.reach()
        return self._channel.stream_stream(CONTROL + "Session", _as_is, _as_is)(outgoing, metadata=tuple(metadata))

    # -- errors ------------------------------------------------------------------------------------------------

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn gRPC's errors into ours.

        Raises:
            BuildKitError: For every gRPC error inside the block.
        """
        try:
            yield
        except grpc.RpcError as exc:
            raise self.translate(exc) from exc

    def translate(self, exc: grpc.RpcError) -> BuildKitError:
        """Return our error for gRPC's."""
        code, details, trailers = 2, str(exc), ()
        if isinstance(exc, grpc.Call):
            code = exc.code().value[0]
            details = exc.details() or ""
            trailers = tuple(exc.trailing_metadata() or ())
        return error_from_rpc(code, details, trailers, address=str(self.address))

    def reach(self) -> None:
        """Make sure, once, that a buildkitd answers at the address.

        Raises:
            ConnectError: Nothing or something else answers; says at which phase it ended.
        """
        if self._reached:
            return
        with self._reaching:
            if self._reached:
                return
            ask = self._channel.unary_unary(CONTROL + "Info", _as_is, _as_is)
            try:
                ask(b"", timeout=self._timeout_s)
            except grpc.RpcError as exc:
                code = exc.code() if isinstance(exc, grpc.Call) else grpc.StatusCode.UNKNOWN
                # Daemons before 0.11 do not know the call, which is an answer too.
                if code is not grpc.StatusCode.UNIMPLEMENTED or not _is_from_buildkit(exc):
                    raise self._why_unreachable(exc) from exc
            self._reached = True

    def _why_unreachable(self, exc: grpc.RpcError) -> BuildKitError:
        details = (exc.details() or "") if isinstance(exc, grpc.Call) else str(exc)
        error: ConnectError = diagnose(self.address, self._tls, self._server_name, timeout_s=self._timeout_s, seen=details)
        return error

    def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        self._channel.close()


def _is_from_buildkit(exc: grpc.RpcError) -> bool:
    """Whether UNIMPLEMENTED names the method, not the whole service: then the service is there."""
    return isinstance(exc, grpc.Call) and "unknown service" not in (exc.details() or "")
