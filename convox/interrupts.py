"""Ctrl-C at a moment that suits: never in the middle of a change of the records.

Python raises its exception wherever the main thread happens to be. Between a statement and its commit that would leave
a connection that cannot be used, and a record that says neither that a build failed nor that it was cancelled.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _MainThread:
    """What the main thread does; only it is ever interrupted."""

    shields = 0
    is_interrupted = False


def interrupt() -> None:
    """Interrupt the main thread, which calls this from a signal handler.

    Raises:
        KeyboardInterrupt: At once; where a change is under way, when it is done.
    """
    if not _MainThread.shields:
        raise KeyboardInterrupt
    _MainThread.is_interrupted = True


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let an :func:`interrupt` wait until the block is over; the block must be over soon.

    Raises:
        KeyboardInterrupt: At the end of the outermost block, when one came meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _MainThread.shields += 1
    try:
        yield
    finally:
        _MainThread.shields -= 1
        if not _MainThread.shields and _MainThread.is_interrupted:
            _MainThread.is_interrupted = False
            raise KeyboardInterrupt
