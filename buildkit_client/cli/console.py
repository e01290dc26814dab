"""What the commands share towards the outside: exit codes, writing, and the error that names what failed."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from buildkit_client.errors import BuildKitError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_NO_SUCH_COMMAND = 3


class CommandError(Exception):
    """A command failed with an error of the library.

    Attributes:
        error: The error.
        doing: What stands before the message of an error that the daemon answered with.
    """

    def __init__(self, error: BuildKitError, doing: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.doing = doing


def prepare_streams() -> None:
    """Open the null device where a standard stream is closed, as after a shell's ``2>&-``.

    The next file opened would get its number otherwise, and what a library writes to standard error would land in an
    archive or in the connection to the daemon. Standard output stays closed for our own code, so that :func:`output`
    can tell that a result would be lost.

    What goes there is UTF-8 whatever the locale says, as the reference's.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def output() -> TextIO:
    """Return standard output.

    Raises:
        BuildKitError: It is closed.
    """
    if sys.stdout is None:
        raise BuildKitError("standard output is closed")
    return sys.stdout


def write_out(text: str) -> None:
    """Write a result to standard output, at once.

    Raises:
        BuildKitError: It is closed.
        BrokenPipeError: Nobody reads it any more.
    """
    stream = output()
    stream.write(text)
    stream.flush()


def write_pieces(pieces: Iterable[str]) -> None:
    """Write texts to standard output as one; of an iterator that fails, what came before."""
    written: list[str] = []
    try:
        written.extend(pieces)
    finally:
        write_out("".join(written))


def write_error(text: str) -> None:
    """Write to standard error; bytes that were not UTF-8 go to a file as they were, to a terminal harmless."""
    raw = text.encode("utf-8", "surrogateescape")
    if sys.stderr.isatty():
        # The progress package is slow to import, and mistakes in a command line should show at once.
        from buildkit_client.progress.terminal_text import neutralise  # noqa: PLC0415

        raw = neutralise(raw.decode("utf-8", "replace")).encode()
    sys.stderr.flush()
    buffer = getattr(sys.stderr, "buffer", None)
    if buffer is None:
        sys.stderr.write(raw.decode("utf-8", "replace"))
        return
    buffer.write(raw)
    buffer.flush()


def open_private(path: Path, *, append: bool = False) -> TextIO:
    """Open a file for writing text, which nobody else may read when it is new.

    Raises:
        OSError: It cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8")
