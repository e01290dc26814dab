"""One session: the daemon calls our services back through the ``Control.Session`` stream.

The stream's bytes go into a :class:`GrpcServerConnection` and its events into handlers; nothing listens on a socket.
Two kinds of threads share one lock: a reader (takes the daemon's bytes, answers health checks itself, so that no
handler can starve them), and one thread per call. Whoever makes bytes ready sends them, unless others are on their way;
then they wait, and go together when those are sent.

Reference: session/session.go, session/manager.go, session/grpc.go.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from buildkit_client.errors import BuildKitError, ConnectionLostError, RemoteProtocolError
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.protocol.grpc_framing import encode_message
from buildkit_client.protocol.grpc_server import (
    CallHalfClosed,
    CallReset,
    CallStarted,
    Event,
    GoingAway,
    GrpcServerConnection,
    MessagesReceived,
)
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import Buffers, CallCancelledError, Metadata, RpcError, StreamHandler, UnaryHandler
from buildkit_client.session.health import CHECK, health_methods
from buildkit_client.session.tunnel import OUTER_MESSAGE_BYTES, pack_bytes_message, unpack_bytes_message

if TYPE_CHECKING:
    from types import TracebackType

HEADER_SESSION_ID = "x-docker-expose-session-uuid"  # session/session.go
HEADER_SHARED_KEY = "x-docker-expose-session-sharedkey"
HEADER_METHOD = "x-docker-expose-session-grpc-method"

_CALL_HIGH_WATER_BYTES = 1 << 20
_GOODBYE_TIMEOUT_S = 2.0  # how long close() waits for the daemon to end the stream
_HANDLERS_TIMEOUT_S = 2.0  # and then for handlers to clean up what they have begun to write

_log = logging.getLogger(__name__)


class ByteStreamCall(Protocol):
    """The outer ``Control.Session`` RPC, already started."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the serialised messages of the daemon until the stream ends."""

    def send(self, message: bytes) -> None:
        """Send a serialised message without waiting; the next one only when this one is on its way."""

    def half_close(self) -> None:
        """Say that nothing more will be sent."""

    def cancel(self) -> object:
        """End the RPC at once."""


OpenStream = Callable[[list[tuple[str, str]], Callable[[], None]], ByteStreamCall]
"""Starts ``Control.Session`` with our metadata; the function is called whenever a message is on its way."""


def new_id() -> str:
    """Return a random id as BuildKit's clients make them: 25 characters of ``0-9a-z``.

    Reference: identity/randomid.go, NewID.
    """
    number = int.from_bytes(os.urandom(17), "big") | 1 << 135
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits[1:26]


def shared_key_for(directories: Mapping[str, Path | LocalDirectory]) -> str:
    """Return a stable key for what these directories are, so that only changed files travel on the next build.

    Two sessions with one key share the daemon's copy of a directory; with equal keys for different directories, a
    file of equal size and time would be taken for unchanged. So the key names this host and the absolute paths, and
    the patterns that keep files back: another selection is another directory for the daemon.

    Args:
        directories: Local directory by the name the daemon asks for.
    """
    parts = [_host_identity()]
    for name, directory in sorted(directories.items()):
        local = directory if isinstance(directory, LocalDirectory) else LocalDirectory(directory)
        parts.append(f"{name}={local.path.resolve()}")
        if local.ignore:
            parts += ["", local.ignore_prefix, str(len(local.ignore)), *local.ignore]
    return _sha256_hex("".join(f"{part}\0" for part in parts).encode("utf-8", "surrogateescape"))


def _sha256_hex(data: bytes) -> str:
    """Return the SHA-256 digest of a short text, if possible without hashlib: that loads OpenSSL, 4 MB for one digest.

    ``_sha2`` is Python's own implementation from 3.12 on, ``_sha256`` before; neither has to be there.
    """
    for name in ("_sha2", "_sha256"):
        with suppress(ImportError):
            return str(import_module(name).sha256(data).hexdigest())
    return str(import_module("hashlib").sha256(data).hexdigest())


