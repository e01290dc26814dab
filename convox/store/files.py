"""The files of a store, by :mod:`convox.private_files`, with errors that name them and say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convox.errors import StoreError
from convox.private_files import make_private_folder, open_private_file

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
    """Open a file as :func:`~convox.private_files.open_private_file` does.

    Raises:
        FileNotFoundError: There is no such file, and it is not to be made.
        StoreError: It is a symbolic link, or cannot be opened.
    """
    try:
        return open_private_file(path, flags)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StoreError(
            f"cannot open {path}",
            why=exc.strerror or str(exc),
            hint="check owner and mode of that file and its folder",
        ) from exc
