"""Progress as a log of lines, as ``buildctl --progress=plain`` prints it.

Many vertexes run at once but a log has one current vertex at a time. The choice of it, and when the screen passes to
another, follow the reference display to the letter, oddities included, because people and scripts read this text:

- vertexes that ended are flushed first, then the current one keeps the screen;
- another takes over when the current one ended, when it was hidden for more than 10 s, or when the current one has used
  more than its share of the screen;
- only the first line of an output line printed in pieces gets the ``#N`` prefix.

Where the reference picks at random (it walks Go maps), the order of arrival decides here, so the text is reproducible.

Reference: util/progress/progressui/printer.go and display.go, plainDisplay.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

from buildkit_client.progress.graph import BuildGraph, VertexState
from buildkit_client.progress.measure import format_amount, to_seconds, total_seconds
from buildkit_client.progress.stamped import StampedLines
from buildkit_client.progress.terminal_text import neutralise

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_client.progress.model import StatusUpdate, VertexLog, VertexStatus

PRINT_INTERVAL_S = 0.1
"""Least time between two prints."""
TICK_INTERVAL_S = 0.15
"""Time without a message after which what is pending gets printed."""

_ANTI_FLICKER_S = 5.0
_MAX_HIDDEN_S = 10.0
_STATUS_REPEAT_NS = 5_000_000_000
_STATUS_REPEAT_SHARE = 0.05
_RECAP_LINES = 10
_NAME_LIMIT = 72


class _Printed:
    """What the display remembers of one vertex beside the graph's state."""

    __slots__ = (
        "blocked_since_ns",
        "count",
        "held",
        "index",
        "offset",
        "output",
        "recap",
        "recap_slot",
        "shown_statuses",
        "state",
        "statuses",
        "updated_statuses",
        "warnings_shown",
    )

    def __init__(self, state: VertexState) -> None:
        self.state = state
        self.index = 0
        self.count = 0
        self.blocked_since_ns = 0
        self.output = StampedLines()
        self.offset = 0
        self.held = 0
        self.shown_statuses: list[str] = []
        self.statuses: dict[str, VertexStatus] = {}
        self.updated_statuses: set[str] = set()
        self.warnings_shown = 0
        self.recap: deque[bytes] = deque(maxlen=_RECAP_LINES)
        self.recap_slot: bytes | None = None

    def touch(self, now_ns: int) -> None:
        if self.count == 0:
            self.blocked_since_ns = now_ns
        self.count += 1

    def add_log(self, log: VertexLog) -> None:
        intervals = self.state.intervals
        self.output.add(log.data, log.timestamp_ns - intervals[-1][0] if intervals else 0)

    def remember(self, line: bytes) -> None:
        """Keep a printed line for the recap of a failed vertex.

        While the output ends inside a line, every line goes to one slot: the recap of the reference has this gap too.
        """
        if self.output.is_partial:
            self.recap_slot = line
        else:
            self.recap.append(line)
            self.recap_slot = None

    def recap_lines(self) -> list[bytes]:
        if self.recap_slot is None:
            return list(self.recap)
        kept = list(self.recap)
        # The slot being filled is the oldest of the ring, so it comes first and hides what it overwrote.
        return [self.recap_slot, *(kept[1:] if len(kept) == _RECAP_LINES else kept)]


