r"""Parses messages whose text is not valid UTF-8.

The daemon neither checks nor repairs the text it sends: a file name such as ``b"\xff"`` inside an error ends up in a
string field as it is. protobuf for Python refuses such a message as a whole, which would end a status stream in the
middle of a build. Here the bad bytes become U+FFFD and everything else stays.

Reference: protobuf encoding, "Message Structure".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    MessageT = TypeVar("MessageT", bound=Message)

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def parse_message(message_class: type[MessageT], data: bytes) -> MessageT:
    """Parse a message; bytes that are not UTF-8 in text become U+FFFD.

    Args:
        message_class: A generated class.
        data: The message as it came.

    Raises:
        DecodeError: The bytes are no such message, whatever the text.
    """
    message = message_class()
    try:
        message.ParseFromString(data)
    except DecodeError:
        message.Clear()
        message.ParseFromString(_repair(data, message_class.DESCRIPTOR))
    return message


def _repair(data: bytes, descriptor: Any) -> bytes:
    """Rewrite a message with valid text, sub-messages included; unknown fields stay as they are."""
    out = bytearray()
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _read_varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        elif wire_type == _DELIMITED:
            length, content_start = _read_varint(data, position)
            position = content_start + length
            content = data[content_start:position]
            field = descriptor.fields_by_number.get(tag >> 3)
            if field is not None and len(content) == length:
                if field.type == field.TYPE_STRING:
                    content = content.decode("utf-8", "replace").encode()
                elif field.message_type is not None:
                    content = _repair(content, field.message_type)
                out += _varint(tag) + _varint(len(content)) + content
                continue
        else:
            raise DecodeError(f"wire type {wire_type} is not used by proto3")
        if position > len(data):
            raise DecodeError("the message is cut off")
        out += data[start:position]
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise DecodeError("the message is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
