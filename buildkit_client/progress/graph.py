"""One state of a build, or of several at once, folded from their status streams.

A status stream announces vertexes, repeats them with more facts, restarts them, and mixes in the output of many steps.
The graph applies the rules of the reference client so that nothing flickers and nothing is counted twice, and keeps
what is asked for afterwards: which steps came from the cache, which failed, and the last lines that a step wrote.

Several solves may feed one graph: the daemon runs a shared step once and reports it to each of them.

Reference: util/progress/progressui/display.go, trace.update and vertexGroup.refresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.progress.logtail import LogTail
from buildkit_client.progress.measure import Interval, merge_intervals, total_seconds
from buildkit_client.progress.model import StatusUpdate, Vertex, VertexStatus, VertexWarning, is_cancelled_text

if TYPE_CHECKING:
    from collections.abc import Iterator

TAIL_LINES = 20
_CLIENT_SIDE_PREFIXES = ("[internal]", "[auth]", "importing cache", "exporting ")


class VertexState:
    """What is known of one vertex, or of a progress group drawn as one.

    Attributes:
        digest: Digest of the vertex, or id of the group.
        name: Text to show.
        inputs: Digests of the steps it needs.
        cached: The latest report says that the result came from a cache.
        was_cached: Some report said so.
        error: Why it failed or was cancelled, or empty.
        is_group: It stands for the members of a progress group.
        is_hidden: A group with nothing to show yet.
        intervals: Disjoint times it ran, in order; only the last can be open.
        statuses: Latest status by id, in order of arrival.
        warnings: In order of arrival.
        solves: Names of the solves that reported it, in order of arrival.
    """

    __slots__ = (
        "_by_start",
        "_last_event",
        "_members",
        "_tail_lines",
        "_tails",
        "cached",
        "digest",
        "error",
        "inputs",
        "intervals",
        "is_group",
        "is_hidden",
        "name",
        "solves",
        "statuses",
        "warnings",
        "was_cached",
    )

    def __init__(self, digest: str, *, name: str = "", is_group: bool = False, tail_lines: int = TAIL_LINES) -> None:
        self.digest = digest
        self.name = name
        self.inputs: tuple[str, ...] = ()
        self.cached = False
        self.was_cached = False
        self.error = ""
        self.is_group = is_group
        self.is_hidden = is_group
        self.intervals: list[Interval] = []
        self.statuses: dict[str, VertexStatus] = {}
        self.warnings: list[VertexWarning] = []
        self.solves: list[str] = []
        self._by_start: dict[int, int | None] = {}
        self._last_event: Vertex | None = None
        self._members: dict[str, Vertex] = {}
        self._tail_lines = tail_lines
        self._tails: dict[str, LogTail] = {}

    def __repr__(self) -> str:
        return f"VertexState({self.name!r}, completed={self.is_completed}, cached={self.cached}, error={self.error!r})"

    @property
    def label(self) -> str:
        """The name, with the solves that report it in front when they have names: ``[web 2/5] RUN make``.

        Reference: util/progress/progresswriter/multiwriter.go, addPrefix.
        """
        prefix = ",".join(solve for solve in self.solves if solve)
        if not prefix:
            return self.name
        return f"[{prefix} {self.name[1:]}" if self.name.startswith("[") else f"[{prefix}] {self.name}"

    @property
    def is_started(self) -> bool:
        """It has run or is running."""
        return bool(self.intervals)

    @property
    def is_completed(self) -> bool:
        """It ran and its last interval has an end."""
        return bool(self.intervals) and self.intervals[-1][1] is not None

    @property
    def is_cancelled(self) -> bool:
        """It ended because the build was cancelled."""
        return is_cancelled_text(self.error)

    @property
    def is_failed(self) -> bool:
        """It ended with an error of its own."""
        return bool(self.error) and not self.is_cancelled

    @property
    def started_ns(self) -> int | None:
        """Start of the first interval, None before it started."""
        return self.intervals[0][0] if self.intervals else None

    @property
    def completed_ns(self) -> int | None:
        """End of the last interval, None while it runs or before it started."""
        return self.intervals[-1][1] if self.intervals else None

    @property
    def log_bytes(self) -> int:
        """How much output it has written so far."""
        return self._tail().total_bytes

    def duration_s(self, *, now_ns: int | None = None) -> float:
        """How long it ran in seconds, over all its intervals, never below 0.

        Args:
            now_ns: The end to assume for an interval that is open; without it, an open interval counts as nothing.
        """
        intervals = self.intervals
        if now_ns is None and intervals and intervals[-1][1] is None:
            intervals = intervals[:-1]
        return max(0.0, total_seconds(intervals, now_ns=now_ns or 0))

    def last_output(self, limit: int = 10) -> tuple[str, ...]:
        """The last lines it wrote, oldest first, without line ends.

        A step that several solves report writes the same lines to each; they are given once.
        """
        return self._tail().lines(limit)

    def _tail(self) -> LogTail:
        return max(self._tails.values(), key=lambda tail: tail.total_bytes, default=LogTail(0))

    def _log(self, data: bytes, solve: str) -> None:
        tail = self._tails.get(solve)
        if tail is None:
            tail = self._tails[solve] = LogTail(self._tail_lines)
        tail.feed(data)

    def _apply(self, vertex: Vertex) -> bool:
        """Take one message about this vertex in; True when its shown line may have changed."""
        changed = False
        if vertex.started_ns is not None:
            old = self._last_event
            # A repeated end counts as a change even when nothing differs: the reference compares pointers there.
            changed = (
                old is None
                or vertex.completed_ns is not None
                or vertex.started_ns != old.started_ns
                or (vertex.name, vertex.cached, vertex.error) != (old.name, old.cached, old.error)
            )
            self._last_event = vertex
        if vertex.started_ns is not None or not self.intervals:
            # The first announcement may come again after the start and must not undo it.
            self.name = vertex.name
            self.inputs = vertex.inputs
            self.cached = vertex.cached
            self.error = vertex.error
        if vertex.started_ns is not None:
            self._by_start[vertex.started_ns] = vertex.completed_ns
            self.intervals = merge_intervals(self._by_start.items())
        self.was_cached = self.was_cached or vertex.cached
        return changed

    def _refresh_group(self) -> bool:
        """Fold the members into this group; True when its shown line may have changed."""
        was_hidden, old_cached, old_error = self.is_hidden, self.cached, self.error
        changed = False
        self.cached = True
        for member in self._members.values():
            start = member.started_ns
            if start is not None:
                if start not in self._by_start or self._by_start[start] != member.completed_ns:
                    changed = True
                self._by_start[start] = member.completed_ns
                if member.progress_group is not None and not member.progress_group.weak:
                    self.is_hidden = False
            self.cached = self.cached and member.cached
            if self.error:
                self.is_hidden = False
            else:
                self.error = member.error
        self.intervals = merge_intervals(self._by_start.items())
        self.was_cached = self.was_cached or self.cached
        return changed or self.cached != old_cached or self.error != old_error or (was_hidden and not self.is_hidden)


class Counts(NamedTuple):
    """How many vertexes there are in each state; a progress group counts as one.

    Attributes:
        total: Announced so far.
        completed: Ended, in whatever way.
        cached: Ended with a result from a cache.
        failed: Ended with an error of their own.
        cancelled: Ended because the build was cancelled.
        warnings: Warnings about any of them.
    """

    total: int = 0
    completed: int = 0
    cached: int = 0
    failed: int = 0
    cancelled: int = 0
    warnings: int = 0


class CacheSummary(NamedTuple):
    """Which of the user's own steps came from the cache; names in order of their start.

    Left out are the frontend's internal steps, authentication, cache imports and exports.

    Attributes:
        cached: Steps whose result came from a cache.
        executed: Steps that ran.
        run_cached: Those of ``cached`` that are RUN instructions.
        run_executed: Those of ``executed`` that are RUN instructions.
    """

    cached: tuple[str, ...] = ()
    executed: tuple[str, ...] = ()
    run_cached: tuple[str, ...] = ()
    run_executed: tuple[str, ...] = ()


class BuildGraph:
    """Folds status updates into one state.

    Not safe for use from several threads at once; a caller that feeds it from several brings its own lock.

    Args:
        tail_lines: How many of the last output lines to keep for each vertex.
    """

    def __init__(self, *, tail_lines: int = TAIL_LINES) -> None:
        self._tail_lines = tail_lines
        self._by_digest: dict[str, VertexState] = {}
        self._groups: dict[str, VertexState] = {}
        self._all: list[VertexState] = []
        self._started: list[VertexState] = []

    def apply(self, update: StatusUpdate, *, solve: str = "") -> list[VertexState]:
        """Take one status message in.

        Nothing in a message is an error: what refers to a vertex never announced is left out.

        Args:
            update: The message.
            solve: Which of several solves it came from.

        Returns:
            The vertexes whose line in a display may have changed, once for each reason; empty for mere output.
        """
        changed: list[VertexState] = []
        groups: dict[str, VertexState] = {}
        for vertex in update.vertexes:
            if vertex.progress_group is not None:
                group = self._group_of(vertex)
                group._members[vertex.digest] = vertex
                self._by_digest[vertex.digest] = group
                groups[group.digest] = group
                _add_solve(group, solve)
                continue
            state = self._by_digest.get(vertex.digest)
            if state is None or state.is_group:
                state = self._by_digest[vertex.digest] = VertexState(vertex.digest, tail_lines=self._tail_lines)
                self._all.append(state)
            was_started = state.is_started
            _add_solve(state, solve)
            if state._apply(vertex):
                changed.append(state)
            if state.is_started and not was_started:
                self._started.append(state)
        for group in groups.values():
            was_hidden = group.is_hidden
            group_changed = group._refresh_group()
            if group.is_hidden:
                continue
            if was_hidden:
                self._started.append(group)
            if group_changed:
                changed.append(group)
        for status in update.statuses:
            state = self._by_digest.get(status.vertex)
            if state is not None:
                state.statuses[status.id] = status
        for warning in update.warnings:
            state = self._by_digest.get(warning.vertex)
            # A second solve that shares the vertex repeats its warnings.
            if state is not None and solve == state.solves[0]:
                state.warnings.append(warning)
        for log in update.logs:
            state = self._by_digest.get(log.vertex)
            if state is not None:
                state._log(log.data, solve)
        return changed

    def _group_of(self, vertex: Vertex) -> VertexState:
        assert vertex.progress_group is not None
        group_id = vertex.progress_group.id
        group = self._groups.get(group_id)
        if group is None:
            group = VertexState(group_id, name=vertex.progress_group.name, is_group=True, tail_lines=self._tail_lines)
            self._groups[group_id] = self._by_digest[group_id] = group
            self._all.append(group)
        return group

    def vertex(self, digest: str) -> VertexState | None:
        """The vertex with this digest, or the group it is drawn in, or None when it was never announced."""
        return self._by_digest.get(digest)

    def __iter__(self) -> Iterator[VertexState]:
        """Every vertex and group announced so far, in that order, hidden groups included."""
        return iter(self._all)

    @property
    def started(self) -> tuple[VertexState, ...]:
        """The vertexes that have started, in order of their first start's arrival."""
        return tuple(self._started)

    @property
    def running(self) -> tuple[VertexState, ...]:
        """The vertexes that run now, in order of their first start's arrival."""
        return tuple(state for state in self._started if not state.is_completed)

    @property
    def failed(self) -> tuple[VertexState, ...]:
        """The vertexes that ended with an error of their own, in order of their start; cancelled ones are left out."""
        return tuple(state for state in self._started if state.is_failed)

    @property
    def warnings(self) -> tuple[VertexWarning, ...]:
        """Every warning, grouped by vertex."""
        return tuple(warning for state in self._all for warning in state.warnings)

    def counts(self) -> Counts:
        """Count the vertexes by state."""
        shown = [state for state in self._all if not state.is_hidden]
        completed = [state for state in shown if state.is_completed]
        return Counts(
            total=len(shown),
            completed=len(completed),
            cached=sum(state.cached for state in completed),
            failed=sum(state.is_failed for state in completed),
            cancelled=sum(state.is_cancelled for state in completed),
            warnings=sum(len(state.warnings) for state in shown),
        )

    def cache_summary(self) -> CacheSummary:
        """Say which of the user's own completed steps came from the cache.

        One report is enough: the daemon fetches a cached layer when a later step needs it, and reports that as another,
        uncached run of the same vertex.
        """
        cached: list[str] = []
        executed: list[str] = []
        for state in self._started:
            if is_user_step(state.name) and state.is_completed and not state.error:
                (cached if state.was_cached else executed).append(state.name)
        return CacheSummary(
            cached=tuple(cached),
            executed=tuple(executed),
            run_cached=tuple(name for name in cached if is_run_step(name)),
            run_executed=tuple(name for name in executed if is_run_step(name)),
        )

    def last_output(self, digest: str, limit: int = 10) -> tuple[str, ...]:
        """The last lines that a vertex wrote, oldest first; empty when it wrote nothing or is not known."""
        state = self._by_digest.get(digest)
        return state.last_output(limit) if state is not None else ()


def is_user_step(name: str) -> bool:
    """Whether a vertex of this name comes from the user's Dockerfile rather than from the frontend or the client.

    Reference: cmd/buildctl/cachemetrics.go, outputCacheMetrics.
    """
    return not name.startswith(_CLIENT_SIDE_PREFIXES)


def is_run_step(name: str) -> bool:
    """Whether a vertex name such as ``[build 2/5] RUN make`` is that of a RUN instruction."""
    if not name.startswith("["):
        return False
    _, bracket, instruction = name.partition("] ")
    return bool(bracket) and instruction.startswith("RUN ")


def _add_solve(state: VertexState, solve: str) -> None:
    if solve not in state.solves:
        state.solves.append(solve)
