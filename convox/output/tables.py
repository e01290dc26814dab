"""Tables and info blocks, padded as Convox pads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_BREAKS = re.compile(r"[\t\r\n\v\f\x85\u2028\u2029]+")
_BREAKS_WITHIN = re.compile(r"[\r\v\f\x85\u2028\u2029]+")
# Controls, and what turns the direction of writing: both can make a line say something else than its record.
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Return a text as one line that no terminal acts on: line breaks as spaces, control characters as U+FFFD."""
    return CONTROLS.sub("\ufffd", _BREAKS.sub(" ", text))


def plain_lines(text: str) -> str:
    r"""Return a text of several lines without control characters; ``\n`` and tabs stay."""
    return CONTROLS.sub("\ufffd", _BREAKS_WITHIN.sub(" ", text))


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table, the header first.

    Args:
        columns: The headers.
        rows: Each with one cell per column.

    Returns:
        Lines without line ends. Every column is as wide as its widest cell, the last is not padded, and two spaces lie
        between them; so a row with an empty last cell ends in spaces.

    Reference: convox/stdcli table.go, Table.Print.
    """
    cells = [list(columns), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns) - 1)] + [0]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def info_rows(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return an info block as pairs of padded header and value, to be joined by two spaces.

    Further lines of a value are indented to where the value begins. An empty value still has its padded header.

    Reference: convox/stdcli info.go, Info.Print.
    """
    width = max((len(header) for header, _ in rows), default=0)
    indent = "\n" + " " * (width + len(_GAP))
    return [(header.ljust(width), plain_lines(value).replace("\n", indent)) for header, value in rows]
