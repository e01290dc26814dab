"""Receiving a tree: a sender made of bare packets, and our own sender."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import BuildKitError, ExportError, OptionError, RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import END_OF_LISTING
from buildkit_client.protocol.fsutil_stat import MODE_DIR, MODE_SYMLINK, Stat
from buildkit_client.session.call import CallCancelledError
from buildkit_client.session.filesend_local import KEY_MULTI_PLATFORM, DirectoryReceiver
from buildkit_client.session.filesync import FileSyncService
from tests.support.calls import MemoryCall, join_handlers
from tests.support.descriptors import open_below
from tests.support.privileges import open_to_others, unprivileged
from tests.support.tree import Fifo, File, Folder, HardLink, Symlink, Tree, build_tree, read_tree

Packet = fsutil_pb2.Packet
CONTEXT = {"dir-name": ("context",)}
DELETE = {KEY_MULTI_PLATFORM: ("1",)}
OLD = 1_600_000_000_000_000_000


class BareSender:
    """Plays the daemon: lists entries, answers requests, says goodbye.

    Args:
        listing: Entries and, for files, their content.
    """

    def __init__(
        self, listing: Sequence[tuple[Stat, bytes]], metadata: dict[str, tuple[str, ...]] | None = None
    ) -> None:
        self.call = MemoryCall(metadata, on_message=self._take)
        self.requests: list[int] = []
        self.errors: list[str] = []
        self.got_fin = False
        self._contents = [content for _, content in listing]
        for entry, _ in listing:
            self._send(stat=entry.to_proto())
        self.call.deliver(END_OF_LISTING[5:])

    def _send(self, **fields: object) -> None:
        self.call.deliver(Packet(**fields).SerializeToString())  # type: ignore[arg-type]

    def _take(self, message: bytes) -> None:
        packet = Packet.FromString(message)
        if packet.type == Packet.PACKET_REQ:
            self.requests.append(packet.ID)
            content = self._contents[packet.ID]
            for start in range(0, len(content), 32_768):
                self._send(type=Packet.PACKET_DATA, ID=packet.ID, data=content[start : start + 32_768])
            self._send(type=Packet.PACKET_DATA, ID=packet.ID)
        elif packet.type == Packet.PACKET_FIN:
            self.got_fin = True
            self._send(type=Packet.PACKET_FIN)
        else:
            assert packet.type == Packet.PACKET_ERR
            self.errors.append(packet.data.decode())


def folder(path: bytes, mode: int = 0o755) -> tuple[Stat, bytes]:
    return Stat(path, MODE_DIR | mode, mod_time_ns=OLD), b""


def file(path: bytes, content: bytes = b"", mode: int = 0o644, linkname: bytes = b"") -> tuple[Stat, bytes]:
    return Stat(path, mode, len(content), OLD, linkname, uid=4321, gid=4321), content


def link(path: bytes, target: bytes) -> tuple[Stat, bytes]:
    return Stat(path, MODE_SYMLINK | 0o777, len(target), OLD, target), b""


def receive(dest: Path, *listing: tuple[Stat, bytes], mode: str = "copy") -> BareSender:
    sender = BareSender(listing, DELETE if mode == "delete" else None)
    receiver = DirectoryReceiver(dest, mode=mode)
    receiver(sender.call)
    assert sender.got_fin
    assert receiver.errors == ()
    assert not [name for _, _, files in os.walk(dest) for name in files if name.startswith(".tmp.")]
    return sender


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def same(source: Path, dest: Path) -> None:
    assert read_tree(dest) == read_tree(source)


# -- whole trees


def move(source: Path, dest: Path) -> None:
    errors = join_handlers(
        FileSyncService({"context": source}).serve, DirectoryReceiver(dest), one_metadata=CONTEXT, other_metadata={}
    )
    assert errors == []


EVERYTHING: Tree = {
    "bin": Folder(mode=0o755, mtime_ns=5),
    "bin/tool": File(b"#!" * 300_000, mode=0o4755, mtime_ns=-7),
    "bin/twin": HardLink(b"bin/tool"),
    "empty": Folder(mode=0o1777, mtime_ns=123_456_789),
    "read-only/deep/file": File(b"x", mode=0o400),
    "read-only/deep": Folder(mode=0o555, mtime_ns=1),
    "read-only": Folder(mode=0o500, mtime_ns=2),
    "zero": b"",
    "pipe": Fifo(mode=0o622),
    "up": Symlink(b"../../../etc/passwd", mtime_ns=77),
    b"\xff\xfe": b"bytes",
    "a-b": b"1",
    "a/b": b"2",
}


def test_our_sender_and_our_receiver_move_a_tree(tmp_path: Path) -> None:
    source = build_tree(tmp_path / "source", EVERYTHING)
    move(source, tmp_path / "dest")
    same(source, tmp_path / "dest")
    move(source, tmp_path / "dest")  # again, over itself
    same(source, tmp_path / "dest")


def test_an_ordinary_user_can_receive_read_only_folders(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    source = build_tree(tmp_path / "source", {"a/b/f": b"1", "a/b": Folder(mode=0o555), "a": Folder(mode=0o555)})
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with unprivileged():
        for _ in range(2):
            move(source, tmp_path / "open/dest")
    same(source, tmp_path / "open/dest")


def test_folders_that_end_up_closed(tmp_path: Path) -> None:
    """A folder gets its permissions after those in it: nobody could reach them any more."""
    open_to_others(tmp_path)
    tmp_path.chmod(0o777)
    with unprivileged():
        receive(tmp_path, folder(b"a", 0o000), folder(b"a/b", 0o711), file(b"a/b/f", b"1"))
    (tmp_path / "a").chmod(0o755)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o711
    assert (tmp_path / "a/b").stat().st_mtime_ns == OLD


def test_many_files(tmp_path: Path) -> None:
    listing = [file(b"f%03d" % i, b"x" * i) for i in range(300)]
    sender = receive(tmp_path, *listing)
    assert sender.requests == list(range(300))
    assert [len(path.read_bytes()) for path in sorted(tmp_path.iterdir())] == list(range(300))


def test_streams_of_several_platforms_at_once(tmp_path: Path) -> None:
    listings = [[file(b"%d-%03d" % (platform, number), b"x") for number in range(300)] for platform in range(4)]
    errors: list[BaseException] = []

    def run(listing: list[tuple[Stat, bytes]]) -> None:
        try:
            DirectoryReceiver(tmp_path)(BareSender(listing).call)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(listing,)) for listing in listings]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert errors == []
    assert len(list(tmp_path.iterdir())) == 1200


def test_a_daemon_that_sends_too_many_files_at_the_same_time(tmp_path: Path) -> None:
    call = MemoryCall({})
    for number in range(300):
        call.deliver(Packet(stat=file(b"f%03d" % number)[0].to_proto()).SerializeToString())
    call.deliver(Packet().SerializeToString())
    for number in range(300):
        call.deliver(Packet(type=Packet.PACKET_DATA, ID=number, data=b"x").SerializeToString())
    with pytest.raises(RemoteProtocolError, match="more than 256 files at the same time"):
        DirectoryReceiver(tmp_path)(call)
    assert open_below(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


# -- one kind at a time


def test_the_destination_is_made(tmp_path: Path) -> None:
    receive(tmp_path / "a/b", file(b"x", b"1"))
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    assert (tmp_path / "a/b/x").read_bytes() == b"1"


def test_the_destination_may_be_a_link(tmp_path: Path) -> None:
    build_tree(tmp_path, {"real": Folder(), "link": Symlink(b"real")})
    receive(tmp_path / "link", file(b"x", b"1"))
    assert names(tmp_path / "real") == ["x"]


def test_everything_belongs_to_us(tmp_path: Path) -> None:
    receive(tmp_path, folder(b"d"), file(b"f"), link(b"l", b"f"))
    assert {path.lstat().st_uid for path in tmp_path.iterdir()} == {os.getuid()}
    assert {path.lstat().st_gid for path in tmp_path.iterdir()} == {os.getgid()}


def test_xattrs_are_set_where_they_can_be(tmp_path: Path) -> None:
    entry = Stat(b"f", 0o444, 1, OLD, xattrs={"user.a": b"1", "trusted.a": b"", "bogus.space": b"2"})
    receive(tmp_path, (entry, b"x"))
    try:
        os.setxattr(tmp_path, "user.probe", b"")
    except OSError:
        pytest.skip("this file system keeps no user attributes")
    assert os.getxattr(tmp_path / "f", "user.a") == b"1"


def test_a_mode_only_entry(tmp_path: Path) -> None:
    """A socket of the sender's side: a file without content."""
    receive(tmp_path, file(b"s", b"", mode=0o750))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o750


