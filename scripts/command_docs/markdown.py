"""A program's commands as one Markdown page, with a table of contents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gen_docs import CommandDoc, Option, ProgramDoc


def page(program: ProgramDoc) -> str:
    """Return the page."""
    return "\n\n".join(_blocks(program)) + "\n"


def _blocks(program: ProgramDoc) -> Iterator[str]:
    yield f"# {program.name}"
    yield "<!-- Written by scripts/gen_docs.py from the commands; do not edit. -->"
    yield f"{program.name} - {_plain(program.summary)}"
    yield from map(_plain, program.text)
    yield "## Contents"
    for word, commands in program.groups.items():
        rows = [f"  - [{one.name}](#{one.name.replace(' ', '-')}): {_plain(one.summary)}" for one in commands]
        yield "\n".join([f"- [{word}](#{word})", *rows])
    if program.options:
        yield "- [options of every command](#options-of-every-command)"
    yield "- [exit codes](#exit-codes)\n- [environment variables](#environment-variables)\n- [files](#files)"
    for word, commands in program.groups.items():
        yield f"## {word}"
        for command in commands:
            yield from _command(command)
    if program.options:
        yield "## Options of every command"
        yield _options(program.options)
    yield "## Exit codes"
    yield _table(("Code", "Meaning"), [(str(code), _plain(about)) for code, about in program.exit_codes])
    yield "## Environment variables"
    yield _table(("Variable", "Meaning"), [(_code(name), _plain(about)) for name, about in program.variables])
    yield "## Files"
    yield _table(("File", "Meaning"), [(_code(name), _plain(about)) for name, about in program.files])
    yield f"See also: {program.see_also}"


def _command(command: CommandDoc) -> Iterator[str]:
    yield f"### {command.name}"
    yield f"{_plain(command.summary[:1].upper() + command.summary[1:])}."
    yield f"```\n{command.synopsis}\n```"
    yield from map(_plain, command.text)
    if command.arguments:
        yield _table(("Argument", "Meaning"), [(_code(name), _plain(about)) for name, about in command.arguments])
    if command.options:
        yield _options(command.options)
    yield f"Example:\n\n```console\n{command.example}\n```"
    codes = ", ".join(f"{code} {_plain(re.split('[:;]', about)[0])}" for code, about in command.exit_codes)
    yield f"Exit codes: {codes}."
    if command.files:
        yield "Files: " + "; ".join(f"{_code(name)}, {_plain(about)}" for name, about in command.files) + "."


def _options(options: Sequence[Option]) -> str:
    has_default = any(option.default for option in options)
    has_variable = any(option.variable for option in options)
    head = ["Option", "Meaning", *(["Default"] if has_default else []), *(["Variable"] if has_variable else [])]
    rows = [
        [
            _code(option.spelling),
            _plain(option.about),
            *([_plain(option.default)] if has_default else []),
            *([_code(option.variable)] if has_variable else []),
        ]
        for option in options
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def _plain(text: str) -> str:
    """Return a text in which nothing is taken for markup."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)
