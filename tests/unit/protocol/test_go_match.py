"""Shell-style matching of one name, as Go does it."""

from __future__ import annotations

import pytest

from buildkit_client.protocol.go_match import BadPatternError, match_name


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        (b"abc", b"abc", True),
        (b"", b"", True),
        (b"", b"a", False),
        (b"*", b"", True),
        (b"*", b"a/b", False),
        (b"*c", b"abc", True),
        (b"a*", b"ab/c", False),
        (b"a*b*c*", b"aXbYYc", True),
        (b"a*b*d", b"abcabd", True),
        (b"*x", b"axbx", True),
        (b"a?c", b"a/c", False),
        (b"a?c", b"a\xc3\xa9c", True),
        (b"a?c", b"a\xffc", True),
        (b"[a-c]", b"b", True),
        (b"[^a-c]", b"b", False),
        (b"[^a]", b"\xff", True),
        (b"[\xef\xbf\xbd]", b"\xff", True),  # a byte that is not UTF-8 reads as U+FFFD
        (b"[\\]]", b"]", True),
        (b"[a\\-c]", b"-", True),
        (b"[z-a]", b"m", False),
        (b"\\*", b"*", True),
        (b"\\*", b"x", False),
        (b"a]", b"a]", True),
        (b"[*]x", b"*x", True),
        (b"*[a]", b"ba", True),
        (b"\xc3\xa9", b"\xc3\xa9", True),
    ],
)
def test_verdicts(pattern: bytes, name: bytes, matches: bool) -> None:
    assert match_name(pattern, name) is matches


@pytest.mark.parametrize(
    "pattern", [b"[", b"[a", b"[]a]", b"[^]", b"[a-]", b"[-a]", b"[\\", b"a[", b"\\", b"[\xff]", b"*["]
)
def test_bad_patterns(pattern: bytes) -> None:
    with pytest.raises(BadPatternError):
        match_name(pattern, b"a")


def test_what_lies_behind_the_first_failure_is_not_checked() -> None:
    assert match_name(b"x*[", b"a") is False
