"""Calls of a session without a session: a test, another handler, or a program plays the daemon."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from buildkit_client._proto import fsutil_pb2
from buildkit_client.protocol.grpc_framing import MessageDecoder
from buildkit_client.session.call import Buffers, CallCancelledError

_CANCEL = object()
_TIMEOUT_S = 30.0


class MemoryCall:
    """A call whose daemon is the test.

    Args:
        metadata: Values by key.
        on_message: Gets every message the handler sends, in the handler's thread; by default they are kept.

    Attributes:
        sent: The handler's messages, in order.
        writes: Sizes of the buffers they came in.
    """

    method = "/test"

    def __init__(
        self,
        metadata: Mapping[str, tuple[str, ...]] | None = None,
        *,
        on_message: Callable[[bytes], None] | None = None,
    ) -> None:
        self.metadata = dict(metadata or {})
        self.sent: list[bytes] = []
        self.writes: list[int] = []
        self._on_message = on_message or self.sent.append
        self._decoder = MessageDecoder()
        self._inbox: queue.Queue[object] = queue.Queue()
        self._is_cancelled = False

    # -- for the daemon

    def deliver(self, *messages: bytes) -> Self:
        for message in messages:
            self._inbox.put(message)
        return self

    def packets(self) -> list[fsutil_pb2.Packet]:
        return [fsutil_pb2.Packet.FromString(message) for message in self.sent]

    def half_close(self) -> Self:
        self._inbox.put(None)
        return self

    def cancel(self) -> Self:
        self._is_cancelled = True
        self._inbox.put(_CANCEL)
        return self

    # -- for the handler

    def receive(self) -> bytes | None:
        return self._take(self._inbox.get(timeout=_TIMEOUT_S))

    def receive_ready(self) -> list[bytes]:
        messages: list[bytes] = []
        with suppress(queue.Empty):
            while (message := self._take(self._inbox.get_nowait())) is not None:
                messages.append(message)
            self._inbox.put(None)  # the half-close is for receive()
        return messages

    def write(self, framed: Buffers) -> None:
        if self._is_cancelled:
            raise CallCancelledError
        parts = (framed,) if isinstance(framed, bytes) else framed
        data = b"".join(parts)
        self.writes.append(len(data))
        for message in self._decoder.feed(data):
            self._on_message(message)

    def _take(self, item: object) -> bytes | None:
        if item is _CANCEL:
            raise CallCancelledError
        assert item is None or isinstance(item, bytes)
        return item


def join_handlers(
    one: Callable[[MemoryCall], None],
    other: Callable[[MemoryCall], None],
    *,
    one_metadata: Mapping[str, tuple[str, ...]] | None = None,
    other_metadata: Mapping[str, tuple[str, ...]] | None = None,
) -> list[BaseException]:
    """Let two handlers talk to each other until both end; return what they raised."""
    calls: list[MemoryCall] = []
    calls.append(MemoryCall(one_metadata, on_message=lambda message: calls[1].deliver(message) and None))
    calls.append(MemoryCall(other_metadata, on_message=lambda message: calls[0].deliver(message) and None))
    errors: list[BaseException] = []

    def run(handler: Callable[[MemoryCall], None], mine: MemoryCall, theirs: MemoryCall) -> None:
        try:
            handler(mine)
        except BaseException as exc:
            errors.append(exc)
            theirs.cancel()

    threads = [
        threading.Thread(target=run, args=(one, calls[0], calls[1])),
        threading.Thread(target=run, args=(other, calls[1], calls[0])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_TIMEOUT_S)
        assert not thread.is_alive(), "a handler hangs"
    return errors


class ProgramCall(MemoryCall):
    """A call whose daemon is a program that speaks gRPC's framing on its standard streams.

    Attributes:
        stderr: What the program said, after :meth:`finish`.
    """

    def __init__(
        self, program: Path, *arguments: str | Path, metadata: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        super().__init__(metadata)
        self._process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.stderr = ""
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def write(self, framed: Buffers) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(framed if isinstance(framed, bytes) else b"".join(framed))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CallCancelledError from None

    def finish(self) -> int:
        """End the program's input and return its exit code."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        self._reader.join(_TIMEOUT_S)
        self.stderr = process.stderr.read().decode()
        process.stdout.close()
        process.stderr.close()
        return process.wait(_TIMEOUT_S)

    def _read(self, stream: IO[bytes]) -> None:
        decoder = MessageDecoder()
        while data := os.read(stream.fileno(), 1 << 16):
            for message in decoder.feed(data):
                self.deliver(message)
        self.half_close()
