"""The gRPC channel to a daemon; the gRPC library is imported here and for the session's call, and nowhere else.

Message and metadata limits are raised to what BuildKit sends: 16 MiB messages, and error details that embed a whole
Dockerfile in a trailer, which the library's defaults would replace by a bare "stream removed".

Reference: client/client.go, New; google.golang.org/grpc defaults.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import quote
from weakref import WeakSet

import grpc

from buildkit_client._proto import control_pb2
from buildkit_client.errors import (
    BuildCancelledError,
    ConnectError,
    ConnectionLostError,
    DaemonError,
    LocalProtocolError,
)
from buildkit_client.protocol.grpc_framing import MAX_MESSAGE_BYTES
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.transport.apart import apart, pumped
from buildkit_client.transport.diagnose import diagnose, unreachable
from buildkit_client.transport.lenient import parse_message
from buildkit_client.transport.liveness import Liveness, lost
from buildkit_client.transport.session_call import CallEndedError, session_call
from buildkit_client.transport.status import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from buildkit_client.errors import BuildKitError
    from buildkit_client.transport.address import Address
    from buildkit_client.transport.relay import Relay
    from buildkit_client.transport.session_call import SessionCall, Trailers
    from buildkit_client.transport.tls import TlsConfig, TlsFiles

CONTROL = "/moby.buildkit.v1.Control/"

_METADATA_BYTES = 16 << 20
QUICK_S = 60.0
"""A limit for calls that a daemon answers from memory."""

_DIAGNOSE_STEP_S = 2.0  # after the library has waited in vain already
_NO_PROTOCOL = "missing selected ALPN property"  # the library's words for TLS that does not name HTTP/2
_RECONNECT_MS = 1000  # the library would wait up to two minutes before it tries again to connect

# For calls without a session, and for a session that nobody waits for: a dead connection is noticed after 6.5 minutes.
# A daemon hangs up on clients that ping more often than every five (grpc-go, keepalive.EnforcementPolicy).
_KEEPALIVE_MS = 360_000
_KEEPALIVE_TIMEOUT_MS = 30_000  # on TCP also: how long the kernel waits for the daemon's host to acknowledge bytes

M_co = TypeVar("M_co", covariant=True)
M = TypeVar("M")


class Message(Protocol):
    """What the channel needs of a protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the wire form."""


class PendingCall(Protocol[M_co]):
    """A call whose one response is still to come."""

    def result(self) -> M_co:
        """Wait for the response."""

    def cancel(self) -> bool:
        """End the call."""

    def cancelled(self) -> bool:
        """Whether we ended it."""

    def done(self) -> bool:
        """Whether it is over."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call a function, in a thread of the library, once the call is over."""


class StreamCall(Protocol[M_co]):
    """A call with many responses."""

    def __iter__(self) -> Iterator[M_co]:
        """Yield the responses."""

    def cancel(self) -> bool:
        """End the call."""

    def is_active(self) -> bool:
        """Whether it goes on."""


class _Question:
    """See :class:`~buildkit_client.transport.liveness.Question`."""

    def __init__(self, future: Any) -> None:
        self._future = future
        self.add_done_callback = future.add_done_callback
        self.cancel = future.cancel

    def is_answered(self) -> bool:
        silent = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        return self._future.code() not in silent


class _Watch:
    """Ends one call when the connection is dead, and keeps why.

    Args:
        address: Of the daemon.
        call: What to end.
        ask: See :class:`~buildkit_client.transport.liveness.Liveness`.
    """

    def __init__(self, address: Address, call: Any, ask: Callable[[float], _Question]) -> None:
        self.error: ConnectionLostError | None = None
        self.heard_s = time.monotonic()
        self._address = address
        self._call = call
        self._liveness = Liveness(lambda: self.heard_s, ask, self._lose)

    def _lose(self, silence_s: float) -> None:
        self.error = lost(self._address, silence_s)
        self._call.cancel()

    def stop(self) -> None:
        """Watch no longer."""
        self._liveness.stop(wait=False)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Watch while the call is read; raise the loss in place of the call's end that it caused."""
        self.heard_s = time.monotonic()
        self._liveness.start()
        try:
            yield
        except (grpc.RpcError, grpc.FutureCancelledError) as exc:
            if self.error is not None:
                raise self.error from exc
            raise
        finally:
            self.stop()


