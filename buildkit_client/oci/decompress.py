"""Reads what may be gzip, zstd or neither, told apart by its first bytes, in bounded memory.

Compressed input can be a bomb, cut short, or followed by something that another reader would take for a second file.
All three end with an error; a stream that ends without one was whole.

Reference: RFC 1952 (gzip members), RFC 8878 section 3.1 (zstd frames).
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Protocol, cast

from buildkit_client.errors import LayoutError

if TYPE_CHECKING:
    from typing_extensions import Buffer

Compression = Literal["gzip", "zstd", "none"]

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC_TAIL: Final = b"\x2a\x4d\x18"
MAGIC_BYTES = 4
"""How many first bytes are enough for :func:`detect_compression`."""

_READ_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class DecompressLimits:
    """How far a compressed stream may go.

    Attributes:
        total_bytes: The most bytes that come out.
        ratio: The most bytes that come out for one that goes in, once ``ratio_from_bytes`` came out.
        ratio_from_bytes: See there; small files of zeros are no bombs.
        window_bytes: The most memory that zstd may ask for.
    """

    total_bytes: int = 256 << 30
    ratio: int = 250
    ratio_from_bytes: int = 256 << 20
    window_bytes: int = 128 << 20


def detect_compression(head: bytes) -> Compression:
    """Tell the compression from a stream's first four bytes; fewer are a short stream's all."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    if head.startswith(ZSTD_MAGIC) or (head[1:4] == _SKIPPABLE_MAGIC_TAIL and head[0] & 0xF0 == 0x50):
        return "zstd"
    return "none"


class ByteReader(Protocol):
    """What can be read from: of a file, only that."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, and none only at the end."""


class _Decoder(Protocol):
    def read(self, limit: int) -> bytes:
        """Return 1 to ``limit`` bytes, or none at the end."""


class DecompressedReader(io.RawIOBase):
    """The unpacked bytes of a stream; a plain stream comes through unchanged.

    Args:
        source: Read from where it stands; not closed by us.
        limits: See :class:`DecompressLimits`; ``total_bytes`` holds for plain streams too.

    Attributes:
        compression: What the first bytes showed.
    """

    def __init__(self, source: ByteReader, limits: DecompressLimits | None = None) -> None:
        super().__init__()
        self._limits = limits or DecompressLimits()
        self._source = _Source(source)
        self.compression: Compression = detect_compression(self._source.peek(MAGIC_BYTES))
        self._decoder: _Decoder
        if self.compression == "gzip":
            self._decoder = _GzipDecoder(self._source)
        elif self.compression == "zstd":
            self._decoder = _ZstdDecoder(self._source, self._limits.window_bytes)
        else:
            self._decoder = self._source
        self._given = 0

    def readable(self) -> bool:
        """Whether bytes can be read: always."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer as far as bytes are at hand; 0 means the end.

        Raises:
            LayoutError: The stream is damaged, cut short, followed by garbage, or goes past a limit.
        """
        view = memoryview(buffer).cast("B")
        data = self._decoder.read(len(view)) if len(view) else b""
        view[: len(data)] = data
        self._given += len(data)
        limits = self._limits
        if self._given > limits.total_bytes:
            raise LayoutError("the archive is too large", why=f"it unpacks to more than {limits.total_bytes} bytes")
        if self._given > max(limits.ratio_from_bytes, limits.ratio * self._source.taken) and self._is_compressed:
            raise LayoutError(
                "the archive looks like a decompression bomb",
                why=f"{self._source.taken} bytes unpack to more than {self._given}; the limit is {limits.ratio} to 1",
            )
        return len(data)

    @property
    def _is_compressed(self) -> bool:
        return self.compression != "none"


class _Source:
    """The packed stream: counts what was taken and can give bytes back."""

    def __init__(self, stream: ByteReader) -> None:
        self._stream = stream
        self._ahead = b""
        self.taken = 0

    def peek(self, count: int) -> bytes:
        while len(self._ahead) < count:
            more = self._stream.read(count - len(self._ahead))
            if not more:
                break
            self._ahead += more
        return self._ahead[:count]

    def read(self, limit: int) -> bytes:
        limit = min(limit, _READ_BYTES) if limit >= 0 else _READ_BYTES
        data, self._ahead = self._ahead[:limit], self._ahead[limit:]
        if not data:
            data = self._stream.read(limit)
        self.taken += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        self._ahead = data + self._ahead
        self.taken -= len(data)