def test_an_unknown_kind(tmp_path: Path) -> None:
    sender = BareSender([(Stat(b"odd", 0x00080000 | 0o644), b"")])
    with pytest.raises(RemoteProtocolError, match="unknown kind"):
        DirectoryReceiver(tmp_path)(sender.call)


# -- what is there already


def test_copy_merges(tmp_path: Path) -> None:
    build_tree(tmp_path, {"old": b"old", "d/old": b"old", "d/f": b"before", "d": Folder(mode=0o700)})
    receive(tmp_path, folder(b"d", 0o755), file(b"d/f", b"after"))
    assert names(tmp_path) == ["d", "d/f", "d/old", "old"]
    assert (tmp_path / "d/f").read_bytes() == b"after"
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755
    assert (tmp_path / "d").stat().st_mtime_ns == OLD


def test_an_equal_file_is_asked_for_all_the_same(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": File(b"1", mtime_ns=OLD)})
    assert receive(tmp_path, file(b"f", b"2")).requests == [0]
    assert (tmp_path / "f").read_bytes() == b"2"


def test_an_old_file_is_there_until_the_new_one_is_complete(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": b"old"})
    seen: list[bytes] = []

    def on_message(message: bytes) -> None:
        if Packet.FromString(message).type == Packet.PACKET_REQ:
            call.deliver(Packet(type=Packet.PACKET_DATA, ID=0, data=b"half").SerializeToString())
            seen.append((tmp_path / "f").read_bytes())
            call.cancel()

    call = MemoryCall({}, on_message=on_message)
    call.deliver(Packet(stat=file(b"f", b"half")[0].to_proto()).SerializeToString())
    with pytest.raises(CallCancelledError):
        DirectoryReceiver(tmp_path)(call)
    assert seen == [b"old"]
    assert read_tree(tmp_path)[b"f"].content == b"old"
    assert names(tmp_path) == ["f"]  # and nothing half-written is left


def test_other_names_of_an_old_file_keep_their_content(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": b"old", "twin": HardLink(b"f")})
    receive(tmp_path, file(b"f", b"new"))
    assert (tmp_path / "twin").read_bytes() == b"old"


@pytest.mark.parametrize("mode", ["copy", "delete"])
def test_kinds_change(tmp_path: Path, mode: str) -> None:
    build_tree(
        tmp_path,
        {
            "folder-to-file/x/y": b"",
            "folder-to-link/x": b"",
            "file-to-folder": b"",
            "link-to-folder": Symlink(b"elsewhere"),
            "file-to-link": b"1",
            "link-to-file": Symlink(b"elsewhere/kept"),
            "folder-to-twin/x": b"",
            "elsewhere/kept": b"kept",
        },
    )
    receive(
        tmp_path,
        folder(b"elsewhere"),
        file(b"elsewhere/kept", b"kept"),
        folder(b"file-to-folder"),
        file(b"file-to-folder/in", b"1"),
        link(b"file-to-link", b"nowhere"),
        file(b"folder-to-file", b"2"),
        link(b"folder-to-link", b"nowhere"),
        file(b"folder-to-twin", linkname=b"folder-to-file"),
        file(b"link-to-file", b"3"),
        folder(b"link-to-folder"),
        file(b"link-to-folder/in", b"4"),
        mode=mode,
    )
    found = {os.fsdecode(path): (stat.S_IFMT(seen.mode), seen.content) for path, seen in read_tree(tmp_path).items()}
    assert found == {
        "elsewhere": (stat.S_IFDIR, b""),
        "elsewhere/kept": (stat.S_IFREG, b"kept"),
        "file-to-folder": (stat.S_IFDIR, b""),
        "file-to-folder/in": (stat.S_IFREG, b"1"),
        "file-to-link": (stat.S_IFLNK, b"nowhere"),
        "folder-to-file": (stat.S_IFREG, b"2"),
        "folder-to-link": (stat.S_IFLNK, b"nowhere"),
        "folder-to-twin": (stat.S_IFREG, b"2"),
        "link-to-file": (stat.S_IFREG, b"3"),
        "link-to-folder": (stat.S_IFDIR, b""),
        "link-to-folder/in": (stat.S_IFREG, b"4"),
    }


def test_delete_removes_the_rest(tmp_path: Path) -> None:
    build_tree(
        tmp_path / "outside",
        {"kept": b"1"},
    )
    dest = build_tree(
        tmp_path / "dest",
        {
            "old": b"",
            b"\xff": b"",
            "gone/deep/x": b"",
            "d/old": b"",
            "d/f": b"",
            "l": Symlink(b"../outside"),
            "e/x": b"",
        },
    )
    receive(dest, folder(b"d"), file(b"d/f", b"1"), folder(b"e"), mode="delete")
    assert names(dest) == ["d", "d/f", "e"]
    assert (dest / "d").stat().st_mtime_ns == OLD
    assert names(tmp_path / "outside") == ["kept"]


def test_delete_needs_a_daemon_that_sends_one_stream(tmp_path: Path) -> None:
    build_tree(tmp_path, {"kept": b""})
    receiver = DirectoryReceiver(tmp_path, mode="delete")
    with pytest.raises(ExportError, match="mode=delete"):
        receiver(BareSender([]).call)
    assert names(tmp_path) == ["kept"]
    assert len(receiver.errors) == 1


def test_a_failed_transfer_deletes_nothing(tmp_path: Path) -> None:
    build_tree(tmp_path, {"kept": b""})
    call = MemoryCall(DELETE).deliver(END_OF_LISTING[5:-1] + b"\x08\x04")
    with pytest.raises(RemoteProtocolError):
        DirectoryReceiver(tmp_path, mode="delete")(call)
    assert names(tmp_path) == ["kept"]


def test_two_streams_into_one_directory(tmp_path: Path) -> None:
    receiver = DirectoryReceiver(tmp_path)
    for platform in (b"linux_amd64", b"linux_arm64"):
        receiver(BareSender([folder(platform), file(platform + b"/app", platform)]).call)
    assert names(tmp_path) == ["linux_amd64", "linux_amd64/app", "linux_arm64", "linux_arm64/app"]


# -- staying inside


def test_a_link_in_the_destination_is_not_followed(tmp_path: Path) -> None:
    build_tree(tmp_path, {"outside/f": b"safe", "dest/d": Symlink(b"../outside"), "dest/f": Symlink(b"../outside/f")})
    receive(tmp_path / "dest", folder(b"d"), file(b"d/f", b"new"), file(b"f", b"new"))
    assert (tmp_path / "outside/f").read_bytes() == b"safe"
    assert (tmp_path / "dest/d/f").read_bytes() == b"new"


@pytest.mark.parametrize(
    "listing",
    [
        [file(b"../x")],
        [file(b"/x")],
        [folder(b".."), file(b"../x")],
        [folder(b"a"), file(b"a/../../x")],
        [link(b"l", b".."), file(b"l/x")],
        [file(b"x", linkname=b"../outside")],
        [file(b"x", linkname=b"/etc/passwd")],
        [link(b"l", b"../outside"), file(b"x", linkname=b"l")],
        [folder(b"d"), file(b"x", linkname=b"d")],
        [file(b"a\0b")],
    ],
)
def test_listings_that_would_lead_outside(tmp_path: Path, listing: list[tuple[Stat, bytes]]) -> None:
    build_tree(tmp_path, {"outside": b"safe", "dest": Folder()})
    receiver = DirectoryReceiver(tmp_path / "dest")
    with pytest.raises(RemoteProtocolError):
        receiver(BareSender(listing).call)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest", "outside"]
    assert (tmp_path / "outside").read_bytes() == b"safe"
    assert isinstance(receiver.errors[0], RemoteProtocolError)


def test_a_directory_replaced_by_a_link_meanwhile(tmp_path: Path) -> None:
    build_tree(tmp_path, {"outside": Folder(), "dest": Folder()})

    def on_message(message: bytes) -> None:
        packet = Packet.FromString(message)
        if packet.type == Packet.PACKET_REQ and packet.ID == 1:
            (tmp_path / "dest/d").rename(tmp_path / "moved")
            (tmp_path / "dest/d").symlink_to("../outside")
            for entry, _ in (folder(b"e"), file(b"e/x")):
                call.deliver(Packet(stat=entry.to_proto()).SerializeToString())
            call.deliver(Packet(type=Packet.PACKET_DATA, ID=1, data=b"1").SerializeToString())
        elif packet.type == Packet.PACKET_REQ:
            call.deliver(Packet(type=Packet.PACKET_DATA, ID=1).SerializeToString())

    call = MemoryCall({}, on_message=on_message)
    for entry, _ in (folder(b"d"), file(b"d/x")):
        call.deliver(Packet(stat=entry.to_proto()).SerializeToString())
    with pytest.raises(ExportError, match="dest/d/x"):
        DirectoryReceiver(tmp_path / "dest")(call)
    assert names(tmp_path / "outside") == []


# -- errors


def fails(receiver: DirectoryReceiver, sender: BareSender, kind: type[BuildKitError], match: str) -> None:
    with pytest.raises(kind, match=match) as caught:
        receiver(sender.call)
    assert receiver.errors == (caught.value,)


def test_a_destination_that_is_a_file(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": b""})
    for dest in (tmp_path / "f", tmp_path / "f/below"):
        receiver = DirectoryReceiver(dest)
        with pytest.raises(OptionError, match="cannot export to"):
            receiver.check()
        fails(receiver, BareSender([]), ExportError, "cannot export to")


def test_check_is_silent_when_all_is_well(tmp_path: Path) -> None:
    DirectoryReceiver(tmp_path).check()
    DirectoryReceiver(tmp_path / "new/deep").check()
    assert names(tmp_path) == []


def test_a_destination_without_permission(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    build_tree(tmp_path, {"dest": Folder(mode=0o555)})
    receiver = DirectoryReceiver(tmp_path / "dest")
    sender = BareSender([file(b"x", b"1")])
    with unprivileged():
        with pytest.raises(OptionError, match="cannot export to"):
            receiver.check()
        fails(receiver, sender, ExportError, "cannot write .*/dest/x")
    assert sender.errors == [f"cannot write {tmp_path}/dest/x: Permission denied"]


def test_an_unknown_mode(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="mirror"):
        DirectoryReceiver(tmp_path, mode="mirror")


def test_a_daemon_that_stops_early(tmp_path: Path) -> None:
    call = MemoryCall({}).half_close()
    with pytest.raises(RemoteProtocolError, match="before it was complete"):
        DirectoryReceiver(tmp_path)(call)


def test_the_end_of_the_stream_does_not_matter_after_fin(tmp_path: Path) -> None:
    sender = BareSender([file(b"x", b"1")])
    sender.call.deliver()
    DirectoryReceiver(tmp_path)(sender.call)  # neither a half-close nor a status is waited for
    assert sender.got_fin


def test_nothing_stays_open(tmp_path: Path) -> None:
    receive(tmp_path, folder(b"a"), folder(b"a/b"), file(b"a/b/c", b"1"))
    call = MemoryCall({})
    call.deliver(Packet(stat=file(b"x")[0].to_proto()).SerializeToString()).cancel()
    with pytest.raises(CallCancelledError):
        DirectoryReceiver(tmp_path)(call)
    assert open_below(tmp_path) == 0
