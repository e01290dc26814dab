"""gRPC's message framing: one flag byte, four bytes of length, then the message.

Message borders have nothing to do with HTTP/2 frames or with the chunks that bytes arrive in, so the decoder takes any
chunking.

Reference: gRPC over HTTP2, "Length-Prefixed-Message".
"""

from __future__ import annotations

import struct

from buildkit_client.errors import RemoteProtocolError

MAX_MESSAGE_BYTES = 16 << 20
"""The largest message BuildKit sends or takes (16 MiB)."""

_PREFIX = struct.Struct(">BI")
PREFIX_BYTES = _PREFIX.size


def message_prefix(size_bytes: int) -> bytes:
    """Return the five bytes that stand before an uncompressed message of that size."""
    return _PREFIX.pack(0, size_bytes)


def encode_message(message: bytes) -> bytes:
    """Return a message with its five-byte prefix."""
    return _PREFIX.pack(0, len(message)) + message


class MessageDecoder:
    """Cuts a byte stream into gRPC messages.

    Args:
        max_message_bytes: A longer message is refused before its bytes are collected.
    """

    __slots__ = ("_buffer", "_max")

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._buffer = b""
        self._max = max_message_bytes

    @property
    def is_mid_message(self) -> bool:
        """Whether bytes of an unfinished message are waiting."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the messages they complete, in order.

        Raises:
            RemoteProtocolError: A message is compressed or longer than the limit.
        """
        buffer = self._buffer + data if self._buffer else data
        messages: list[bytes] = []
        position, end = 0, len(buffer)
        while end - position >= PREFIX_BYTES:
            flag, size = _PREFIX.unpack_from(buffer, position)
            if flag:
                raise RemoteProtocolError(f"the peer sent a gRPC message with flag {flag}; no compression was offered")
            if size > self._max:
                raise RemoteProtocolError(f"the peer sent a gRPC message of {size} bytes; the limit is {self._max}")
            start = position + PREFIX_BYTES
            if end - start < size:
                break
            position = start + size
            messages.append(buffer[start:position])
        self._buffer = buffer[position:]
        return messages
