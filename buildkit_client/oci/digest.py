"""Digests: parsed once, strictly, and computed while bytes pass by.

A digest becomes part of file names and URLs, so whatever is not exactly an algorithm we know and the right number of
lower-case hex digits never becomes a :class:`Digest`. Code that holds one needs no further check.

Reference: OCI image-spec, descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

from buildkit_client.errors import DigestError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
"""How much is read, hashed or written at once (1 MiB)."""

# \Z instead of $, which would let a line feed follow.
_PATTERN = re.compile(r"(sha256):([0-9a-f]{64})\Z|(sha512):([0-9a-f]{128})\Z", re.ASCII)
_SHOWN_CHARS = 100


class Hash(Protocol):
    """What we use of a :mod:`hashlib` object."""

    @property
    def name(self) -> str:
        """The algorithm in lower case."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Return the digest of the bytes so far in lower-case hex digits."""


class Digest(str):
    """A well-formed digest such as ``sha256:`` and 64 hex digits; compares and hashes as its text.

    Args:
        text: The digest in its text form.

    Raises:
        DigestError: The text is anything but a sha256 or sha512 digest in canonical form.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the text and take it over."""
        if not isinstance(text, str) or not _PATTERN.match(text):
            shown = ascii(text if not isinstance(text, str) else text[:_SHOWN_CHARS])
            raise DigestError(
                f"not a digest: {shown}",
                why="a digest is sha256: and 64 lower-case hex digits, or sha512: and 128 of them",
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """Return the digest of bytes in memory."""
        hasher = new_hash(algorithm)
        hasher.update(data)
        return cls.from_hash(hasher)

    @classmethod
    def from_hash(cls, hasher: Hash) -> Digest:
        """Return the digest of the bytes that a hash object has taken so far."""
        return cls(f"{hasher.name}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hex digits after the colon."""
        return self.partition(":")[2]

    def new_hash(self) -> Hash:
        """Return an empty hash object of this digest's algorithm."""
        return new_hash(self.algorithm)


def new_hash(algorithm: str = "sha256") -> Hash:
    """Return an empty hash object.

    Raises:
        DigestError: The algorithm is neither ``sha256`` nor ``sha512``.
    """
    if algorithm not in ("sha256", "sha512"):
        raise DigestError(f"unknown digest algorithm {algorithm[:_SHOWN_CHARS]!a}", why="known are sha256, sha512")
    return hashlib.sha256() if algorithm == "sha256" else hashlib.sha512()


def is_digest(text: str) -> bool:
    """Whether a text is a well-formed digest."""
    return bool(_PATTERN.match(text))


class HashingWriter:
    """Hashes and counts bytes on their way into a file.

    Args:
        sink: Where the bytes go; not closed by us.
        algorithm: ``sha256`` or ``sha512``.
    """

    __slots__ = ("_hasher", "_sink", "size_bytes")

    def __init__(self, sink: BinaryIO, algorithm: str = "sha256") -> None:
        self._sink = sink
        self._hasher = new_hash(algorithm)
        self.size_bytes = 0

    @property
    def digest(self) -> Digest:
        """Digest of the bytes written so far."""
        return Digest.from_hash(self._hasher)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of the data and return its length."""
        self._sink.write(data)
        self._hasher.update(data)
        self.size_bytes += len(data)
        return len(data)


def read_chunks(stream: BinaryIO, size_bytes: int | None = None) -> Iterator[bytes]:
    """Yield a stream's bytes in chunks of at most 1 MiB, in order; none is empty.

    Args:
        stream: Read until its end or until the size is reached.
        size_bytes: Stop after so many bytes; None means to the end. Fewer come when the stream ends earlier.
    """
    left = size_bytes
    while left is None or left > 0:
        chunk = stream.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        yield chunk
