"""Reads bbolt files, the key-value store in which buildkitd keeps its metadata.

A file is a B+tree of pages: branch pages point to pages, leaf pages hold keys with values. A value may be a bucket,
which is a tree of its own; small ones lie inside the value. Two meta pages take turns, the valid one with the higher
transaction is in force. Bytes in, entries out: no writing, and nothing of the file is trusted.

Reference: go.etcd.io/bbolt, internal/common (page.go, meta.go, bucket.go).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.errors import BuildKitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from mmap import mmap

_PAGE = struct.Struct("<QHHI")  # id, flags, count of elements, count of pages that follow it
_META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, freelist, pages, transaction
_ELEMENT = struct.Struct("<IIII")  # leaf: flags, position, key size, value size
_BRANCH = struct.Struct("<IIQ")  # position, key size, page
_BUCKET = struct.Struct("<QQ")  # page of its root, or 0 when it lies behind this; sequence
_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH_PAGE, _LEAF_PAGE, _BUCKET_ENTRY = 0x01, 0x02, 0x01
_META_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


class BoltFormatError(BuildKitError):
    """The file is no bbolt file, or damaged."""


class Entry(NamedTuple):
    """A key of a bucket.

    Attributes:
        key: Its bytes.
        value: Its value; empty for a bucket.
        bucket: The entries below it, in order of their keys; None unless it is a bucket.
    """

    key: bytes
    value: bytes
    bucket: Sequence[Entry] | None


def read_bolt(data: bytes | mmap) -> list[Entry]:
    """Read all entries of a file.

    Raises:
        BoltFormatError: It is no bbolt file, or damaged.
    """
    try:
        return _Reader(data).entries()
    except (struct.error, IndexError, RecursionError) as exc:
        raise BoltFormatError("invalid database", why=str(exc)) from exc


class _Reader:
    def __init__(self, data: bytes | mmap) -> None:
        self._data = data
        metas = [meta for meta in (self._meta(place) for place in (0, *_META_PAGE_SIZES)) if meta is not None]
        if not metas:
            raise BoltFormatError("invalid database")
        _, self._page_size, self._root = max(metas)
        self._seen: set[int] = set()

    def _meta(self, place: int) -> tuple[int, int, int] | None:
        """Transaction, page size and root of a valid meta page, else None."""
        start, end = place + _PAGE.size, place + _PAGE.size + _META.size
        raw = bytes(self._data[start : end + 8])
        if len(raw) < _META.size + 8:
            return None
        magic, version, page_size, _, root, _, _, _, transaction = _META.unpack_from(raw)
        (checksum,) = struct.unpack_from("<Q", raw, _META.size)
        if magic != _MAGIC or version != _VERSION or checksum != _fnv64(raw[: _META.size]):
            return None
        return (transaction, page_size, root) if place in (0, page_size) else None

    def entries(self) -> list[Entry]:
        return list(self._tree(self._root))

    def _tree(self, page: int) -> Iterator[Entry]:
        if page in self._seen:
            raise BoltFormatError("invalid database", why=f"page {page} is in it twice")
        self._seen.add(page)
        start = page * self._page_size
        _, _, _, more = _PAGE.unpack(self._data[start : start + _PAGE.size])
        yield from self._page(bytes(self._data[start : start + (1 + more) * self._page_size]))

    def _page(self, page: bytes) -> Iterator[Entry]:
        _, flags, count, _ = _PAGE.unpack_from(page)
        for place in range(_PAGE.size, _PAGE.size + count * _ELEMENT.size, _ELEMENT.size):
            if flags & _BRANCH_PAGE:
                _, _, child = _BRANCH.unpack_from(page, place)
                yield from self._tree(child)
            elif flags & _LEAF_PAGE:
                entry_flags, position, key_size, value_size = _ELEMENT.unpack_from(page, place)
                start = place + position
                if start + key_size + value_size > len(page):
                    raise BoltFormatError("invalid database", why="an entry reaches beyond its page")
                key = page[start : start + key_size]
                value = page[start + key_size : start + key_size + value_size]
                yield self._bucket(key, value) if entry_flags & _BUCKET_ENTRY else Entry(key, value, None)
            else:
                raise BoltFormatError("invalid database", why=f"a page has flags {flags:#x}")

    def _bucket(self, key: bytes, value: bytes) -> Entry:
        root, _ = _BUCKET.unpack_from(value)
        return Entry(key, b"", list(self._tree(root) if root else self._page(value[_BUCKET.size :])))


def _fnv64(data: bytes) -> int:
    """Reference: Fowler-Noll-Vo hash, FNV-1a of 64 bits."""
    value = _FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return value
