"""Reading a command line the way Convox reads it.

Convox parses with pflag, and its scripts rely on what pflag allows: flags before or after arguments, ``-a web``,
``-aweb``, ``-a=web`` and ``--app=web``, several switches behind one dash, ``--id=false``, and ``--`` before arguments
that begin with a dash. The texts of the errors are Convox's too.

This also keeps the start quick. The command library's own parser imports a validation library that takes longer than
everything else a listing does; here the values are texts, and a command makes numbers of them itself.

Reference: convox/stdcli command.go and validate.go; spf13/pflag flag.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from convox.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Flag(NamedTuple):
    """A flag that a command takes.

    Attributes:
        name: Of the value, as the command's function calls it.
        spellings: With their dashes, for example ``-a`` and ``--app``.
        takes_value: False for a switch.
        repeats: Whether it may be given several times, each adding a value.
    """

    name: str
    spellings: tuple[str, ...]
    takes_value: bool = True
    repeats: bool = False


@dataclass(slots=True)
class ParsedLine:
    """What a command line says.

    Attributes:
        values: By flag name: a text, True or False for a switch, a list for a flag that repeats. Only what was given.
        arguments: What is no flag, in order.
        asks_help: Whether ``-h`` or ``--help`` is there; reading ended at it.
    """

    values: dict[str, str | bool | list[str]] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    asks_help: bool = False


def read_line(flags: Sequence[Flag], words: Sequence[str]) -> ParsedLine:
    """Read the words after a command.

    Args:
        flags: What the command takes.
        words: The words.

    Raises:
        UsageError: A flag is unknown, or has no value.
    """
    by_spelling = {spelling: flag for flag in flags for spelling in flag.spellings}
    line = ParsedLine()
    rest = list(reversed(words))
    while rest and not line.asks_help:
        word = rest.pop()
        if word == "--":
            line.arguments += reversed(rest)
            break
        if word.startswith("--"):
            _read_long(word, rest, by_spelling, line)
        elif word.startswith("-") and word != "-":
            _read_short(word, rest, by_spelling, line)
        else:
            line.arguments.append(word)
    return line


def find_command_word(flags: Sequence[Flag], words: Sequence[str]) -> int | None:
    """Return the place of the first word that is neither a flag nor a flag's value, None where there is none."""
    by_spelling = {spelling: flag for flag in flags for spelling in flag.spellings}
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return None
        if word == "-" or not word.startswith("-"):
            return place
        flag = by_spelling.get(word)
        place += 2 if flag is not None and flag.takes_value else 1
    return None


def check_count(given: int, least: int, most: int | None) -> None:
    """Check how many arguments there are.

    Args:
        given: How many there are.
        least: How many there must be.
        most: How many there may be; None for any number.

    Raises:
        UsageError: There are too few or too many; worded as Convox words it.
    """
    if least == most and given != least:
        raise UsageError(f"{least} {_plural(least)} required")
    if given < least:
        raise UsageError(f"at least {least} {_plural(least)} required")
    if most is not None and given > most:
        raise UsageError(f"no more than {most} {_plural(most)} expected")


def read_count(text: str | None, spelling: str) -> int | None:
    """Return the number in a flag's value, None where the flag is not given.

    Args:
        text: The value.
        spelling: How the flag is written, for the error.

    Raises:
        UsageError: It is not a whole number, or is below zero.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise UsageError(
            f"invalid argument {json.dumps(text, ensure_ascii=False)} for {spelling!r} flag".replace("'", '"'),
            why="it is not a whole number",
        )
    if int(text) < 0:
        raise UsageError(f'invalid argument "{text}" for "{spelling}" flag', why="it is below zero")
    return int(text)


def _read_long(word: str, rest: list[str], by_spelling: dict[str, Flag], line: ParsedLine) -> None:
    name, equals, value = word.partition("=")
    if name in ("--", "---") or name.startswith("---"):
        raise UsageError(f"bad flag syntax: {word}")
    flag = by_spelling.get(name)
    if flag is None:
        if name == "--help":
            line.asks_help = True
            return
        raise UsageError(f"unknown flag: {name}", hint=_hint(by_spelling, name))
    if not flag.takes_value:
        line.values[flag.name] = not equals or value == "true"
    elif equals:
        _store(line, flag, value)
    elif rest:
        _store(line, flag, rest.pop())
    else:
        raise UsageError(f"flag needs an argument: {name}")


def _read_short(word: str, rest: list[str], by_spelling: dict[str, Flag], line: ParsedLine) -> None:
    letters = word[1:]
    while letters:
        letter, after = letters[0], letters[1:]
        flag = by_spelling.get(f"-{letter}")
        if flag is None:
            if letter == "h":
                line.asks_help = True
                return
            raise UsageError(f"unknown flag: -{letters}", hint=_hint(by_spelling, f"-{letter}"))
        if not flag.takes_value:
            if after.startswith("="):
                line.values[flag.name] = after[1:] == "true"
                return
            line.values[flag.name] = True
            letters = after
            continue
        if after:
            _store(line, flag, after[1:] if after.startswith("=") and len(after) > 1 else after)
        elif rest:
            _store(line, flag, rest.pop())
        else:
            raise UsageError(f"flag needs an argument: {letter!r} in -{letters}")
        return


def _store(line: ParsedLine, flag: Flag, value: str) -> None:
    if flag.repeats:
        values = line.values.setdefault(flag.name, [])
        if isinstance(values, list):
            values.append(value)
    else:
        line.values[flag.name] = value


def _hint(by_spelling: dict[str, Flag], spelling: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  (only where something went wrong)

    close = get_close_matches(spelling, [name for name in by_spelling if name.startswith("--")], n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else "--help lists the flags of a command"


def _plural(count: int) -> str:
    return "arg" if count == 1 else "args"
