"""Listing a context: order, metadata, selection, and what goes wrong on the way."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Self

import pytest

from buildkit_client.errors import ContextError, PatternError
from buildkit_client.protocol.fsutil_stat import MODE_DIR, MODE_TYPE, Stat, go_mode
from buildkit_client.session.walk import Selection, open_context, walk
from tests.support.privileges import open_to_others, unprivileged
from tests.support.tree import Fifo, File, Folder, HardLink, Symlink, Tree, build_tree
from tests.support.validator import check_listing


def listing(root: Path, **options: list[bytes]) -> list[Stat]:
    selection = Selection.of(os.fsencode(root), **options)
    return check_listing(walk(os.fsencode(root), selection))


def paths(root: Path, **options: list[bytes]) -> list[bytes]:
    return [entry.path for entry in listing(root, **options)]


def by_path(root: Path, **options: list[bytes]) -> dict[bytes, Stat]:
    return {entry.path: entry for entry in listing(root, **options)}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that other users can enter."""
    return open_to_others(tmp_path)


# -- order and metadata


def test_order(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a/x": b"", "a-b": b"", "a.txt": b"", "a/b/c": b"", "B": b"", b"\xff": b"", "é": b""})
    assert paths(tmp_path) == [b"B", b"a", b"a/b", b"a/b/c", b"a/x", b"a-b", b"a.txt", "é".encode(), b"\xff"]


def test_odd_names(tmp_path: Path) -> None:
    names = [
        b"new\nline",
        b'"quoted"',
        "🍎".encode(),
        "é".encode(),
        "e\u0301".encode(),
        b"x" * 255,
        b" ",
        b"\\",
        b"\xff\xfe",
    ]
    build_tree(tmp_path, dict.fromkeys(names, b"1"))
    assert paths(tmp_path) == sorted(names)


def test_an_empty_directory(tmp_path: Path) -> None:
    assert paths(tmp_path) == []


def test_a_regular_file(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": File(b"hello", mode=0o4751, mtime_ns=-123_456_789_001)})
    assert listing(tmp_path) == [Stat(b"f", 0x800000 | 0o751, 5, -123_456_789_001)]


def test_a_directory_has_no_size(tmp_path: Path) -> None:
    build_tree(tmp_path, {"d": Folder(mode=0o1777, mtime_ns=5)})
    assert listing(tmp_path) == [Stat(b"d", 0x80100000 | 0o777, 0, 5)]


def test_a_symlink_keeps_its_target_as_it_stands(tmp_path: Path) -> None:
    build_tree(tmp_path, {"l": Symlink(b"..//\xff/./x", mtime_ns=7), "loop": Symlink(b"loop"), "d/up": Symlink(b"..")})
    found = by_path(tmp_path)
    assert found[b"l"] == Stat(b"l", go_mode(stat.S_IFLNK | 0o777), 9, 7, b"..//\xff/./x")
    assert list(found) == [b"d", b"d/up", b"l", b"loop"]


def test_a_fifo_and_a_socket(tmp_path: Path) -> None:
    build_tree(tmp_path, {"fifo": Fifo(mode=0o640, mtime_ns=1)})
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tmp_path, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/sock")  # a socket's address has little room
        os.close(folder)
        (tmp_path / "sock").chmod(0o750)
        found = by_path(tmp_path)
    assert found[b"fifo"] == Stat(b"fifo", 0x02000000 | 0o640, 0, 1)
    assert found[b"sock"].mode == 0o750
    assert found[b"sock"].has_content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_devices(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(tmp_path / "b", stat.S_IFBLK | 0o600, os.makedev(7, 300))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    found = by_path(tmp_path)
    assert (found[b"c"].mode & MODE_TYPE, found[b"c"].devmajor, found[b"c"].devminor) == (0x04200000, 1, 3)
    assert (found[b"b"].mode & MODE_TYPE, found[b"b"].devmajor, found[b"b"].devminor) == (0x04000000, 7, 300)


def test_owners_are_not_told(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": b""})
    if os.geteuid() == 0:
        os.chown(tmp_path / "f", 1234, 4321)
    assert [(entry.uid, entry.gid) for entry in listing(tmp_path)] == [(0, 0)]


def test_xattrs(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": b"", "d": Folder(), "plain": b""})
    try:
        os.setxattr(tmp_path / "f", "user.one", b"1\0")
        os.setxattr(tmp_path / "f", "user.empty", b"")
        os.setxattr(tmp_path / "d", "user.dir", b"d")
    except OSError:
        pytest.skip("this file system keeps no user attributes")
    found = by_path(tmp_path)
    assert found[b"f"].xattrs == {"user.one": b"1\0", "user.empty": b""}
    assert found[b"d"].xattrs == {"user.dir": b"d"}
    assert found[b"plain"].xattrs == {}


def test_xattrs_of_apple_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, {"f": b""})
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks: ["com.apple.quarantine", "user.a", "bad\udcff"])
    monkeypatch.setattr(os, "getxattr", lambda path, name, follow_symlinks: name.encode())
    assert listing(tmp_path)[0].xattrs == {"user.a": b"user.a"}


# -- hard links


def test_hard_links_name_the_first(tmp_path: Path) -> None:
    build_tree(tmp_path, {"b/one": b"12345", "a": HardLink(b"b/one"), "c": HardLink(b"b/one")})
    found = by_path(tmp_path)
    assert [(entry.path, entry.linkname, entry.size) for entry in found.values() if not entry.is_dir] == [
        (b"a", b"", 5),
        (b"b/one", b"a", 5),
        (b"c", b"a", 5),
    ]


def test_two_files_with_two_names_each(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"1", "b": b"2", "c": HardLink(b"b"), "d": HardLink(b"a")})
    found = by_path(tmp_path)
    assert {path: entry.linkname for path, entry in found.items()} == {b"a": b"", b"b": b"", b"c": b"b", b"d": b"a"}


def test_when_the_first_is_filtered_the_next_takes_its_place(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"1", "b": HardLink(b"a"), "c": HardLink(b"a")})
    found = by_path(tmp_path, exclude_patterns=[b"a"])
    assert {path: entry.linkname for path, entry in found.items()} == {b"b": b"", b"c": b"b"}


def test_a_symlink_with_two_names_stays_a_symlink(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": Symlink(b"x")})
    os.link(tmp_path / "a", tmp_path / "b", follow_symlinks=False)
    assert [entry.linkname for entry in listing(tmp_path)] == [b"x", b"x"]


# -- selection

TREE: Tree = {
    "Dockerfile": b"",
    "src/main.go": b"",
    "src/lib/util.go": b"",
    "src/lib/util.o": b"",
    "node_modules/x/index.js": b"",
    "node_modules/keep/this": b"",
    "docs/a.md": b"",
    "link": Symlink(b"src/lib"),
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"exclude_patterns": [b"node_modules", b"docs", b"src"]}, [b"Dockerfile", b"link"]),
        (
            {"exclude_patterns": [b"*", b"!node_modules/keep"]},
            [b"node_modules", b"node_modules/keep", b"node_modules/keep/this"],
        ),
        ({"exclude_patterns": [b"**", b"!**/*.go"]}, [b"src", b"src/lib", b"src/lib/util.go", b"src/main.go"]),
        ({"include_patterns": [b"src/lib/util.go"]}, [b"src", b"src/lib", b"src/lib/util.go"]),
        ({"include_patterns": [b"**/*.md"]}, [b"docs", b"docs/a.md"]),
        (
            {"include_patterns": [b"src"], "exclude_patterns": [b"**/*.o", b"src/main.go"]},
            [b"src", b"src/lib", b"src/lib/util.go"],
        ),
        ({"include_patterns": [b"nothing"]}, []),
        ({"followed_paths": [b"link/util.go"]}, [b"link", b"src", b"src/lib", b"src/lib/util.go"]),
        ({"followed_paths": [b"link/util.go"], "exclude_patterns": [b"src"]}, [b"link"]),
        ({"followed_paths": [b"docs"], "include_patterns": [b"Dockerfile"]}, [b"Dockerfile", b"docs", b"docs/a.md"]),
        ({"followed_paths": [b"."], "include_patterns": [b"Dockerfile"]}, [b"Dockerfile"]),
        ({"followed_paths": [b"."], "exclude_patterns": [b"*", b"!docs"]}, [b"docs", b"docs/a.md"]),
        (
            {"followed_paths": [b"docs"], "include_patterns": [b"."], "exclude_patterns": [b"*", b"!docs"]},
            [b"docs", b"docs/a.md"],
        ),
    ],
)
def test_selection(tmp_path: Path, options: dict[str, list[bytes]], expected: list[bytes]) -> None:
    build_tree(tmp_path, TREE)
    assert paths(tmp_path, **options) == expected


