"""Our sender and our receiver move any tree, whatever was there before."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings

from buildkit_client.session.filesend_local import KEY_MULTI_PLATFORM, DirectoryReceiver
from buildkit_client.session.filesync import FileSyncService
from tests.support.calls import join_handlers
from tests.support.tree import Node, build_tree, read_tree, trees


def move(source: Path, dest: Path, mode: str) -> None:
    errors = join_handlers(
        FileSyncService({"context": source}).serve,
        DirectoryReceiver(dest, mode=mode),
        one_metadata={"dir-name": ("context",)},
        other_metadata={KEY_MULTI_PLATFORM: ("1",)},
    )
    assert errors == []


@given(trees())
@settings(max_examples=150, deadline=None)
def test_into_an_empty_directory(tree: dict[bytes, Node]) -> None:
    with TemporaryDirectory() as folder:
        source = build_tree(Path(folder) / "source", tree)
        move(source, Path(folder) / "dest", "copy")
        assert read_tree(Path(folder) / "dest") == read_tree(source)


@given(trees(max_entries=8), trees(max_entries=8))
@settings(max_examples=100, deadline=None)
def test_delete_makes_any_directory_the_same(tree: dict[bytes, Node], before: dict[bytes, Node]) -> None:
    with TemporaryDirectory() as folder:
        source = build_tree(Path(folder) / "source", tree)
        dest = build_tree(Path(folder) / "dest", before)
        move(source, dest, "delete")
        assert read_tree(dest) == read_tree(source)


@given(trees(max_entries=8), trees(max_entries=8))
@settings(max_examples=100, deadline=None)
def test_copy_keeps_what_is_not_in_the_way(tree: dict[bytes, Node], before: dict[bytes, Node]) -> None:
    with TemporaryDirectory() as folder:
        source = build_tree(Path(folder) / "source", tree)
        dest = build_tree(Path(folder) / "dest", before)
        old = read_tree(dest)
        move(source, dest, "copy")
        new = read_tree(dest)
        sent = read_tree(source)
    assert {path: seen for path, seen in new.items() if path in sent} == sent
    for path, seen in old.items():
        is_in_the_way = path in sent or any(
            path.startswith(other + b"/") and not is_folder(sent[other].mode) for other in sent
        )
        if not is_in_the_way and not is_folder(seen.mode):
            assert new[path].content == seen.content


def is_folder(mode: int) -> bool:
    return mode & 0o170000 == 0o040000