class PlainProgress:
    """Writes a build's progress as lines of text.

    Feed it with :meth:`update`, call :meth:`tick` about every 150 ms while nothing arrives, and :meth:`finish` once at
    the end. Not safe for use from several threads at once; see ``ProgressDriver``.

    Args:
        write: Takes pieces of text; pieces are not whole lines.
        clock: Nanoseconds of a clock that never goes back.
        print_interval_s: Least time between two prints, 0 for no limit.
        tick_interval_s: How long :meth:`tick` waits after a message before it prints.
        truncate_names: Cut vertex names to 72 bytes.
        terminal: Make control sequences harmless, for text that goes to a terminal. Off, all bytes pass.
        errors: How bytes that are not UTF-8 become text; ``surrogateescape`` lets a writer restore them. Has no
            effect with ``terminal``.
        header: Text of a first line ``#0 …``, or empty.
        graph: The state to show; a new one when not given. Updates must reach it only through this display.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        print_interval_s: float = PRINT_INTERVAL_S,
        tick_interval_s: float = TICK_INTERVAL_S,
        truncate_names: bool = False,
        terminal: bool = False,
        errors: str = "replace",
        header: str = "",
        graph: BuildGraph | None = None,
    ) -> None:
        self.graph = BuildGraph() if graph is None else graph
        self._write_text = write
        self._clock = clock
        self._print_interval_ns = round(print_interval_s * 1e9)
        self._tick_interval_ns = round(tick_interval_s * 1e9)
        self._truncate_names = truncate_names
        self._terminal = terminal
        self._errors = "replace" if terminal else errors
        self._holds_back = self._errors != "surrogateescape"  # where a writer restores bytes, pieces do no harm
        self._header = header
        self._printed: dict[str, _Printed] = {}
        self._pending: dict[str, _Printed] = {}
        self._current: _Printed | None = None
        self._last_status: dict[str, tuple[int, int]] = {}
        self._is_first = True
        self._next_index = 1
        self._last_print_ns: int | None = None
        self._last_update_ns = clock()
        self._out: list[bytes] = []

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:
        """Take a message in and print, unless the last print was less than the print interval ago."""
        now = self._clock()
        self._take(update, solve, now)
        self._last_update_ns = now
        last = self._last_print_ns
        if last is None or now - last >= self._print_interval_ns:
            self._last_print_ns = now
            self._print(now)
            self._flush()

    def tick(self) -> None:
        """Print what is pending when no message came for the tick interval; call it often, it is cheap."""
        now = self._clock()
        if now - self._last_update_ns >= self._tick_interval_ns:
            self._last_update_ns = now
            self._print(now)
            self._flush()

    def finish(self) -> None:
        """Print what is pending, then repeat the last output lines of each failed vertex."""
        self._print(self._clock())
        for state in self.graph.started:
            if not state.is_failed:
                continue
            self._out.append(b"------\n > %s:\n" % _as_bytes(state.label))
            printed = self._printed.get(state.digest)
            if printed is not None:
                for line in (*map(bytes, printed.output.lines), *printed.recap_lines()):
                    self._out += (line, b"\n")
            self._out.append(b"------\n")
        self._flush()

    def _take(self, update: StatusUpdate, solve: str, now: int) -> None:
        for state in self.graph.apply(update, solve=solve):
            printed = self._of(state)
            printed.touch(now)
            self._pending[state.digest] = printed
        for status in update.statuses:
            printed_or_none = self._find(status.vertex)
            if printed_or_none is None:
                continue
            printed = printed_or_none
            previous = printed.statuses.get(status.id)
            # Listed from its start on; one that loses its start and gets it again is listed twice, as in the reference.
            if status.started_ns is not None and (previous is None or previous.started_ns is None):
                printed.shown_statuses.append(status.id)
            printed.statuses[status.id] = status
            printed.updated_statuses.add(status.id)
            printed.touch(now)
            self._pending[printed.state.digest] = printed
        for warning in update.warnings:
            printed_or_none = self._find(warning.vertex)
            if printed_or_none is not None:
                printed_or_none.touch(now)
        for log in update.logs:
            printed_or_none = self._find(log.vertex)
            if printed_or_none is not None:
                printed_or_none.add_log(log)
                printed_or_none.touch(now)
                self._pending[printed_or_none.state.digest] = printed_or_none

    def _of(self, state: VertexState) -> _Printed:
        printed = self._printed.get(state.digest)
        if printed is None:
            printed = self._printed[state.digest] = _Printed(state)
        return printed

    def _find(self, digest: str) -> _Printed | None:
        state = self.graph.vertex(digest)
        return None if state is None else self._of(state)

    def _print(self, now: int) -> None:
        """Print every vertex that ended, then choose the one that has the screen."""
        completed = [p for p in self._pending.values() if p.state.is_completed and not p.state.is_hidden]
        rest = [p for p in self._pending.values() if not p.state.is_completed and not p.state.is_hidden]
        current = self._current
        current_completed = current is not None and current in completed
        if current is not None and current_completed:
            self._print_vertex(current)
        for printed in sorted(completed, key=lambda p: p.state.completed_ns or 0):
            if printed is not current:
                self._print_vertex(printed)
        if not rest:
            if current is not None and current.state.is_started and not current.state.is_completed:
                return
            for state in self.graph.started:
                if not state.is_completed:
                    self._print_vertex(self._of(state))
                    return
            return
        if current is not None and current in rest:
            self._print_vertex(current)
        if current is not None and current not in rest:
            rest.append(current)
        self._choose(rest, current, now, must_switch=current is None or current_completed)

    def _choose(self, candidates: list[_Printed], current: _Printed | None, now: int, *, must_switch: bool) -> None:
        """Pass the screen to the vertex that deserves it most, or leave it."""
        best: _Printed | None = None
        best_speed = speed_sum = current_speed = current_blocked_s = 0.0
        overdue: _Printed | None = None
        for printed in candidates:
            blocked_s = to_seconds(now - printed.blocked_since_ns)
            speed = _divide(float(printed.count), blocked_s)
            speed_sum += speed
            is_overdue = blocked_s > _MAX_HIDDEN_S and printed is not current
            if is_overdue and overdue is None:
                overdue = printed
            if is_overdue or best is None or best_speed < speed:
                best, best_speed = printed, speed
            if printed is current:
                current_speed, current_blocked_s = speed, blocked_s
        if best is None:
            return
        if must_switch:
            self._print_vertex(best)
        elif overdue is not None:
            self._print_vertex(overdue)
        else:
            share = _divide(current_speed, speed_sum)
            if _divide(1.0, 1.0 - share) * _ANTI_FLICKER_S < current_blocked_s:
                self._print_vertex(best)

    def _print_vertex(self, printed: _Printed) -> None:
        state = printed.state
        if printed.index == 0:
            printed.index = self._next_index
            self._next_index += 1
        if printed is not self._current:
            self._print_header(printed)
        has_open_status = self._print_statuses(printed)
        for warning in state.warnings[printed.warnings_shown :]:
            self._line(printed, b"WARN: " + warning.short)
        printed.warnings_shown = len(state.warnings)
        self._print_lines(printed)
        self._current = printed
        # Loading a remote cache can report an open status on a vertex that has ended already.
        if state.is_completed and not has_open_status:
            self._current = None
            printed.count = 0
            if printed.output.is_partial:
                self._out.append(b"\n")
            self._line(printed, _end_text(state))
        self._pending.pop(state.digest, None)

    def _print_header(self, printed: _Printed) -> None:
        old = self._current
        if old is not None:
            if old.output.is_partial:
                self._out.append(b"\n")
            old.offset = old.held = 0
            old.count = 0
            self._line(old, b"...")
        if not self._is_first:
            self._out.append(b"\n")
        elif self._header:
            self._out.append(b"#0 %s\n\n" % _as_bytes(self._header))
        self._is_first = False
        name = _as_bytes(printed.state.label)
        if self._truncate_names and len(name) > _NAME_LIMIT:
            name = name[:_NAME_LIMIT] + b"..."
        self._line(printed, name)

    def _print_statuses(self, printed: _Printed) -> bool:
        has_open_status = False
        for status_id in printed.shown_statuses:
            if status_id not in printed.updated_statuses:
                continue
            status = printed.statuses[status_id]
            # The reference keys this by status id alone, across vertexes.
            last = self._last_status.get(status.id)
            if last is not None and status.completed_ns is None:
                share = (status.current - last[0]) / status.total if status.total > 0 else 0.0
                if share < _STATUS_REPEAT_SHARE and status.timestamp_ns - last[1] < _STATUS_REPEAT_NS:
                    continue
            self._last_status[status.id] = (status.current, status.timestamp_ns)
            has_open_status = has_open_status or status.completed_ns is None
            self._line(printed, _as_bytes(_status_text(status)))
        printed.updated_statuses.clear()
        return has_open_status

    def _print_lines(self, printed: _Printed) -> None:
        lines, is_partial = printed.output.lines, printed.output.is_partial
        prefix = b"#%d " % printed.index
        for position, line in enumerate(lines):
            is_last = position == len(lines) - 1
            is_continued = position == 0 and printed.offset > 0
            text = bytes(line[printed.offset - printed.held :] if is_continued else line)
            if not is_continued:
                self._out.append(prefix)
            printed.remember(bytes(line[printed.offset :]) if is_continued else text)
            if not (is_last and is_partial):
                self._out += (text, b"\n")
                continue
            # A character cut in two is held back until its rest is there; the end of the vertex waits for nothing.
            is_held = self._holds_back and not printed.state.is_completed
            printed.held = _incomplete_tail(text) if is_held else 0
            printed.offset = len(line)
            self._out.append(text[: len(text) - printed.held])
        if lines and is_partial:
            del lines[:-1]
            printed.offset = printed.output.drop_printed(printed.offset)
        elif lines:
            lines.clear()
            printed.offset = printed.held = 0

    def _line(self, printed: _Printed, text: bytes) -> None:
        self._out.append(b"#%d %s\n" % (printed.index, text))

    def _flush(self) -> None:
        if not self._out:
            return
        text = b"".join(self._out).decode("utf-8", self._errors)
        self._out.clear()
        self._write_text(neutralise(text) if self._terminal else text)


def _end_text(state: VertexState) -> bytes:
    if state.is_cancelled:
        return b"CANCELED"
    if state.error:
        return b"ERROR: " + _as_bytes(state.error)
    if state.cached:
        return b"CACHED"
    return b"DONE %.1fs" % total_seconds(state.intervals, now_ns=0)


def _status_text(status: VertexStatus) -> str:
    text = status.id
    amount = format_amount(status.current, status.total)
    if amount:
        text += " " + amount
    if status.started_ns is not None:
        end = status.timestamp_ns if status.completed_ns is None else status.completed_ns
        seconds = to_seconds(end - status.started_ns)
        if seconds > 0.01:
            text += f" {seconds:.1f}s"
    return text + " done" if status.completed_ns is not None else text


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _incomplete_tail(data: bytes) -> int:
    """How many bytes at the end are the start of a UTF-8 character whose rest may still come, 0 to 3."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
        if byte < 0x80:
            return 0
    return 0


def _divide(dividend: float, divisor: float) -> float:
    """Divide as IEEE 754 says, where Python raises."""
    if divisor:
        return dividend / divisor
    return math.nan if dividend == 0 or math.isnan(dividend) else math.copysign(math.inf, dividend)
