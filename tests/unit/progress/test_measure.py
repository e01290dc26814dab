"""Intervals and amounts; the texts of amounts are what the reference's library prints."""

from __future__ import annotations

import pytest

from buildkit_client.progress.measure import (
    Interval,
    format_amount,
    format_bytes,
    merge_intervals,
    to_seconds,
    total_seconds,
)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0B"),
        (171, "171B"),
        (999, "999B"),
        (1000, "1.00kB"),
        (12_345, "12.35kB"),
        (999_999, "1000.00kB"),
        (1_980_000, "1.98MB"),
        (-1500, "-1.50kB"),
        (3_000_000_000_000, "3.00TB"),
        (2**63 - 1, "9.22EB"),
    ],
)
def test_bytes_with_two_decimals(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(512, "512B"), (10_000_000, "10MB"), (1_234_567, "1.234567MB")])
def test_bytes_in_shortest_form(amount: int, text: str) -> None:
    assert format_bytes(amount, "g") == text


@pytest.mark.parametrize(
    ("current", "total", "text"), [(0, 0, ""), (5, 0, "5B"), (0, 5, "0B / 5B"), (1500, 3000, "1.50kB / 3.00kB")]
)
def test_amount_of_an_action(current: int, total: int, text: str) -> None:
    assert format_amount(current, total) == text


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ([], []),
        ([(5, 9), (1, 3)], [(1, 3), (5, 9)]),
        ([(1, 3), (3, 4)], [(1, 4)]),
        ([(1, 9), (2, 3)], [(1, 9)]),
        ([(1, 3), (2, None), (7, 8)], [(1, None)]),
        ([(1, None), (5, 6)], [(1, None)]),
        ([(1, 2), (4, None)], [(1, 2), (4, None)]),
    ],
)
def test_intervals_are_joined(given: list[Interval], merged: list[Interval]) -> None:
    assert merge_intervals(given) == merged


def test_an_open_interval_lasts_until_now() -> None:
    assert total_seconds([(0, 1_000_000_000), (2_000_000_000, None)], now_ns=5_500_000_000) == 4.5


def test_seconds_of_a_negative_duration() -> None:
    assert to_seconds(-1_500_000_000) == -1.5
