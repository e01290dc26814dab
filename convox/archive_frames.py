"""What an export is made of: a row of frames, of which each is some bytes or stands for a blob.

All but the blobs is small and known before the first byte is written, so that the place of each blob is known as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from buildkit_client.oci import Digest, OciArchive

PRIVATE_MODE = 0o600

_BLOCK_BYTES = 512
_FOLDER_MODE = 0o700

END_OF_TAR = bytes(2 * _BLOCK_BYTES)


class BlobPlace(NamedTuple):
    """A blob in an export.

    Attributes:
        digest: The blob.
        size_bytes: How long it is.
        offset: Where it begins in the unpacked file, in bytes.
    """

    digest: Digest
    size_bytes: int
    offset: int


class TarFormat:
    """Makes members, each of the same owner and time.

    Args:
        mod_time_s: Time of every member, seconds since 1970.
    """

    def __init__(self, mod_time_s: int) -> None:
        self._mod_time_s = mod_time_s

    def file(self, name: str, data: bytes) -> Iterator[bytes]:
        """Yield a private file."""
        yield self.header(name, len(data), mode=PRIVATE_MODE)
        yield data
        yield padding(len(data))

    def header(self, name: str, size_bytes: int, *, mode: int = 0o644, is_directory: bool = False) -> bytes:
        """Return what stands before a member's bytes."""
        from buildkit_client.oci import tar_header  # noqa: PLC0415 (not needed by every command)

        return tar_header(name, size_bytes, is_directory=is_directory, mode=mode, mod_time_s=self._mod_time_s)


def padding(size_bytes: int) -> bytes:
    """Return what stands after a member's bytes."""
    return bytes(-size_bytes % _BLOCK_BYTES)


def image_frames(tar: TarFormat, archives: Mapping[str, OciArchive]) -> Iterator[bytes | Digest]:
    """Yield the images as they are in the file; a digest stands for that blob's bytes.

    Args:
        tar: Makes members.
        archives: By name; one without a name is no member of its own, its members are.
    """
    if "" in archives:
        yield from archives[""].members()
        return
    yield tar.header("", 0, mode=_FOLDER_MODE, is_directory=True)  # Convox walks a folder and cuts its own name off
    for name, archive in archives.items():
        yield tar.header(name, archive.size_bytes)
        yield from archive.frames()
        yield padding(archive.size_bytes)


def blob_places(frames: Iterable[bytes | Digest], sizes: Mapping[Digest, int]) -> list[BlobPlace]:
    """Return where each blob is."""
    places = []
    offset = 0
    for frame in frames:
        if isinstance(frame, bytes):
            offset += len(frame)
        else:
            places.append(BlobPlace(frame, sizes[frame], offset))
            offset += sizes[frame]
    return places
