"""Reading several blobs at once while somebody takes them one after the other, in bounded memory.

An archive has its blobs in one order. Fetching and hashing them one by one leaves the network, or the other cores, idle
while bytes are written; here a few threads are always some blobs ahead.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

WORKERS = 4
"""How many blobs are read at once."""
CHUNKS_AHEAD = 2
"""How many chunks of each may wait to be taken; of 1 MiB each, and with one more in each reader's hand, 12 MiB."""


def read_ahead(
    openers: Sequence[Callable[[], Iterator[bytes]]], *, workers: int = WORKERS, chunks_ahead: int = CHUNKS_AHEAD
) -> Generator[Iterator[bytes]]:
    """Yield the bytes of many blobs, in order, read by threads before they are asked for.

    Closing the iterator ends the threads; nobody waits for them, since one may hang in the network until its timeout.

    Args:
        openers: Each gives one blob's chunks; called in a thread.
        workers: How many are read at once.
        chunks_ahead: How many chunks of each may wait to be taken.

    Yields:
        One iterator of chunks for each opener. It must be read to its end before the next one is asked for, and raises
        what its opener raised.
    """
    state = _State([_Slot() for _ in openers], chunks_ahead)
    for number in range(min(workers, len(openers))):
        threading.Thread(target=state.work, args=(openers, workers), name=f"read-ahead-{number}", daemon=True).start()
    try:
        for slot in state.slots:
            yield state.take(slot)
    finally:
        state.stop()


class _Slot:
    """One blob on its way."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.is_complete = False
        self.error: BaseException | None = None


class _State:
    """What the threads and the taker share; everything is guarded by one condition."""

    def __init__(self, slots: list[_Slot], chunks_ahead: int) -> None:
        self.slots = slots
        self._chunks_ahead = chunks_ahead
        self._changed = threading.Condition()
        self._started = 0
        self._taken = 0
        self._is_stopped = False

    def work(self, openers: Sequence[Callable[[], Iterator[bytes]]], window: int) -> None:
        while True:
            with self._changed:
                # Small blobs end at once: without the window the threads would read all of them into memory.
                while not self._is_stopped and self._started - self._taken >= window:
                    self._changed.wait()
                if self._is_stopped or self._started == len(self.slots):
                    return
                number = self._started
                self._started += 1
            slot = self.slots[number]
            try:
                for chunk in openers[number]():
                    if not self._put(slot, chunk):
                        return
            except BaseException as exc:  # raised again where the blob is taken
                slot.error = exc
            with self._changed:
                slot.is_complete = True
                self._changed.notify_all()

    def take(self, slot: _Slot) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not slot.chunks and not slot.is_complete:
                    self._changed.wait()
                chunk = slot.chunks.popleft() if slot.chunks else None
                if chunk is None and slot.error is None:
                    self._taken += 1
                self._changed.notify_all()
            if chunk is None:
                break
            yield chunk
        if slot.error is not None:
            raise slot.error

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _put(self, slot: _Slot, chunk: bytes) -> bool:
        with self._changed:
            while not self._is_stopped and len(slot.chunks) >= self._chunks_ahead:
                self._changed.wait()
            if self._is_stopped:
                return False
            slot.chunks.append(chunk)
            self._changed.notify_all()
            return True
