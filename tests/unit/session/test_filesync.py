"""The FileSync service against a receiver made of bare packets."""

from __future__ import annotations

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import BuildKitError, ContextError, OptionError, PatternError, RemoteProtocolError
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import CallCancelledError, RpcError
from buildkit_client.session.filesync import DIFF_COPY, FileSyncService, TransferStats
from tests.support.calls import MemoryCall
from tests.support.descriptors import open_below
from tests.support.fsutil_peer import BareReceiver
from tests.support.privileges import open_to_others, unprivileged
from tests.support.tree import Fifo, File, Folder, HardLink, Symlink, build_tree

CONTEXT = {"dir-name": ("context",)}
Packet = fsutil_pb2.Packet


def transfer(root: Path, peer: BareReceiver) -> FileSyncService:
    service = FileSyncService({"context": root})
    service.serve(peer.call)
    return service


def listed(peer: BareReceiver) -> list[bytes]:
    return [stat.path for stat in peer.stats]


# -- a transfer


@pytest.mark.parametrize("asks_early", [True, False])
def test_a_transfer(tmp_path: Path, asks_early: bool) -> None:
    big = os.urandom(700_001)
    build_tree(
        tmp_path,
        {
            "a/big": big,
            "a/empty": b"",
            "b": b"small",
            "c": HardLink(b"b"),
            "d": Symlink(b"b"),
            "e": Fifo(),
            "f": Folder(),
        },
    )
    peer = BareReceiver(CONTEXT, asks_early=asks_early)
    service = transfer(tmp_path, peer)
    assert listed(peer) == [b"a", b"a/big", b"a/empty", b"b", b"c", b"d", b"e", b"f"]
    assert peer.contents == {b"a/big": big, b"a/empty": b"", b"b": b"small"}
    assert peer.got_fin
    (stats,) = service.transfers
    assert (stats.name, stats.entries, stats.files, stats.content_bytes) == ("context", 8, 3, 700_006)
    assert stats.is_complete
    assert stats.duration_s > 0
    assert service.errors == ()


def test_the_service_offers_one_method(tmp_path: Path) -> None:
    service = FileSyncService({"context": tmp_path})
    assert service.methods() == {"/moby.filesync.v1.FileSync/DiffCopy": service.serve}
    assert DIFF_COPY in service.methods()


def test_nothing_wanted(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"x"})
    peer = BareReceiver(CONTEXT, wants=lambda stat: False)
    service = transfer(tmp_path, peer)
    assert peer.got_fin
    assert (service.transfers[0].files, service.transfers[0].content_bytes) == (0, 0)


def test_many_small_files_travel_in_large_buffers(tmp_path: Path) -> None:
    build_tree(tmp_path, {f"d{i % 7}/f{i}": b"x" * 1000 for i in range(1000)})
    peer = BareReceiver(CONTEXT, asks_early=False)
    transfer(tmp_path, peer)
    assert len(peer.contents) == 1000
    assert len(peer.call.writes) < 30
    assert max(peer.call.writes) < 512 << 10


def test_large_files_travel_in_large_pieces(tmp_path: Path) -> None:
    build_tree(tmp_path, {"f": b"x" * (1 << 20)})
    peer = BareReceiver(CONTEXT)
    transfer(tmp_path, peer)
    assert set(peer.chunks) == {256 << 10}
    assert max(peer.call.writes) < 3 << 20


def test_content_is_sent_while_the_listing_goes_on(tmp_path: Path) -> None:
    build_tree(tmp_path, {f"f{i:04}": b"x" for i in range(300)})
    peer = BareReceiver(CONTEXT)
    transfer(tmp_path, peer)
    kinds = peer.kinds
    assert kinds.index(Packet.PACKET_DATA) < len(kinds) - 1 - kinds[::-1].index(Packet.PACKET_STAT)


def test_requests_that_come_one_by_one_are_all_served(tmp_path: Path) -> None:
    """A request that arrives while the last buffer goes out must not be forgotten."""
    build_tree(tmp_path, {f"f{i}": b"x" * i for i in range(5)})
    requests = iter([Packet(type=Packet.PACKET_REQ, ID=i).SerializeToString() for i in range(5)])
    fin = Packet(type=Packet.PACKET_FIN).SerializeToString()
    ended: list[int] = []

    def on_message(message: bytes) -> None:
        packet = Packet.FromString(message)
        is_end_of_file = packet.type == Packet.PACKET_DATA and not packet.data
        if is_end_of_file:
            ended.append(packet.ID)
        if message == b"" or is_end_of_file:
            call.deliver(next(requests, fin))

    call = MemoryCall(CONTEXT, on_message=on_message)
    FileSyncService({"context": tmp_path}).serve(call)
    assert ended == [0, 1, 2, 3, 4]


