"""Patterns of a folder above select what they select when that folder itself is walked."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_client.session.walk import Selection, walk
from tests.support.tree import build_tree

_NAMES = st.sampled_from(["a", "b", "ab", "c.go", "web"])
_PREFIXES = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_PATTERNS = st.lists(
    st.builds(
        lambda mark, parts: mark + "/".join(parts),
        st.sampled_from(["", "", "!"]),
        st.lists(st.sampled_from(["a", "b", "ab", "c.go", "web", "*", "**", "a*", "*.go"]), min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=5,
)
_FILES = st.lists(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8)


@given(_FILES, _PREFIXES, _PATTERNS)
@settings(max_examples=300, deadline=None)
def test_a_walk_of_a_part_is_a_part_of_the_walk(files: list[str], prefix: str, patterns: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept: list[str] = []
        for name in files:  # a name cannot be a file and a folder
            if not any(name == one or name.startswith(f"{one}/") or one.startswith(f"{name}/") for one in kept):
                kept.append(name)
        build_tree(Path(folder), {f"{prefix}/{name}": b"" for name in kept})
        root = os.fsencode(os.path.realpath(folder))
        start = prefix.encode() + b"/"
        whole = walk(root, Selection.of(root, exclude_patterns=[pattern.encode() for pattern in patterns]))
        expected = [entry.path.removeprefix(start) for entry in whole if entry.path.startswith(start)]
        below = os.path.join(root, prefix.encode())  # noqa: PTH118 - bytes
        part = walk(below, Selection.of(below, ignore_patterns=patterns, ignore_prefix=prefix))
        assert [entry.path for entry in part] == expected
