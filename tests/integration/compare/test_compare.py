"""Every case of the table, run with both tools."""

from __future__ import annotations

import pytest

from tests.integration.compare.arena import Arena, Row
from tests.integration.compare.case import Case
from tests.integration.compare.catalogue import CASES


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 120
    assert len({(case.area, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case.area}-{case.name}".replace(" ", "-"),
            marks=[pytest.mark.buildkit(f">={case.needs}")] if case.needs else [],
        )
        for case in CASES
    ],
)
def test_case(arena: Arena, rows: list[Row], case: Case) -> None:
    row = Row(case.area, case.name, "", "different")
    rows.append(row)
    seen = arena.result(case)
    if not case.error:
        for tool, one in seen.items():
            assert one.exit == 0, f"{tool} failed:\n{one.stderr}"
    compared = arena.compare(case, seen)
    for tool, one in seen.items():
        if case.error:
            assert case.error.lower() in one.error.lower(), f"{tool}: {one.stderr}"
        if case.check is not None:
            case.check(one)
    if case.error:
        assert set(seen["ours"].files) == case.left
    if case.reused:
        second = seen["ours" if case.first == "theirs" else "theirs"]
        assert second.user_steps
        assert all(second.user_steps.values()), second.user_steps
    rows.remove(row)
    rows.append(compared)
