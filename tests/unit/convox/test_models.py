"""Ids and times of records."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convox.models import format_time, new_build_id, new_release_id, parse_time

DRAWS = 50_000


@pytest.mark.parametrize(("draw", "prefix"), [(new_build_id, "B"), (new_release_id, "R")])
def test_ids_are_eleven_letters_of_which_none_is_favoured(draw: object, prefix: str) -> None:
    assert callable(draw)
    ids = [draw() for _ in range(DRAWS)]
    assert all(re.fullmatch(rf"{prefix}[A-Z]{{10}}", one) for one in ids)
    assert len(set(ids)) == DRAWS
    for place in range(1, 11):
        counts = Counter(one[place] for one in ids)
        expected = DRAWS / 26
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        # 25 degrees of freedom: more than this comes by chance once in 10**9 times.
        assert len(counts) == 26
        assert chi_square < 95


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "2026-03-29T01:30:00Z"),
        (datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2))), "2026-03-29T01:30:00Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC), "2026-01-02T03:04:05.00006Z"),
        (datetime(33, 1, 2, tzinfo=UTC), "0033-01-02T00:00:00Z"),
    ],
)
def test_times(value: datetime | None, text: str) -> None:
    assert format_time(value) == text
    assert parse_time(text) == (value.astimezone(UTC) if value else None)


@given(st.datetimes(min_value=datetime(2, 1, 1), timezones=st.just(UTC)))
def test_times_come_back(value: datetime) -> None:
    assert parse_time(format_time(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-29",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T24:00:01Z",
        "x",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_nanoseconds_are_cut() -> None:
    assert parse_time("2026-01-01T00:00:00.123456789+01:00") == datetime(2025, 12, 31, 23, 0, 0, 123456, tzinfo=UTC)
