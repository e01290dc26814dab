"""A command line is read as Convox reads it."""

from __future__ import annotations

import pytest

from convox.cli.flags import Flag, check_count, find_command_word, read_count, read_line
from convox.errors import UsageError

FLAGS = (
    Flag(name="app", spellings=("-a", "--app")),
    Flag(name="limit", spellings=("-l", "--limit")),
    Flag(name="wait", spellings=("-w", "--wait"), takes_value=False),
    Flag(name="id", spellings=("--id",), takes_value=False),
    Flag(name="build_args", spellings=("--build-args",), repeats=True),
)


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        ("", {}, []),
        ("X", {}, ["X"]),
        ("X -a web", {"app": "web"}, ["X"]),
        ("-a web X", {"app": "web"}, ["X"]),
        ("-aweb X Y", {"app": "web"}, ["X", "Y"]),
        ("-a=web", {"app": "web"}, []),
        ("-a= X", {"app": "="}, ["X"]),
        ("--app web", {"app": "web"}, []),
        ("--app=web", {"app": "web"}, []),
        ("--app=", {"app": ""}, []),
        ("--app=a=b", {"app": "a=b"}, []),
        ("-a one -a two", {"app": "two"}, []),
        ("-a -l", {"app": "-l"}, []),
        ("-l -5", {"limit": "-5"}, []),
        ("-wl5", {"wait": True, "limit": "5"}, []),
        ("-wa web", {"wait": True, "app": "web"}, []),
        ("-w=false", {"wait": False}, []),
        ("--id=true", {"id": True}, []),
        ("--id=1", {"id": False}, []),
        ("--id X", {"id": True}, ["X"]),
        ("--build-args A=1 --build-args=B=2", {"build_args": ["A=1", "B=2"]}, []),
        ("- X", {}, ["-", "X"]),
        ("-w -- -a --nonsense", {"wait": True}, ["-a", "--nonsense"]),
        ("-a -- X", {"app": "--"}, ["X"]),
    ],
)
def test_words_are_read(words: str, values: dict[str, object], arguments: list[str]) -> None:
    line = read_line(FLAGS, words.split())
    assert (line.values, line.arguments, line.asks_help) == (values, arguments, False)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("-x", "unknown flag: -x"),
        ("X -x", "unknown flag: -x"),
        ("-wxy", "unknown flag: -xy"),
        ("--nope", "unknown flag: --nope"),
        ("--nope=secret", "unknown flag: --nope"),
        ("-a", "flag needs an argument: 'a' in -a"),
        ("-wa", "flag needs an argument: 'a' in -a"),
        ("--app", "flag needs an argument: --app"),
        ("--=x", "bad flag syntax: --=x"),
        ("---x", "bad flag syntax: ---x"),
    ],
)
def test_what_cannot_be_read_is_named(words: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_line(FLAGS, words.split())
    assert str(caught.value) == what
    assert "secret" not in f"{caught.value.hint}{caught.value.why}"


def test_a_close_flag_is_offered() -> None:
    with pytest.raises(UsageError) as caught:
        read_line(FLAGS, ["--limt", "5"])
    assert caught.value.hint == "did you mean --limit?"


@pytest.mark.parametrize("words", ["-h", "--help", "X -h --nonsense", "-wh", "-a web --help"])
def test_help_is_asked_for(words: str) -> None:
    assert read_line(FLAGS, words.split()).asks_help


@pytest.mark.parametrize("words", ["-a -h", "-- --help"])
def test_help_may_also_be_a_value(words: str) -> None:
    assert not read_line(FLAGS, words.split()).asks_help


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("", None),
        ("info", 0),
        ("-a web info", 2),
        ("-aweb -w info", 2),
        ("--app=web info", 1),
        ("-a web", None),
        ("-- info", None),
    ],
)
def test_the_word_of_a_command_is_found(words: str, place: int | None) -> None:
    assert find_command_word(FLAGS, words.split()) == place


@pytest.mark.parametrize(
    ("given", "least", "most", "what"),
    [
        (0, 1, 1, "1 arg required"),
        (2, 1, 1, "1 arg required"),
        (1, 0, 0, "0 args required"),
        (1, 3, 3, "3 args required"),
        (2, 0, 1, "no more than 1 arg expected"),
        (3, 0, 2, "no more than 2 args expected"),
        (0, 1, None, "at least 1 arg required"),
        (1, 2, None, "at least 2 args required"),
        (0, 1, 2, "at least 1 arg required"),
    ],
)
def test_arguments_are_counted(given: int, least: int, most: int | None, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_count(given, least, most)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    ("given", "least", "most"), [(0, 0, 0), (1, 1, 1), (0, 0, 1), (1, 0, 1), (9, 1, None), (0, 0, None)]
)
def test_the_right_number_passes(given: int, least: int, most: int | None) -> None:
    check_count(given, least, most)


def test_numbers() -> None:
    assert read_count(None, "--watch") is None
    assert read_count("0", "--watch") == 0
    assert read_count("+12", "--watch") == 12


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a whole number"),
        ("abc", "not a whole number"),
        ("1.5", "not a whole number"),
        ("--1", "not a whole"),
        ("٣", "not a whole number"),
        ("-1", "below zero"),
    ],
)
def test_what_is_no_count(text: str, why: str) -> None:
    with pytest.raises(UsageError, match='for "-l, --limit" flag') as caught:
        read_count(text, "-l, --limit")
    assert why in caught.value.why
