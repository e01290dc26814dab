"""A vertex's output as lines, each with the time since the vertex's latest start before it.

Reference: util/progress/progressui/display.go, trace.update (the part for logs).
"""

from __future__ import annotations

from buildkit_client.progress.measure import to_seconds

MAX_LINE_BYTES = 1 << 20
"""A line that grows beyond this loses its front."""


class StampedLines:
    """Joins pieces of output to lines and puts the time in front.

    Attributes:
        lines: Lines that were not taken yet, without line ends; the last one may not have ended.
        is_partial: The last piece did not end a line.
    """

    __slots__ = ("is_partial", "lines")

    def __init__(self) -> None:
        self.lines: list[bytearray] = []
        self.is_partial = False

    def add(self, data: bytes, offset_ns: int) -> None:
        """Append a piece of output.

        Args:
            data: The piece, cut anywhere. An empty one leaves the line open, as in the reference.
            offset_ns: Time since the vertex's latest start.
        """
        if not data:
            self.is_partial = True
            return
        pieces = data.split(b"\n")
        is_ended = not pieces[-1]
        if is_ended:
            pieces.pop()
        if self.is_partial and self.lines:
            self.lines[-1] += pieces[0]
            del pieces[0]
        if pieces:
            seconds = to_seconds(offset_ns)
            digits = 3 if seconds < 10 else 2 if seconds < 100 else 1
            prefix = f"{seconds:.{digits}f} ".encode()
            self.lines.extend(bytearray(prefix + piece) for piece in pieces)
        self.is_partial = not is_ended

    def drop_printed(self, offset: int) -> int:
        """Shorten an overlong last line by what was printed of it already.

        Args:
            offset: How many of its bytes were printed.

        Returns:
            The offset after the cut.
        """
        line = self.lines[-1]
        excess = min(len(line) - MAX_LINE_BYTES, offset)
        if excess <= 0:
            return offset
        del line[:excess]
        return offset - excess
