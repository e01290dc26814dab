"""Two arms, run in turns on the same things, and what their figures say.

A comparison whose daemon, base image or tools changed between two runs is refused: no figure of it would mean anything.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.measure import Cost

Identity = Mapping[str, str]
"""What runs were made with, by kind: the daemon, the base image, each tool."""


class NotComparableError(Exception):
    """The arms were not run on the same things."""


@dataclass(frozen=True)
class Goal:
    """What a row has to reach.

    Attributes:
        metric: A figure of :class:`~benchmarks.measure.Cost`.
        limit: The most that it may be.
        of: ``ratio``: the median over all pairs of ours divided by theirs; ``ours``: the highest of
            our figures, as one lost line or one high peak is enough.
    """

    metric: str
    limit: float
    of: Literal["ratio", "ours"] = "ratio"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a name, and what one run of it is."""

    name: str
    run: Callable[[], Cost]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: For example ``W1``.
        what: The work, in a few words.
        ours: Our arm.
        peer: What it is compared with.
        goals: What it has to reach.
        prepare: Called before every run, and not measured.
        warm_ups: Runs of each arm before those that count: what is warm in daily use has to be warm.
        pairs_factor: How many times the usual number of pairs are run, for work of milliseconds.
        note: Called at the end, says in one line what bounds the row.
    """

    name: str
    what: str
    ours: Arm
    peer: Arm
    goals: Sequence[Goal] = ()
    prepare: Callable[[], None] = lambda: None
    warm_ups: int = 1
    pairs_factor: int = 1
    note: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Spread:
    """The middle of some figures and how far they lie apart.

    Attributes:
        median: Half of them are below.
        iqr: The interquartile range: the middle half of them lies within it.
    """

    median: float
    iqr: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise figures, at least one."""
        if len(values) == 1:
            return cls(values[0], 0.0)
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, high - low)


@dataclass(frozen=True)
class Result:
    """What a row gave.

    Attributes:
        name: Of the row.
        what: The work, in a few words.
        names: Of both arms, ours first.
        runs: Both arms' runs; runs of equal index are a pair.
        goals: Of the row.
        note: What bounds it.
        refused: Why there is nothing to compare; empty when there is.
    """

    name: str
    what: str
    names: tuple[str, str]
    runs: tuple[Sequence[Cost], Sequence[Cost]] = ((), ())
    goals: Sequence[Goal] = ()
    note: str = ""
    refused: str = ""

    def spread(self, arm: Literal[0, 1], metric: str) -> Spread:
        """Summarise one figure of one arm."""
        return Spread.of([run.value(metric) for run in self.runs[arm]])

    def ratios(self, metric: str) -> list[float]:
        """Return ours divided by theirs, for each pair."""
        return [ours.value(metric) / theirs.value(metric) for ours, theirs in zip(*self.runs, strict=True)]

    def ratio_spread(self, metric: str) -> Spread:
        """Summarise the pairs' ratios."""
        return Spread.of(self.ratios(metric))

    def reached(self, goal: Goal) -> float:
        """Return the figure that a goal is about."""
        if goal.of == "ours":
            return max(run.value(goal.metric) for run in self.runs[0])
        return self.ratio_spread(goal.metric).median

    def is_met(self, goal: Goal) -> bool:
        """Say whether a goal is reached; of a refused row none is."""
        return not self.refused and self.reached(goal) <= goal.limit


@dataclass
class Watch:
    """Looks at what runs are made with, and refuses when it changes.

    Attributes:
        identify: Looks.
        first: What was there at the first look.
    """

    identify: Callable[[], Identity]
    first: Identity = field(default_factory=dict)
    _when: str = ""

    def look(self, when: str) -> None:
        """Look once more.

        Args:
            when: For the error's text: ``before buildctl, run 2``.

        Raises:
            NotComparableError: Something is another one than at the first look.
        """
        now = self.identify()
        if not self.first:
            self.first, self._when = now, when
            return
        for kind in sorted({*self.first, *now}):
            was, is_now = self.first.get(kind, "none"), now.get(kind, "none")
            if was != is_now:
                raise NotComparableError(
                    f"refused to compare: the {kind} differs between the arms: {was} {self._when}, {is_now} {when}"
                )


def compare(
    row: Row, pairs: int, identify: Callable[[], Identity], daemon_cpu_s: Callable[[], float] = lambda: 0.0
) -> Result:
    """Run both arms in turns: A B, B A, A B, ...

    Which one begins changes from pair to pair, so that neither has the other's leftovers more often.

    Args:
        row: The work.
        pairs: How often each arm runs.
        identify: Says what runs are made with; asked before and after each run, which between two runs is one look.
        daemon_cpu_s: Says how much processor time the daemon has had so far; each run's part becomes ``daemon_cpu_s``.

    Raises:
        BenchmarkError: A run failed.
    """
    names = (row.ours.name, row.peer.name)
    runs: tuple[list[Cost], list[Cost]] = ([], [])
    watch = Watch(identify)
    try:
        for arm in (row.ours, row.peer) * row.warm_ups:
            watch.look(f"before the warm-up of {arm.name}")
            row.prepare()
            arm.run()
        for number in range(1, pairs * row.pairs_factor + 1):
            order = [(0, row.ours), (1, row.peer)]
            for index, arm in order if number % 2 else reversed(order):
                watch.look(f"before {arm.name}, run {number}")
                row.prepare()
                os.sync()
                began_s = daemon_cpu_s()
                cost = arm.run()
                runs[index].append(cost.then(Cost(0.0, 0.0, 0.0, {"daemon_cpu_s": daemon_cpu_s() - began_s})))
        watch.look("after the last run")
    except NotComparableError as exc:
        return Result(row.name, row.what, names, goals=row.goals, refused=str(exc))
    return Result(row.name, row.what, names, runs, row.goals, row.note())
