"""Help pages, laid out as ``buildctl`` lays out its own.

Reference: github.com/urfave/cli/v3, template.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.cli.flags import Command, Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = Flag("help", "show help", "bool", ("h",))
VERSION = Flag("version", "print the version", "bool", ("v",))
HELP_COMMAND = Command("help", "Shows a list of commands or help for one command", aliases=("h",))


def help_page(path: Sequence[Command], *, version: str) -> str:
    """Render the help of a command.

    Args:
        path: The commands from the outermost to the one in question.
        version: Shown for the outermost command.

    Returns:
        Lines with line ends.
    """
    command = path[-1]
    is_root = len(path) == 1
    full_name = " ".join(one.name for one in path)
    parts = [
        _section("NAME", [f"{full_name} - {command.usage}"]),
        _section("USAGE", _usage(command, full_name, is_root)),
    ]
    if is_root:
        parts.append(_section("VERSION", [version]))
    shown = [one for one in command.commands if not one.is_hidden]
    if shown:
        listed = [*shown, HELP_COMMAND] if is_root else shown
        parts.append(
            _section("COMMANDS", _columns([(", ".join((one.name, *one.aliases)), one.usage) for one in listed]))
        )
    own = [*command.flags, HELP, *([VERSION] if is_root else [])]
    parts.append(_section("GLOBAL OPTIONS" if is_root else "OPTIONS", _flag_lines(own)))
    outer = [flag for one in path[:-1] for flag in one.flags]
    if outer:
        parts.append(_section("GLOBAL OPTIONS", _flag_lines(outer)))
    return "\n".join(parts)


def _usage(command: Command, full_name: str, is_root: bool) -> list[str]:
    if command.example:
        return command.example.splitlines()
    text = full_name
    if is_root:
        text += " [global options]"
    elif not command.commands:
        text += " [options]"
    if command.commands:
        text += " [command [command options]]"
    if command.arguments:
        text += f" {command.arguments}"
    return [text]


def _section(title: str, lines: Sequence[str]) -> str:
    return f"{title}:\n" + "".join(f"   {line}".rstrip() + "\n" for line in lines)


def _flag_lines(flags: Sequence[Flag]) -> list[str]:
    return _columns([(_flag_head(flag), _flag_text(flag)) for flag in flags])


def _flag_head(flag: Flag) -> str:
    value = {"bool": "", "strings": " string"}.get(flag.kind, f" {flag.kind}")
    head = ", ".join(("--" if len(name) > 1 else "-") + name + value for name in flag.names)
    return f"{head} [ {head} ]" if flag.kind == "strings" else head


def _flag_text(flag: Flag) -> str:
    match flag.kind:
        case "duration":
            return f"{flag.usage} (default: 0s)"
        case "int" | "float":
            return f"{flag.usage} (default: {flag.default or 0})"
        case "string" if flag.default:
            return f'{flag.usage} (default: "{flag.default}")'
    return flag.usage


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(head) for head, _ in rows)
    return [f"{head.ljust(width)}  {text}" for head, text in rows]
