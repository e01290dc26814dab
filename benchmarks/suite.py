"""Measure the clients beside the Go tools: same daemon, same contexts, runs in turns, ratios of each pair.

    eval "$(scripts/services.sh env)"; benchmarks/run [--quick] [--json FILE] [W1 W5 ...]

A daemon and a registry of its own run with their data and the contexts on tmpfs where there is room, because a shared
disk makes two identical arms differ by more than what is measured. The first row runs buildctl against itself: that is
the noise floor, and no ratio closer to 1 than it means anything. ± is half of the interquartile range.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import growth, report, rows_archive, rows_client, rows_convox
from benchmarks.compare import Arm, Result, Row, compare
from benchmarks.lab import Lab, open_lab
from benchmarks.measure import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROWS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "W1": rows_client.w1,
    "W2": rows_client.w2,
    "W3": rows_client.w3,
    "W4": rows_client.w4,
    "W5": rows_client.w5,
    "W6": rows_convox.w6,
    "W7": rows_convox.w7,
    "W8": rows_convox.w8,
    "W9": rows_archive.w9,
    "W10": rows_archive.w10,
    "W11": rows_client.w11,
    "W12": rows_client.w12,
    "W13": rows_client.w13,
    "W14": rows_client.w14,
    "W15": rows_convox.w15,
}
QUICK_SCALE, QUICK_PAIRS = 0.05, 2


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the sizes and two pairs: under 3 minutes")
    parser.add_argument("--pairs", type=int, help="runs of each arm that count (5; 2 with --quick)")
    parser.add_argument("--scale", type=float, help="part of the full sizes (1; 0.05 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to this file")
    parser.add_argument(
        "--memory", action="store_true", help="show the clients' memory from 1 to 10 GB; no rows unless named"
    )
    parser.add_argument(
        "--curve", action="store_true", help="show the cost of a file from 1,000 to 500,000; no rows unless named"
    )
    options = parser.parse_args(words)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    options.scale = options.scale or (QUICK_SCALE if options.quick else 1.0)
    options.pairs = options.pairs or (QUICK_PAIRS if options.quick else 5)
    if not options.rows and not options.memory and not options.curve:
        options.rows = list(ROWS)
    return options


def noise_floor(row: Row) -> Row:
    """Return the row that runs a row's peer against itself."""
    again = Arm(f"{row.peer.name} again", row.peer.run)
    return replace(row, name="floor", what=f"{row.peer.name} twice, {row.name}", ours=again, goals=(), note=lambda: "")


def run_rows(lab: Lab, names: Sequence[str], pairs: int, results: list[Result]) -> None:
    """Run rows, print and add each as it is done; the first with buildctl for its peer gives the noise floor too."""
    identify = lab.surroundings.identify
    has_floor = False

    def run(row: Row) -> None:
        result = compare(row, pairs, identify, lab.daemon.cpu_s)
        results.append(result)
        print(report.line(result), flush=True)
        if result.note:
            print(f"{'':<11} {result.note}", flush=True)

    print(report.HEADER)
    for name in names:
        for row in ROWS[name](lab):
            if not has_floor and row.peer.name == rows_client.PEER_NAME:
                has_floor = True
                run(noise_floor(row))
            run(row)


def main() -> int:
    """Run what is asked for; return 1 when a comparison was refused."""
    options = parse()
    results: list[Result] = []
    try:
        with open_lab(options.scale) as lab:
            if options.scale < 1:
                print("sizes are reduced: the start of a process weighs more than at full size, where the goals hold")
            where = "tmpfs" if lab.is_tmpfs else "disk: expect noise"
            print(f"daemon: {lab.daemon.version}\nin {where}, scale {options.scale:g}, {options.pairs} pairs")
            found: dict[str, object] = {}
            try:
                if options.rows:
                    run_rows(lab, options.rows, options.pairs, results)
                if options.memory:
                    found["memory"] = growth.memory(lab)
                if options.curve:
                    found["curve"] = growth.curve(lab, options.pairs)
            finally:  # what was measured before something failed is kept
                if options.json:
                    report.write_json(options.json, lab.describe(), results, **found)
    except BenchmarkError as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 1
    return 1 if any(result.refused for result in results) else 0
