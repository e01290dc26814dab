"""Joined and shortcut patterns give the verdicts of patterns taken one by one."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildkit_client.errors import PatternError
from buildkit_client.protocol.patterns import Pattern, PatternMatcher, parse_ignore_file

_PIECES = ("a", "b", "ab", ".go", "*", "**", "**/", "/", "?", "[a-c]", "[^a]", "|", "{2}", "\n", "é", "\\*", "^")
patterns = st.lists(
    st.builds(
        lambda mark, pieces: mark + "".join(pieces),
        st.sampled_from(("", "", "!")),
        st.lists(st.sampled_from(_PIECES), min_size=1, max_size=5),
    ),
    max_size=7,
)
names = st.text(alphabet="ab.go\né*", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/".join(parts).encode())


def one_by_one(prepared: tuple[Pattern, ...], path: bytes, parent: list[bool]) -> tuple[bool, list[bool]]:
    """The rule as it is written: a pattern counts if it matched the parent, else it is tried when it could matter."""
    verdict = False
    matched = []
    for pattern, inherited in zip(prepared, parent, strict=True):
        is_match = inherited or (verdict is pattern.is_exception and pattern.matches(path))
        matched.append(is_match)
        if is_match:
            verdict = not pattern.is_exception
    return verdict, matched


@given(patterns, paths)
@settings(max_examples=500, deadline=None)
@example(["a/b", "!a"], b"a/b")
@example(["**/x|y*"], b"d/y")
@example(["{2}*"], b"aa")
def test_a_walk(texts: list[str], path: bytes) -> None:
    try:
        matcher = PatternMatcher(texts)
    except PatternError:
        return
    names = path.split(b"/")
    state, vector = 0, [False] * len(matcher.patterns)
    for depth in range(1, len(names) + 1):
        step = b"/".join(names[:depth])
        try:
            expected, vector = one_by_one(matcher.patterns, step, vector)
        except PatternError:
            expected = None
        try:
            verdict, state = matcher.step(step, state)
        except PatternError:
            verdict = None
        assert verdict is expected
        if verdict is None:
            return


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_parsing_an_ignore_file_twice_changes_nothing(data: bytes) -> None:
    once = parse_ignore_file(data)
    assert all(pattern.strip(b" \t\r\n") for pattern in once)
    again = parse_ignore_file(b"\n".join(once))
    # a "#" or a space that trimming or cleaning brought to the front is the one thing that reads differently
    if not any(pattern.removeprefix(b"!").startswith((b"#", b"/", b" ", b"!")) for pattern in once):
        assert again == once
