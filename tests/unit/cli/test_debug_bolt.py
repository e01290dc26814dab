"""Reading bbolt files, made here page by page, whole and damaged; real ones come with the integration tests."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.cli.app import main
from buildkit_client.cli.debug_bolt import BoltFormatError, Entry, _fnv64, read_bolt
from buildkit_client.cli.debug_metadata import bucket_lines

PAGE = 4096
META, LEAF, BRANCH = 4, 2, 1


def page(number: int, flags: int, count: int, body: bytes, size: int = PAGE) -> bytes:
    return (struct.pack("<QHHI", number, flags, count, 0) + body).ljust(size, b"\0")


def meta(number: int, root: int, transaction: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, 9, transaction)
    return page(number, META, 0, body + struct.pack("<Q", _fnv64(body)))


def leaf(entries: list[tuple[int, bytes, bytes]]) -> bytes:
    heads, tail = b"", b""
    for number, (flags, key, value) in enumerate(entries):
        position = (len(entries) - number) * 16 + len(tail)
        heads += struct.pack("<IIII", flags, position, len(key), len(value))
        tail += key + value
    return heads + tail


def inline(entries: list[tuple[int, bytes, bytes]]) -> bytes:
    body = leaf(entries)
    return struct.pack("<QQ", 0, 0) + page(0, LEAF, len(entries), body, 16 + len(body))


def database() -> bytes:
    small = inline([(0, b"k", b"v\xff"), (1, b"deep", inline([]))])
    children = struct.pack("<IIQ", 32, 1, 5) + struct.pack("<IIQ", 17, 1, 6) + b"ac"
    return b"".join(
        [
            meta(0, 8, 1),  # out of force: the other has a higher transaction
            meta(1, 3, 2),
            page(2, 16, 0, b""),
            page(3, LEAF, 2, leaf([(1, b"big", struct.pack("<QQ", 4, 0)), (1, b"small", small)])),
            page(4, BRANCH, 2, children),
            page(5, LEAF, 2, leaf([(0, b"a", b"1"), (0, b"b", b"2")])),
            page(6, LEAF, 1, leaf([(0, b"c", b"3")])),
        ]
    )


def test_buckets_in_pages_and_in_values() -> None:
    assert read_bolt(database()) == [
        Entry(b"big", b"", [Entry(b"a", b"1", None), Entry(b"b", b"2", None), Entry(b"c", b"3", None)]),
        Entry(b"small", b"", [Entry(b"k", b"v\xff", None), Entry(b"deep", b"", [])]),
    ]


def test_how_they_are_shown() -> None:
    assert [b"".join(bucket_lines(entry)) for entry in read_bolt(database())] == [
        b'bucket "big":\n  "a": 1\n  "b": 2\n  "c": 3\n',
        b'bucket "small":\n  "k": v\xff\n  bucket "deep":\n',
    ]


def test_a_meta_page_that_is_damaged_is_passed_over() -> None:
    data = bytearray(database())
    data[PAGE + 40] ^= 1
    data[16 + 16 : 16 + 24] = struct.pack("<Q", 3)
    data[16 + 56 : 16 + 64] = struct.pack("<Q", _fnv64(bytes(data[16 : 16 + 56])))
    assert [entry.key for entry in read_bolt(bytes(data))] == [b"big", b"small"]


def test_a_page_within_itself_ends() -> None:
    data = bytearray(database())
    place = 4 * PAGE + 16 + 8
    data[place : place + 8] = struct.pack("<Q", 4)
    with pytest.raises(BoltFormatError, match="invalid database"):
        read_bolt(bytes(data))


@given(st.integers(0, 7 * PAGE - 1), st.integers(0, 255), st.integers(0, 7 * PAGE))
def test_damage_is_an_error_of_ours(place: int, byte: int, length: int) -> None:
    data = bytearray(database())
    data[place] = byte
    for one in (bytes(data), bytes(data[:length])):
        try:
            read_bolt(one)
        except BoltFormatError as exc:
            assert str(exc) == "invalid database"


def test_the_command(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata_v2.db").write_bytes(database())
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    assert main(["debug", "dump-metadata", "--root", str(tmp_path)]) == 0
    out = capfdbinary.readouterr().out
    assert [line for line in out.splitlines() if b"=" in line] == [
        f"===== {tmp_path}/{name}/metadata_v2.db =====".encode() for name in "ab"
    ]
    (tmp_path / "a" / "metadata_v2.db").write_bytes(b"")
    assert main(["debug", "dump-metadata", "--root", str(tmp_path)]) == 1
    assert capfdbinary.readouterr().err == b"error: invalid database: the file is empty\n"
