"""Threads that a block of a test started and left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_GRACE_S = 5.0


@contextmanager
def no_thread_stays(*prefixes: str) -> Iterator[None]:
    """Check that every thread that the block starts has ended soon after it.

    Threads of other tests do not count: one that was told to end may still be at it. Nor is it at once that a thread
    which has done its work is off the list.

    Args:
        prefixes: Look only at threads whose names begin so; at all of them when there are none.
    """
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + _GRACE_S
    while left := [one.name for one in set(threading.enumerate()) - before if one.name.startswith(prefixes or ("",))]:
        assert time.monotonic() < deadline_s, left
        time.sleep(0.01)
