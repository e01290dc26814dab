"""Splits Go's templates into texts and the tokens of actions.

Reference: Go, text/template/parse/lex.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.cli.go_values import go_quote

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"})
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)|(?P<declare>:=)|(?P<assign>=)|(?P<pipe>\|)|(?P<lparen>\()|(?P<rparen>\))
    |(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<char>'(?:[^'\\\n]|\\.)*')|(?P<variable>\$\w*)
    |(?P<number>[+-]?(?:0[xXbBoO][0-9a-fA-F_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?))
    |(?P<field>\.\w+)|(?P<dot>\.)|(?P<word>\w+)|(?P<other>[ -~])""",
    re.VERBOSE,
)
_TERMINATORS = " \t\r\n.,|:)("
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class Token(NamedTuple):
    """A piece of a template: its kind, its text, and where it begins."""

    kind: str
    text: str
    position: int

    def __str__(self) -> str:
        if self.kind == "eof":
            return "EOF"
        if self.kind in KEYWORDS:
            return f"<{self.text}>"
        return f"{go_quote(self.text[:10])}..." if len(self.text) > 10 else go_quote(self.text)


def tokens(source: str) -> Iterator[Token]:
    """Split into texts and the tokens of actions; what cannot be split becomes a last token of kind ``error``."""
    position, trims = 0, False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        begin = position
        if trims:
            begin += len(text) - len(text.lstrip(" \t\r\n"))
            text = text.lstrip(" \t\r\n")
        trims_before = start >= 0 and source[start + 2 : start + 3] == "-" and source[start + 3 : start + 4].isspace()
        if trims_before:
            text = text.rstrip(" \t\r\n")
        if text:
            yield Token("text", text, begin)
        if start < 0:
            yield Token("eof", "", len(source))
            return
        position = start + (3 if trims_before else 2)
        bare = position + (1 if trims_before else 0)
        if source.startswith("/*", bare):
            comment = _COMMENT.match(source, bare)
            if comment is None:
                yield Token("error", "unclosed comment", start)
                return
            position, trims = comment.end(), source[comment.end() : comment.end() + 4].strip() == "-}}"
            end = source.find("}}", position)
            if end < 0 or source[position:end].strip() not in ("", "-"):
                yield Token("error", "comment ends before closing delimiter", start)
                return
            position = end + 2
            continue
        yield Token("{{", "{{", start)
        depth = 0
        while not source.startswith("}}", position):
            if source[position : position + 1].isspace() and source.startswith("-}}", position + 1):
                position += 2
                break
            token = _token(source, position)
            depth += {"(": 1, ")": -1}.get(token.kind, 0)
            if depth < 0:
                token = Token("error", "unexpected right paren", position)
            yield token
            if token.kind == "error":
                return
            position += len(token.text)
        if depth:
            yield Token("error", "unclosed left paren", position)
            return
        trims = source[position - 1] == "-" and source[position - 2].isspace()
        yield Token("}}", "}}", position)
        position += 2


def _token(source: str, position: int) -> Token:
    if position >= len(source):
        return Token("error", "unclosed action", position)
    found = _TOKEN.match(source, position)
    kind, text = (found.lastgroup or "other", found[0]) if found else ("other", source[position])
    after = source[position + len(text) : position + len(text) + 1]
    match kind:
        case "space":
            if source.startswith("-}}", position + len(text)):
                return Token("space", text[:-1], position)  # the last one belongs to the trimming mark
        case "word" if text in ("true", "false"):
            return Token("bool", text, position)
        case "word":
            kind = text if text in KEYWORDS else "nil" if text == "nil" else "ident"
        case "number" if after.isalnum():
            return Token("error", f"bad number syntax: {go_quote(text + after)}", position)
        case "lparen" | "rparen":
            return Token(text, text, position)
        case "other":
            wrong = {'"': "unterminated quoted string", "`": "unterminated raw quoted string", ":": "expected :="}
            wrong["'"] = "unterminated character constant"
            if text in wrong:
                return Token("error", wrong[text], position)
            if not "!" <= text <= "~":
                return Token("error", f"unrecognized character in action: {_shown(text)}", position)
    ends = not after or after in _TERMINATORS or source.startswith("}}", position + len(text))
    if kind in ("field", "variable", "ident", "bool", "nil") and not ends:
        return Token("error", f"bad character {_shown(after)}", position)
    return Token(kind, text, position)


def _shown(character: str) -> str:
    """Reference: Go, fmt, verb ``%#U``."""
    return f"U+{ord(character):04X}" + (f" '{character}'" if character.isprintable() else "")
