"""Help texts, laid out as Convox lays them out, with what each flag is for.

The list of all commands is printed from what scripts/gen_docs.py wrote down, as loading every command takes longer than
anything else that only prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def command_help(ctx: Any) -> str:
    """Return the help of one command: usage, description, flags.

    Reference: convox/stdcli help.go, helpCommand.
    """
    return "\n\n".join(_sections(ctx.command_path, ctx.command))


def group_help(ctx: Any) -> str:
    """Return the help of a group: of its own command where it has one, and the list of its commands."""
    group = ctx.command
    own = group.get_command(ctx, group.own_command) if group.own_command else None
    sections = (
        _sections(ctx.command_path, own)
        if own is not None
        else [f"USAGE\n  {ctx.command_path} <command>", f"DESCRIPTION\n  {_first_line(group)}"]
    )
    rows = list(_commands(ctx, group, ctx.command_path))
    return "\n\n".join((*sections, f"COMMANDS\n{_columns(rows, indent='  ')}"))


def list_commands() -> str:
    """Return all commands with their descriptions, sorted, as ``convox help`` shows them.

    Reference: convox/stdcli help.go, helpGlobal.
    """
    from convox.cli.listing import COMMANDS  # noqa: PLC0415  (not needed for the help of one command)

    return _columns(COMMANDS, indent="")


def summaries(group: Any) -> Iterator[tuple[str, str]]:
    """Give the words of a group's commands with their descriptions, for a shell that completes."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if not command.hidden:
            own = getattr(command, "own_command", "")
            yield name, _first_line(command.get_command(None, own) if own else command)


def _sections(path: str, command: Any) -> list[str]:
    from convox.cli.command import options_of  # noqa: PLC0415  (the list of all commands needs no command)

    arguments = [param for param in command.params if param.param_type_name == "argument"]
    usage = " ".join((path, *(argument_usage(param) for param in arguments)))
    sections = [f"USAGE\n  {usage}", f"DESCRIPTION\n  {description(command)}"]
    options = sorted((param for param in options_of(command) if not param.hidden), key=_long)
    if options:
        sections.append(
            f"OPTIONS\n{_columns([(option_usage(param), str(param.help or '')) for param in options], indent='  ')}"
        )
    return sections


def _commands(ctx: Any, group: Any, path: str) -> Iterator[tuple[str, str]]:
    from convox.cli.command import Group  # noqa: PLC0415  (the list of all commands needs no command)

    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or command.hidden or name == group.own_command:
            continue
        if isinstance(command, Group):
            own = command.get_command(ctx, command.own_command) if command.own_command else None
            if own is not None:
                yield f"{path} {name}", _first_line(own)
            yield from _commands(ctx, command, f"{path} {name}")
        else:
            yield f"{path} {name}", _first_line(command)


def argument_usage(param: Any) -> str:
    """Return how an argument is written in a usage line: ``<build>``, ``[dir]``, ``[server]...``."""
    name = str(param.metavar or param.name).strip("[]")
    if param.nargs == -1:
        return f"{'' if param.required else '['}{name}{'' if param.required else ']'}..."
    return f"<{name}>" if param.required else f"[{name}]"


def option_usage(param: Any) -> str:
    """Return how a flag is written: ``-f, --file <file>``; without a short form, as far in as with one."""
    short = [text for text in param.opts if not text.startswith("--")]
    value = "" if param.is_flag else f" <{param.metavar or param.name}>"
    return f"{short[0] + ', ' if short else '    '}{_long(param)}{value}"


def _long(param: Any) -> str:
    return next(str(text) for text in param.opts if text.startswith("--"))


def description(command: Any) -> str:
    """Return what a command does: one line, and behind it what else there is to say."""
    first, _, more = str(command.help or "").strip().partition("\n")
    return "\n".join([_worded(first), *(f"  {line}".rstrip() for line in more.splitlines())])


def _first_line(command: Any) -> str:
    return _summary(command.help)


def _summary(text: str | None) -> str:
    return _worded(str(text or "").strip().partition("\n")[0])


def _worded(line: str) -> str:
    """Return the first line of a docstring as Convox words descriptions: in lower case, without a full stop."""
    return line[:1].lower() + line[1:].rstrip(".")


def _columns(rows: Sequence[tuple[str, str]], *, indent: str) -> str:
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{indent}{left.ljust(width)}  {right}".rstrip() for left, right in rows)
