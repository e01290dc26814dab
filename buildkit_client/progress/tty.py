"""Progress as a live block of lines at the end of a terminal, in the layout of ``buildctl --progress=tty``.

```
[+] Building 3.2s (4/6)
 => [internal] load build definition from Dockerfile                  0.0s
 => => transferring dockerfile: 171B                                  0.0s
 => CACHED [1/3] FROM docker.io/library/busybox                       0.0s
 => [2/3] RUN make                                                    2.9s
 => => # cc -O2 -c main.c
```

The block is redrawn in place. Steps that run and write something get a window with the last lines of it. All text that
comes from the build is made harmless before it is shown. The reference keeps a small terminal emulator for each window;
here a window shows the last lines as text, which differs only for programs that move the cursor.

Reference: util/progress/progressui/display.go, ttyDisplay.
"""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_client.progress.colours import Colours, paint
from buildkit_client.progress.graph import BuildGraph, VertexState
from buildkit_client.progress.measure import Interval, format_amount, total_seconds
from buildkit_client.progress.plain import PRINT_INTERVAL_S
from buildkit_client.progress.stamped import StampedLines
from buildkit_client.progress.terminal_text import neutralise

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_client.progress.model import StatusUpdate, VertexStatus

DEFAULT_SIZE = (80, 10)
"""Columns and lines to assume when the terminal does not say."""

_WINDOW_PAD = 10
_MIN_WINDOW_LINES = 6
_MAX_KEPT_BYTES = 1 << 20
_HIDE_CURSOR = "\x1b[?25l"
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(slots=True)
class _Row:
    """One line of the block."""

    text: str
    intervals: list[Interval]
    is_completed: bool
    amount: str = ""
    colour: str = ""
    state: VertexState | None = None
    window: tuple[str, ...] = ()


