"""File transfer with the reference on the other side: fsutil as the daemon and its own client use it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildkit_client.protocol.fsutil_receiver import EntryListed, FsutilReceiver, ListingEnded
from buildkit_client.protocol.fsutil_stat import Stat
from buildkit_client.session.filesend_local import DirectoryReceiver
from buildkit_client.session.filesync import FileSyncService
from buildkit_client.session.walk import Selection, walk
from tests.support.calls import ProgramCall
from tests.support.go_tools import GoToolMissingError, go_tool
from tests.support.tree import Fifo, File, Folder, HardLink, Node, Symlink, Tree, build_tree, read_tree, trees

TREE: Tree = {
    "a/x": b"1",
    "a-b": b"2",
    "a.txt": File(b"3" * 1_000_000, mode=0o4755, mtime_ns=-5),
    "big/twin": HardLink(b"a.txt"),
    "empty": Folder(mode=0o1777, mtime_ns=9),
    "fifo": Fifo(mode=0o620),
    "link": Symlink(b"../nowhere"),
    "zero": b"",
    b"\xff\xfe": b"bytes",
    "é": b"composed",
    "e\u0301": b"decomposed",
    "read-only": File(b"r", mode=0o400),
}


@pytest.fixture(scope="module")
def fsutil() -> Path:
    try:
        return go_tool("fsutil")
    except GoToolMissingError as exc:
        pytest.skip(str(exc))


def send_to_reference(fsutil: Path, source: Path, dest: Path) -> FileSyncService:
    if os.geteuid():
        pytest.skip("the reference gives files to root, which only root can")
    dest.mkdir(exist_ok=True)
    call = ProgramCall(fsutil, "receive", dest, metadata={"dir-name": ("context",)})
    service = FileSyncService({"context": source})
    try:
        service.serve(call)
    finally:
        code = call.finish()
    assert (code, call.stderr) == (0, "")
    return service


def test_the_reference_receives_what_we_send(fsutil: Path, tmp_path: Path) -> None:
    source = build_tree(tmp_path / "source", TREE)
    service = send_to_reference(fsutil, source, tmp_path / "dest")
    # the reference sets the times of new directories again, but not of those that files were added to later
    assert read_tree(tmp_path / "dest", folder_times=False) == read_tree(source, folder_times=False)
    assert service.transfers[0].files == 8


def test_the_second_time_only_changes_travel(fsutil: Path, tmp_path: Path) -> None:
    source = build_tree(tmp_path / "source", TREE)
    send_to_reference(fsutil, source, tmp_path / "dest")
    assert send_to_reference(fsutil, source, tmp_path / "dest").transfers[0].files == 0
    (source / "zero").write_bytes(b"no more")
    assert send_to_reference(fsutil, source, tmp_path / "dest").transfers[0].files == 1


def test_we_receive_what_the_reference_sends(fsutil: Path, tmp_path: Path) -> None:
    source = build_tree(tmp_path / "source", TREE)
    call = ProgramCall(fsutil, "send", source, "{}")
    DirectoryReceiver(tmp_path / "dest")(call)
    assert call.finish() == 0, call.stderr
    assert read_tree(tmp_path / "dest") == read_tree(source)


def reference_listing(fsutil: Path, root: Path, **options: list[bytes]) -> list[Stat] | None:
    """What the reference's client would list; None when it fails."""
    encoded = {key: [base64.b64encode(value).decode() for value in values] for key, values in options.items()}
    call = ProgramCall(fsutil, "send", root, json.dumps(encoded))
    receiver = FsutilReceiver()
    entries: list[Stat] = []
    while (message := call.receive()) is not None:
        match receiver.receive(message):
            case EntryListed(_, entry):
                entries.append(entry)
            case ListingEnded():
                call.write(receiver.finish())
    return entries if call.finish() == 0 else None


def our_listing(root: Path, **options: list[bytes]) -> list[Stat]:
    selection = Selection.of(
        os.fsencode(root),
        include_patterns=options.get("include", []),
        exclude_patterns=options.get("exclude", []),
        followed_paths=options.get("follow", []),
    )
    return list(walk(os.fsencode(root), selection))


def test_metadata_are_the_same(fsutil: Path, tmp_path: Path) -> None:
    root = build_tree(tmp_path, TREE)
    try:
        os.setxattr(root / "a.txt", "user.one", b"1")
        os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    except OSError:
        pass  # not everywhere; the rest is worth comparing
    assert our_listing(root) == reference_listing(fsutil, root)


_TEXTS = "* ** !* a !a a/* **/b !**/b a* !a/b a/** */b ab !ab/a /a a?/b !a/*/b **/a* [ab] !?"
_patterns = st.lists(st.sampled_from([text.encode() for text in _TEXTS.split()]), max_size=4)
_SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(trees(max_entries=10, specials=False), _patterns, _patterns)
@_SETTINGS
def test_selections_are_the_same(
    fsutil: Path, tree: dict[bytes, Node], include: list[bytes], exclude: list[bytes]
) -> None:
    with TemporaryDirectory() as folder:
        root = build_tree(Path(folder), tree)
        expected = reference_listing(fsutil, root, include=include, exclude=exclude)
        assert our_listing(root, include=include, exclude=exclude) == expected


_names = st.sampled_from((b"a", b"b", b"c", b"l", b"m"))
_paths = st.lists(_names, min_size=1, max_size=3).map(b"/".join)


@st.composite
def linked_trees(draw: st.DrawFn) -> dict[bytes, Node]:
    """Small trees with many links."""
    nodes: dict[bytes, Node] = {}
    for path in draw(st.lists(_paths, max_size=10, unique=True)):
        if any(path.startswith(other + b"/") or other.startswith(path + b"/") for other in nodes):
            continue
        if draw(st.booleans()):
            target = draw(
                st.one_of(_paths, _paths.map(lambda path: b"/" + path), _paths.map(lambda path: b"../" + path))
            )
            nodes[path] = Symlink(target)
        else:
            nodes[path] = File()
    return nodes


@given(
    linked_trees(),
    st.lists(st.one_of(_paths, st.sampled_from((b"*", b"*/a", b"l*", b"?/b", b"."))), min_size=1, max_size=2),
)
@_SETTINGS
def test_followed_paths_select_at_least_the_same(fsutil: Path, tree: dict[bytes, Node], follow: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        root = build_tree(Path(folder), tree)
        expected = reference_listing(fsutil, root, follow=follow)
        ours = our_listing(root, follow=follow)
    assert expected is not None
    assert {entry.path for entry in expected} <= {entry.path for entry in ours}
    if len(follow) == 1 and not any(isinstance(node, Symlink) for node in tree.values()):
        assert ours == expected
