"""Packets against the protobuf runtime."""

from __future__ import annotations

import pytest

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import (
    END_OF_LISTING,
    PacketType,
    StatEncoder,
    data_header,
    decode_packet,
    encode_error,
    encode_fin,
    encode_request,
)
from buildkit_client.protocol.fsutil_stat import MODE_DIR, Stat
from buildkit_client.protocol.grpc_framing import MessageDecoder, encode_message

Packet = fsutil_pb2.Packet


def frame(**fields: object) -> bytes:
    return encode_message(Packet(**fields).SerializeToString())  # type: ignore[arg-type]


def test_types_are_those_of_the_wire() -> None:
    assert {kind.name: kind.value for kind in PacketType} == {
        name.removeprefix("PACKET_"): number for name, number in Packet.PacketType.items()
    }


@pytest.mark.parametrize("file_id", [0, 1, 127, 128, 300, 2**21, 2**32 - 1])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16384, 262144])
def test_data_header_is_what_protobuf_writes(file_id: int, size: int) -> None:
    content = b"x" * size
    expected = frame(type=Packet.PACKET_DATA, ID=file_id, data=content)
    assert data_header(file_id, size) + content == expected


@pytest.mark.parametrize("file_id", [0, 5])
def test_small_packets(file_id: int) -> None:
    assert encode_request(file_id) == frame(type=Packet.PACKET_REQ, ID=file_id)
    assert encode_fin() == frame(type=Packet.PACKET_FIN)
    assert encode_error("näh") == frame(type=Packet.PACKET_ERR, data="näh".encode())
    assert END_OF_LISTING == b"\0\0\0\0\0"


def test_an_error_text_that_is_not_utf8_is_escaped() -> None:
    assert encode_error("\udcff") == frame(type=Packet.PACKET_ERR, data=b"\\udcff")


def test_stats_are_what_protobuf_writes_and_nothing_is_left_of_the_one_before() -> None:
    entries = [
        Stat(b"a", 0o644, 5, 10**18, b"l", 8, 1, {"user.a": b"1", "user.b": b""}),
        Stat(b"b", MODE_DIR | 0o755),
        Stat(b"\xff", 0o600, 2**40, -1),
        Stat(b"c", 0, uid=5, gid=6),
        Stat(b"d", 0, devminor=3),
    ]
    encoder = StatEncoder()
    for entry in entries:
        (message,) = MessageDecoder().feed(encoder.encode(entry))
        packet = Packet.FromString(message)
        assert packet.type == Packet.PACKET_STAT
        assert packet == Packet(stat=entry.to_proto())
        assert Stat.from_proto(packet.stat) == entry
        if len(entry.xattrs) < 2:  # a map has no order
            assert message == Packet(stat=entry.to_proto()).SerializeToString()


def test_decoding_refuses_what_is_no_packet() -> None:
    with pytest.raises(RemoteProtocolError, match="no file transfer packet"):
        decode_packet(b"\xff\xff")
    with pytest.raises(RemoteProtocolError, match="unknown type 9"):
        decode_packet(b"\x08\x09")
    assert decode_packet(b"").type == Packet.PACKET_STAT
