"""Chooses the display for ``--progress`` and an output stream.

Reference: util/progress/progressui/display.go, NewDisplay; util/progress/progresswriter/printer.go, NewPrinter.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from buildkit_client.errors import OptionError
from buildkit_client.progress.plain import PRINT_INTERVAL_S, TICK_INTERVAL_S, PlainProgress
from buildkit_client.progress.quiet import Progress, QuietProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The other displays' modules are loaded by those who choose them: most builds that scripts run print plain lines.

MODES = ("auto", "plain", "tty", "rawjson", "quiet")


def make_progress(mode: str, stream: TextIO, *, environ: Mapping[str, str] | None = None) -> Progress:
    """Make the display of a mode.

    Args:
        mode: ``auto`` (also empty) is ``tty`` on a terminal that can move its cursor, else ``plain``. Then ``plain``,
            ``tty``, ``rawjson``, ``quiet``.
        stream: Where it writes; bytes that are not UTF-8 go out as they came unless it is a terminal.
        environ: ``BUILDKIT_PROGRESS`` replaces ``auto``; ``TTY_DISPLAY_RATE``, ``PROGRESS_NO_TRUNC``, ``NO_COLOR``,
            ``BUILDKIT_COLORS`` and ``BUILDKIT_TTY_LOG_LINES`` tune displays as they do for buildctl.

    Raises:
        OptionError: The mode is not known, or it is ``tty`` and the stream is no terminal.
    """
    environ = {} if environ is None else environ
    if mode == "auto":
        mode = environ.get("BUILDKIT_PROGRESS") or mode
    is_terminal = stream.isatty()
    if mode in ("", "auto"):
        mode = "tty" if is_terminal and environ.get("TERM") != "dumb" else "plain"
    if mode == "quiet":
        return QuietProgress()
    if mode == "rawjson":
        from buildkit_client.progress.rawjson import RawJsonProgress  # noqa: PLC0415

        return RawJsonProgress(_writer(stream))
    if mode == "plain":
        return PlainProgress(
            _writer(stream),
            print_interval_s=display_rate_s(environ) or PRINT_INTERVAL_S,
            tick_interval_s=display_rate_s(environ) or TICK_INTERVAL_S,
            truncate_names=environ.get("PROGRESS_NO_TRUNC") == "0",
            terminal=is_terminal,
            errors="surrogateescape",
        )
    if mode != "tty":
        raise OptionError(f"invalid progress mode {mode}", hint=f"use one of {', '.join(MODES)}")
    if not is_terminal:
        raise OptionError(
            "failed to get console: provided file is not a console",
            hint="use --progress=plain where the output is not a terminal",
        )
    from buildkit_client.progress.colours import colours_from_environ  # noqa: PLC0415
    from buildkit_client.progress.tty import TtyProgress  # noqa: PLC0415

    return TtyProgress(
        _writer(stream),
        size=lambda: _terminal_size(stream),
        print_interval_s=display_rate_s(environ) or PRINT_INTERVAL_S,
        colours=colours_from_environ(environ),
        window_lines=_positive(environ.get("BUILDKIT_TTY_LOG_LINES", "")) or 6,
    )


def display_rate_s(environ: Mapping[str, str]) -> float:
    """Seconds between prints as ``TTY_DISPLAY_RATE`` asks for in milliseconds, 0 when it asks for nothing."""
    return _positive(environ.get("TTY_DISPLAY_RATE", "")) / 1000


def _positive(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _terminal_size(stream: TextIO) -> tuple[int, int]:
    from buildkit_client.progress.tty import DEFAULT_SIZE  # noqa: PLC0415

    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return DEFAULT_SIZE
    return size.columns, size.lines


def _writer(stream: TextIO) -> Callable[[str], object]:
    """Return a function that writes text, flushes, and restores bytes that were not UTF-8."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:

        def write_text(text: str) -> None:
            stream.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
            stream.flush()

        return write_text

    def write_bytes(text: str) -> None:
        stream.flush()
        buffer.write(text.encode("utf-8", "surrogateescape"))
        buffer.flush()

    return write_bytes
