"""Tests of permissions, which root does not feel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run a block as an ordinary user; the folders it uses have to be open to others."""
    if os.geteuid():
        yield
        return
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def open_to_others(folder: Path) -> Path:
    """Let other users into a folder of the tests, and return it."""
    for above in (folder, *folder.parents):
        mode = above.stat().st_mode
        if mode & 0o005 != 0o005:
            above.chmod(mode & 0o7777 | 0o055)
    return folder
