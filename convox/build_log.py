"""A build's log on its way to the person and to the file: prefixed by service, secrets masked, in whole lines."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from convox.errors import ConvoxError
from convox.masking import MaskingWriter

TakeBytes = Callable[[bytes], object]
"""Takes a piece of the log."""


class LogTee:
    """Gives the log to the person and to the file, whole lines at a time, secrets masked.

    It is written from threads that must not fail because of it. When nobody reads any more, the log is still kept; when
    it cannot be kept, :meth:`check` says so to whoever can end the build.

    Args:
        show: Gets what a person sees; may raise OSError or ConvoxError.
        keep: Gets what is stored; may raise ConvoxError.
        secrets: Values to mask in both.
    """

    def __init__(self, show: TakeBytes, keep: TakeBytes, secrets: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._show = show
        self._keep = keep
        self._masking = MaskingWriter(secrets, self._both)
        self._is_shown = True
        self._has_ended = False
        self._error: ConvoxError | None = None

    def hide(self, secrets: Sequence[str]) -> None:
        """Mask other values from now on."""
        with self._lock:
            self._masking.flush()
            self._masking = MaskingWriter(secrets, self._both)

    def write(self, data: bytes) -> None:
        """Take whole lines; nothing once the log has ended."""
        with self._lock:
            if not self._has_ended:
                self._masking.write(data)

    def line(self, text: str) -> None:
        """Take one line without its end."""
        self.write(_encode(text) + b"\n")

    def flush(self) -> None:
        """Pass on what masking still held back."""
        with self._lock:
            self._masking.flush()

    def check(self) -> None:
        """Do nothing while the log can be kept.

        Raises:
            ConvoxError: It cannot.
        """
        if self._error is not None:
            raise self._error

    def end(self, text: str) -> None:
        """Keep a last line, which is not shown, and take nothing afterwards."""
        with self._lock:
            self._masking.flush()
            self._has_ended = True
            with contextlib.suppress(ConvoxError):
                self._keep(_encode(text) + b"\n")

    def _both(self, data: bytes) -> None:
        if self._error is None:
            try:
                self._keep(data)
            except ConvoxError as exc:
                self._error = exc
        if self._is_shown:
            try:
                self._show(data)
            except (OSError, ConvoxError):
                self._is_shown = False


class LinePrefixer:
    """Puts a prefix before every line of a text that comes in pieces.

    Args:
        prefix: For example ``web | ``; an empty line gets it without the space at its end.
        write: Gets whole lines only.
    """

    def __init__(self, prefix: str, write: TakeBytes) -> None:
        self._prefix = _encode(prefix)
        self._write = write
        self._rest = b""

    def write(self, text: str) -> None:
        """Take a piece."""
        *lines, self._rest = (self._rest + _encode(text)).split(b"\n")
        if lines:
            self._write(b"".join(self._line(line) for line in lines))

    def close(self) -> None:
        """Pass on a last line that has no end."""
        if self._rest:
            self._write(self._line(self._rest))
            self._rest = b""

    def _line(self, line: bytes) -> bytes:
        return (self._prefix + line if line else self._prefix.rstrip(b" ")) + b"\n"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
