"""Go expressions as Python's."""

from __future__ import annotations

import re

import pytest

from buildkit_client.protocol.go_regexp import GoRegexpError, go_text, to_python


def finds(expression: str, text: str) -> bool:
    return re.search(to_python(expression), text, re.ASCII) is not None


@pytest.mark.parametrize(
    ("expression", "text", "expected"),
    [
        ("^a$", "a\n", False),  # Python's own "$" would match
        ("^a.b$", "a\nb", False),
        ("^[^/]*$", "a\nb", True),
        ("^(.*/)?b$", "a/b", True),
        (r"^\d$", "\u0663", False),  # ASCII digits only
        (r"^\s$", "\v", False),
        (r"^[\S]$", "\v", True),
        (r"^\x41\141\n$", "Aa\n", True),
        ("^[[:alpha:]-]+", "-+", True),  # "+" comes escaped from patterns, and is plain here
        ("^[[:^digit:]]$", "5", False),
        (r"^\Qa.b\Ec$", "a.bc", True),
        (r"^\Qa.b\Ec$", "axbc", False),
        (r"^a\b-$", "a-", True),
        ("^[[&&~~||]$", "&", True),  # means something else to Python
        ("^a{2}$", "aa", True),
        ("^a{,2}$", "a{,2}", True),
        ("^a{02}$", "a{02}", True),
        ("^a|b$", "ax", True),
        ("^a#b c$", "a#b c", True),
        ("^\U0001f34e$", "\U0001f34e", True),
    ],
)
def test_meaning(expression: str, text: str, expected: bool) -> None:
    assert finds(expression, text) is expected


@pytest.mark.parametrize(
    "expression",
    [
        "^[z-a]$",
        r"^\y$",
        r"^\1$",
        r"^\pL$",
        r"^[\PL]$",
        "^[[:foo:]]$",
        "^a{2}{3}$",
        "^|{2}",
        "^a{3,1}$",
        "^a{1001}$",
        "^[a",
        r"^\x4g$",
    ],
)
def test_what_go_refuses(expression: str) -> None:
    with pytest.raises(GoRegexpError):
        to_python(expression)


def test_bytes_that_are_not_utf8_are_one_character_each() -> None:
    assert go_text(b"a\xff\xe2\x82b") == "a\ufffd\ufffd\ufffdb"
    assert go_text("é".encode()) == "é"
