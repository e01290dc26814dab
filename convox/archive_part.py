"""What an export wrote before it broke, for the next one of the same build to the same file.

An export's bytes follow from the build alone. So what an export that broke, or was killed, has left is the beginning of
the file that the next one writes, and every blob in it is at a place that the next one knows. It reads them there and
fetches the rest; nothing is believed but what has the right digest, and every byte of the file is written again.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from convox.archive_file import GZIP_HEADER, STORED_BYTES, STORED_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convox.archive_file import Compression
    from convox.archive_frames import BlobPlace

_CHUNK_BYTES = 16 * STORED_BYTES


class DamagedPartError(Exception):
    """What an export has left holds other bytes than it should."""


class EarlierPart:
    """The beginning of an export, unpacked. May be read from several threads, and while the same is written over it.

    Args:
        file: What was left, open for reading too; its position is left alone.
        compression: How the export is packed.
        scratch_path: A folder for a temporary file.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, file: BinaryIO, compression: Compression, scratch_path: Path) -> None:
        self._is_gzip = compression == "gzip"
        self._left = file
        self._file = _unpacked(file, scratch_path) if compression == "zstd" else file
        size = os.fstat(self._file.fileno()).st_size
        if self._is_gzip:
            blocks, rest = divmod(max(0, size - len(GZIP_HEADER)), STORED_HEADER_BYTES + STORED_BYTES)
            size = blocks * STORED_BYTES + max(0, rest - STORED_HEADER_BYTES)
        self._size_bytes = size

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not self._left:
            self._file.close()

    def begins_with(self, data: bytes | bytearray) -> bool:
        """Whether there is more of it than those bytes, and they are its first."""
        return self._size_bytes > len(data) and b"".join(self.read(0, len(data))) == data

    def length(self, blob: BlobPlace) -> int:
        """Return how many bytes of a blob there are."""
        return max(0, min(blob.size_bytes, self._size_bytes - blob.offset))

    def read(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        """Yield some bytes, all of which are there.

        Raises:
            DamagedPartError: They are not.
            OSError: They cannot be read.
        """
        end = offset + size_bytes
        while offset < end:
            chunk = (
                self._read_packed(offset, end)
                if self._is_gzip
                else self._pread(min(end - offset, _CHUNK_BYTES), offset)
            )
            if not chunk:
                raise DamagedPartError
            offset += len(chunk)
            yield chunk

    def _read_packed(self, offset: int, end: int) -> bytes:
        """Read from gzip of stored blocks, all of one length: their headers are left out."""
        block, skipped = divmod(offset, STORED_BYTES)
        step = STORED_HEADER_BYTES + STORED_BYTES
        data = self._pread(_CHUNK_BYTES // STORED_BYTES * step, len(GZIP_HEADER) + block * step)
        blocks = [data[at + STORED_HEADER_BYTES : at + step] for at in range(0, len(data), step)]
        return b"".join(blocks)[skipped : skipped + end - offset]

    def _pread(self, size_bytes: int, offset: int) -> bytes:
        return os.pread(self._file.fileno(), size_bytes, offset)


def _unpacked(file: BinaryIO, scratch_path: Path) -> BinaryIO:
    """Unpack what is there of a zstd file into a temporary one."""
    import zstandard  # noqa: PLC0415 (only where it is asked for)

    unpacked: BinaryIO = tempfile.TemporaryFile(dir=scratch_path)  # noqa: SIM115 (used as long as this process lives)
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    offset = 0
    try:
        while chunk := os.pread(file.fileno(), _CHUNK_BYTES, offset):
            offset += len(chunk)
            unpacked.write(unpacker.decompress(chunk))
    except zstandard.ZstdError:
        pass  # it is damaged from here on, or whole
    unpacked.flush()
    return unpacked
