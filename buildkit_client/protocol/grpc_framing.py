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

PREFIX = struct.Struct(">BI")
"""Flag and length."""
PREFIX_BYTES = PREFIX.size


def message_prefix(size_bytes: int) -> bytes:
    """Return the five bytes that stand before an uncompressed message of that size."""
    return PREFIX.pack(0, size_bytes)


def encode_message(message: bytes) -> bytes:
    """Return a message with its five-byte prefix."""
    return PREFIX.pack(0, len(message)) + message


class MessageDecoder:
    """Cuts a byte stream into gRPC messages.

    Args:
        max_message_bytes: A longer message is refused before its bytes are collected.
    """

    __slots__ = ("_max", "_parts", "_waiting", "_wanted")

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max = max_message_bytes
        self._parts: list[bytes] = []  # of the unfinished message; joined once, when all of it is here
        self._waiting = 0  # how many bytes they are
        self._wanted = 0  # how many are needed to go on

    @property
    def is_mid_message(self) -> bool:
        """Whether bytes of an unfinished message are waiting."""
        return bool(self._parts)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the messages they complete, in order.

        Raises:
            RemoteProtocolError: A message is compressed or longer than the limit.
        """
        messages: list[bytes] = []
        if self._parts:
            self._parts.append(data)
            self._waiting += len(data)
            if self._waiting < self._wanted:
                return messages
            data = b"".join(self._parts)
            self._parts.clear()
        position, end = 0, len(data)
        self._wanted = PREFIX_BYTES
        while end - position >= PREFIX_BYTES:
            flag, size = PREFIX.unpack_from(data, position)
            if flag:
                raise RemoteProtocolError(f"the peer sent a gRPC message with flag {flag}; no compression was offered")
            if size > self._max:
                raise RemoteProtocolError(f"the peer sent a gRPC message of {size} bytes; the limit is {self._max}")
            start = position + PREFIX_BYTES
            if end - start < size:
                self._wanted = PREFIX_BYTES + size
                break
            position = start + size
            messages.append(data[start:position])
        if position < end:
            self._parts.append(data[position:])
            self._waiting = end - position
        return messages
