"""The order of a listing, against the daemon's comparison and its checks."""

from __future__ import annotations

import os
from functools import cmp_to_key
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit_client.errors import RemoteProtocolError
from buildkit_client.protocol.fsutil_stat import MODE_DIR, ListingValidator, Stat, walk_key
from buildkit_client.session.walk import Selection, walk
from tests.support.tree import Node, build_tree, names, trees
from tests.support.validator import check_listing, compare_path

paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)


@given(st.lists(paths, max_size=12, unique=True))
@settings(max_examples=1000, deadline=None)
def test_the_key_sorts_as_the_comparison_does(given_paths: list[bytes]) -> None:
    assert sorted(given_paths, key=walk_key) == sorted(given_paths, key=cmp_to_key(compare_path))


def listing_of(given_paths: list[bytes]) -> list[Stat]:
    """All paths with their parents, in order; what has something below it is a directory."""
    everything = {path[:end] for path in given_paths for end in (*_slashes(path), len(path))}
    folders = {path[:end] for path in given_paths for end in _slashes(path)}
    return [Stat(path, MODE_DIR | 0o755 if path in folders else 0o644) for path in sorted(everything, key=walk_key)]


def _slashes(path: bytes) -> list[int]:
    return [position for position, byte in enumerate(path) if byte == ord("/")]


def validate(entries: list[Stat]) -> None:
    validator = ListingValidator()
    for entry in entries:
        validator.add(entry)


@given(st.lists(paths, max_size=12))
@settings(max_examples=1000, deadline=None)
def test_ordered_listings_are_accepted_by_both_checks(given_paths: list[bytes]) -> None:
    entries = listing_of(given_paths)
    validate(entries)
    check_listing(entries)


@given(st.lists(paths, min_size=2, max_size=12), st.data())
@settings(deadline=None)
def test_both_checks_refuse_the_same_disorder(given_paths: list[bytes], data: st.DataObject) -> None:
    entries = data.draw(st.permutations(listing_of(given_paths)))
    try:
        check_listing(entries)
    except AssertionError:
        with pytest.raises(RemoteProtocolError):
            validate(entries)
    else:
        validate(entries)


@given(trees())
@settings(max_examples=300, deadline=None)
def test_walks_are_in_order_and_complete(tree: dict[bytes, Node]) -> None:
    with TemporaryDirectory() as folder:
        build_tree(Path(folder), tree)
        entries = check_listing(walk(os.fsencode(folder)))
    assert [entry.path for entry in entries] == sorted(tree, key=walk_key)
    validate(entries)


_patterns = st.lists(
    st.one_of(
        st.sampled_from((b"*", b"**", b"!*", b"a", b"!a", b"a/*", b"**/b", b"!**/b", b"a*", b"!a/a", b"a/**", b"*/b")),
        paths.filter(lambda path: not set(path) & set(b"\\[]!") and path.strip() == path),
    ),
    max_size=5,
)


@given(trees(specials=False), _patterns, _patterns)
@settings(max_examples=300, deadline=None)
def test_pruning_changes_nothing(tree: dict[bytes, Node], include: list[bytes], exclude: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        build_tree(Path(folder), tree)
        selection = Selection.of(os.fsencode(folder), include_patterns=include, exclude_patterns=exclude)
        entries = check_listing(walk(os.fsencode(folder), selection))
    assert [entry.path for entry in entries] == sorted(selected(tree, selection), key=walk_key)


def selected(tree: dict[bytes, Node], selection: Selection) -> set[bytes]:
    """What patterns select, asked for every path, with the parents of each."""
    chosen: set[bytes] = set()
    states: dict[bytes, tuple[int, int]] = {b"": (0, 0)}
    for path in sorted(tree, key=walk_key):
        include_state, exclude_state = states[path.rpartition(b"/")[0]]
        is_included = True
        if selection.include is not None:
            is_included, include_state = selection.include.step(path, include_state)
        is_excluded = False
        if selection.exclude is not None:
            is_excluded, exclude_state = selection.exclude.step(path, exclude_state)
        states[path] = (include_state, exclude_state)
        if is_included and not is_excluded:
            chosen.update(path[:end] for end in (*_slashes(path), len(path)))
    return chosen
