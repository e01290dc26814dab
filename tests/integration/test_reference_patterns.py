"""Our verdicts on patterns next to those of the Go matcher itself, on thousands of generated cases."""

from __future__ import annotations

import pytest

from buildkit_client.protocol.patterns import parse_ignore_file
from tests.support.go_tools import GoToolMissingError, go_tool
from tests.support.pattern_cases import (
    CHOSEN,
    ask_reference,
    ask_reference_about_files,
    generate_cases,
    generate_ignore_files,
    load_recorded,
)
from tests.unit.protocol.test_patterns import judge


@pytest.fixture(scope="module", autouse=True)
def _matcher() -> None:
    try:
        go_tool("patternmatcher")
    except GoToolMissingError as exc:
        pytest.skip(str(exc))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_cases(seed: int) -> None:
    cases = generate_cases(seed, 800)
    answers = ask_reference(cases)
    assert sum(len(answer.verdicts) for answer in answers) > 5000
    wrong = [(case, answer, judge(case)) for case, answer in zip(cases, answers, strict=True) if judge(case) != answer]
    assert not wrong


def test_what_is_recorded_still_holds() -> None:
    recorded = load_recorded()
    assert [case for case, _ in recorded[: len(CHOSEN)]] == list(CHOSEN)
    assert ask_reference([case for case, _ in recorded]) == [answer for _, answer in recorded]


def test_generated_ignore_files() -> None:
    files = generate_ignore_files(1, 2000)
    expected = ask_reference_about_files(files)
    assert sum(map(len, expected)) > 2000
    assert [parse_ignore_file(data) for data in files] == expected
