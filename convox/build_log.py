"""A build's log on its way to the person and to the file: prefixed by service, secrets masked, in whole lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from convox.masking import MaskingWriter

TakeBytes = Callable[[bytes], object]
"""Takes a piece of the log."""


class LogTee:
    """Gives the log to the person and to the file, whole lines at a time, secrets masked.

    Args:
        show: Gets what a person sees.
        keep: Gets what is stored.
        secrets: Values to mask in both.
    """

    def __init__(self, show: TakeBytes, keep: TakeBytes, secrets: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._show = show
        self._keep = keep
        self._masked = MaskingWriter(secrets, self._both)

    def _both(self, data: bytes) -> None:
        self._keep(data)
        self._show(data)

    def write(self, data: bytes) -> None:
        """Take whole lines."""
        with self._lock:
            self._masked.write(data)

    def line(self, text: str) -> None:
        """Take one line without its end."""
        self.write(text.encode("utf-8", "surrogateescape") + b"\n")

    def close(self) -> None:
        """Pass on what masking still held back."""
        with self._lock:
            self._masked.flush()


class LinePrefixer:
    """Puts a prefix before every line of a text that comes in pieces.

    Args:
        prefix: For example ``web | ``.
        write: Gets whole lines only, except at :meth:`close`.
    """

    def __init__(self, prefix: str, write: TakeBytes) -> None:
        self._prefix = prefix.encode()
        self._write = write
        self._rest = b""

    def write(self, text: str) -> None:
        """Take a piece."""
        data = self._rest + text.encode("utf-8", "surrogateescape")
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            self._write(b"".join(self._prefix + line for line in data[:end].splitlines(keepends=True)))

    def close(self) -> None:
        """Pass on a last line that has no end."""
        if self._rest:
            self._write(self._prefix + self._rest + b"\n")
            self._rest = b""
