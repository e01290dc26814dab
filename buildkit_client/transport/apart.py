"""Calls into the gRPC library from the main thread, made so that Ctrl-C can come at any moment.

Python raises KeyboardInterrupt in the main thread, between any two instructions, so also inside the library, right
after it took one of its locks. The lock is never given back then, and whoever wants it next waits for ever: in our
tests one interrupt in ten that came while a build was starting left a process that did not end.

So the main thread never runs the library's code. It lets another thread do that and waits at a queue, whose ``get`` is
one step for the interpreter: it is interrupted before or after, never within. In any other thread, where no
KeyboardInterrupt comes, things are simply called.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

_READ_AHEAD = 64  # how many items of a stream may wait for the main thread


def is_main_thread() -> bool:
    """Whether this is the thread that interrupts come to."""
    return threading.get_ident() == threading.main_thread().ident


def apart(function: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
    """Call a function where no KeyboardInterrupt can hit it, and wait for it.

    Args:
        function: What to call. When the wait is interrupted, it goes on to its end.
        undo: Takes back what the function made, when nobody waits for it any more.

    Raises:
        KeyboardInterrupt: The wait was interrupted.
        Exception: What the function raises.
    """
    if not is_main_thread():
        return function()
    outcomes: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()
    verdicts: SimpleQueue[bool] = SimpleQueue()

    def run() -> None:
        try:
            made = function()
        except BaseException as exc:  # it is the waiting thread's
            outcomes.put(([], exc))
            return
        outcomes.put(([made], None))
        if undo is not None and not verdicts.get():
            undo(made)

    is_taken = False
    try:
        threading.Thread(target=run, name="build-call", daemon=True).start()
        made, error = outcomes.get()
        is_taken = True
    finally:
        verdicts.put(is_taken)
    if error is not None:
        try:
            raise error
        finally:
            del error  # or this frame and the error would keep each other
    return made[0]


def pumped(source: Iterable[T]) -> Iterator[T]:
    """Iterate where no KeyboardInterrupt can hit the iteration; a few items are read ahead.

    Args:
        source: What to iterate. The caller makes it end when this iterator is left before the end.

    Yields:
        The source's items.

    Raises:
        Exception: What the source raises.
    """
    if not is_main_thread():
        yield from source
        return
    items: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()
    room: SimpleQueue[bool] = SimpleQueue()
    for _ in range(_READ_AHEAD):
        room.put(True)

    def pump() -> None:
        try:
            for item in source:
                items.put(([item], None))
                if not room.get():
                    return
            items.put(([], None))
        except BaseException as exc:  # it is the waiting thread's
            items.put(([], exc))

    threading.Thread(target=pump, name="build-pump", daemon=True).start()
    try:
        while True:
            item, error = items.get()
            if error is not None:
                raise error
            if not item:
                return
            room.put(True)
            yield item[0]
    finally:
        room.put(False)
