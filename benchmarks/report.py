"""What people and programs get to see of the results: a table, and a JSON file with every run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.compare import Goal, Result

HEADER = (
    f"{'row':<11} {'work':<39} {'ours':>16} {'peer':>16}   {'ratio':>5} {'(IQR)':>7}"
    f"   {'cpu s':>11}  {'daemon':>11}  {'peak MiB':>8}   goals"
)
_UNITS = {"wall_s": "wall", "cpu_s": "cpu", "transfer_s": "transfer", "peak_mib": "MiB", "sent_part": "part sent"}


def line(result: Result) -> str:
    """Return a result's line of the table: medians of wall times and of their ratios, with their spread behind them."""
    if result.refused:
        return f"{result.name:<11} {result.what:<39} {result.refused}"
    ours, theirs = (_figure(result, arm) for arm in (0, 1))
    spread = result.ratio_spread("wall_s")
    cpu, daemon, peak = (_both(result, *one) for one in (("cpu_s", 2), ("daemon_cpu_s", 2), ("peak_mib", 0)))
    goals = "; ".join(_goal(result, goal) for goal in result.goals)
    return (
        f"{result.name:<11} {result.what:<39} {ours:>16} {theirs:>16}   {spread.median:>5.2f} {spread.iqr:>7.2f}"
        f"   {cpu:>11}  {daemon:>11}  {peak:>8}   {goals}"
    )


def _figure(result: Result, arm: Literal[0, 1]) -> str:
    spread = result.spread(arm, "wall_s")
    if spread.median < 1:
        return f"{spread.median * 1000:.0f} ±{spread.iqr * 500:.0f} ms"
    return f"{spread.median:.2f} ±{spread.iqr / 2:.2f} s"


def _both(result: Result, metric: str, places: int) -> str:
    return "/".join(f"{result.spread(arm, metric).median:.{places}f}" for arm in (0, 1))


def _goal(result: Result, goal: Goal) -> str:
    verdict = "met" if result.is_met(goal) else "MISSED"
    reached = result.reached(goal)
    return f"{_UNITS.get(goal.metric, goal.metric)} {reached:.3g} <= {goal.limit:.3g} {verdict}"


def document(result: Result) -> dict[str, object]:
    """Return everything that is known of a result, for JSON."""
    if result.refused:
        return {"row": result.name, "what": result.what, "refused": result.refused}
    metrics = ["wall_s", "cpu_s", "peak_mib", *result.runs[0][0].more]
    return {
        "row": result.name,
        "what": result.what,
        "pairs": len(result.runs[0]),
        "ratio": result.ratio_spread("wall_s").median,
        "ratios": result.ratios("wall_s"),
        "goals": [
            {**asdict(goal), "reached": result.reached(goal), "met": result.is_met(goal)} for goal in result.goals
        ],
        "note": result.note,
        "arms": [
            {
                "name": result.names[arm],
                "median": {metric: result.spread(arm, metric).median for metric in metrics},
                "iqr": {metric: result.spread(arm, metric).iqr for metric in metrics},
                "runs": [asdict(run) for run in result.runs[arm]],
            }
            for arm in (0, 1)
        ],
    }


def write_json(path: Path, lab: Mapping[str, object], results: Sequence[Result], **growth: object) -> None:
    """Write everything to a file."""
    rows = [document(result) for result in results]
    path.write_text(json.dumps({"lab": lab, "rows": rows, **growth}, indent=2) + "\n")
