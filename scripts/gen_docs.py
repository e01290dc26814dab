#!/usr/bin/env python3
"""Write the documentation of the commands from the commands themselves.

What a command is called, takes and does comes from its declaration; examples and what is true of several commands come
from scripts/command_docs/*.toml. The results are committed, so that they can be read where the code is:

    scripts/gen_docs.py             write docs/commands/*.md and convox/cli/listing.py
    scripts/gen_docs.py --check     fail where one of them is not what would be written
    scripts/gen_docs.py --man DIR   write DIR/man1/*.1 as well
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command_docs import markdown, roff

from buildkit_client.cli.commands import command_tree
from convox.cli.app import root_group
from convox.cli.command import Group, options_of
from convox.cli.help import argument_usage, description, option_usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).resolve().parent / "command_docs"


@dataclass(frozen=True, kw_only=True)
class Option:
    """A flag: ``-f, --file <file>``, what it does, what counts without it, and a variable that sets it."""

    spelling: str
    about: str
    default: str = ""
    variable: str = ""


@dataclass(frozen=True, kw_only=True)
class CommandDoc:
    """One command.

    Attributes:
        name: Its words, with the program's.
        synopsis: How it is written.
        summary: What it does, in one line.
        text: More about it, in paragraphs.
        arguments: What is no flag, with what it is.
        options: Its flags.
        example: What somebody types, each line after ``$``, and what is shown then.
        exit_codes: Codes that it can end with.
        files: Files that it reads or writes.
    """

    name: str
    synopsis: str
    summary: str
    text: Sequence[str]
    arguments: Sequence[tuple[str, str]]
    options: Sequence[Option]
    example: str
    exit_codes: Sequence[tuple[int, str]]
    files: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class ProgramDoc:
    """A program and its commands, by the first word of each."""

    name: str
    summary: str
    text: Sequence[str]
    options: Sequence[Option]
    groups: Mapping[str, Sequence[CommandDoc]]
    exit_codes: Sequence[tuple[int, str]]
    variables: Sequence[tuple[str, str]]
    files: Sequence[tuple[str, str]]
    see_also: str = ""

    @property
    def commands(self) -> Iterator[CommandDoc]:
        """All commands, in the order of the groups."""
        for group in self.groups.values():
            yield from group


@dataclass(frozen=True)
class Extra:
    """What scripts/command_docs says about a program."""

    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, program: str) -> Extra:
        return cls(tomllib.loads((DATA / f"{program}.toml").read_text()))

    def table(self, name: str) -> list[tuple[str, str]]:
        return list(self.data.get(name, {}).items())

    def of(self, command: str) -> dict[str, Any]:
        found = self.data["command"].get(command)
        if found is None or not found.get("example"):
            raise SystemExit(f"gen_docs: {command} has no example in {DATA.name}/")
        return dict(found)

    def command(
        self, name: str, *, text: Sequence[str], arguments: Sequence[tuple[str, str]], **rest: Any
    ) -> CommandDoc:
        """Return a command with what is written about it."""
        extra = self.of(name)
        codes = self.data["exit_codes"]
        return CommandDoc(
            name=name,
            text=[*text, *extra.get("text", [])],
            arguments=[(shown, self.argument(name, word)) for shown, word in arguments],
            example=extra["example"].strip(),
            exit_codes=[
                (code, codes[str(code)]) for code in sorted({*self.data["usual_exit_codes"], *extra.get("exit", [])})
            ],
            files=[(file, self.data["files"][file]) for file in extra.get("files", [])],
            **rest,
        )

    def argument(self, command: str, word: str) -> str:
        own: dict[str, str] = self.data["command"][command].get("arguments", {})
        found = own.get(word) or self.data["arguments"].get(word)
        if not found:
            raise SystemExit(f"gen_docs: the argument {word} of {command} is not described in {DATA.name}/")
        return str(found)

    def program(
        self, name: str, *, options: Sequence[Option], commands: Sequence[CommandDoc], summary: str
    ) -> ProgramDoc:
        groups: dict[str, list[CommandDoc]] = {}
        for command in commands:
            groups.setdefault(command.name.split()[1], []).append(command)
        unknown = self.data["command"].keys() - {command.name for command in commands}
        if unknown:
            raise SystemExit(f"gen_docs: there is no command {', '.join(sorted(unknown))}, but {DATA.name}/ has it")
        return ProgramDoc(
            name=name,
            summary=summary,
            text=self.data["text"],
            options=options,
            groups=groups,
            exit_codes=[(int(code), about) for code, about in self.table("exit_codes")],
            variables=self.table("variables"),
            files=self.table("files"),
            see_also=self.data["see_also"],
        )


def convox() -> ProgramDoc:
    """Return what convox's commands say of themselves, in the order in which it lists them."""
    extra = Extra.load("convox")
    found: dict[str, Any] = {}

    def walk(group: Any, path: str) -> None:
        for word in group.list_commands(None):
            command = group.get_command(None, word)
            if word == group.own_command:
                found[path] = command
            elif isinstance(command, Group):
                walk(command, f"{path} {word}")
            elif not command.hidden:
                found[f"{path} {word}"] = command

    def option(param: Any) -> Option:
        # A flag's help ends with what counts without it, in parentheses.
        about, default, _ = re.split(r"(?: \(([^()]*)\))?$", str(param.help), maxsplit=1)
        spelling = option_usage(param).strip()
        variable = extra.data["options"].get(spelling.split(" <")[0].split(", ")[-1], "")
        return Option(spelling=spelling, about=about, default=default or "", variable=variable)

    walk(root_group(), "convox")
    commands = []
    for name, command in sorted(found.items()):
        arguments = [
            (argument_usage(param), str(param.metavar or param.name).strip("[]"))
            for param in command.params
            if param.param_type_name == "argument"
        ]
        options = [option(param) for param in options_of(command) if not param.hidden]
        options.sort(key=lambda one: one.spelling.lstrip("-").split("--")[-1])
        summary, _, more = description(command).partition("\n")
        synopsis = " ".join([name, *(shown for shown, _ in arguments), *(["[options]"] if options else [])])
        commands.append(
            extra.command(
                name, synopsis=synopsis, summary=summary, text=_paragraphs(more), arguments=arguments, options=options
            )
        )
    return extra.program("convox", options=[], commands=commands, summary=_worded(str(root_group().help)))


