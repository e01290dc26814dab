"""Patterns: the reference's verdicts, rule by rule and recorded."""

from __future__ import annotations

import pytest

from buildkit_client.errors import OptionError, PatternError
from buildkit_client.protocol.patterns import PatternKind, PatternMatcher, parse_ignore_file
from tests.support.pattern_cases import Answer, Case, load_recorded


def walk_verdict(matcher: PatternMatcher, path: bytes) -> bool:
    """The verdict a walk comes to, from the top directory down."""
    names = path.split(b"/")
    verdict, state = False, 0
    for depth in range(1, len(names) + 1):
        verdict, state = matcher.step(b"/".join(names[:depth]), state)
    return verdict


# patterns, path, whether it matches: produced by the reference matcher
VERDICTS = [
    (["*.log"], "a.log", True),
    (["*.log"], "d/a.log", False),
    (["**/*.log"], "a.log", True),
    (["**/*.log"], "d/e/a.log", True),
    (["d"], "d", True),
    (["d"], "d/x", True),
    (["d/"], "d/x", True),
    (["/d"], "d", False),
    (["./d"], "d", True),
    (["d/**"], "d", False),
    (["d/**"], "d/x", True),
    (["**/d"], "d", True),
    (["**/d"], "a/d", True),
    (["**/d"], "a/d/x", True),
    (["**d"], "ad", True),
    (["**d"], "a/xd", True),
    (["**"], "x", True),
    (["**/"], "x", True),
    (["a/**/b"], "a/b", True),
    (["a/**/b"], "a/x/y/b", True),
    (["a/**/b"], "a/xb", False),
    (["a**b"], "axb", False),
    (["a**b"], "a/x/b", True),
    (["foo**"], "foobar/x", True),
    (["*"], "a/b", True),
    (["*", "!a"], "a/b", False),
    (["*", "!a/b"], "a/b", False),
    (["*", "!a/b"], "a/c", True),
    (["*", "!a/b"], "a", True),
    (["node_modules", "!node_modules/keep"], "node_modules/keep/x", False),
    (["**/*.go", "!main.go"], "main.go", False),
    (["**/*.go", "!main.go"], "d/main.go", True),
    (["!a", "*"], "a", True),
    (["a?c"], "abc", True),
    (["a?c"], "a/c", False),
    (["[a-c]x"], "bx", True),
    (["[^a]x"], "bx", True),
    (["[^a]x"], "ax", False),
    (["[!a]x"], "bx", False),
    (["a.c"], "abc", False),
    (["a+b"], "a+b", True),
    (["a\\*b"], "a*b", True),
    (["a\\*b"], "axb", False),
    (["A"], "a", False),
    ([" a "], "a", True),
    (["a/../b"], "b", True),
    (["*/x"], "a/x", True),
    (["*/x"], "a/b/x", False),
    (["*/x"], "a/x/y", True),
    (["d/*"], "d/x/y", True),
]


@pytest.mark.parametrize(("patterns", "path", "matches"), VERDICTS)
def test_verdicts_of_the_reference_table(patterns: list[str], path: str, matches: bool) -> None:
    matcher = PatternMatcher(patterns)
    assert matcher.matches(path.encode()) is matches
    assert walk_verdict(matcher, path.encode()) is matches


def judge(case: Case) -> Answer:
    try:
        matcher = PatternMatcher(case.patterns)
    except PatternError:
        return Answer(is_error=True)
    pairs = []
    for path in case.paths:
        pair = ""
        for ask in (matcher.matches, lambda path: walk_verdict(matcher, path)):
            try:
                pair += "01"[ask(path)]
            except PatternError:
                pair += "e"
        pairs.append(pair)
    return Answer(is_error=False, verdicts=tuple(pairs))


def test_recorded_verdicts_of_the_go_matcher() -> None:
    recorded = load_recorded()
    assert sum(len(answer.verdicts) for _, answer in recorded) >= 2000
    wrong = [(case, answer, judge(case)) for case, answer in recorded if judge(case) != answer]
    assert not wrong


