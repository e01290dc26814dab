"""Packets of a file transfer, as gRPC-framed bytes.

A Packet is one flat message that holds the fields of five kinds. STAT packets go through the protobuf runtime; the
header of a DATA packet is written by hand, so that the content behind it is never copied.

Reference: tonistiigi/fsutil, types/wire.proto.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import RemoteProtocolError
from buildkit_client.protocol.grpc_framing import encode_message, message_prefix

if TYPE_CHECKING:
    from buildkit_client.protocol.fsutil_stat import Stat


class PacketType(IntEnum):
    """What a packet is."""

    STAT = 0
    REQ = 1
    DATA = 2
    FIN = 3
    ERR = 4


_LAST_TYPE = int(PacketType.ERR)

END_OF_LISTING = encode_message(b"")  # STAT without a stat: every field has its default


def encode_request(file_id: int) -> bytes:
    """Frame a REQ packet."""
    packet = b"\x08\x01\x18" + _varint(file_id) if file_id else b"\x08\x01"  # field 1, the type, and field 3, the id
    return encode_message(packet)


def encode_fin() -> bytes:
    """Frame a FIN packet."""
    return _frame(fsutil_pb2.Packet(type=fsutil_pb2.Packet.PACKET_FIN))


def encode_error(text: str) -> bytes:
    """Frame an ERR packet."""
    return _frame(fsutil_pb2.Packet(type=fsutil_pb2.Packet.PACKET_ERR, data=text.encode("utf-8", "backslashreplace")))


def data_header(file_id: int, size_bytes: int) -> bytes:
    """Return what stands before the content of a DATA packet: the gRPC prefix, the id, the content's length.

    Args:
        file_id: The file's position among the STAT packets.
        size_bytes: Length of the content that follows; 0 for the packet that ends a file.
    """
    return _data_header(_data_start(file_id), size_bytes)


def whole_file(file_id: int, size_bytes: int) -> tuple[bytes, bytes]:
    """Return what stands before all of a file's content, and the packet that ends the file.

    Args:
        file_id: The file's position among the STAT packets.
        size_bytes: Length of the content; 0 leaves only the packet that ends the file.
    """
    start = _data_start(file_id)
    return _data_header(start, size_bytes) if size_bytes else b"", _data_header(start, 0)


def _data_start(file_id: int) -> bytes:
    """Return a DATA packet up to its content: field 1, the type, and field 3, the id."""
    return b"\x08\x02\x18" + _varint(file_id) if file_id else b"\x08\x02"


def _data_header(start: bytes, size_bytes: int) -> bytes:
    if size_bytes:
        start += b"\x22" + _varint(size_bytes)  # field 4, data
    return message_prefix(len(start) + size_bytes) + start


def decode_packet(message: bytes) -> fsutil_pb2.Packet:
    """Read one message as a packet of a known type.

    Raises:
        RemoteProtocolError: It is no packet, or of an unknown type.
    """
    try:
        packet = fsutil_pb2.Packet.FromString(message)
    except DecodeError as exc:
        raise RemoteProtocolError("the daemon sent a message that is no file transfer packet", why=str(exc)) from exc
    if not 0 <= packet.type <= _LAST_TYPE:
        raise RemoteProtocolError(f"the daemon sent a file transfer packet of unknown type {packet.type}")
    return packet


class StatEncoder:
    """Frames STAT packets; one message object is used over and over, which halves the time."""

    __slots__ = ("_packet",)

    def __init__(self) -> None:
        self._packet = fsutil_pb2.Packet()

    def encode(self, entry: Stat) -> bytes:
        """Frame a STAT packet."""
        packet = self._packet
        packet.Clear()
        stat = packet.stat
        stat.path, stat.mode, stat.modTime = entry.path, entry.mode, entry.mod_time_ns
        if entry.size:
            stat.size = entry.size
        if entry.linkname:
            stat.linkname = entry.linkname
        if entry.devmajor or entry.devminor:
            stat.devmajor, stat.devminor = entry.devmajor, entry.devminor
        if entry.xattrs:
            stat.xattrs.update(entry.xattrs)
        if entry.uid or entry.gid:
            stat.uid, stat.gid = entry.uid, entry.gid
        return _frame(packet)


def _frame(packet: fsutil_pb2.Packet) -> bytes:
    return encode_message(packet.SerializeToString())


def _varint(value: int) -> bytes:
    if value < 1 << 7:
        return bytes((value,))
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
