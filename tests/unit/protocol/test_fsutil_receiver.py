"""The receiving core against hand-made packets."""

from __future__ import annotations

import pytest

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import LocalProtocolError, RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import encode_fin, encode_request
from buildkit_client.protocol.fsutil_receiver import (
    ContentEnded,
    ContentReceived,
    EntryListed,
    FsutilReceiver,
    ListingEnded,
    SenderDone,
)
from buildkit_client.protocol.fsutil_stat import MODE_DIR, Stat

Packet = fsutil_pb2.Packet
TREE = [Stat(b"d", MODE_DIR | 0o755), Stat(b"d/a", 0o644), Stat(b"d/b", 0o644, linkname=b"d/a")]
FIN = Packet(type=Packet.PACKET_FIN).SerializeToString()


def listed(entry: Stat) -> bytes:
    return Packet(stat=entry.to_proto()).SerializeToString()


def data(file_id: int, content: bytes = b"") -> bytes:
    return Packet(type=Packet.PACKET_DATA, ID=file_id, data=content).SerializeToString()


def receiving() -> FsutilReceiver:
    receiver = FsutilReceiver()
    for entry in TREE:
        receiver.receive(listed(entry))
    return receiver


def test_a_whole_transfer() -> None:
    receiver = FsutilReceiver()
    assert [receiver.receive(listed(entry)) for entry in TREE] == [EntryListed(i, e) for i, e in enumerate(TREE)]
    assert receiver.request(1) == encode_request(1)
    assert receiver.open_files == 1
    assert receiver.receive(data(1, b"abc")) == ContentReceived(1, b"abc")
    assert receiver.receive(b"") == ListingEnded()
    assert receiver.receive(data(1)) == ContentEnded(1)
    assert receiver.open_files == 0
    assert receiver.finish() == encode_fin()
    assert receiver.receive(FIN) == SenderDone()


@pytest.mark.parametrize("file_id", [0, 2, 3])
def test_only_files_can_be_asked_for(file_id: int) -> None:
    with pytest.raises(LocalProtocolError):
        receiving().request(file_id)


def test_each_file_once() -> None:
    receiver = receiving()
    receiver.request(1)
    with pytest.raises(LocalProtocolError):
        receiver.request(1)


def test_content_that_was_not_asked_for() -> None:
    with pytest.raises(RemoteProtocolError, match="invalid file request 1"):
        receiving().receive(data(1, b"x"))
    receiver = receiving()
    receiver.request(1)
    receiver.receive(data(1))
    with pytest.raises(RemoteProtocolError, match="invalid file request 1"):
        receiver.receive(data(1, b"more"))


def test_a_bad_listing() -> None:
    with pytest.raises(RemoteProtocolError, match="escape"):
        receiving().receive(listed(Stat(b"../x", 0o644)))


def test_nothing_after_the_end_of_the_listing() -> None:
    receiver = receiving()
    receiver.receive(b"")
    for message in (b"", listed(Stat(b"z", 0o644))):
        with pytest.raises(RemoteProtocolError, match="after the end"):
            receiver.receive(message)


def test_finishing_early_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        receiving().finish()
    receiver = receiving()
    receiver.receive(b"")
    receiver.request(1)
    with pytest.raises(LocalProtocolError):
        receiver.finish()


def test_a_fin_we_did_not_ask_for() -> None:
    with pytest.raises(RemoteProtocolError, match="before it was complete"):
        receiving().receive(FIN)


def test_errors_and_packets_of_the_wrong_side() -> None:
    with pytest.raises(RemoteProtocolError, match="error from sender: no"):
        receiving().receive(Packet(type=Packet.PACKET_ERR, data=b"no").SerializeToString())
    with pytest.raises(RemoteProtocolError, match="REQ"):
        receiving().receive(Packet(type=Packet.PACKET_REQ, ID=1).SerializeToString())
