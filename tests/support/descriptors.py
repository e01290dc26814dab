"""Open descriptors of a test's own files; those of other threads of the process do not count."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def open_below(folder: Path) -> int:
    """Return how many descriptors lead to a folder or to what is in it, also to what is deleted by now."""
    top = os.path.realpath(folder)
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile by somebody else
            target = str(descriptor.readlink())
            count += target == top or target.startswith(f"{top}/")
    return count