def test_progress_is_told(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"x" * 10, "b": b"y"})
    seen: list[tuple[int, int, bool]] = []

    def on_progress(stats: TransferStats) -> None:
        seen.append((stats.entries, stats.content_bytes, stats.is_complete))

    service = FileSyncService({"context": tmp_path}, on_progress=on_progress)
    service.serve(BareReceiver(CONTEXT).call)
    assert seen == sorted(seen)
    assert seen[-1] == (2, 11, True)


def test_memory_stays_flat(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(64 << 20)
    received = 0

    def on_message(message: bytes) -> None:
        nonlocal received
        if message == b"":
            call.deliver(Packet(type=Packet.PACKET_REQ, ID=0).SerializeToString())
        elif len(message) > 100:
            received += len(message)
        elif message[:2] == b"\x08\x02":
            call.deliver(Packet(type=Packet.PACKET_FIN).SerializeToString())

    call = MemoryCall(CONTEXT, on_message=on_message)
    service = FileSyncService({"context": tmp_path})
    tracemalloc.start()
    try:
        service.serve(call)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received > 64 << 20
    assert peak < 4 << 20


# -- what the metadata ask for


def test_patterns_and_followed_paths(tmp_path: Path) -> None:
    build_tree(tmp_path, {"src/a.go": b"", "src/a.o": b"", "link": Symlink(b"src"), "x": b""})
    peer = BareReceiver({**CONTEXT, "followpaths": ("link",), "exclude-patterns": ("**/*.o", "!keep")})
    transfer(tmp_path, peer)
    assert listed(peer) == [b"link", b"src", b"src/a.go"]
    peer = BareReceiver({**CONTEXT, "include-patterns": ("x", "link")})
    transfer(tmp_path, peer)
    assert listed(peer) == [b"link", b"x"]


def test_what_a_folder_above_ignores_is_neither_listed_nor_sent(tmp_path: Path) -> None:
    build_tree(tmp_path, {"Dockerfile": b"", ".dockerignore": b"x", "secret": b"canary", "sub/secret": b"", "x": b""})
    local = LocalDirectory(tmp_path, ["**/secret", "web/Dockerfile", "**/.dockerignore"], "web")
    service = FileSyncService({"context": local, "dockerfile": tmp_path})
    service.check()
    peer = BareReceiver(CONTEXT)
    service.serve(peer.call)
    assert listed(peer) == [b"sub", b"x"]
    assert peer.contents == {b"x": b""}
    # The same folder under another name carries no patterns: its Dockerfile and ignore file are found.
    peer = BareReceiver({"dir-name": ("dockerfile",), "followpaths": ("Dockerfile", ".dockerignore")})
    service.serve(peer.call)
    assert listed(peer) == [b".dockerignore", b"Dockerfile"]


def test_a_request_for_something_ignored_is_the_daemons_fault(tmp_path: Path) -> None:
    """Ids are given to listed entries alone, so content that is kept back cannot be named."""
    build_tree(tmp_path, {"a": b"canary", "b": b"x"})
    peer = BareReceiver(CONTEXT)
    peer.call.deliver(Packet(type=Packet.PACKET_REQ, ID=1).SerializeToString())
    service = FileSyncService({"context": LocalDirectory(tmp_path, ["a"])})
    with pytest.raises(RemoteProtocolError):
        service.serve(peer.call)


def test_a_bad_pattern_of_a_folder_above_is_found_early(tmp_path: Path) -> None:
    with pytest.raises(PatternError):
        FileSyncService({"context": LocalDirectory(tmp_path, ["a[b"])}).check()


@pytest.mark.parametrize("prefix", ["..", "a/../..", "/a", "/"])
def test_a_place_outside_of_the_folder_above(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(OptionError):
        LocalDirectory(tmp_path, ["x"], prefix)


@pytest.mark.parametrize(
    ("values", "encoded", "excluded"),
    [
        (("a+b",), None, b"a+b"),
        (("a+b",), "1", b"a b"),
        (("a+b",), "0", b"a+b"),
        (("%25x",), None, b"%25x"),
        (("%2525x", "%C3%A9"), "1", b"%25x"),
        (("%C3%A9",), "true", "é".encode()),
        (("%FF",), "T", b"\xff"),
        (("\udcff",), None, b"\xff"),
    ],
)
def test_escaped_values(tmp_path: Path, values: tuple[str, ...], encoded: str | None, excluded: bytes) -> None:
    names = [b"a+b", b"a b", b"%25x", "é".encode(), b"\xff"]
    build_tree(tmp_path, dict.fromkeys(names, b""))
    metadata = {**CONTEXT, "exclude-patterns": values}
    if encoded is not None:
        metadata["exclude-patterns-encoded"] = (encoded,)
    peer = BareReceiver(metadata)
    transfer(tmp_path, peer)
    assert excluded not in listed(peer)
    assert len(peer.stats) == len(names) - len(values)


def test_foreign_metadata_are_ignored(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b""})
    peer = BareReceiver({**CONTEXT, "override-excludes": ("1",), "traceparent": ("00-x",), "containerd-lease": ("y",)})
    transfer(tmp_path, peer)
    assert listed(peer) == [b"a"]


@pytest.mark.parametrize("name", ["etc", "", "../context"])
def test_only_known_directories(tmp_path: Path, name: str) -> None:
    service = FileSyncService({"context": tmp_path})
    with pytest.raises(RpcError) as caught:
        service.serve(MemoryCall({"dir-name": (name,)} if name else {}))
    assert caught.value.code is StatusCode.NOT_FOUND
    assert caught.value.message == f'no access allowed to dir "{name}"'
    assert service.errors == ()


def test_an_escaped_directory_name(tmp_path: Path) -> None:
    service = FileSyncService({"ä b": tmp_path})
    service.serve(BareReceiver({"dir-name": ("%C3%A4+b",), "dir-name-encoded": ("1",)}).call)
    assert service.transfers[0].name == "ä b"


# -- the tree changes after it was listed


def change_and_transfer(root: Path, change: object) -> tuple[BareReceiver, TransferStats]:
    peer = BareReceiver(CONTEXT, asks_early=False, before_asking=change)  # type: ignore[arg-type]
    service = transfer(root, peer)
    assert peer.got_fin
    return peer, service.transfers[0]


def test_a_file_that_vanished_is_empty(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"1", "b": b"2"})
    peer, stats = change_and_transfer(tmp_path, (tmp_path / "a").unlink)
    assert peer.contents == {b"a": b"", b"b": b"2"}
    assert (stats.missing, stats.missing_names, stats.files) == (1, ["a"], 1)