class _GzipDecoder:
    """Gzip members one after the other; zero bytes behind the last one are padding, as gzip itself takes them."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._member = self._new_member()

    @staticmethod
    def _new_member() -> zlib._Decompress:
        return zlib.decompressobj(wbits=31)

    def read(self, limit: int) -> bytes:
        done = self._member.eof
        while not done:
            packed = self._source.read(_READ_BYTES)
            try:
                data = self._member.decompress(packed, limit)
            except zlib.error as exc:
                raise LayoutError("the archive is damaged", why=f"gzip: {exc}") from exc
            done = self._member.eof
            if not packed and not data and not done:
                raise LayoutError("the archive is cut short", why="its gzip data ends too early")
            self._source.give_back(self._member.unconsumed_tail or self._member.unused_data)
            if done and self._has_next_member():
                self._member = self._new_member()
                done = False
            if data:
                return data
        return b""

    def _has_next_member(self) -> bool:
        while head := self._source.peek(len(GZIP_MAGIC)):
            if head == GZIP_MAGIC:
                return True
            if self._source.read(_READ_BYTES).strip(b"\0"):
                raise LayoutError("the archive is damaged", why="something else follows its gzip data")
        return False


class _ZstdDecoder:
    """Zstd frames one after the other, skippable ones passed over.

    The decoder does not report a stream that ends inside a frame, so the frames are followed on their way in.
    """

    def __init__(self, source: _Source, window_bytes: int) -> None:
        import zstandard  # noqa: PLC0415  # few archives need it

        self._error: type[Exception] = zstandard.ZstdError
        self._frames = _ZstdFrames(source)
        self._reader = zstandard.ZstdDecompressor(max_window_size=window_bytes).stream_reader(
            cast("BinaryIO", self._frames), read_size=_READ_BYTES, read_across_frames=True, closefd=False
        )

    def read(self, limit: int) -> bytes:
        try:
            data = self._reader.read(limit)
        except self._error as exc:
            raise LayoutError("the archive is damaged", why=str(exc)) from exc
        if not data:
            self._frames.check_end()
        return data


class _ZstdFrames:
    """Passes packed bytes on and knows whether they stand between two frames."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._pending = b""  # bytes of a header that is not complete yet
        self._skip = 0  # bytes of a body still to pass by
        self._in_frame = False
        self._has_checksum = False

    def read(self, limit: int = -1) -> bytes:
        data = self._source.read(limit)
        self._follow(data)
        return data

    def check_end(self) -> None:
        if self._pending or self._skip or self._in_frame:
            raise LayoutError("the archive is cut short", why="its zstd data ends too early")

    def _follow(self, data: bytes) -> None:
        buffer, position = self._pending + data, 0
        while True:
            step = min(self._skip, len(buffer) - position)
            position += step
            self._skip -= step
            used = 0 if self._skip else self._header(buffer[position : position + 18])
            if not used:
                break
            position += used
        self._pending = buffer[position:]

    def _header(self, head: bytes) -> int:
        """Take the header at the start of ``head``; return its length, 0 when it is not complete."""
        if self._in_frame:
            return self._block_header(head)
        if len(head) < 8:
            return 0
        if head[1:4] == _SKIPPABLE_MAGIC_TAIL and head[0] & 0xF0 == 0x50:
            self._skip = int.from_bytes(head[4:8], "little")
            return 8
        if head[:4] != ZSTD_MAGIC:
            raise LayoutError("the archive is damaged", why="something else follows its zstd data")
        flags = head[4]
        single_segment = bool(flags & 0x20)
        size_field = (1 if single_segment else 0, 2, 4, 8)[flags >> 6]
        length = 5 + (not single_segment) + (0, 1, 2, 4)[flags & 3] + size_field
        if len(head) < length:
            return 0
        self._in_frame, self._has_checksum = True, bool(flags & 4)
        return length

    def _block_header(self, head: bytes) -> int:
        if len(head) < 3:
            return 0
        value = int.from_bytes(head[:3], "little")
        is_last, kind, size = value & 1, value >> 1 & 3, value >> 3
        self._skip = 1 if kind == 1 else size  # a run of one byte is stored as that byte
        if is_last:
            self._in_frame = False
            self._skip += 4 if self._has_checksum else 0
        return 3