def _host_identity() -> str:
    """Return what tells this host from others: its machine id, or its name where there is none."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return f"{machine}/{os.uname().nodename}"


class _Call:
    """A call in progress; see :class:`~buildkit_client.session.call.ServerCall`."""

    __slots__ = ("_arrived", "_connection", "_inbox", "_lock", "_over", "_session", "_stream_id", "_uncredited",
                 "_writable", "_writing", "is_half_closed", "metadata", "method")  # fmt: skip

    def __init__(self, session: Session, stream_id: int, method: str, metadata: Metadata) -> None:
        self.method = method
        self.metadata = metadata
        self.is_half_closed = False
        self._session = session
        self._connection = session._connection
        self._lock = session._lock
        self._stream_id = stream_id
        self._inbox: deque[bytes] = deque()
        self._uncredited = 0
        self._over = False
        self._writing = False
        self._arrived = threading.Condition(self._lock)
        self._writable = threading.Condition(self._lock)

    # -- for the reader thread, with the lock held

    def deliver(self, messages: list[bytes]) -> None:
        self._inbox.extend(messages)
        size = sum(map(len, messages))
        if self._writing:
            # The handler waits for the daemon to read, and the daemon may be waiting to send: let it.
            self._connection.consumed(self._stream_id, size)
        else:
            self._uncredited += size
            self._arrived.notify()

    def half_close(self) -> None:
        self.is_half_closed = True
        self._arrived.notify()

    def end(self) -> None:
        self._over = True
        self._arrived.notify()
        self._writable.notify()

    def drained(self) -> None:
        if self._writing and self._connection.waiting_bytes(self._stream_id) <= _CALL_HIGH_WATER_BYTES:
            self._writable.notify()

    # -- for the handler

    def receive(self) -> bytes | None:
        with self._lock:
            while not self._inbox:
                if self._over:
                    raise CallCancelledError
                if self.is_half_closed:
                    return None
                self._arrived.wait()
            message = self._inbox.popleft()
            self._credit(len(message))
            return message

    def receive_ready(self) -> Sequence[bytes]:
        with self._lock:
            if self._inbox:
                messages = tuple(self._inbox)
                self._inbox.clear()
                self._credit(sum(map(len, messages)))
                return messages
            if self._over:
                raise CallCancelledError
            return ()

    def _credit(self, size_bytes: int) -> None:
        """Let the daemon send as much again as the handler has taken."""
        credit = min(size_bytes, self._uncredited)
        if credit:
            self._uncredited -= credit
            self._connection.consumed(self._stream_id, credit)
            self._session._send_ready()

    def write(self, framed: Buffers) -> None:
        with self._lock:
            if self._connection.waiting_bytes(self._stream_id) > _CALL_HIGH_WATER_BYTES:
                self._writing = True
                self._connection.consumed(self._stream_id, self._uncredited)
                self._uncredited = 0
                self._session._send_ready()
                while not self._over and self._connection.waiting_bytes(self._stream_id) > _CALL_HIGH_WATER_BYTES:
                    self._writable.wait()
                self._writing = False
            if self._over:
                raise CallCancelledError
            self._connection.write(self._stream_id, framed)
            self._session._send_ready()


class Session:
    """Serves the daemon's calls during builds.

    Args:
        open_stream: Starts the outer RPC.
        unary: Handler by method path, for calls with one request and one response.
        streaming: Handler by method path, for the others.
        shared_key: Tells the daemon which of its copies of our directories may be reused; see :func:`shared_key_for`.

    Attributes:
        id: Names the session in a Solve request.
        shared_key: As given.
        error: Why the session ended while it was wanted, else None.
        last_heard_s: When anything came from the daemon last, on the monotonic clock. It asks for our health every
            five seconds, so a long silence means that the connection is dead; who waits for a build watches this.
    """

    def __init__(
        self,
        open_stream: OpenStream,
        *,
        unary: Mapping[str, UnaryHandler] | None = None,
        streaming: Mapping[str, StreamHandler] | None = None,
        shared_key: str = "",
    ) -> None:
        self.id = new_id()
        self.shared_key = shared_key or new_id()
        self.error: BuildKitError | None = None
        self.last_heard_s = time.monotonic()
        self._open_stream = open_stream
        self._unary = {**health_methods(), **(unary or {})}
        self._streaming = dict(streaming or {})
        # The daemon asks in lower case now and then; it compares without regard to case, and so do we.
        self._spelling = {path.lower(): path for path in (*self._unary, *self._streaming)}
        self._connection = GrpcServerConnection()
        self._lock = threading.RLock()
        self._is_sending = False  # a message is with gRPC, and the next one has to wait
        self._calls: dict[int, _Call] = {}
        self._handlers: set[threading.Thread] = set()
        self._closing = False
        self._ended = threading.Event()
        self._outer: ByteStreamCall | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> Self:
        """Open the stream and begin to serve."""
        metadata = [(HEADER_SESSION_ID, self.id), (HEADER_SHARED_KEY, self.shared_key)]
        metadata += [(HEADER_METHOD, path) for path in (*self._unary, *self._streaming)]
        self.last_heard_s = time.monotonic()
        outer = self._open_stream(metadata, self._sent)
        with self._lock:
            self._outer = outer
            self._send_ready()
        self._reader = threading.Thread(target=self._read, name=f"session-{self.id[:6]}", daemon=True)
        self._reader.start()
        return self

    def begin_close(self) -> None:
        """Do what :meth:`close` does, but wait for nothing; that is left for :meth:`close`."""
        with self._lock:
            self._closing = True
            self._end_calls()

    def close(self) -> None:
        """End the session at once; what the daemon still wanted is cancelled.

        Says goodbye, and waits a few seconds at most: for the daemon's, and for handlers to clean up.
        """
        self.begin_close()
        if self._outer is None or self._reader is None:
            return
        if not self._ended.wait(_GOODBYE_TIMEOUT_S):
            self._outer.cancel()
        deadline_s = time.monotonic() + _HANDLERS_TIMEOUT_S
        with self._lock:
            threads = [self._reader, *self._handlers]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def abort(self, error: BuildKitError) -> None:
        """End the session without a goodbye, because nobody would hear it.

        Args:
            error: Why; it becomes :attr:`error`.
        """
        self._finish(error)
        if self._outer is not None:
            self._outer.cancel()

    def _end_calls(self) -> None:
        for call in self._calls.values():
            call.end()
        self._calls.clear()
        self._send_ready()

    @property
    def is_alive(self) -> bool:
        """Whether the daemon can still call us."""
        return self._reader is not None and not self._ended.is_set() and self.error is None

    def __enter__(self) -> Self:
        return self if self._reader is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_over(self) -> bool:
        return self._closing or self._ended.is_set()

    # -- bytes out ---------------------------------------------------------------------------------------------

    def _send_ready(self) -> None:
        """Send what is ready, with the lock held, unless a message is still with gRPC: :meth:`_sent` goes on then.

        Of a session that is over, the end of the stream is the last that is sent.
        """
        if self._is_sending or self._outer is None:
            return
        if self._is_over():
            self._is_sending = True
            self._outer.half_close()
            return
        if not self._connection.has_data_to_send():
            return
        self._is_sending = True
        parts = self._connection.data_to_send(OUTER_MESSAGE_BYTES)
        for call in self._calls.values():
            call.drained()
        self._outer.send(pack_bytes_message(parts))

    def _sent(self) -> None:
        with self._lock:
            self._is_sending = False
            self._send_ready()

    # -- bytes in: runs in the reader thread -------------------------------------------------------------------

    def _read(self) -> None:
        error: BuildKitError | None = None
        try:
            assert self._outer is not None
            for message in self._outer:
                data = unpack_bytes_message(message)
                self.last_heard_s = time.monotonic()
                with self._lock:
                    for event in self._connection.receive_data(data):
                        self._dispatch(event)
                    self._send_ready()
            error = ConnectionLostError("the daemon ended the session", hint="see the daemon's log")
        except BuildKitError as exc:
            error = exc
        except Exception as exc:  # whatever the channel raises: the session is over, and close() must not wait for it
            _log.debug("session %s: reading ended", self.id, exc_info=True)
            error = ConnectionLostError("the session to the daemon broke off", why=str(exc))
        finally:
            self._finish(error)

    def _finish(self, error: BuildKitError | None) -> None:
        with self._lock:
            if not self._closing and self.error is None:
                self.error = error
            self._ended.set()
            self._end_calls()
        if isinstance(error, RemoteProtocolError) and self._outer is not None:
            self._outer.cancel()

    def _dispatch(self, event: Event) -> None:
        match event:
            case MessagesReceived(stream_id, messages):
                call = self._calls.get(stream_id)
                if call is None:
                    return
                if call.method == CHECK:
                    self._connection.write(stream_id, encode_message(self._unary[CHECK](messages[0], call.metadata)))
                    self._connection.end_call(stream_id)
                    self._calls.pop(stream_id)
                else:
                    call.deliver(messages)
            case CallStarted(stream_id, path, metadata):
                self._start_call(stream_id, path, metadata)
            case CallHalfClosed(stream_id):
                if (call := self._calls.get(stream_id)) is not None:
                    call.half_close()
            case CallReset(stream_id):
                if (call := self._calls.pop(stream_id, None)) is not None:
                    call.end()
            case GoingAway(_, debug):
                if not self._closing:
                    self.error = ConnectionLostError("the daemon dropped the session", why=debug)
                self._closing = True  # the outer stream stays open until we close it
                self._end_calls()

    def _start_call(self, stream_id: int, path: str, metadata: Metadata) -> None:
        if self._is_over():
            return
        method = self._spelling.get(path.lower())
        if method is None:
            _log.debug("session %s: the daemon called %s, which is not served", self.id, path)
            self._connection.end_call(stream_id, StatusCode.UNIMPLEMENTED, f"unknown method {path}")
            return
        call = _Call(self, stream_id, method, metadata)
        self._calls[stream_id] = call
        if method != CHECK:
            name = f"session-{self.id[:6]}{method[method.rindex('/') :]}"
            thread = threading.Thread(target=self._serve, args=(stream_id, call), name=name, daemon=True)
            self._handlers.add(thread)
            thread.start()

    def _serve(self, stream_id: int, call: _Call) -> None:
        """Run one handler; runs in the call's own thread."""
        code, message = StatusCode.OK, ""
        try:
            if (handler := self._streaming.get(call.method)) is not None:
                handler(call)
            else:
                request = call.receive()
                if request is None:
                    raise RpcError(StatusCode.INVALID_ARGUMENT, f"{call.method} was called without a request")
                call.write(encode_message(self._unary[call.method](request, call.metadata)))
        except CallCancelledError:
            code, message = StatusCode.CANCELLED, "the call was cancelled"
        except RpcError as exc:
            code, message = exc.code, exc.message
        except BuildKitError as exc:
            code, message = StatusCode.UNKNOWN, f"{exc}: {exc.why}" if exc.why else str(exc)
        except Exception as exc:
            _log.exception("session %s: %s failed", self.id, call.method)
            code, message = StatusCode.INTERNAL, f"{type(exc).__name__} while serving {call.method}"
        with self._lock:
            self._handlers.discard(threading.current_thread())
            if self._calls.pop(stream_id, None) is not None:
                self._connection.end_call(stream_id, code, message)
                self._send_ready()
