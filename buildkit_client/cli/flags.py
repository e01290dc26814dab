"""Flags and commands, and reading a command line as ``buildctl``'s flag library does.

Written for start-up speed and for scripts made for ``buildctl``: one or two dashes, ``--name value`` or
``--name=value``, flags of outer commands also behind inner ones, values that begin with a dash, and its error texts.

Reference: github.com/urfave/cli/v3, command_parse.go and command_run.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from buildkit_client.cli.values import parse_bool, parse_duration, parse_float, parse_int

if TYPE_CHECKING:
    from collections.abc import Sequence

FlagKind = Literal["string", "strings", "bool", "int", "float", "duration"]
FlagValue = str | bool | int | float | list[str]


class UsageError(Exception):
    """The command line cannot be read.

    Attributes:
        path: The commands from the outermost to the one whose flags were read.
    """

    def __init__(self, text: str, path: tuple[Command, ...]) -> None:
        super().__init__(text)
        self.path = path


class Flag(NamedTuple):
    """A flag that a command takes, and every command inside it.

    Attributes:
        name: Its name, without dashes.
        usage: What it does, for the help.
        kind: What its value is; ``strings`` may be given several times, ``duration`` is in nanoseconds.
        aliases: Other names, without dashes.
        default: Its value when it is not given.
    """

    name: str
    usage: str
    kind: FlagKind = "string"
    aliases: tuple[str, ...] = ()
    default: str | int = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases."""
        return (self.name, *self.aliases)

    def empty_value(self) -> FlagValue:
        """Its value when it is not given."""
        match self.kind:
            case "strings":
                return []
            case "bool":
                return False
            case "string":
                return self.default
            case _:
                return self.default or 0


class Command(NamedTuple):
    """A command, and the commands inside it.

    Attributes:
        name: Its name.
        usage: What it does, for the help.
        run: ``module:function`` that does it, or empty when it only holds others.
        flags: Its flags.
        commands: The commands inside it.
        aliases: Other names.
        example: How it is used, for the help.
        arguments: What follows the flags, for the help.
        is_hidden: Left out of lists.
    """

    name: str
    usage: str
    run: str = ""
    flags: tuple[Flag, ...] = ()
    commands: tuple[Command, ...] = ()
    aliases: tuple[str, ...] = ()
    example: str = ""
    arguments: str = ""
    is_hidden: bool = False

    def find(self, name: str) -> Command | None:
        """The inner command of a name or alias, or None."""
        return next((one for one in self.commands if name == one.name or name in one.aliases), None)


@dataclass(slots=True)
class Invocation:
    """What a command line asks for.

    Attributes:
        path: The commands from the outermost to the one to run.
        values: Value of every flag that the command takes, by its name.
        arguments: What is neither flag nor command.
        asks_help: ``--help`` or ``-h`` was given.
        asks_version: ``--version`` or ``-v`` was given to the outermost command.
    """

    path: tuple[Command, ...]
    values: dict[str, FlagValue] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    asks_help: bool = False
    asks_version: bool = False

    @property
    def command(self) -> Command:
        """The command to run."""
        return self.path[-1]

    def text(self, name: str) -> str:
        """Value of a flag that is a text."""
        return str(self.values[name])

    def texts(self, name: str) -> list[str]:
        """Values of a flag that may be given several times."""
        value = self.values[name]
        assert isinstance(value, list)
        return value

    def is_set(self, name: str) -> bool:
        """Value of a flag that is a switch."""
        return bool(self.values[name])

    def number(self, name: str) -> float:
        """Value of a flag that is a number or a duration."""
        value = self.values[name]
        assert isinstance(value, (int, float))
        return value


def read_command_line(root: Command, words: Sequence[str]) -> Invocation:
    """Read a command line.

    Args:
        root: The outermost command.
        words: The words after the program's name.

    Raises:
        UsageError: A flag is not known, lacks its value, or has one that makes no sense.
    """
    invocation = Invocation((root,))
    rest = list(words)
    while True:
        known: dict[str, Flag] = {}
        for command in invocation.path:  # inner flags hide outer ones of the same name
            for flag in command.flags:
                invocation.values.setdefault(flag.name, flag.empty_value())
                known.update(dict.fromkeys(flag.names, flag))
        rest = _read_level(invocation, known, rest)
        inner = invocation.command.find(rest[0]) if rest else None
        if inner is None or invocation.asks_help or invocation.asks_version:
            invocation.arguments = rest
            return invocation
        invocation.path = (*invocation.path, inner)
        rest = rest[1:]


def _read_level(invocation: Invocation, known: dict[str, Flag], words: list[str]) -> list[str]:
    """Read the words of one command up to the name of an inner one; return what is no flag."""
    arguments: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            return arguments + words[position:]
        if not word.startswith("-"):
            if invocation.command.find(word) is not None:
                return [*arguments, word, *words[position:]]
            arguments.append(word)
            continue
        if word == "-":
            return [*arguments, word]  # what follows is dropped, as in the reference
        if not word.startswith("--") and not word[1].isalpha():
            return [*arguments, word, *words[position:]]
        name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
        flag = known.get(name)
        if flag is None:
            if name in ("help", "h"):
                invocation.asks_help = True
            elif name in ("version", "v") and len(invocation.path) == 1:
                invocation.asks_version = True
            else:
                raise UsageError(f"flag provided but not defined: -{name}", invocation.path)
            continue
        if flag.kind == "bool":
            value = value or "true"
        elif not equals:
            if position == len(words):
                raise UsageError(f"flag needs an argument: {word}", invocation.path)
            value = words[position]
            position += 1
        _store(invocation, flag, name, value)
    return arguments


def _store(invocation: Invocation, flag: Flag, name: str, value: str) -> None:
    try:
        match flag.kind:
            case "strings":
                invocation.texts(flag.name).append(value)
            case "bool":
                invocation.values[flag.name] = parse_bool(value)
            case "int":
                invocation.values[flag.name] = parse_int(value)
            case "float":
                invocation.values[flag.name] = parse_float(value)
            case "duration":
                invocation.values[flag.name] = parse_duration(value)
            case "string":
                invocation.values[flag.name] = value
    except ValueError as exc:
        reason = "parse error" if flag.kind == "bool" else str(exc)
        raise UsageError(f'invalid value "{value}" for flag -{name}: {reason}', invocation.path) from exc
