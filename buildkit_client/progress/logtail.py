"""The last lines of an output that arrives in arbitrary pieces, in bounded memory."""

from __future__ import annotations

from collections import deque

MAX_LINE_BYTES = 16 * 1024
"""A longer line keeps only its end, which is where a failing program says why."""


class LogTail:
    r"""Keeps the last lines of a byte stream that is cut anywhere.

    Lines end at ``\n``. Within a line, what stands before the last carriage return was overwritten on a terminal and
    is left out when the line is read.

    Args:
        max_lines: How many lines to keep besides one that has not ended yet.
    """

    __slots__ = ("_lines", "_partial", "total_bytes")

    def __init__(self, max_lines: int) -> None:
        self._lines: deque[bytes] = deque(maxlen=max_lines)
        self._partial = b""
        self.total_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece in; it may hold any number of lines, or none."""
        self.total_bytes += len(data)
        last_newline = data.rfind(b"\n")
        if last_newline < 0:
            self._partial = (self._partial + data)[-MAX_LINE_BYTES:]
            return
        # Only the last lines can survive, so only they are split off: a big piece costs one search from its end.
        start = last_newline
        for _ in range(self._lines.maxlen or 0):
            start = data.rfind(b"\n", 0, start)
            if start < 0:
                break
        if start < 0:
            first, *rest = data[:last_newline].split(b"\n")
            self._lines.append((self._partial + first)[-MAX_LINE_BYTES:])
        else:
            rest = data[start + 1 : last_newline].split(b"\n")
        self._lines.extend(line[-MAX_LINE_BYTES:] for line in rest)
        self._partial = data[last_newline + 1 :][-MAX_LINE_BYTES:]

    def lines(self, limit: int) -> tuple[str, ...]:
        """The last lines, oldest first, a line not ended included; bytes that are not UTF-8 are replaced.

        Args:
            limit: How many at most.
        """
        kept = [*self._lines, self._partial] if self._partial else list(self._lines)
        return tuple(_as_text(line) for line in kept[-limit:]) if limit > 0 else ()


def _as_text(line: bytes) -> str:
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown.decode("utf-8", "replace")