@pytest.mark.parametrize(
    ("patterns", "prefix", "expected"),
    [
        (["src"], "", [b"Dockerfile", b"docs", b"docs/a.md", b"link", b"node_modules"]),
        (["src"], "web", [b"Dockerfile", b"docs", b"docs/a.md", b"link", b"node_modules", b"src", b"src/main.go"]),
        (["web/src", "web/*/a.md"], "web", [b"Dockerfile", b"docs", b"link", b"node_modules"]),
        (["**/*.md", "web/src"], "web", [b"Dockerfile", b"docs", b"link", b"node_modules"]),
        (["web"], "web", []),
        (["app"], "app/web", []),
        (
            ["*", "!web"],
            "web",
            [b"Dockerfile", b"docs", b"docs/a.md", b"link", b"node_modules", b"src", b"src/main.go"],
        ),
        (["web", "!web/docs"], "web", [b"docs", b"docs/a.md"]),
        (["web", "!web/docs/a.md"], "web", [b"docs", b"docs/a.md"]),
        (["*", "!app/web/docs"], "app/web", [b"docs", b"docs/a.md"]),
        (
            ["# web", "webs", "we", " /web/docs/ \r"],
            "web",
            [b"Dockerfile", b"link", b"node_modules", b"src", b"src/main.go"],
        ),
    ],
)
def test_patterns_of_a_folder_above(tmp_path: Path, patterns: list[str], prefix: str, expected: list[bytes]) -> None:
    build_tree(tmp_path, {name: TREE[name] for name in ("Dockerfile", "src/main.go", "docs/a.md", "link")})
    (tmp_path / "node_modules").mkdir()
    found = paths(tmp_path, ignore_patterns=patterns, ignore_prefix=prefix)  # type: ignore[arg-type]
    assert found == expected


