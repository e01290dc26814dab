"""The ``Control.Session`` call: bytes both ways at once, for as long as builds run.

gRPC's Python face serves such a call with three threads: one takes events from gRPC's core, one waits for what is to
be sent, and ours reads; each message passes through a lock and a condition between them, some 100 µs. A context of
50,000 small files is thousands of messages, a cache of 1 GiB 33,000. So the call is made of the parts that face is
made of: our reader takes the core's events itself, and whoever has something to send hands it to the core. These
parts are not gRPC's public names. A release that has other ones is served through the public call, with the same
result.

Reference: grpcio, grpc/_channel.py, _SingleThreadedRendezvous (which does so for calls with one request).
"""

from __future__ import annotations

import threading
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Trailers = tuple[tuple[str, str | bytes], ...]

_NO_FLAGS = 0


class CallEndedError(Exception):
    """The call ended with a status other than OK.

    Attributes:
        code: The status code, as a number.
        details: Its text.
        trailers: The trailing metadata.
    """

    def __init__(self, code: int, details: str, trailers: Trailers) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailers = trailers


class CoreCall:
    """The call on gRPC's core.

    Args:
        channel: gRPC's channel.
        path: The method.
        metadata: Of the request.
        on_sent: Called, in the reader's thread, whenever a message given to :meth:`send` is on its way.

    Raises:
        AttributeError: This release of gRPC has other parts; so with the next two.
        ImportError: The same.
        TypeError: The same.
    """

    def __init__(
        self, channel: grpc.Channel, path: str, metadata: Sequence[tuple[str, str]], on_sent: Callable[[], None]
    ) -> None:
        cygrpc: Any = import_module("grpc._cython.cygrpc")
        self._core = cygrpc
        self._on_sent = on_sent
        self._cancelled = int(cygrpc.StatusCode.cancelled)
        self._kinds = cygrpc.OperationType
        self._receive = (cygrpc.ReceiveMessageOperation(_NO_FLAGS),)
        batches = (
            (cygrpc.SendInitialMetadataOperation(metadata, _NO_FLAGS),),
            (cygrpc.ReceiveStatusOnClientOperation(_NO_FLAGS),),
            (cygrpc.ReceiveInitialMetadataOperation(_NO_FLAGS),),
        )
        self._due = len(batches)  # events that will come; the core takes the call away after the last
        self._lock = threading.Lock()
        inner: Any = channel
        self._call = inner._channel.segregated_call(
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            path.encode(),
            None,
            None,
            metadata,
            None,
            tuple((batch, None) for batch in batches),
            cygrpc.build_census_context(),
            None,
        )

    def send(self, message: bytes) -> None:
        """Send a message; the next one only after ``on_sent``. A call that is over takes none."""
        self._operate((self._core.SendMessageOperation(message, _NO_FLAGS),))

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._operate((self._core.SendCloseFromClientOperation(_NO_FLAGS),))

    def cancel(self) -> bool:
        """End the call at once."""
        return bool(self._call.cancel(self._cancelled, "Locally cancelled by application!"))

    def _operate(self, operations: tuple[Any, ...]) -> None:
        with self._lock:
            if self._due and self._call.operate(operations, None):
                self._due += 1

    def __iter__(self) -> Iterator[bytes]:
        """Yield messages until the call ends.

        Raises:
            CallEndedError: It ended with another status than OK.
        """
        kinds = self._kinds
        status: Any = None
        self._operate(self._receive)
        while True:
            event = self._call.next_event()
            message = None
            is_sent = False
            for operation in event.batch_operations:
                kind = operation.type()
                if kind == kinds.receive_message:
                    message = operation.message()
                elif kind == kinds.send_message:
                    is_sent = True
                elif kind == kinds.receive_status_on_client:
                    status = operation
            if message is not None:
                self._operate(self._receive)
            with self._lock:
                self._due -= 1
                is_over = not self._due
            if is_sent:
                self._on_sent()
            if message is not None:
                yield message
            if is_over:
                break
        if status.code():
            raise CallEndedError(status.code(), status.details() or "", tuple(status.trailing_metadata() or ()))


class PublicCall:
    """The call by gRPC's public names; see :class:`CoreCall`."""

    def __init__(
        self, channel: grpc.Channel, path: str, metadata: Sequence[tuple[str, str]], on_sent: Callable[[], None]
    ) -> None:
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        self._on_sent = on_sent
        method: Any = channel.stream_stream(path)
        self._call = method(self._requests(), metadata=tuple(metadata))

    def _requests(self) -> Iterator[bytes]:
        while (message := self._outgoing.get()) is not None:
            yield message
            self._on_sent()

    def send(self, message: bytes) -> None:
        """Send a message."""
        self._outgoing.put(message)

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._outgoing.put(None)

    def cancel(self) -> bool:
        """End the call at once."""
        self._outgoing.put(None)
        return bool(self._call.cancel())

    def __iter__(self) -> Iterator[bytes]:
        """Yield messages until the call ends."""
        try:
            yield from self._call
        except grpc.RpcError:
            call = self._call
            raise CallEndedError(
                call.code().value[0], call.details() or "", tuple(call.trailing_metadata() or ())
            ) from None
        finally:
            self._outgoing.put(None)


SessionCall = CoreCall | PublicCall


def session_call(
    channel: grpc.Channel, path: str, metadata: Sequence[tuple[str, str]], on_sent: Callable[[], None]
) -> SessionCall:
    """Start the call, on the core where this release of gRPC has the parts for it."""
    try:
        return CoreCall(channel, path, metadata, on_sent)
    except (AttributeError, ImportError, TypeError):
        return PublicCall(channel, path, metadata, on_sent)
