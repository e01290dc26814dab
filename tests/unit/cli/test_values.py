"""Values as Go's tools read them; texts of errors were seen with buildctl v0.34.2."""

from __future__ import annotations

import pytest

from buildkit_client.cli.values import (
    csv_fields,
    format_duration,
    key_values,
    parse_bool,
    parse_duration,
    parse_float,
    parse_int,
)
from buildkit_client.errors import OptionError


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a,", ["a", ""]),
        (",", ["", ""]),
        ('"a,b",c', ["a,b", "c"]),
        ('"a""b"', ['a"b']),
        ('""', [""]),
        ("a=b c", ["a=b c"]),
        ("a\n", ["a"]),
        ("a\r\n", ["a"]),
        (" a, b", [" a", " b"]),
    ],
)
def test_csv_fields(text: str, fields: list[str]) -> None:
    assert csv_fields(text) == fields


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "EOF"),
        ("\n", "EOF"),
        ('type=image,na"me=x', 'parse error on line 1, column 14: bare " in non-quoted-field'),
        ('"a', 'parse error on line 1, column 2: extraneous or missing " in quoted-field'),
        ('"a"b', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    ],
)
def test_csv_with_misplaced_quotes(text: str, error: str) -> None:
    with pytest.raises(OptionError) as caught:
        csv_fields(text)
    assert str(caught.value) == error


def test_key_values_split_at_the_first_equals_sign() -> None:
    assert key_values(["a=b=c", "d=", "a=x"]) == {"a": "x", "d": ""}
    with pytest.raises(OptionError, match="invalid value foo"):
        key_values(["foo"])


@pytest.mark.parametrize(("text", "value"), [("1", True), ("TRUE", True), ("f", False), ("False", False)])
def test_booleans(text: str, value: bool) -> None:
    assert parse_bool(text) is value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-5", -5), ("+7", 7), ("0x1F", 31), ("010", 8), ("1_000", 1000)]
)
def test_integers(text: str, value: int) -> None:
    assert parse_int(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), (".5", 0.5), ("-2.", -2.0), ("1e3", 1000.0), ("1_000", 1000.0), ("0x10p1", 32.0)]
)
def test_numbers(text: str, value: float) -> None:
    assert parse_float(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("48h", 172_800_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5s", 1_500_000_000),
        (".5ms", 500_000),
        ("-3us", -3000),
        ("2µs1ns", 2001),
    ],
)
def test_durations(text: str, value: int) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "error"),
    [
        (parse_bool, "yes", 'strconv.ParseBool: parsing "yes": invalid syntax'),
        (parse_int, "x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        (parse_int, "08", 'strconv.ParseInt: parsing "08": invalid syntax'),
        (parse_int, "9" * 20, f'strconv.ParseInt: parsing "{"9" * 20}": value out of range'),
        (parse_float, "", 'strconv.ParseFloat: parsing "": invalid syntax'),
        (parse_duration, "x", 'time: invalid duration "x"'),
        (parse_duration, "", 'time: invalid duration ""'),
        (parse_float, "1e999", 'strconv.ParseFloat: parsing "1e999": value out of range'),
        (parse_float, "1__0", 'strconv.ParseFloat: parsing "1__0": invalid syntax'),
        (parse_duration, "5", 'time: missing unit in duration "5"'),
        (parse_duration, "1h5", 'time: missing unit in duration "1h5"'),
        (parse_duration, "3d", 'time: unknown unit "d" in duration "3d"'),
        (parse_duration, ".s", 'time: invalid duration ".s"'),
        (parse_duration, "1..5s", 'time: missing unit in duration "1..5s"'),
        (parse_duration, "1h ", 'time: unknown unit "h " in duration "1h "'),
        (parse_duration, "9999999h", 'time: invalid duration "9999999h"'),
    ],
)
def test_what_is_no_such_value(parse: object, text: str, error: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=r".+") as caught:
        parse(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (20_000_000, "20ms"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (172_800_000_000_000, "48h0m0s"),
        (-1_000_000_000, "-1s"),
    ],
)
def test_durations_are_written_as_go_writes_them(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text
    assert parse_duration(text) == duration_ns
