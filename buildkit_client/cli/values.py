"""Small values of the command line, read as Go's tools read them: CSV fields, booleans, numbers, durations.

Scripts rely on what these accept, and tests on the texts of their errors.

Reference: github.com/tonistiigi/go-csvvalue; Go's strconv and time packages.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
# Compiled when one is needed: most command lines have no number.
_INTEGER = r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|0[0-7_]*|[1-9][0-9_]*)"
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_FLOAT = rf"(?i:[+-]?(?:(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:e[+-]?[0-9]+)?|inf|infinity|nan))"
_HEX_FLOAT = r"(?i:[+-]?0x_?(?:[0-9a-f_]+\.?[0-9a-f_]*|\.[0-9a-f_]+)p[+-]?[0-9]+)"
_DURATION_PART = r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)"
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def csv_fields(text: str, comma: str = ",") -> list[str]:
    """Split one line of comma-separated values; fields may be quoted, with quotes doubled inside.

    Raises:
        OptionError: Quotes are misplaced, or the text is empty.
    """
    text = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    if not text:
        raise OptionError("EOF", hint="leave the flag out rather than giving it nothing")
    fields: list[str] = []
    position = 0
    while True:
        if not text.startswith('"', position):
            end = text.find(comma, position)
            field = text[position:] if end < 0 else text[position:end]
            if '"' in field:
                raise _csv_error(position + field.index('"'), 'bare " in non-quoted-field')
            fields.append(field)
            if end < 0:
                return fields
            position = end + 1
            continue
        field, position = _quoted_field(text, position + 1)
        fields.append(field)
        if position == len(text):
            return fields
        if text[position] != comma:
            raise _csv_error(position - 1, 'extraneous or missing " in quoted-field')
        position += 1


def _quoted_field(text: str, position: int) -> tuple[str, int]:
    """Read the rest of a quoted field; return it and the place behind its closing quote."""
    parts: list[str] = []
    while True:
        end = text.find('"', position)
        if end < 0:
            raise _csv_error(position, 'extraneous or missing " in quoted-field')
        parts.append(text[position:end])
        position = end + 1
        if not text.startswith('"', position):
            return "".join(parts), position
        parts.append('"')
        position += 1


def _csv_error(position: int, what: str) -> OptionError:
    return OptionError(f"parse error on line 1, column {position + 1}: {what}")


def key_values(items: Sequence[str]) -> dict[str, str]:
    """Split items at their first ``=``; of equal keys the last wins.

    Raises:
        OptionError: An item has no ``=``.
    """
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise OptionError(f"invalid value {item}")
        found[key] = value
    return found


def parse_bool(text: str) -> bool:
    """Read ``1 t T true TRUE True`` and ``0 f F false FALSE False``.

    Raises:
        ValueError: It is none of them; the text is Go's.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str) -> int:
    """Read an integer, also with a base such as ``0x1f``.

    Raises:
        ValueError: It is none; the text is Go's.
    """
    if not re.fullmatch(_INTEGER, text):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    digits = text.lstrip("+-").replace("_", "")
    base = 0 if digits[:2].lower() in ("0x", "0b", "0o") else 8 if digits.startswith("0") else 10
    value = int(digits, base)
    value = -value if text.startswith("-") else value
    if not -(2**63) <= value < 2**63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def parse_float(text: str) -> float:
    """Read a number with or without a fraction.

    Raises:
        ValueError: It is none; the text is Go's.
    """
    if re.fullmatch(_FLOAT, text):
        value = float(text)
        if math.isinf(value) and "inf" not in text.lower():
            raise ValueError(f'strconv.ParseFloat: parsing "{text}": value out of range')
        return value
    if re.fullmatch(_HEX_FLOAT, text):
        return float.fromhex(text.replace("_", ""))
    raise ValueError(f'strconv.ParseFloat: parsing "{text}": invalid syntax')


def parse_duration(text: str) -> int:
    """Read a duration such as ``48h``, ``1h30m`` or ``1.5s``, in nanoseconds.

    Raises:
        ValueError: It is none; the text is Go's.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0
    for match in re.finditer(_DURATION_PART, rest):
        if not match[0]:
            break  # the end
        fraction = match[2] or ""
        if not match[1] and not fraction:
            raise ValueError(f'time: invalid duration "{text}"')
        if not match[3]:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if match[3] not in _UNIT_NS:
            raise ValueError(f'time: unknown unit "{match[3]}" in duration "{text}"')
        unit = _UNIT_NS[match[3]]
        total += int(match[1] or "0") * unit + (int(fraction or "0") * unit) // 10 ** len(fraction)
    if not rest or not -(2**63) <= sign * total < 2**63:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * total


def format_duration(duration_ns: int) -> str:
    """Write a duration as Go does: ``48h0m0s``, ``1m30s``, ``1.5s``, ``20ms``, ``0s``."""
    if duration_ns < 0:
        return "-" + format_duration(-duration_ns)
    if duration_ns < 1_000_000_000:
        for unit in ("ms", "µs", "ns"):
            if duration_ns >= _UNIT_NS[unit]:
                return _trimmed(duration_ns, _UNIT_NS[unit]) + unit
        return "0s"
    minutes, seconds_ns = divmod(duration_ns, _UNIT_NS["m"])
    text = _trimmed(seconds_ns, _UNIT_NS["s"]) + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _trimmed(value: int, unit: int) -> str:
    """Write ``value / unit`` exactly, without trailing zeros."""
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
