import json
from collections.abc import Callable, Iterator

import pytest

from benchmarks.compare import Arm, Goal, Identity, Result, Row, Spread, Watch, compare
from benchmarks.measure import Cost
from benchmarks.report import document, line

SAME = {"daemon": "v1, worker a", "base image": "sha256:1", "buildctl": "v1 (sha256:2)"}


def row(runs: list[str], **more: object) -> Row:
    def arm(name: str, wall_s: float) -> Arm:
        def run() -> Cost:
            runs.append(name)
            return Cost(wall_s, wall_s / 2, 10)

        return Arm(name, run)

    return Row("W0", "work", arm("ours", 1.0), arm("peer", 2.0), [Goal("wall_s", 0.6)], **more)  # type: ignore[arg-type]


def changing(kind: str, after: int) -> Callable[[], Identity]:
    """Return surroundings of which one thing becomes another one after some looks."""
    looks = iter(range(1_000))
    return lambda: {**SAME, kind: "another one"} if next(looks) >= after else SAME


def test_arms_take_turns_and_begin_in_turns() -> None:
    runs: list[str] = []
    result = compare(row(runs), 3, lambda: SAME)
    assert runs[:2] == ["ours", "peer"]  # not counted
    assert runs[2:] == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [len(arm) for arm in result.runs] == [3, 3]
    assert not result.refused


def test_the_daemon_part_of_each_run_is_kept() -> None:
    clock = iter([10.0, 12.5, 20.0, 21.0])
    result = compare(row([]), 1, lambda: SAME, lambda: next(clock))
    assert [arm[0].value("daemon_cpu_s") for arm in result.runs] == [2.5, 1.0]


def test_every_run_is_prepared() -> None:
    runs: list[str] = []
    compare(row(runs, prepare=lambda: runs.append("prune")), 2, lambda: SAME)
    assert runs[::2] == ["prune"] * 6


@pytest.mark.parametrize("kind", ["daemon", "base image", "buildctl", "skopeo"])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 6])
def test_refuses_when_something_changes_between_arms(kind: str, after: int) -> None:
    """Wherever it happens: in the warm-up, between two arms, during a run, after the last one."""
    result = compare(row([]), 2, changing(kind, after))
    assert result.refused.startswith(f"refused to compare: the {kind} differs between the arms: ")
    assert result.runs == ((), ())
    assert not result.is_met(result.goals[0])
    assert result.refused in line(result)
    assert json.loads(json.dumps(document(result)))["refused"] == result.refused


def test_refusal_names_both_and_when() -> None:
    result = compare(row([]), 1, changing("daemon", 3))
    assert "v1, worker a before the warm-up of ours, another one before peer, run 1" in result.refused


def test_refuses_when_a_tool_disappears() -> None:
    looks: Iterator[Identity] = iter([SAME, {key: one for key, one in SAME.items() if key != "buildctl"}])
    assert "the buildctl differs" in compare(row([]), 1, lambda: next(looks)).refused


def test_watch_takes_the_first_look_for_granted() -> None:
    watch = Watch(lambda: SAME)
    watch.look("before")
    watch.look("after")
    assert watch.first == SAME


@pytest.mark.parametrize(
    ("values", "median", "iqr"),
    [([3.0], 3, 0), ([1.0, 2.0], 1.5, 0.5), ([5.0, 1.0, 3.0], 3, 2), ([1.0, 2.0, 3.0, 4.0, 100.0], 3, 2)],
)
def test_spread(values: list[float], median: float, iqr: float) -> None:
    assert Spread.of(values) == Spread(median, iqr)


def result_of(ours: list[float], theirs: list[float], *goals: Goal) -> Result:
    runs = (
        [Cost(one, one, 50, {"lost": 3, "daemon_cpu_s": 1}) for one in ours],
        [Cost(one, one, 20, {"lost": 0, "daemon_cpu_s": 1}) for one in theirs],
    )
    return Result("W0", "work", ("a", "b"), runs, goals)


def test_the_ratio_is_the_median_of_pairs_not_of_medians() -> None:
    result = result_of([1, 9, 4], [2, 3, 8])
    assert result.ratios("wall_s") == [0.5, 3, 0.5]
    assert result.ratio_spread("wall_s").median == 0.5  # the medians 4 and 3 would give 1.33


def test_goals_are_of_ratios_or_of_our_own_figures() -> None:
    result = result_of([1, 1], [2, 2])
    assert result.is_met(Goal("wall_s", 0.5))
    assert not result.is_met(Goal("wall_s", 0.49))
    assert result.is_met(Goal("peak_mib", 60, "ours"))
    assert not result.is_met(Goal("lost", 0, "ours"))


def test_one_bad_run_of_ours_is_enough() -> None:
    runs = ([Cost(1, 1, peak) for peak in (50, 50, 70)], [Cost(1, 1, 20)] * 3)
    assert not Result("W0", "work", ("a", "b"), runs).is_met(Goal("peak_mib", 60, "ours"))


def test_line_and_document_say_what_was_reached() -> None:
    result = result_of([1, 1], [2, 2], Goal("wall_s", 0.6), Goal("lost", 0, "ours"))
    assert "wall 0.5 <= 0.6 met; lost 3 <= 0 MISSED" in line(result)
    found = json.loads(json.dumps(document(result)))
    assert found["ratio"] == 0.5
    assert [goal["met"] for goal in found["goals"]] == [True, False]
    assert found["arms"][0]["median"] == {"wall_s": 1, "cpu_s": 1, "peak_mib": 50, "lost": 3, "daemon_cpu_s": 1}


def test_costs_one_after_the_other() -> None:
    cost = Cost(1, 2, 30, {"a": 1}).then(Cost(3, 4, 20, {"b": 2}))
    assert cost == Cost(4, 6, 30, {"a": 1, "b": 2})
    assert (cost.value("cpu_s"), cost.value("b")) == (6, 2)