def test_patterns_of_a_folder_above_hold_for_followed_paths_too(tmp_path: Path) -> None:
    build_tree(tmp_path, TREE)
    options = {"followed_paths": [b"link/util.go"], "ignore_patterns": ["web/src"], "ignore_prefix": "web"}
    assert paths(tmp_path, **options) == [b"link"]  # type: ignore[arg-type]


def test_both_ignore_files_hold(tmp_path: Path) -> None:
    build_tree(tmp_path, TREE)
    options = {
        "exclude_patterns": [b"src", b"!src/lib"],
        "ignore_patterns": ["**/*.o", "web/node_modules", "!web/src"],
        "ignore_prefix": "web",
    }
    found = paths(tmp_path, **options)  # type: ignore[arg-type]
    assert found == [b"Dockerfile", b"docs", b"docs/a.md", b"link", b"src", b"src/lib", b"src/lib/util.go"]


def test_parents_come_with_their_real_metadata(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a/b/c": b"", "a": Folder(mode=0o711, mtime_ns=3), "a/b": Folder(mode=0o750, mtime_ns=4)})
    found = listing(tmp_path, include_patterns=[b"a/b/c"])
    assert found[:2] == [Stat(b"a", MODE_DIR | 0o711, 0, 3), Stat(b"a/b", MODE_DIR | 0o750, 0, 4)]


def test_pruned_directories_are_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, TREE)
    opened: list[bytes] = []
    real = os.scandir

    def scandir(path: bytes) -> object:
        opened.append(os.path.relpath(path, os.fsencode(tmp_path)))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert paths(tmp_path, exclude_patterns=[b"node_modules", b"src", b"!src/lib/util.go"])
    assert opened == [b".", b"docs", b"src", b"src/lib"]
    opened.clear()
    assert paths(tmp_path, include_patterns=[b"src/lib"])
    assert opened == [b".", b"src", b"src/lib"]


def test_bad_patterns(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b""})
    with pytest.raises(PatternError):
        paths(tmp_path, exclude_patterns=[b"["])
    with pytest.raises(PatternError):
        paths(tmp_path, include_patterns=[b"[z-a]"])


# -- what goes wrong


