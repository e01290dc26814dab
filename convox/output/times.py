"""Times in words: how long ago something was, and how long it took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_SECOND = 1
_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY
_MONTH = 30 * _DAY
_YEAR = 12 * _MONTH

# Up to which difference, what is said, and the unit that is counted (0: nothing is counted).
_WORDS: tuple[tuple[int, str, int], ...] = (
    (_SECOND, "now", 0),
    (2 * _SECOND, "1 second", 0),
    (_MINUTE, "{} seconds", _SECOND),
    (2 * _MINUTE, "1 minute", 0),
    (_HOUR, "{} minutes", _MINUTE),
    (2 * _HOUR, "1 hour", 0),
    (_DAY, "{} hours", _HOUR),
    (2 * _DAY, "1 day", 0),
    (_WEEK, "{} days", _DAY),
    (2 * _WEEK, "1 week", 0),
    (_MONTH, "{} weeks", _WEEK),
    (2 * _MONTH, "1 month", 0),
    (_YEAR, "{} months", _MONTH),
    (18 * _MONTH, "1 year", 0),
    (2 * _YEAR, "2 years", 0),
    (37 * _YEAR, "{} years", _YEAR),
)


def ago(value: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, such as ``2 days ago``; for a time to come, ``2 days from now``.

    Args:
        value: The time, with a time zone; None gives an empty text.
        now: What to compare with; the current time where left out.

    Reference: dustin/go-humanize times.go, Time; convox/convox pkg/common/time.go, Ago.
    """
    if value is None:
        return ""
    difference = (now or datetime.now(UTC)) - value
    side = "ago"
    if difference < timedelta(0):
        difference = -difference
        side = "from now"
    seconds = difference.total_seconds()
    for limit, words, unit in _WORDS:
        if seconds < limit:
            if limit == _SECOND:
                return words
            return f"{words.format(int(seconds // unit) if unit else '')} {side}"
    return f"a long while {side}"


def elapsed(started: datetime | None, ended: datetime | None) -> str:
    """Return how long something took in whole seconds: ``25s``, ``2m0s``, ``75m3s``; hours are never used.

    Empty while there is no start or no end. A clock that was set back in between gives ``0s``.

    Reference: convox/convox pkg/common/time.go, Duration.
    """
    if started is None or ended is None:
        return ""
    total = max(0, int((ended - started).total_seconds()))
    minutes, seconds = divmod(total, 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
