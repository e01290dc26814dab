"""A command line in one text, cut into words as Go's ``llb.Shlex`` does it.

Not a shell: no variables, no wildcards. Python's :mod:`shlex` differs where it would change a digest: behind a
backslash in double quotes every character is literal here, and ``#`` starts a comment only where a word could start.

Reference: github.com/google/shlex, Split.
"""

from __future__ import annotations

from buildkit_client.errors import OptionError

_SPACES = " \t\r\n"


def split_words(text: str) -> list[str]:
    """Return the words of a command line.

    Raises:
        OptionError: A quote is not closed, or the text ends with a backslash.
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if quote:
            word = word or []
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"':
                word.append(_escaped(text, at))
                at += 1
            else:
                word.append(char)
        elif char in _SPACES:
            if word is not None:
                words.append("".join(word))
            word = None
        elif char == "#" and word is None:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end + 1
        else:
            word = [] if word is None else word
            if char in "\"'":
                quote = char
            elif char == "\\":
                word.append(_escaped(text, at))
                at += 1
            else:
                word.append(char)
    if quote:
        raise OptionError("cannot split the command into words", why=f"a {quote} is not closed", hint=_HINT)
    if word is not None:
        words.append("".join(word))
    return words


_HINT = "give the words as a list, or use shell= for a command that /bin/sh reads"


def _escaped(text: str, at: int) -> str:
    if at == len(text):
        raise OptionError("cannot split the command into words", why="it ends with a backslash", hint=_HINT)
    return text[at]