@pytest.mark.parametrize(
    "patterns", [["!"], [" ! "], ["[a"], ["a\\"], ["[]"], ["[^]"], ["[a-]"], ["[-a]"], ["ok", "[\\"]]
)
def test_invalid_patterns_are_refused(patterns: list[str]) -> None:
    with pytest.raises(PatternError) as caught:
        PatternMatcher(patterns)
    assert isinstance(caught.value, OptionError)
    assert caught.value.why


def test_a_pattern_the_check_cannot_see_fails_when_it_is_tried() -> None:
    matcher = PatternMatcher(["a", "[z-a]"])
    assert matcher.matches(b"a") is True  # decided before the bad one
    with pytest.raises(PatternError, match=r"\[z-a\]"):
        matcher.matches(b"b")
    with pytest.raises(PatternError):
        matcher.step(b"b", 0)


def test_unicode_properties_are_refused_and_not_misread() -> None:
    with pytest.raises(PatternError) as caught:
        PatternMatcher(["\\pL*"]).matches(b"a")
    assert "\\p" in caught.value.why


def test_blank_patterns_are_dropped() -> None:
    matcher = PatternMatcher(["", "  ", "\t", "\u2003", "x"])
    assert [pattern.text for pattern in matcher.patterns] == [b"x"]
    assert not matcher.has_exceptions


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a/b.c", PatternKind.EXACT),
        ("a/**", PatternKind.PREFIX),
        ("**/a", PatternKind.SUFFIX),
        ("**", PatternKind.SUFFIX),
        ("**/*.a", PatternKind.REGEXP),
        ("a?", PatternKind.REGEXP),
        ("a\\b", PatternKind.REGEXP),
    ],
)
def test_kinds(text: str, kind: PatternKind) -> None:
    assert PatternMatcher([text]).patterns[0].kind is kind


def test_names_that_are_not_utf8() -> None:
    assert PatternMatcher([b"\xff"]).matches(b"\xff")
    assert not PatternMatcher([b"\xff"]).matches(b"\xfe")
    assert PatternMatcher([b"?"]).matches(b"\xff")
    assert not PatternMatcher([b"?"]).matches(b"\xff\xfe")  # each byte counts as a character
    assert PatternMatcher(["\udcff"]).matches(b"\xff")


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        (["a/b/*"], b"a", True),
        (["a/b/*"], b"a/b", True),
        (["a/b/*"], b"a/c", False),
        (["ab/c"], b"a", False),
        (["a/**"], b"a", True),
        (["*/b"], b"x", True),  # a wildcard may be anything
        (["!x/y", "a"], b"x", False),  # exceptions are another question
    ],
)
def test_what_may_match_below(patterns: list[str], directory: bytes, expected: bool) -> None:
    assert PatternMatcher(patterns).may_match_below(directory) is expected


def test_which_exceptions_may_apply_below() -> None:
    matcher = PatternMatcher(["a", "c", "!a/keep"])
    assert matcher.may_match_below(b"a", exceptions=True)
    assert not matcher.may_match_below(b"c", exceptions=True)
    assert PatternMatcher(["c", "!**/keep"]).may_match_below(b"c", exceptions=True)


@pytest.mark.parametrize(
    ("data", "patterns"),
    [
        (b"", []),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [b"a", b"\xef\xbb\xbfb"]),
        (b"\xef\xbb\xbf# no\nx", [b"x"]),
        (b"#a\n # b\na#c", [b"# b", b"a#c"]),
        (b"  \n\t\n\n", []),
        (b"/a\n/\n//b//c/", [b"a", b"/", b"b/c"]),
        (b"./a/../b\n../c", [b"b", b"../c"]),
        (b"! a \n!\n!/x\n!#y", [b"!a", b"!", b"!x", b"!#y"]),
        (b"a b\\ \n", [b"a b\\"]),
        (b"\xc2\xa0a\xe2\x80\x83", [b"a"]),
        (b"\x1ca", [b"\x1ca"]),
        (b"\xff", [b"\xff"]),
    ],
)
def test_ignore_files(data: bytes, patterns: list[bytes]) -> None:
    assert parse_ignore_file(data) == patterns
