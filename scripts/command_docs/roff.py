"""A program's commands as a manual page, for ``man``.

Reference: groff_man(7); man-pages(7), Sections within a manual page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gen_docs import CommandDoc, Option, ProgramDoc


def page(program: ProgramDoc) -> str:
    """Return the page."""
    return "\n".join(_lines(program)) + "\n"


def _lines(program: ProgramDoc) -> Iterator[str]:
    yield '.\\" Written by scripts/gen_docs.py from the commands; do not edit.'
    yield f'.TH {program.name.upper()} 1 "" "{program.name}" "User Commands"'
    yield ".SH NAME"
    yield f"{_text(program.name)} \\- {_text(program.summary)}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(program.name)}"
    yield ".I command"
    yield "[options] [arguments]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(program.text)
    if program.options:
        yield ".SH OPTIONS"
        yield from _options(program.options)
    yield ".SH COMMANDS"
    for command in program.commands:
        yield from _command(command)
    yield ".SH EXIT STATUS"
    yield from _items((str(code), about) for code, about in program.exit_codes)
    yield ".SH ENVIRONMENT"
    yield from _items(program.variables)
    yield ".SH FILES"
    yield from _items(program.files)


def _command(command: CommandDoc) -> Iterator[str]:
    yield f".SS {_text(command.synopsis)}"
    yield from _paragraphs([f"{command.summary[:1].upper()}{command.summary[1:]}.", *command.text])
    yield from _items(command.arguments)
    yield from _options(command.options)
    yield from (".PP", "Example:", ".PP", ".in +4n", ".EX")
    yield from (_text(line) for line in command.example.splitlines())
    yield from (".EE", ".in")
    yield ".PP"
    yield _text(f"Exit status: {', '.join(str(code) for code, _ in command.exit_codes)}.")


def _options(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        about = [f"{option.about}."]
        if option.default:
            about.append(f"Default: {option.default}.")
        if option.variable:
            about.append(f"Environment: {option.variable}.")
        yield from _items([(option.spelling, " ".join(about))])


def _items(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, about in items:
        yield from (".TP", f".B {_text(name)}", _text(about))


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (".PP", _text(text))


def _text(text: str) -> str:
    """Return a text in which nothing is taken for a request of the formatter."""
    escaped = re.sub(r"[\\\-'`^~\"]", lambda match: _ESCAPES[match[0]], text)
    escaped = re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "\\(aq")) else escaped


_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
