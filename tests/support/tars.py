"""Tar archives for tests, good and bad, from raw headers."""

from __future__ import annotations

from collections.abc import Iterable

END = bytes(1024)


def header(
    name: bytes | str,
    size: int | bytes = 0,
    *,
    kind: bytes = b"0",
    target: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    checksum: int | None = None,
) -> bytes:
    """Return one block; nothing is checked."""
    name = name.encode() if isinstance(name, str) else name
    size_field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(512)
    for start, value in (
        (0, name),
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, size_field),
        (136, b"00000000000\0"),
        (148, b"        "),
        (156, kind),
        (157, target),
        (257, magic),
        (345, prefix),
    ):
        block[start : start + len(value)] = value
    total = sum(block) if checksum is None else checksum
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes | str, data: bytes = b"") -> bytes:
    """Return a member; names longer than 100 bytes get a GNU long name."""
    raw = name.encode() if isinstance(name, str) else name
    long = b"" if len(raw) <= 100 else header("././@LongLink", len(raw) + 1, kind=b"L") + padded(raw + b"\0")
    return long + header(raw[:100], len(data)) + padded(data)


def pax(records: dict[str, str] | bytes, *, kind: bytes = b"x") -> bytes:
    if isinstance(records, dict):
        data = b""
        for key, value in records.items():
            text = f" {key}={value}\n".encode()
            length = len(text) + 1
            while len(str(length)) + len(text) != length:
                length += 1
            data += str(length).encode() + text
    else:
        data = records
    return header("PaxHeaders/x", len(data), kind=kind) + padded(data)


def tar(*members: bytes, end: bytes = END) -> bytes:
    return b"".join(members) + end


def files(entries: Iterable[tuple[str, bytes]]) -> bytes:
    return tar(*(file(name, data) for name, data in entries))
