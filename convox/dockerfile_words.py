"""Words of a Dockerfile instruction: its name, its flags, its arguments, and the here-documents it opens.

The daemon splits one line in three ways: bytewise for flags, with quotes kept for ARG, and with a shell's rules for
here-documents. Each is here as it is there, oddities included, because a word more or less decides which lines of a
file are instructions.

Reference: moby/buildkit frontend/dockerfile/parser (split_command.go, line_parsers.go, parser.go), shell/lex.go.
"""

from __future__ import annotations

import json
import re

# The characters that Go's unicode.IsSpace knows; str.isspace has four more.
SPACE = "".join(
    map(chr, (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000))
)
"""The characters that the daemon's parser takes for space."""

_ASCII_SPACE = "\t\n\v\f\r "
WHITESPACE = re.compile(r"[\t\v\f\r ]+")
"""What separates an instruction from its arguments, and the arguments of FROM."""

_HEREDOC = re.compile(r"\d*<<(-?)[\t\n\f\r ]*([^<]*)\Z")
_WITH_HEREDOC = frozenset({"add", "copy", "run"})


def split_command(line: str, escape: str) -> tuple[str, str]:
    """Return an instruction's name in lower case and what follows its flags.

    Args:
        line: The instruction on one line.
        escape: The escape character in force, one character.
    """
    command, *rest = WHITESPACE.split(line.strip(SPACE), maxsplit=1)
    return command.lower(), _skip_flags(rest[0], escape).strip(SPACE) if rest else ""


def _skip_flags(text: str, escape: str) -> str:
    """Return a text without the ``--flag`` words at its start; a lone ``--`` ends them."""
    position = 0
    while True:
        while position < len(text) and text[position] in _ASCII_SPACE:
            position += 1
        if not text.startswith("--", position):
            return text[position:]
        word, position = _flag(text, position, escape)
        if word == "--":
            return text[position:]


def _flag(text: str, position: int, escape: str) -> tuple[str, int]:
    """Return one flag word, unquoted, and the position after it."""
    word: list[str] = []
    quote = ""
    while position < len(text):
        char = text[position]
        if not quote and char in _ASCII_SPACE:
            break
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape:
            position += 1
            word.append(text[position : position + 1])
        else:
            word.append(char)
        position += 1
    return "".join(word), min(position, len(text))


def split_words(text: str, escape: str) -> list[str]:
    """Split the arguments of ARG at spaces outside quotes; quotes and escapes stay in the words.

    Args:
        text: What follows the flags.
        escape: The escape character in force, one character.

    Reference: moby/buildkit frontend/dockerfile/parser/line_parsers.go, parseWords.
    """
    found: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char in SPACE:
            if word:
                found.append(word)
            word = ""
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape and quote != "'":
            if position == len(text):
                break
            char += text[position]
            position += 1
        word += char
    return [*found, word] if word else found


def heredocs(line: str, escape: str) -> list[tuple[str, bool]]:
    """Return the here-documents of an instruction, in order: the line that ends each, and whether tabs may precede it.

    Args:
        line: The instruction on one line.
        escape: The escape character in force, one character; here-documents themselves only know the backslash.
    """
    if "<<" not in line:
        return []
    command, rest = split_command(line, escape)
    if command == "onbuild":
        command, rest = split_command(rest, escape)
    if command not in _WITH_HEREDOC or _is_json_list(rest):
        return []
    found: list[tuple[str, bool]] = []
    for word in _shell_words(line, is_raw=True):
        match = _HEREDOC.match(word)
        name = _shell_words(match[2], is_raw=False) if match and match[2] else []
        if match is not None and len(name) == 1:
            found.append((name[0], match[1] == "-"))
    return found


def _is_json_list(text: str) -> bool:
    if not text.startswith("["):
        return False
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(items, list)