class _ServerStream(Generic[M]):
    """A call with many responses, read and cancelled apart from the main thread."""

    def __init__(self, call: StreamCall[M], watch: _Watch | None) -> None:
        self._call = call
        self._watch = watch

    def __iter__(self) -> Iterator[M]:
        if self._watch is None:
            yield from pumped(self._call)
            return
        with self._watch.explained():
            yield from pumped(self._heard(self._watch))

    def _heard(self, watch: _Watch) -> Iterator[M]:
        for message in self._call:
            watch.heard_s = time.monotonic()
            yield message

    def cancel(self) -> bool:
        return apart(self._call.cancel)

    def is_active(self) -> bool:
        return self._call.is_active()


class _SessionStream:
    """The session's call, with our errors."""

    def __init__(self, call: SessionCall, translate: Callable[[CallEndedError], BuildKitError]) -> None:
        self._call = call
        self._translate = translate
        self.send, self.half_close, self.cancel = call.send, call.half_close, call.cancel

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._call
        except CallEndedError as exc:
            raise self._translate(exc) from exc


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _as_is(data: bytes) -> bytes:
    return data


class Channel:
    """One connection to a daemon, shared by every call.

    Args:
        address: Where the daemon is.
        tls: How to speak TLS, with the engine for ``docker``, else with the daemon; daemons speak it over TCP only.
        connect_timeout_s: How long the first answer may take.

    Raises:
        ConnectError: ``DOCKER_HOST``, which ``docker`` may need, is no address.
        OptionError: A TLS file cannot be read.
    """

    def __init__(self, address: Address, *, tls: TlsConfig | None = None, connect_timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = connect_timeout_s
        self._tls: TlsFiles | None = tls.load() if tls is not None and address.scheme != "docker" else None
        self._server_name = (tls.server_name if tls is not None else "") or address.host or "localhost"
        self._relay: Relay | None = None
        if address.scheme not in ("unix", "tcp"):
            # Most connections need neither processes nor an engine's HTTP.
            from buildkit_client.transport.carriers import carrier_for  # noqa: PLC0415
            from buildkit_client.transport.relay import Relay  # noqa: PLC0415

            self._relay = Relay(carrier_for(address, os.environ, tls))
        self._closed = False
        self._info = b""  # what the daemon said of itself when it was reached
        self._reached = threading.Event()
        self._reaching = threading.Lock()
        self._watches: WeakSet[_Watch] = WeakSet()
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
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.max_pings_without_data", 0),  # a build's quiet step may be longer than two of them
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            ("SingleThreadedUnaryStream", 1),  # streams are read by our own threads; gRPC has none between then
        ]
        if self.address.scheme == "tcp" and self._relay is None:
            host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
            target = f"dns:///{host}:{self.address.port}"
        else:
            path = self._relay.path if self._relay is not None else self.address.path
            target = f"unix://{quote(path, errors='surrogateescape')}"
            options.append(("grpc.default_authority", "localhost"))
        if self._tls is None or (self._relay is not None and self.address.scheme == "tcp"):
            return grpc.insecure_channel(target, options=options)
        options.append(("grpc.ssl_target_name_override", self._server_name))
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self._tls.ca, private_key=self._tls.key, certificate_chain=self._tls.certificate
        )
        return grpc.secure_channel(target, credentials, options=options)

    # -- calls -------------------------------------------------------------------------------------------------

    def unary(
        self, path: str, request: Message, response: Callable[[bytes], M], *, timeout_s: float | None = None
    ) -> M:
        """Make a call with one request and one response.

        Args:
            path: The method.
            request: The request.
            response: Reads the response.
            timeout_s: None waits as long as the connection lives, which is watched.

        Raises:
            BuildKitError: What the daemon or the connection answered, translated.
        """

        def call() -> M:
            self.reach()
            method = self._channel.unary_unary(path, _serialize, response)
            with self.translated(is_build=False):
                if timeout_s is not None:
                    return method(request, timeout=timeout_s)
                future = method.future(request)
                with _Watch(self.address, future, self.question).explained():
                    return future.result()

        return apart(call)

    def unary_future(
        self, path: str, request: Message, response: Callable[[bytes], M], *, metadata: Sequence[tuple[str, str]] = ()
    ) -> PendingCall[M]:
        """Start a call with one request and one response; its errors are gRPC's, see :meth:`translated`."""
        self.reach()
        return self._channel.unary_unary(path, _serialize, response).future(request, metadata=tuple(metadata))

    def server_stream(
        self, path: str, request: Message, response: Callable[[bytes], M], *, is_watched: bool = True
    ) -> StreamCall[M]:
        """Start a call with one request and many responses; its errors are gRPC's, see :meth:`translated`.

        Args:
            path: The method.
            request: The request.
            response: Reads a response.
            is_watched: End the call with a :class:`ConnectionLostError` when the connection is dead.
        """

        def start() -> StreamCall[M]:
            self.reach()
            call = self._channel.unary_stream(path, _serialize, response)(request)
            watch = _Watch(self.address, call, self.question) if is_watched else None
            if watch is not None:
                self._watches.add(watch)
            return _ServerStream(call, watch)

        return apart(start, undo=lambda stream: stream.cancel())

    def session_stream(self, metadata: Sequence[tuple[str, str]], on_sent: Callable[[], None]) -> _SessionStream:
        """Start ``Control.Session`` with messages that are serialised already, both ways; its errors are ours.

        Args:
            metadata: Of the request.
            on_sent: Called when a message is on its way, and the next one may be sent.
        """
        self.reach()
        call = session_call(self._channel, CONTROL + "Session", tuple(metadata), on_sent)
        return _SessionStream(call, partial(self._translate, is_build=False))

    def question(self, timeout_s: float) -> _Question:
        """Ask the daemon for a sign of life; see :mod:`buildkit_client.transport.liveness`."""
        self._check_open()
        return _Question(self._channel.unary_unary(CONTROL + "Info", _as_is, _as_is).future(b"", timeout=timeout_s))

    # -- errors ------------------------------------------------------------------------------------------------

    @contextmanager
    def translated(self, *, is_build: bool = True) -> Iterator[None]:
        """Turn gRPC's errors into ours.

        Args:
            is_build: The call belongs to a build.

        Raises:
            BuildKitError: For every gRPC error inside the block.
        """
        try:
            yield
        except grpc.RpcError as exc:
            raise self._translate(exc, is_build=is_build) from exc
        except grpc.FutureCancelledError as exc:
            raise self._cancelled(is_build=is_build) from exc

    def _translate(self, exc: grpc.RpcError | CallEndedError, *, is_build: bool) -> BuildKitError:
        code, details, trailers = _facts(exc)
        if self._closed and code == StatusCode.CANCELLED:
            return self._cancelled(is_build=is_build)
        address = str(self.address)
        error = error_from_rpc(
            code, details, trailers, address=address, established=self._reached.is_set(), is_build=is_build
        )
        if isinstance(error, (ConnectError, ConnectionLostError)) and self._relay is not None:
            failure = self._relay.failure
            error.why = failure.why if failure is not None else error.why
        return error

    def _cancelled(self, *, is_build: bool) -> BuildKitError:
        why = "the client was closed" if self._closed else ""
        if is_build or not self._closed:
            return BuildCancelledError("the build was cancelled", why=why)
        return ConnectionLostError(f"the connection to {self.address} was closed during a call", why=why)

    def reach(self) -> None:
        """Make sure, once, that a buildkitd answers at the address.

        Raises:
            ConnectError: Nothing or something else answers; says at which phase it ended.
            LocalProtocolError: The channel is closed.
        """
        self._check_open()
        if self._reached.is_set():
            return
        with self._reaching:
            if self._reached.is_set():
                return
            try:
                self._info = self._ask()
            except grpc.RpcError as exc:
                code, details, _ = _facts(exc)
                # Daemons before 0.11 do not know the call, which is an answer too; other services do not know Control.
                if code != StatusCode.UNIMPLEMENTED or "unknown service" in details:
                    raise self._unreachable(code, details) from exc
            self._reached.set()

    def _ask(self) -> bytes:
        """Ask the daemon what it is, if need be through TLS of our own."""
        info = CONTROL + "Info"
        try:
            return self._channel.unary_unary(info, _as_is, _as_is)(b"", timeout=self._timeout_s)
        except grpc.RpcError as exc:
            if self._tls is None or self._relay is not None or _NO_PROTOCOL not in _facts(exc)[1]:
                raise
        from buildkit_client.transport.carriers import TlsCarrier  # noqa: PLC0415 - few daemons need it
        from buildkit_client.transport.relay import Relay  # noqa: PLC0415

        self._relay = Relay(TlsCarrier(self.address, self._tls, self._server_name))
        self._channel.close()
        self._channel = self._open()
        return self._channel.unary_unary(info, _as_is, _as_is)(b"", timeout=self._timeout_s)

    def info(self) -> bytes:
        """Return what the daemon says of itself, serialised; empty for daemons before 0.11.

        What it said when it was reached is not asked for again in the same call.

        Raises:
            ConnectError: The daemon cannot be reached.
            BuildKitError: What it or the connection answered, translated.
        """
        if not self._reached.is_set():
            apart(self.reach)
            return self._info
        try:
            return self.unary(CONTROL + "Info", control_pb2.InfoRequest(), _as_is, timeout_s=QUICK_S)
        except DaemonError as exc:
            if exc.details.code != StatusCode.UNIMPLEMENTED:
                raise
            return b""

    def version(self) -> str:
        """Return the daemon's version, for example ``v0.34.2``; empty for daemons before 0.11.

        Raises:
            ConnectError: The daemon cannot be reached.
        """
        apart(self.reach)
        return parse_message(control_pb2.InfoResponse, self._info).buildkitVersion.version

    def _unreachable(self, code: int, details: str) -> ConnectError:
        if self._relay is None or self.address.scheme == "tcp":
            limit_s = min(self._timeout_s, _DIAGNOSE_STEP_S)
            return diagnose(self.address, self._tls, self._server_name, timeout_s=limit_s, seen=details)
        if code == StatusCode.UNIMPLEMENTED:
            return unreachable(self.address, "handshake", details, "check that it is a buildkitd that answers there")
        failure = self._relay.failure
        if failure is None and self._tls is not None:
            return unreachable(
                self.address, "tls", "no TLS is spoken there", "leave out the TLS files: only tcp:// leads to TLS"
            )
        failure = failure or self._relay.explain()
        return unreachable(self.address, failure.phase, failure.why, failure.hint)

    def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        self._closed = True
        for watch in tuple(self._watches):  # of streams that nobody reads to their end
            watch.stop()
        apart(self._close)

    def _close(self) -> None:
        self._channel.close()
        if self._relay is not None:
            self._relay.close()

    def _check_open(self) -> None:
        if self._closed:
            raise LocalProtocolError(f"the connection to {self.address} is closed", hint="open a new Client")


def _facts(exc: grpc.RpcError | CallEndedError) -> tuple[int, str, Trailers]:
    """Return code, message and trailers of gRPC's error; it is a call as well, which its type does not say."""
    if isinstance(exc, CallEndedError):
        return exc.code, exc.details, exc.trailers
    call: Any = exc
    if not hasattr(call, "code"):
        return int(StatusCode.UNKNOWN), str(exc), ()
    return call.code().value[0], call.details() or "", tuple(call.trailing_metadata() or ())
