"""The sending core against hand-made packets."""

from __future__ import annotations

import pytest

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import LocalProtocolError, RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import encode_fin
from buildkit_client.protocol.fsutil_sender import FileRequested, FsutilSender, TransferDone
from buildkit_client.protocol.fsutil_stat import MODE_DIR, Stat
from buildkit_client.protocol.grpc_framing import MessageDecoder

Packet = fsutil_pb2.Packet
TREE = [Stat(b"d", MODE_DIR | 0o755), Stat(b"d/a", 0o644), Stat(b"d/b", 0o644, linkname=b"d/a"), Stat(b"e", 0o644)]


def req(file_id: int) -> bytes:
    return Packet(type=Packet.PACKET_REQ, ID=file_id).SerializeToString()


FIN = Packet(type=Packet.PACKET_FIN).SerializeToString()


def offering() -> FsutilSender:
    sender = FsutilSender()
    sender.offer(TREE)
    return sender


def test_a_batch_is_one_buffer_of_many_messages() -> None:
    sender = FsutilSender()
    messages = MessageDecoder().feed(sender.offer(TREE[:2]) + sender.offer(TREE[2:]) + sender.end_listing())
    assert [Packet.FromString(message).stat.path for message in messages] == [b"d", b"d/a", b"d/b", b"e", b""]
    assert messages[-1] == b""
    assert sender.entries == 4


def test_ids_count_every_entry() -> None:
    sender = offering()
    assert sender.receive(req(3)) == FileRequested(3, b"e")
    assert sender.receive(req(1)) == FileRequested(1, b"d/a")


@pytest.mark.parametrize("file_id", [0, 2, 4, 2**32 - 1])  # a directory, a hard link, nothing
def test_what_has_no_content_cannot_be_asked_for(file_id: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"invalid file id {file_id}"):
        offering().receive(req(file_id))


def test_each_file_once() -> None:
    sender = offering()
    sender.receive(req(1))
    with pytest.raises(RemoteProtocolError, match="invalid file id 1"):
        sender.receive(req(1))


def test_content() -> None:
    sender = offering()
    sender.receive(req(1))
    data = sender.content_header(1, 3) + b"abc" + sender.end_content(1)
    first, last = (Packet.FromString(message) for message in MessageDecoder().feed(data))
    assert (first.type, first.ID, first.data) == (Packet.PACKET_DATA, 1, b"abc")
    assert (last.type, last.ID, last.data) == (Packet.PACKET_DATA, 1, b"")
    with pytest.raises(LocalProtocolError):
        sender.end_content(1)
    with pytest.raises(LocalProtocolError):
        sender.content_header(1, 3)


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * 20_000])
def test_a_whole_file_is_the_same_packets(content: bytes) -> None:
    piecewise, whole = offering(), offering()
    for sender in (piecewise, whole):
        sender.receive(req(1))
    header, end = whole.whole_file(1, len(content))
    start = piecewise.content_header(1, len(content)) if content else b""
    assert (header, end) == (start, piecewise.end_content(1))
    with pytest.raises(LocalProtocolError):
        whole.whole_file(1, len(content))


def test_fin_is_answered_with_fin() -> None:
    sender = offering()
    sender.end_listing()
    assert sender.receive(FIN) == TransferDone(encode_fin())


def test_an_early_fin_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="before it was complete"):
        offering().receive(FIN)
    sender = offering()
    sender.receive(req(1))
    sender.end_listing()
    with pytest.raises(RemoteProtocolError, match="before it was complete"):
        sender.receive(FIN)


def test_an_error_of_the_receiver_is_told() -> None:
    message = Packet(type=Packet.PACKET_ERR, data=b"disk full \xff").SerializeToString()
    with pytest.raises(RemoteProtocolError, match=r"error from receiver: disk full \\xff"):
        offering().receive(message)


@pytest.mark.parametrize("kind", [Packet.PACKET_STAT, Packet.PACKET_DATA])
def test_packets_a_receiver_does_not_send(kind: fsutil_pb2.Packet.PacketType) -> None:
    with pytest.raises(RemoteProtocolError, match="while it was receiving"):
        offering().receive(Packet(type=kind, ID=1).SerializeToString())


def test_nothing_is_listed_after_the_end() -> None:
    sender = offering()
    sender.end_listing()
    with pytest.raises(LocalProtocolError):
        sender.offer(TREE)