class TtyProgress:
    """Redraws a block of lines on a terminal.

    Feed it with :meth:`update`, call :meth:`tick` about every 150 ms, and :meth:`finish` once at the end. Not safe for
    use from several threads at once; see ``ProgressDriver``.

    Args:
        write: Takes each whole frame.
        size: Gives columns and lines of the terminal; zeros when it does not know.
        clock: Nanoseconds of a clock that never goes back.
        print_interval_s: Least time between two frames that messages cause, 0 for no limit.
        colours: What to paint in which colour.
        window_lines: Most lines of the window of a running step.
        phase: The word in the first line.
        graph: The state to show; a new one when not given. Updates must reach it only through this display.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        size: Callable[[], tuple[int, int]],
        clock: Callable[[], int] = time.monotonic_ns,
        print_interval_s: float = PRINT_INTERVAL_S,
        colours: Colours | None = None,
        window_lines: int = _MIN_WINDOW_LINES,
        phase: str = "Building",
        graph: BuildGraph | None = None,
    ) -> None:
        self.graph = BuildGraph(tail_lines=max(window_lines, _MIN_WINDOW_LINES)) if graph is None else graph
        self._write = write
        self._size = size
        self._clock = clock
        self._print_interval_ns = round(print_interval_s * 1e9)
        self._colours = Colours() if colours is None else colours
        self._window_lines = window_lines
        self._phase = phase
        self._lines_drawn = 0
        self._has_drawn = False
        self._last_print_ns: int | None = None
        self._first_start_ns: int | None = None
        self._local_shift_ns = 0
        self._windows_given: dict[str, int] = {}
        self._outputs: dict[str, StampedLines] = {}

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:
        """Take a message in and redraw, unless the last frame was less than the print interval ago."""
        now = self._clock()
        if self._first_start_ns is None:
            starts = [vertex.started_ns for vertex in update.vertexes if vertex.started_ns is not None]
            if starts:
                self._first_start_ns = starts[0]
                self._local_shift_ns = now - starts[0]
        for state in self.graph.apply(update, solve=solve):
            if state.is_completed and not state.is_failed:
                self._outputs.pop(state.digest, None)
        for log in update.logs:
            self._keep_output(log.vertex, log.data, log.timestamp_ns, solve)
        last = self._last_print_ns
        if last is None or now - last >= self._print_interval_ns:
            self._last_print_ns = now
            self._draw(now, is_last=False)

    def tick(self) -> None:
        """Redraw."""
        self._draw(self._clock(), is_last=False)

    def finish(self) -> None:
        """Draw every line a last time, then print the output of each failed vertex."""
        self._draw(self._clock(), is_last=True)
        parts: list[str] = []
        for state in self.graph.failed:
            parts.append(f"------\n > {state.label}:\n")
            output = self._outputs.get(state.digest)
            if output is not None:
                parts.extend(f"{line.decode('utf-8', 'replace')}\n" for line in output.lines)
            else:  # written in an earlier run of the step, one that ended well
                parts.extend(f"{line}\n" for line in state.last_output())
            parts.append("------\n")
        if parts:
            self._write(neutralise("".join(parts)))

    def _keep_output(self, digest: str, data: bytes, timestamp_ns: int, solve: str) -> None:
        """Keep a running vertex's output, for the case that it fails."""
        state = self.graph.vertex(digest)
        # What several solves report alike is kept once.
        if state is None or solve != state.solves[0] or (state.is_completed and not state.is_failed):
            return
        output = self._outputs.setdefault(state.digest, StampedLines())
        output.add(data, timestamp_ns - state.intervals[-1][0] if state.intervals else 0)
        if state.log_bytes > _MAX_KEPT_BYTES:
            size = sum(len(line) for line in output.lines)
            while size > _MAX_KEPT_BYTES and len(output.lines) > 1:
                size -= len(output.lines.pop(0))
            output.drop_printed(len(output.lines[-1]))

    # -- rows --------------------------------------------------------------------------------------------------

    def _rows(self) -> list[_Row]:
        rows: list[_Row] = []
        for state in self.graph.started:
            rows.append(self._vertex_row(state))
            rows.extend(self._status_row(status) for status in state.statuses.values() if status.started_ns is not None)
            rows.extend(
                # An open row stays on screen when the block is cut to the terminal's height.
                _Row(text="WARN: " + neutralise(warning.text), intervals=state.intervals[-1:], is_completed=False)
                for warning in state.warnings
            )
        return rows

    def _status_row(self, status: VertexStatus) -> _Row:
        return _Row(
            text="=> " + neutralise(status.id),
            intervals=[(status.started_ns or 0, status.completed_ns)],
            is_completed=status.completed_ns is not None,
            amount=format_amount(status.current, status.total),
            colour=self._colours.run,
        )

    def _vertex_row(self, state: VertexState) -> _Row:
        text = neutralise(state.label).replace("\t", " ")
        colour = self._colours.run
        if state.is_cancelled:
            text, colour = "CANCELED " + text, self._colours.cancel
        elif state.error:
            text, colour = "ERROR " + text, self._colours.error
        if state.cached:
            text = "CACHED " + text
        return _Row(text, state.intervals, state.is_completed, colour=colour, state=state)

    def _open_windows(self, rows: list[_Row], height: int) -> int:
        """Give windows to the running steps that write most, as many as fit; return how many lines they take."""
        open_rows = sum(not row.is_completed for row in rows)
        candidates = [row for row in rows if row.state is not None and not row.is_completed and row.state.log_bytes > 0]
        candidates.sort(key=self._window_merit, reverse=True)
        lines = max(_MIN_WINDOW_LINES, min(self._window_lines, height - _MIN_WINDOW_LINES - 1))
        free = height - 2 - open_rows
        taken = 0
        for row in candidates:
            if free <= lines + 3:
                break
            assert row.state is not None
            row.window = row.state.last_output(lines)
            self._windows_given[row.state.digest] = self._windows_given.get(row.state.digest, 0) + 1
            taken += len(row.window)
            free -= lines + 3
        return taken

    def _window_merit(self, row: _Row) -> int:
        assert row.state is not None
        return row.state.log_bytes + 50 * self._windows_given.get(row.state.digest, 0)

    # -- drawing -----------------------------------------------------------------------------------------------

    def _draw(self, now: int, *, is_last: bool) -> None:
        width, height = self._size()
        if width <= 0 or height <= 0:
            width, height = DEFAULT_SIZE
        rows = self._rows()
        taken = self._open_windows(rows, height)
        if not is_last:
            rows = _fit_height(rows, height - 2 - taken)
        frame = [_HIDE_CURSOR, f"\x1b[{self._lines_drawn + 1}A\r" if self._has_drawn else "\r"]
        self._has_drawn = True
        frame.append(self._head(now, width, is_last=is_last))
        lines = [line for row in rows for line in self._row_lines(row, now, width)]
        frame += lines
        leftover = self._lines_drawn - len(lines)
        if leftover > 0:
            frame.append((" " * width + "\n") * leftover + f"\x1b[{leftover}A\r")
        self._lines_drawn = len(lines)
        frame.append(_SHOW_CURSOR)
        self._write("".join(frame))

    def _head(self, now: int, width: int, *, is_last: bool) -> str:
        counts = self.graph.counts()
        start = now if self._first_start_ns is None else self._first_start_ns + self._local_shift_ns
        is_finished = is_last and counts.completed == counts.total > 0
        text = (
            f"[+] {self._phase} {(now - start) / 1e9:.1f}s ({counts.completed}/{counts.total})"
            f" {'FINISHED' if is_finished else ''}"
        )
        return text[:width].ljust(width) + "\n"

    def _row_lines(self, row: _Row, now: int, width: int) -> list[str]:
        if not row.intervals:
            return []
        seconds = total_seconds(row.intervals, now_ns=now - self._local_shift_ns)
        timer = f"{seconds if seconds >= 0.05 else 0:.1f}s"
        left = width - len(timer) - 7
        amount = ""
        if row.amount and left + len(row.amount) > 20:
            amount = " " + row.amount
            left -= len(amount)
        if left < 12:  # too narrow to say anything
            return []
        text = f" => {_cut(row.text, left)}{amount}"
        line = text + " " * (width - 2 - len(timer) - _columns(text)) + f" {timer}\n"
        lines = [paint(line, row.colour) if row.is_completed else line]
        lines.extend(
            paint(
                f" => => # {_cut(neutralise(output), width - _WINDOW_PAD)}".ljust(width - 1) + "\n",
                self._colours.output,
            )
            for output in row.window
            if output.strip()
        )
        return lines


def _fit_height(rows: list[_Row], limit: int) -> list[_Row]:
    """Cut the block to the terminal's height: the last rows, but open ones from above in place of ended ones.

    Reference: util/progress/progressui/display.go, wrapHeight.
    """
    if limit < 0:
        return []
    if len(rows) <= limit:
        return rows
    cut = len(rows) - limit
    shown, above = rows[cut:], [row for row in rows[:cut] if not row.is_completed]
    if not above:
        return shown
    kept = [row for index, row in enumerate(shown) if not row.is_completed or index >= len(above)]
    free = len(shown) - len(kept)
    return above[len(above) - free :] + kept


def _columns(text: str) -> int:
    """How many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_char_columns(char) for char in text)


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, columns: int) -> str:
    """Cut a text to a number of columns."""
    text = text.replace("\t", " ").replace("\n", " ")
    if text.isascii():
        return text[: max(0, columns)]
    for index, char in enumerate(text):
        columns -= _char_columns(char)
        if columns < 0:
            return text[:index]
    return text
