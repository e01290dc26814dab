"""Tables padded with tabs, byte for byte as Go's ``text/tabwriter`` writes them.

A cell ends with a tab, so the text after the last tab of a line belongs to no column. A column is a run of
consecutive lines that have a cell there; each run gets a width of its own.

Reference: Go, text/tabwriter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def tabulate(
    lines: Sequence[str], *, min_width: int = 1, tab_width: int = 8, padding: int = 1, pad_char: str = "\t"
) -> str:
    """Align the cells of lines.

    Args:
        lines: Without line ends; cells end with tabs.
        min_width: Least width of a column, padding included.
        tab_width: Width of a tab, for padding with tabs.
        padding: Added to the widest cell of a column.
        pad_char: What fills cells up: a tab or a space.

    Returns:
        The lines with line ends.
    """
    rows = [line.split("\t") for line in lines]
    widths: list[list[int]] = [[] for _ in rows]
    # Blocks of lines whose columns from a certain one on are not measured yet.
    pending = [(0, len(rows), 0)]
    while pending:
        first, end, column = pending.pop()
        for start, stop in _runs(rows, first, end, column):
            width = max(min_width, *(len(rows[row][column]) + padding for row in range(start, stop)))
            for row in range(start, stop):
                widths[row].append(width)
            pending.append((start, stop, column + 1))
    out: list[str] = []
    for cells, cell_widths in zip(rows, widths, strict=True):
        for cell, width in zip(cells, [*cell_widths, 0], strict=True):
            out.append(cell)
            if width and pad_char == "\t":
                stop = -(-width // tab_width) * tab_width
                out.append("\t" * -(-(stop - len(cell)) // tab_width))
            elif width:
                out.append(pad_char * (width - len(cell)))
        out.append("\n")
    return "".join(out)


def _runs(rows: Sequence[Sequence[str]], first: int, end: int, column: int) -> Iterator[tuple[int, int]]:
    """Runs of consecutive rows that have a cell in a column; the last part of a row is no cell."""
    start = None
    for row in range(first, end):
        has_cell = len(rows[row]) - 1 > column
        if has_cell and start is None:
            start = row
        elif not has_cell and start is not None:
            yield start, row
            start = None
    if start is not None:
        yield start, end
