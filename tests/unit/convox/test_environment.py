"""An app's environment as text and as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convox.environment import (
    MASK,
    describe_change,
    format_environment,
    masked_values,
    parse_environment,
    read_arguments,
    read_lines,
)
from convox.errors import UsageError

NAMES = st.text(st.characters(categories=("L", "N"), include_characters="_.-"), min_size=1, max_size=8)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\n\0\r"), max_size=20)


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_written_is_read_again(values: dict[str, str]) -> None:
    text = format_environment(values)
    assert parse_environment(text) == values
    assert text.split("\n") == sorted(text.split("\n"))


def test_reading_is_as_lenient_as_convox() -> None:
    text = "FOO=a=b\r\nno pair\n =empty\n SPACED =x \nEMPTY=\n\nLINE=a\u2028b\n"
    assert parse_environment(text) == {"FOO": "a=b", "SPACED": "x ", "EMPTY": "", "LINE": "a\u2028b"}


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("", "", ""),
        ("A=1", "A=1\n", ""),
        ("", "B=1\nA=1", "add:A add:B"),
        ("A=1", "A=1 ", "change:A"),
        ("A=1\nB=1\nC=1\nD=1", "A=2\nC=1\nE=1", "add:E change:A remove:B remove:D"),
    ],
)
def test_describing_a_change(before: str, after: str, text: str) -> None:
    assert describe_change(before, after) == text


def test_masked_values_have_no_value() -> None:
    assert masked_values({"A": "canary", "B": ""}) == {"A": MASK, "B": MASK}


def test_arguments() -> None:
    assert read_arguments(["A=1", "B=a=b", "A=2", "C="]) == {"A": "2", "B": "a=b", "C": ""}


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("canary", "argument 2 is not NAME=value"),
        ("=canary", "argument 2: the name before = is empty"),
        ("A B=canary", "argument 2: the name before = has a space"),
        ("A\x1b[2J=canary", "argument 2: the name before = has a space or a character"),
        ("A=canary\nb", "the value of A has more than one line"),
        ("A=canary\0b", "the value of A has a NUL"),
        (f"A={MASK}", "the value of A is the mask"),
    ],
)
def test_arguments_that_are_no_pairs(argument: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_arguments(["FINE=1", argument])
    assert str(caught.value).startswith(text)
    assert "canary" not in f"{caught.value}{caught.value.why}{caught.value.hint}"


def test_lines() -> None:
    assert read_lines("\ufeff# a comment\n\nA=1\r\n  B =two words \n #C=1\n", "stdin") == {"A": "1", "B": "two words "}


def test_a_line_that_is_no_pair_is_named_and_not_shown() -> None:
    with pytest.raises(UsageError, match="stdin, line 3: it is not NAME=value") as caught:
        read_lines("A=1\n\ncanary\n", "stdin")
    assert "canary" not in f"{caught.value}{caught.value.why}{caught.value.hint}"


def test_a_carriage_return_at_the_end_would_be_lost() -> None:
    with pytest.raises(UsageError, match="more than one line"):
        read_arguments(["A=x\r"])
    assert parse_environment(format_environment(read_arguments(["A=x\ry"]))) == {"A": "x\ry"}
