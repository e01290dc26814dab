"""Opening the files of a store: private to their owner, never through a symbolic link, with errors that name them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from convox.errors import StoreError
from convox.private_files import FILE_MODE, make_private_folder

if TYPE_CHECKING:
    from pathlib import Path


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, each with mode 0700.

    A folder that is there is left as it is: with a store named by URL it may well be one that is shared.

    Raises:
        StoreError: It cannot be made.
    """
    if path.is_dir():
        return
    try:
        make_private_folder(path)
    except OSError as exc:
        in_the_way = isinstance(exc, NotADirectoryError | FileExistsError)
        raise StoreError(
            f"cannot make the folder {path}",
            why="a file is in the way" if in_the_way else exc.strerror or str(exc),
            hint="check owner and mode of the folders above it",
        ) from exc


def open_file(path: Path, flags: int) -> int:
    """Open a file, made with mode 0600 where ``flags`` has ``O_CREAT``, and return its descriptor.

    Raises:
        FileNotFoundError: There is no such file, and it is not to be made.
        StoreError: It is a symbolic link, or cannot be opened.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except FileNotFoundError:
        raise
    except OSError as exc:
        why = "it is a symbolic link" if exc.errno == errno.ELOOP else exc.strerror or str(exc)
        raise StoreError(
            f"cannot open {path}", why=why, hint="check owner and mode of that file and its folder"
        ) from exc
