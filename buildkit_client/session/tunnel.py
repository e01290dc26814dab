"""The ``Control.Session`` stream's messages as plain bytes.

Each ``BytesMessage`` is ``bytes data = 1``; its borders carry no meaning. Packing and unpacking it by hand saves two
copies of every byte that goes through.

Reference: api/services/control/control.proto, Session; session/grpchijack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client._proto import control_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTER_MESSAGE_BYTES = 1 << 20
"""About how many bytes we put into one message; the daemon takes up to 16 MiB."""

_DATA_TAG = 0x0A  # field 1, length-delimited


def pack_bytes_message(parts: Sequence[bytes | memoryview]) -> bytes:
    """Return a serialised ``BytesMessage`` whose data are the joined parts."""
    size = sum(map(len, parts))
    prefix = bytearray((_DATA_TAG,))
    while size >= 128:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return b"".join((bytes(prefix), *parts))


def unpack_bytes_message(message: bytes) -> bytes:
    """Return the data of a serialised ``BytesMessage``."""
    if not message:
        return b""
    if message[0] == _DATA_TAG:
        size = shift = 0
        position = 1
        while position < len(message):
            byte = message[position]
            position += 1
            size |= (byte & 127) << shift
            if byte < 128:
                if position + size == len(message):
                    return message[position:]
                break
            shift += 7
    return control_pb2.BytesMessage.FromString(message).data