def test_files_that_vanish_are_left_out(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"", "b": b"", "c/d": b"", "e/f": b"", "g": b""})
    entries = walk(os.fsencode(tmp_path))
    assert next(entries).path == b"a"
    (tmp_path / "b").unlink()
    (tmp_path / "c/d").unlink()
    (tmp_path / "c").rmdir()
    assert next(entries).path == b"e"
    (tmp_path / "e/f").unlink()
    (tmp_path / "e").rmdir()
    assert [entry.path for entry in entries] == [b"g"]


def test_a_parent_that_vanishes_takes_its_entries_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, {"a/x": b"", "b/x": b""})
    real = os.scandir

    def scandir(path: bytes) -> object:
        found = real(path)
        if path.endswith(b"/a"):
            entries = list(found)
            (tmp_path / "a/x").rename(tmp_path / "saved")
            (tmp_path / "a").rmdir()
            (tmp_path / "a").write_bytes(b"")
            return _Listed(entries)
        return found

    monkeypatch.setattr(os, "scandir", scandir)
    assert paths(tmp_path, include_patterns=[b"*/x"]) == [b"b", b"b/x"]


class _Listed(list["os.DirEntry[bytes]"]):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass


def test_a_directory_that_turns_into_a_file_is_left_out(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"", "b/x": b"", "c": b""})
    entries = walk(os.fsencode(tmp_path))
    next(entries)
    (tmp_path / "b/x").unlink()
    (tmp_path / "b").rmdir()
    (tmp_path / "b").symlink_to("/etc")
    assert [entry.path for entry in entries] == [b"c"]


def test_an_unreadable_directory_fails_unless_it_is_skipped(shared: Path) -> None:
    build_tree(shared, {"closed/x": b"", "closed": Folder(mode=0o000), "open": b""})
    with unprivileged():
        with pytest.raises(ContextError, match="cannot read closed of the build context") as caught:
            paths(shared)
        assert caught.value.why == "Permission denied"
        assert paths(shared, exclude_patterns=[b"closed"]) == [b"open"]
        assert paths(shared, exclude_patterns=[b"closed", b"!closed/x"]) == [b"open"]
        assert paths(shared, include_patterns=[b"o*"]) == [b"open"]
    (shared / "closed").chmod(0o755)


def test_an_unreadable_file_is_listed(shared: Path) -> None:
    build_tree(shared, {"f": File(b"x", mode=0o000)})
    with unprivileged():
        assert paths(shared) == [b"f"]


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir("x" * 250, dir_fd=folder)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    with pytest.raises(ContextError, match="cannot read x") as caught:
        paths(tmp_path)
    assert caught.value.why == "File name too long"
    assert len(paths(tmp_path, exclude_patterns=[b"/".join([b"x" * 250] * 10)])) == 9


# -- the root


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    build_tree(tmp_path, {"real/a": b"", "link": Symlink(b"real")})
    root, descriptor = open_context(tmp_path / "link")
    os.close(descriptor)
    assert root == os.fsencode(tmp_path / "real")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing", "there is no such directory"),
        ("missing/too", "there is no such directory"),
        ("file/x", "a part of its path is a file"),
        ("broken", "it is a symbolic link to nothing"),
        ("loop", "Too many levels of symbolic links"),
        ("nul\0", "its path holds a NUL character"),
    ],
)
def test_roots_that_cannot_be_used(tmp_path: Path, name: str, why: str) -> None:
    build_tree(
        tmp_path,
        {"file": b"", "to-file": Symlink(b"file"), "broken": Symlink(b"gone"), "loop": Symlink(b"loop")},
    )
    with pytest.raises(ContextError) as caught:
        open_context(tmp_path / name)
    assert caught.value.why == why
    assert caught.value.hint
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["file", "to-file"])
def test_a_root_that_is_a_file_is_called_that(tmp_path: Path, name: str) -> None:
    build_tree(tmp_path, {"file": b"", "to-file": Symlink(b"file")})
    with pytest.raises(ContextError) as caught:
        open_context(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} is a file, not a directory"
    assert not caught.value.why
    assert caught.value.hint


def test_a_root_that_cannot_be_read(shared: Path) -> None:
    build_tree(shared, {"closed": Folder(mode=0o000)})
    with unprivileged(), pytest.raises(ContextError) as caught:
        open_context(shared / "closed")
    assert caught.value.why == "Permission denied"
    (shared / "closed").chmod(0o755)