def test_a_file_that_grew_or_shrank_is_sent_as_it_is(tmp_path: Path) -> None:
    build_tree(tmp_path, {"grows": b"1", "shrinks": b"1" * 600_000})

    def change() -> None:
        (tmp_path / "grows").write_bytes(b"2" * 600_000)
        (tmp_path / "shrinks").write_bytes(b"2")

    peer, _ = change_and_transfer(tmp_path, change)
    assert peer.contents == {b"grows": b"2" * 600_000, b"shrinks": b"2"}


def test_a_planted_symlink_is_not_followed(tmp_path: Path) -> None:
    build_tree(tmp_path, {"outside": b"secret", "context/a": b"1", "context/d/b": b"2"})
    root = tmp_path / "context"

    def change() -> None:
        (root / "a").unlink()
        (root / "a").symlink_to("../outside")
        (root / "d").rename(tmp_path / "moved")
        (root / "d").symlink_to("../moved")

    peer, stats = change_and_transfer(root, change)
    assert peer.contents == {b"a": b"", b"d/b": b""}
    assert stats.missing == 2


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_file_that_turned_into_something_else(tmp_path: Path, kind: str) -> None:
    build_tree(tmp_path, {"a": b"1"})

    def change() -> None:
        (tmp_path / "a").unlink()
        if kind == "fifo":
            os.mkfifo(tmp_path / "a")
        elif kind == "folder":
            (tmp_path / "a").mkdir()
        else:
            try:
                os.mknod(tmp_path / "a", 0o020600, os.makedev(1, 5))  # /dev/zero has no end
            except PermissionError:
                pytest.skip("devices cannot be made here")

    peer, stats = change_and_transfer(tmp_path, change)
    assert peer.contents == {b"a": b""}
    assert stats.missing == 1


def test_missing_names_are_not_kept_without_end(tmp_path: Path) -> None:
    build_tree(tmp_path, {f"f{i:02}\n": b"" for i in range(30)})

    def change() -> None:
        for path in tmp_path.iterdir():
            path.unlink()

    _, stats = change_and_transfer(tmp_path, change)
    assert stats.missing == 30
    assert stats.missing_names == [f"f{i:02}\\n" for i in range(10)]


