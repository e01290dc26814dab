"""Sizes in words, as docker shows them: powers of 1000, three digits."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int | None) -> str:
    """Return a number of bytes such as ``12.3MB``; empty for None.

    Reference: docker/go-units size.go, HumanSize (with three digits).
    """
    if count is None:
        return ""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{_UNITS[unit]}"