def buildkit_client() -> ProgramDoc:
    """Return what buildkit-client's commands say of themselves; the hidden ones too."""
    extra = Extra.load("buildkit-client")

    def option(flag: Any) -> Option:
        value = {"bool": "", "strings": " <string>"}.get(flag.kind, f" <{flag.kind}>")
        names = ", ".join(sorted((("--" if len(name) > 1 else "-") + name for name in flag.names), key=len))
        about = f"{flag.usage}; may be given several times" if flag.kind == "strings" else flag.usage
        variable = extra.data["options"].get(f"--{flag.name}", "")
        return Option(spelling=f"{names}{value}", about=about, default=str(flag.default or ""), variable=variable)

    def walk(command: Any, path: str) -> Iterator[CommandDoc]:
        for inner in command.commands:
            yield from walk(inner, f"{path} {inner.name}")
        if not command.commands:
            words = command.arguments or extra.of(path).get("takes", "")
            synopsis = " ".join([path, *(["[options]"] if command.flags else []), *([words] if words else [])])
            yield extra.command(
                path,
                synopsis=synopsis,
                summary=command.usage,
                text=[],
                arguments=[(word, word.strip("[]<>.")) for word in words.split()],
                options=[option(flag) for flag in command.flags],
            )

    root = command_tree({})
    return extra.program(
        root.name,
        options=[option(flag) for flag in root.flags],
        commands=list(walk(root, root.name)),
        summary=root.usage,
    )


def listing(program: ProgramDoc) -> str:
    """Return the module that ``convox help`` prints without importing any command."""
    rows = "".join(
        f"    (\n        {_quoted(one.name)},\n        {_quoted(one.summary)},\n    ),\n" for one in program.commands
    )
    return (
        '"""What ``convox help`` lists. Written by scripts/gen_docs.py from the commands; do not edit."""\n\n'
        f"COMMANDS: tuple[tuple[str, str], ...] = (\n{rows})\n"
        '"""Every command with what it does, sorted."""\n'
    )


def outputs() -> dict[Path, str]:
    """Return every committed file with its text."""
    programs = (convox(), buildkit_client())
    files = {ROOT / "docs" / "commands" / f"{program.name}.md": markdown.page(program) for program in programs}
    return {**files, ROOT / "convox" / "cli" / "listing.py": listing(programs[0])}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the documentation of the commands.")
    parser.add_argument("--check", action="store_true", help="only fail where a file is not up to date")
    parser.add_argument("--man", type=Path, metavar="DIR", help="write manual pages into DIR/man1 as well")
    options = parser.parse_args(argv)
    stale = {path: text for path, text in outputs().items() if not path.exists() or path.read_text() != text}
    if options.check:
        for path in stale:
            print(f"gen_docs: {path.relative_to(ROOT)} is out of date: run scripts/gen_docs.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if options.man:
        folder = options.man / "man1"
        folder.mkdir(parents=True, exist_ok=True)
        for program in (convox(), buildkit_client()):
            (folder / f"{program.name}.1").write_text(roff.page(program))
    return 0


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def _worded(line: str) -> str:
    return line[:1].lower() + line[1:].rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    sys.exit(main())