def _shell_words(text: str, *, is_raw: bool) -> list[str]:
    """Split as the daemon's shell lexer does where nothing is set: quotes and ``${...}`` keep spaces together.

    Args:
        text: One line.
        is_raw: Keep quotes and backslashes in the words.

    Returns:
        The words; none at all when a quote or brace is not closed, as the daemon has it.
    """
    lexer = _ShellLexer(text, is_raw=is_raw)
    try:
        return lexer.words()
    except (ValueError, RecursionError):
        return []


class _ShellLexer:
    """The part of a shell's word splitting that decides where a here-document's name begins and ends."""

    def __init__(self, text: str, *, is_raw: bool) -> None:
        self._text = text
        self._is_raw = is_raw
        self._at = 0
        self._word = ""  # shared by nested scans, as in the daemon: a ${a:-b} drops what stands before it in its word

    def words(self) -> list[str]:
        return self._scan("", is_raw=self._is_raw)[1]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _scan(self, stop: str, *, is_raw: bool) -> tuple[str, list[str]]:
        """Read up to a stop character; return the text read and its words."""
        result = ""
        words: list[str] = []
        self._word = ""

        def split(text: str) -> None:
            for char in text:
                if char not in SPACE:
                    self._word += char
                elif self._word:
                    words.append(self._word)
                    self._word = ""

        while char := self._peek():
            if stop and char == stop:
                self._at += 1
                break
            if char == "$":
                piece = self._dollar()
                split(piece)
            elif char in "'\"<":
                piece = self._quoted(is_raw=is_raw) if char != "<" else self._less_than()
                self._word += piece
            elif self._take() == "\\":
                piece = "\\" if is_raw else ""
                piece += self._take()
                self._word += piece
            else:
                piece = char
                split(piece)
            result += piece
        else:
            if stop:
                raise ValueError("no closing character")
        if self._word:
            words.append(self._word)
            self._word = ""
        return result, words

    def _quoted(self, *, is_raw: bool) -> str:
        quote = self._take()
        result = quote if self._is_raw else ""
        while char := self._peek():
            if char == quote:
                self._at += 1
                return result + (quote if self._is_raw else "")
            if quote == '"' and char == "$":
                result += self._dollar()
                continue
            self._at += 1
            if quote == '"' and char == "\\":
                if is_raw:
                    result += char
                if self._peek() in ('"', "$", "\\"):
                    char = self._take()
                elif not self._peek():
                    continue
            result += char
        raise ValueError("no closing quote")

    def _less_than(self) -> str:
        result = self._take()
        if self._peek() == "<":
            result += self._take()
            while self._peek() and self._peek() in "\t\r\n ":
                result += self._take()
        return result

    def _dollar(self) -> str:
        """Read a reference to a variable, none of which is set, so that it stands for itself."""
        self._at += 1
        if self._peek() != "{":
            return "$" + self._name()
        self._at += 1
        if self._peek() in ("", "{", "}", ":"):
            raise ValueError("bad substitution")
        name = self._name()
        operator = self._take()
        if operator == "}":
            return f"${{{name}}}"
        if operator == ":":
            operator += self._take()
        if operator == "/":
            if self._peek() == "/":
                self._at += 1
            pattern, _ = self._scan("/", is_raw=True)
            replacement, _ = self._scan("}", is_raw=True)
            return f"${{{name}/{pattern}/{replacement}}}"
        if operator not in ("+", "-", "?", "#", "%", ":+", ":-", ":?"):
            raise ValueError("unsupported modifier")
        word, _ = self._scan("}", is_raw=operator in ("#", "%"))
        return f"${{{name}{operator}{word}}}"

    def _name(self) -> str:
        start = self._at
        first = self._peek()
        if first.isdigit():
            while self._peek().isdigit():
                self._at += 1
        elif first and first in "@*#?-$!0":
            self._at += 1
        else:
            while (char := self._peek()) and (char == "_" or char.isalpha() or char.isdigit()):
                self._at += 1
        return self._text[start : self._at]
