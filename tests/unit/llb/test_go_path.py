"""Paths as Go's library cleans and joins them; the expected texts are what Go prints."""

from __future__ import annotations

import pytest

from buildkit_client.llb import go_path
from buildkit_client.llb.words import split_words


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("", "."), ("/", "/"), ("//", "/"), ("//a//b/", "/a/b"), ("/..", "/"), ("a/../..", ".."), ("./a/.", "a")],
)
def test_clean(path: str, cleaned: str) -> None:
    assert go_path.clean(path) == cleaned


def test_join() -> None:
    assert go_path.join() == go_path.join("", "") == ""
    assert go_path.join("/a", "/b", "", "../c") == "/a/c"


@pytest.mark.parametrize(
    ("path", "plain", "kept"),
    [
        ("a/", "/w/a", "/w/a/"),
        ("/a/.", "/a", "/a/."),
        ("/.", "/", "/."),
        ("/", "/", "/"),
        (".", "/w", "/w"),
        ("./", "/w", "/w/"),
        ("", "/w", "/w"),
        ("../../a", "/a", "/a"),
    ],
)
def test_absolute(path: str, plain: str, kept: str) -> None:
    assert go_path.absolute("/w", path) == plain
    assert go_path.absolute("/w", path, keep_slash=True) == kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a\tb\r\nc ", ["a", "b", "c"]),
        ("a'b c'd\"e f\"", ["ab cde f"]),
        ("'' \"\"", ["", ""]),
        (r'"a\b\"c" \d\ e', ['ab"c', "d e"]),
        ("a#b #c d\ne", ["a#b", "e"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words
