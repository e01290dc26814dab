"""Mode bits, path order and the checks of a listing."""

from __future__ import annotations

import stat

import pytest

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import RemoteProtocolError
from buildkit_client.protocol.fsutil_stat import (
    MODE_DIR,
    MODE_SYMLINK,
    MODE_TYPE,
    ListingValidator,
    Stat,
    check_wire_path,
    go_mode,
    parent_of,
    show_path,
    unix_permissions,
    walk_key,
)


@pytest.mark.parametrize(
    ("st_mode", "mode"),
    [
        (stat.S_IFDIR | 0o755, 2147484141),  # the first four were seen on the wire
        (stat.S_IFLNK | 0o777, 134218239),
        (stat.S_IFREG | 0o4755, 8389101),
        (stat.S_IFREG | 0o644, 420),
        (stat.S_IFBLK | 0o660, 0x04000000 | 0o660),
        (stat.S_IFCHR | 0o660, 0x04200000 | 0o660),
        (stat.S_IFIFO | 0o600, 0x02000000 | 0o600),
        (stat.S_IFSOCK | 0o755, 0o755),
        (stat.S_IFREG | 0o2755, 0x00400000 | 0o755),
        (stat.S_IFDIR | 0o1777, 0x80100000 | 0o777),
        (0o644, 0x00080000 | 0o644),  # no type at all: irregular
    ],
)
def test_go_mode(st_mode: int, mode: int) -> None:
    assert go_mode(st_mode) == mode


def test_type_mask() -> None:
    assert MODE_TYPE == 0x8F280000


@pytest.mark.parametrize("permissions", [0, 0o644, 0o4755, 0o2750, 0o1777, 0o7777])
def test_permissions_there_and_back(permissions: int) -> None:
    assert unix_permissions(go_mode(stat.S_IFREG | permissions)) == permissions
    assert unix_permissions(go_mode(stat.S_IFDIR | permissions)) == permissions


def test_what_has_content() -> None:
    assert Stat(b"a", 0o644).has_content
    assert not Stat(b"a", 0o644, linkname=b"b").has_content
    assert not Stat(b"a", MODE_DIR | 0o755).has_content
    assert not Stat(b"a", MODE_SYMLINK | 0o777, linkname=b"b").has_content


def test_order_is_not_plain_string_order() -> None:
    names = [b"a.txt", b"a-b", b"a/x", b"a"]
    assert sorted(names, key=walk_key) == [b"a", b"a/x", b"a-b", b"a.txt"]
    assert sorted(names) != sorted(names, key=walk_key)


@pytest.mark.parametrize(("path", "parent"), [(b"a", b""), (b"a/b", b"a"), (b"a/b/c", b"a/b")])
def test_parents(path: bytes, parent: bytes) -> None:
    assert parent_of(path) == parent


def test_stat_to_the_wire_and_back() -> None:
    entry = Stat(b"\xff/x", 0o644, 7, -5, b"\xfe", 8, 1, {"user.a": b"\0"}, 3, 4)
    message = fsutil_pb2.Stat.FromString(entry.to_proto().SerializeToString())
    assert message.path == b"\xff/x"
    assert Stat.from_proto(message) == entry


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (b"", "unclean"),
        (b".", "unclean"),
        (b"a/", "unclean"),
        (b"a//b", "unclean"),
        (b"./a", "unclean"),
        (b"a/./b", "unclean"),
        (b"a/../b", "unclean"),
        (b"a\0b", "unclean"),
        (b"/a", "absolute"),
        (b"..", "escape"),
        (b"../a", "escape"),
    ],
)
def test_paths_that_are_refused(path: bytes, problem: str) -> None:
    with pytest.raises(RemoteProtocolError, match=problem):
        check_wire_path(path)


@pytest.mark.parametrize("path", [b"a", b"..a", b"a..", b"a/...", b"\xff", b"a\\b", b" "])
def test_paths_that_are_fine(path: bytes) -> None:
    check_wire_path(path)


def directory(path: bytes) -> Stat:
    return Stat(path, MODE_DIR | 0o755)


def file(path: bytes, linkname: bytes = b"") -> Stat:
    return Stat(path, 0o644, linkname=linkname)


def validate(*entries: Stat) -> None:
    validator = ListingValidator()
    for entry in entries:
        validator.add(entry)


def test_a_good_listing() -> None:
    validate(
        directory(b"a"),
        directory(b"a/b"),
        file(b"a/b/c"),
        file(b"a/x"),
        file(b"a-b", linkname=b"a/x"),
        Stat(b"s", MODE_SYMLINK | 0o777, linkname=b"/nowhere"),
        directory(b"z"),
        file(b"z/a"),
    )


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([file(b"b"), file(b"a")], 'changes out of order: "a" "b"'),
        ([file(b"a"), file(b"a")], "out of order"),
        ([directory(b"a"), file(b"a.txt"), file(b"a/x")], 'changes out of order: "a/x" "a.txt"'),
        ([file(b"a/x")], "out of order"),
        ([file(b"a"), file(b"a/x")], "out of order"),  # a file has nothing in it
        ([directory(b"a"), file(b"a/b/c")], "out of order"),
        ([directory(b"a"), directory(b"b"), file(b"a/x")], "out of order"),
        ([Stat(b"a", MODE_SYMLINK, linkname=b"/"), file(b"a/x")], "out of order"),
        ([file(b"b", linkname=b"c")], 'invalid link b to unknown path: "c"'),
        ([file(b"a", linkname=b"a")], "invalid link"),
        ([directory(b"a"), file(b"b", linkname=b"a")], "invalid link"),
        ([file(b"../a")], "escape"),
    ],
)
def test_bad_listings(entries: list[Stat], problem: str) -> None:
    validate(*entries[:-1])
    with pytest.raises(RemoteProtocolError, match=problem):
        validate(*entries)


@pytest.mark.parametrize(
    ("path", "shown"),
    [(b"a b", "a b"), (b"\xff", "\\xff"), (b"a\nb", "a\\nb"), (b"\x1b[2J", "\\x1b[2J"), ("é".encode(), "é")],
)
def test_paths_in_messages(path: bytes, shown: str) -> None:
    assert show_path(path) == shown
