"""Commands and groups of commands that read their words as Convox does.

Commands are declared with typer: a function, its parameters, its help. What is typed is read by
:mod:`convox.cli.flags`, so a value that is not given reaches the function as None, False for a switch, or an empty list
where a flag repeats; every parameter's default says the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import typer
from typer import Exit
from typer.core import TyperCommand, TyperGroup

from convox.cli.flags import Flag, check_count, find_command_word, read_line
from convox.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The context's type moved between releases of typer and is not public in all of them: Any, here and below.

ANYWHERE = (
    Flag(name="app", spellings=("-a", "--app")),
    Flag(name="rack", spellings=("-r", "--rack")),
    Flag(name="wait", spellings=("-w", "--wait"), takes_value=False),
)
"""Flags that may stand before the word of a command."""


class Command(TyperCommand):
    """One command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the command into the values of its parameters."""
        line = read_line(command_flags(self), args)
        if line.asks_help:
            _show_help(ctx)
        arguments = [param for param in self.params if param.param_type_name == "argument"]
        variadic = any(param.nargs == -1 for param in arguments)
        least = sum(bool(param.required) for param in arguments)
        check_count(len(line.arguments), least, None if variadic else len(arguments))
        given = list(line.arguments)
        for param in arguments:
            if param.nargs == -1:
                ctx.params[param.name] = given
            else:
                ctx.params[param.name] = given.pop(0) if given else None
        for flag in command_flags(self):
            nothing: object = [] if flag.repeats else None if flag.takes_value else False
            ctx.params[flag.name] = line.values.get(flag.name, nothing)
        ctx.args = []
        return []

    def get_help(self, ctx: Any) -> str:
        """Return the help text; see :func:`convox.cli.help.command_help`."""
        from convox.cli.help import command_help  # noqa: PLC0415  (only for help)

        return command_help(ctx)


class Group(TyperGroup):
    """Several commands under one word; without one of theirs, the group's own.

    Attributes:
        own_command: Name of the hidden command that runs when the group's word stands alone: ``convox builds``. Empty
            for a group that only has commands.
        declared: What makes each command, by its word, in the order of their declaration. Reading the parameters of
            them all would take longer than running the one that is asked for.
    """

    own_command: ClassVar[str] = ""

    def __init__(self, *, declared: dict[str, Callable[[], Any]] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.declared = declared or {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the words of the commands, in the order of their declaration."""
        return list(self.declared)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Make a command when it is first asked for; None where no command has that word."""
        if cmd_name not in self.commands and cmd_name in self.declared:
            self.commands[cmd_name] = self.declared[cmd_name]()
        return self.commands.get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the command among the words; flags that stand before it are given to it."""
        own = self.get_command(ctx, self.own_command) if self.own_command else None
        flags = command_flags(own) if own is not None else ANYWHERE
        place = find_command_word(flags, args)
        if place is not None and args[place] != self.own_command and self.get_command(ctx, args[place]) is not None:
            words = [args[place], *args[:place], *args[place + 1 :]]
        elif own is not None:
            if place is not None and not any(param.param_type_name == "argument" for param in own.params):
                self._refuse(ctx, args[place], "0 args required")
            if read_line(flags, args).asks_help:
                _show_help(ctx)
            words = [self.own_command, *args]
        elif place is None:
            read_line(ANYWHERE, args)  # refuses an unknown flag
            _show_help(ctx)
        else:
            path = " ".join([*_path(ctx).split()[1:], args[place]])
            self._refuse(ctx, args[place], f"unknown command: {path}")
        return list(super().parse_args(ctx, words))

    def get_help_option(self, ctx: Any) -> None:
        """Return no flag: ``--help`` is read with the other words, see above."""

    def get_help(self, ctx: Any) -> str:
        """Return the help text; see :func:`convox.cli.help.group_help`."""
        from convox.cli.help import group_help  # noqa: PLC0415  (only for help)

        return group_help(ctx)

    def _refuse(self, ctx: Any, word: str, what: str) -> NoReturn:
        from difflib import get_close_matches  # noqa: PLC0415  (only where something went wrong)

        path = _path(ctx)
        close = get_close_matches(word, [name for name in self.list_commands(ctx) if name != self.own_command], n=1)
        raise UsageError(
            what,
            why=f"{word!r} is no command of {path}",
            hint=f"did you mean {path} {close[0]}?" if close else f"{path} --help lists them",
        )


def command_of(app: typer.Typer) -> Any:
    """Return what an app declares: its group, or the one command that it has instead."""
    cls = app.info.cls
    if not (isinstance(cls, type) and issubclass(cls, Group)):
        return typer.main.get_command(app)
    declared: dict[str, Callable[[], Any]] = {
        str(info.name): partial(_one_command, info) for info in app.registered_commands
    }
    for group in app.registered_groups:
        if group.typer_instance is not None:
            declared[str(group.typer_instance.info.name)] = partial(command_of, group.typer_instance)
    return cls(declared=declared, name=app.info.name, help=app.info.help, rich_markup_mode=None)


def _one_command(info: Any) -> Any:
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.registered_commands.append(info)
    return typer.main.get_command(alone)


def command_flags(command: Any) -> list[Flag]:
    """Return the flags that a command declares."""
    return [
        Flag(
            name=param.name,
            spellings=(*param.opts, *param.secondary_opts),
            takes_value=not param.is_flag,
            repeats=bool(param.multiple),
        )
        for param in options_of(command)
    ]


def options_of(command: Any) -> Iterable[Any]:
    """Return the parameters of a command that are flags."""
    return [param for param in command.params if param.param_type_name == "option"]


def _path(ctx: Any) -> str:
    return str(ctx.command_path)


def _show_help(ctx: Any) -> None:
    ctx.obj.console.print(ctx.command.get_help(ctx).rstrip("\n"))
    raise Exit(0)
