"""Reading a file that somebody named: only if it is a regular file, never more than a limit, never waiting.

A name in a project can belong to a pipe, a device or a folder. Opening those the usual way hangs, never ends, or fails
with a text that helps nobody.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FileTooLargeError(OSError):
    """A file has more bytes than its reader takes."""


def read_regular_file(path: Path, *, limit_bytes: int, follow_symlinks: bool = True) -> bytes:
    """Return a file's content.

    Args:
        path: The file.
        limit_bytes: The most it may have.
        follow_symlinks: Whether ``path`` itself may be a symlink; folders on the way to it always may.

    Raises:
        FileNotFoundError: There is no such file.
        FileTooLargeError: It has more than ``limit_bytes``.
        OSError: It cannot be read or is no regular file; ``strerror`` says which, without the path.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW)
    fd = os.open(path, flags)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(limit_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > limit_bytes:
        raise FileTooLargeError(0, f"it has more than {limit_bytes} bytes")
    return data
