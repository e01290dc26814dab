"""Files that only their owner may read, written whole or not at all.

Rack parameters hold passwords. Files are made with mode 0600 and folders with 0700 whatever the umask is, a file is
replaced in one step so that a reader or a crash never sees half of it, and no symlink in the place of a file or folder
of ours is followed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from typing import TYPE_CHECKING

from convox.regular_files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def make_private_folder(path: Path) -> None:
    """Make a folder of mode 0700, and those above it that are missing.

    A folder that is there is kept; if others may enter or list it, that is taken back.

    Args:
        path: The folder. A symlink in its place is refused; above it symlinks are fine.

    Raises:
        OSError: It cannot be made, or is no folder of ours.
    """
    for folder in (*reversed(path.parents), path):  # mkdir(parents=True) would give those above the umask's mode
        if not folder.exists():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=FOLDER_MODE)
    fd = open_private_file(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
            os.fchmod(fd, FOLDER_MODE)
    finally:
        os.close(fd)


def open_private_file(path: Path, flags: int) -> int:
    """Open a file and return its descriptor; where ``flags`` has ``O_CREAT``, it is made with mode 0600.

    Args:
        path: The file; a symlink in its place is refused.
        flags: Of :func:`os.open`.

    Raises:
        FileNotFoundError: There is no such file, and it is not to be made.
        OSError: It cannot be opened; ``strerror`` says why, also of a symlink.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise OSError(exc.errno, "it is a symbolic link", str(path)) from exc
        raise


def write_private_file(path: Path, data: bytes) -> None:
    """Replace a file in one step; its mode is 0600 afterwards.

    Args:
        path: The file; a symlink in its place is replaced, not followed. Its folder must be there.
        data: The whole content.

    Raises:
        OSError: It cannot be written; the old content is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = open_private_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, FILE_MODE)  # a umask may have taken bits from the owner as well
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_private_file(path: Path, *, limit_bytes: int) -> bytes | None:
    """Return a file's content, None when there is no such file.

    Args:
        path: The file; a symlink in its place is refused.
        limit_bytes: The most it may have.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger.
    """
    try:
        return read_regular_file(path, limit_bytes=limit_bytes, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold a folder for this process, so that read, change and write of a file in it are one step.

    Args:
        path: A folder that is there. Waits while another process holds it.

    Raises:
        OSError: It cannot be opened.
    """
    fd = open_private_file(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
