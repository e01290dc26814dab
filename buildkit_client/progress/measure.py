"""Intervals of time and amounts of bytes, computed and printed as BuildKit's own displays do.

A vertex can start more than once (first the cache is asked, then the step runs), so its duration is the length of the
union of its intervals. Amounts are decimal units with two decimals, plain bytes without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Interval = tuple[int, int | None]
"""Start and end in nanoseconds; no end while it runs."""

_NS_PER_S = 1_000_000_000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def merge_intervals(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that overlap or touch.

    Args:
        intervals: In any order. One without an end swallows all that start after it.

    Returns:
        Disjoint intervals in order of their start; empty when there were none. Only the last can lack an end.

    Reference: util/progress/progressui/display.go, mergeIntervals.
    """
    ordered = sorted(intervals, key=lambda interval: interval[0])
    if not ordered:
        return []
    merged: list[Interval] = []
    start, stop = ordered[0]
    for next_start, next_stop in ordered[1:]:
        if stop is None:
            break
        if stop < next_start:
            merged.append((start, stop))
            start, stop = next_start, next_stop
        elif next_stop is None or next_stop > stop:
            stop = next_stop
    merged.append((start, stop))
    return merged


def to_seconds(duration_ns: int) -> float:
    """Convert nanoseconds to seconds with the rounding of Go's ``Duration.Seconds``."""
    if duration_ns < 0:
        return -to_seconds(-duration_ns)
    whole, rest = divmod(duration_ns, _NS_PER_S)
    return whole + rest / _NS_PER_S


def total_seconds(intervals: Iterable[Interval], *, now_ns: int) -> float:
    """Add up the lengths of disjoint intervals, in seconds; an open one lasts until ``now_ns``."""
    return sum((to_seconds((now_ns if stop is None else stop) - start) for start, stop in intervals), 0.0)


def format_bytes(amount: int, spec: str = ".2f") -> str:
    """Write an amount in decimal units: ``171B``, ``12.34kB``, ``1.98MB``.

    Args:
        amount: Bytes; may be negative.
        spec: Format of the number when it has a unit above bytes; ``g`` gives the shortest exact form.

    Reference: github.com/tonistiigi/units, Bytes.Format.
    """
    size = abs(amount)
    power = 0
    base = 1
    while size >= base * 1000 and power < len(_UNITS) - 1:
        base *= 1000
        power += 1
    if power == 0:
        return f"{amount}B"
    value = amount / base
    text = _shortest(value) if spec == "g" else format(value, spec)
    return text + _UNITS[power]


def _shortest(value: float) -> str:
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


def format_amount(current: int, total: int) -> str:
    """Write how far an action is: ``1.20MB / 3.40MB``, or ``1.20MB`` when the total is unknown, or nothing.

    Reference: util/progress/progressui/printer.go, textMux.printVtx.
    """
    if total:
        return f"{format_bytes(current)} / {format_bytes(total)}"
    return format_bytes(current) if current else ""