def test_an_unreadable_file_fails_the_transfer(tmp_path: Path) -> None:
    """The daemon would keep an empty copy, and take it for the file the next time."""
    open_to_others(tmp_path)
    build_tree(tmp_path, {"a": File(b"1", mode=0o000)})
    peer = BareReceiver(CONTEXT)
    with unprivileged(), pytest.raises(ContextError, match="cannot read a of the build context") as caught:
        transfer(tmp_path, peer)
    assert caught.value.why == "Permission denied"
    assert peer.errors == ["cannot read a of the build context: Permission denied"]


def test_a_socket_has_no_content_to_miss(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tmp_path, os.O_PATH)
        server.bind(f"/proc/self/fd/{folder}/sock")  # a socket's address has little room
        os.close(folder)
        peer, stats = change_and_transfer(tmp_path, None)
    assert peer.contents == {b"sock": b""}
    assert stats.missing == 0


def test_a_file_that_cannot_be_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, {"a": b"1"})

    def read(descriptor: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    peer = BareReceiver(CONTEXT)
    monkeypatch.setattr(os, "read", read)
    with pytest.raises(ContextError, match="cannot read a of the build context"):
        transfer(tmp_path, peer)
    assert peer.errors == ["cannot read a of the build context: Input/output error"]


# -- errors


def fails(service: FileSyncService, call: MemoryCall, kind: type[BuildKitError], match: str) -> None:
    with pytest.raises(kind, match=match) as caught:
        service.serve(call)
    assert service.errors == (caught.value,)
    assert not service.transfers[-1].is_complete


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    service = FileSyncService({"context": tmp_path / "gone"})
    with pytest.raises(ContextError, match="gone"):
        service.check()
    fails(service, MemoryCall(CONTEXT), ContextError, "gone")


def test_check_is_silent_when_all_is_well(tmp_path: Path) -> None:
    FileSyncService({"context": tmp_path, "dockerfile": tmp_path}).check()


def test_an_error_while_listing_is_told_to_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, {"a/x": b"", "b": b""})
    real = os.scandir

    def scandir(path: bytes) -> object:
        if path.endswith(b"/a"):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    peer = BareReceiver(CONTEXT)
    fails(FileSyncService({"context": tmp_path}), peer.call, ContextError, "cannot read a of the build context")
    assert peer.errors == ["cannot read a of the build context: Input/output error"]
    assert not peer.is_listed


def test_a_bad_pattern(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b""})
    call = MemoryCall({**CONTEXT, "exclude-patterns": ("[",)})
    fails(FileSyncService({"context": tmp_path}), call, PatternError, "syntax error in pattern")
    peer = BareReceiver({**CONTEXT, "exclude-patterns": ("[z-a]",)})
    with pytest.raises(PatternError):
        transfer(tmp_path, peer)
    assert peer.errors == ["syntax error in pattern \"[z-a]\": invalid range in '[z-a'"]


@pytest.mark.parametrize(
    ("packet", "match"),
    [
        (Packet(type=Packet.PACKET_REQ, ID=7), "invalid file id 7"),
        (Packet(type=Packet.PACKET_ERR, data=b"no space left"), "error from receiver: no space left"),
        (Packet(type=Packet.PACKET_DATA, ID=0), "DATA"),
    ],
)
def test_a_daemon_that_breaks_the_protocol(tmp_path: Path, packet: fsutil_pb2.Packet, match: str) -> None:
    build_tree(tmp_path, {"a": b""})
    call = MemoryCall(CONTEXT).deliver(packet.SerializeToString())
    fails(FileSyncService({"context": tmp_path}), call, RemoteProtocolError, match)


def test_a_daemon_that_stops_early(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b""})
    call = MemoryCall(CONTEXT).half_close()
    fails(FileSyncService({"context": tmp_path}), call, RemoteProtocolError, "before it was complete")


def test_a_cancelled_call_is_no_error_of_ours(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b""})
    service = FileSyncService({"context": tmp_path})
    with pytest.raises(CallCancelledError):
        service.serve(MemoryCall(CONTEXT).cancel())
    assert service.errors == ()
    assert open_below(tmp_path) == 0


def test_a_call_cancelled_in_the_middle_of_a_file_leaves_nothing_open(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": b"x" * (2 << 20)})

    def on_message(message: bytes) -> None:
        if message == b"":
            call.deliver(Packet(type=Packet.PACKET_REQ, ID=0).SerializeToString())
        elif len(message) > 1000:
            call.cancel()

    call = MemoryCall(CONTEXT, on_message=on_message)
    with pytest.raises(CallCancelledError):
        FileSyncService({"context": tmp_path}).serve(call)
    assert open_below(tmp_path) == 0
