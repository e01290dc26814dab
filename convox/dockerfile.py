"""What a plan has to know of a Dockerfile: its ARG names, its stage names, and who reads it.

This is no Dockerfile parser; the daemon has that. But which build arguments a Dockerfile declares decides what leaves
the machine, so the names are found with the daemon's own rules: instructions in any case, several names on an ARG line,
continuation lines with comments and blanks between them, the ``escape`` directive, and here-documents, whose lines are
no instructions. A file that the daemon will refuse gives what was found; the daemon tells the fault better.

Reference: moby/buildkit frontend/dockerfile/parser (parser.go, directives.go, split_command.go), shell/lex.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convox.dockerfile_words import SPACE, WHITESPACE, heredocs, split_command, split_words

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*\Z")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_DOCKERFILE_FRONTEND = re.compile(
    r"(?:(?:docker\.io|index\.docker\.io)/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?|dockerfile\.v0"
)


@dataclass(frozen=True, slots=True)
class DockerfileFacts:
    """What a scan found.

    Attributes:
        args: Names that ARG instructions declare, each once, in file order.
        stages: Names of named stages, lower-case as the daemon compares them, in file order.
        syntax: The frontend image that the ``syntax`` directive asks for, or empty.
    """

    args: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    syntax: str = ""

    @property
    def is_dockerfile_language(self) -> bool:
        """Whether the file is read by a frontend of the Dockerfile language, whose ARG lines mean what they say."""
        return not self.syntax or _DOCKERFILE_FRONTEND.fullmatch(self.syntax) is not None


def scan_dockerfile(data: bytes) -> DockerfileFacts:
    """Find ARG names, stage names and the syntax directive.

    Args:
        data: The file; bytes that are not UTF-8 are carried along.
    """
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    args: dict[str, None] = {}
    stages: list[str] = []
    for line, escape in _instructions(text):
        command, rest = split_command(line, escape)
        if command == "arg":
            for word in split_words(rest, escape):
                name = word.partition("=")[0]
                if name:
                    args.setdefault(name)
        elif command == "from":
            parts = WHITESPACE.split(rest)
            if len(parts) == 3 and parts[1].lower() == "as" and _STAGE_NAME.fullmatch(parts[2].lower()):
                stages.append(parts[2].lower())
    return DockerfileFacts(tuple(args), tuple(stages), _syntax(text))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction on one line, continuation lines joined, with the escape character in force."""
    rows = iter(text.split("\n"))
    directives = _Directives("#")
    for row in rows:
        line = row.rstrip("\r").lstrip(SPACE)
        if not directives.feed(line):
            return
        if line.startswith("#"):
            continue
        line, is_complete = _cut_continuation(line, directives.escape)
        if is_complete and not line:
            continue
        while not is_complete and (following := next(rows, None)) is not None:
            part = following.rstrip("\r")
            stripped = part.lstrip(SPACE)
            if not stripped or stripped.startswith("#"):
                continue
            part, is_complete = _cut_continuation(part, directives.escape)
            line += part
        yield line, directives.escape
        for terminator, may_indent in heredocs(line, directives.escape):
            for row in rows:
                end = row.rstrip("\r")
                if (end.lstrip("\t") if may_indent else end) == terminator:
                    break


class _Directives:
    """Reads ``# name=value`` lines; the first other line ends them for good.

    Attributes:
        escape: The escape character in force.
        found: Values by lower-case name.
    """

    def __init__(self, comment: str) -> None:
        self._comment = comment
        self._done = False
        self.escape = "\\"
        self.found: dict[str, str] = {}

    def feed(self, line: str) -> bool:
        """Take one line; False when the daemon would refuse the file for it."""
        if self._done:
            return True
        body = line.removeprefix(self._comment) if line.startswith(self._comment) else ""
        match = _DIRECTIVE.match(body.lstrip(SPACE))
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            self._done = True
            return True
        if name in self.found:
            return False
        self.found[name] = match[2]
        if name == "escape":
            if match[2] not in ("\\", "`"):
                return False
            self.escape = match[2]
        return True


def _syntax(text: str) -> str:
    """Return the image of the syntax directive, in any of its three forms, or empty.

    Reference: moby/buildkit frontend/dockerfile/parser/directives.go, DetectSyntax.
    """
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    for comment in ("#", "//"):
        directives = _Directives(comment)
        for row in text.split("\n"):
            line = row.removesuffix("\r")
            if not line.startswith(comment) or not directives.feed(line):
                break
        if value := directives.found.get("syntax"):
            return value.partition(" ")[0]
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text).get("syntax")
        except (ValueError, RecursionError):
            return ""
        return value if isinstance(value, str) else ""
    return ""


def _cut_continuation(line: str, escape: str) -> tuple[str, bool]:
    """Cut an escape character that ends a line; say whether the instruction is complete."""
    bare = line.rstrip(" \t")
    if not bare.endswith(escape) or bare.endswith(escape * 2):
        return line, True
    return bare[:-1], False
