"""OCI archives: an image layout as one tar stream, written and read without a copy in between.

What is written depends on the image and its names alone: members in a fixed order, owner 0, time 0. Its length is
known before the first byte, so an archive can be a member of another archive. Reading is in
:mod:`buildkit_client.oci.staging`.

Reference: OCI image-spec, image-layout.md; skopeo ``oci-archive:``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

from buildkit_client.oci import media_types
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex
from buildkit_client.oci.json_document import dump_object
from buildkit_client.oci.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, ImageLayout, name_annotations
from buildkit_client.oci.staging import ArchiveLimits, ImportedImage, stage_oci_archive
from buildkit_client.oci.tar_stream import BLOCK_BYTES, END_MARK, tar_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildkit_client.oci.decompress import ByteReader
    from buildkit_client.oci.descriptor import Descriptor


class BlobSource(Protocol):
    """Where an archive's blobs come from: an :class:`~buildkit_client.oci.layout.ImageLayout`, or a repository."""

    def walk(self, descriptor: Descriptor) -> Iterator[Descriptor]:
        """Yield everything an image is made of, the image first."""

    def has_blob(self, digest: Digest) -> bool:
        """Whether a blob is there."""

    def check_size(self, descriptor: Descriptor) -> None:
        """Compare a blob's length with its descriptor, as far as that costs nothing.

        Raises:
            BlobNotFoundError: It is not there.
            BuildKitError: It has another length.
        """

    def read_blob(self, digest: Digest, size_bytes: int) -> Iterator[bytes]:
        """Yield a blob's bytes and check their digest at the end."""


class OciArchive:
    """Images ready to be written as one archive; a blob that several of them share is in it once.

    Args:
        source: Where the blobs are.
        descriptor: An index or image manifest.
        names: Full names for it in the archive's index; may be empty.
        others: More entries for the archive's index, each with the annotations that name it.

    Raises:
        BlobNotFoundError: A blob is missing; foreign layers may be.
        LayoutError: A manifest is damaged, or a blob has the wrong size.
        RegistryError: The registry that has the image cannot be reached or refuses.
        OptionError: A name is no image reference.

    Attributes:
        size_bytes: How long the archive is.
        blobs: Length of each blob by digest, in the archive's order.
    """

    def __init__(
        self,
        source: BlobSource,
        descriptor: Descriptor,
        names: Sequence[str] = (),
        *,
        others: Sequence[Descriptor] = (),
    ) -> None:
        self._source = source
        entries = [descriptor.with_annotations(name_annotations(name)) for name in names] or [descriptor]
        entries += others
        self._documents = {
            LAYOUT_FILE: dump_object({"imageLayoutVersion": LAYOUT_VERSION}),
            INDEX_FILE: ImageIndex(tuple(entries)).to_bytes(),
        }
        blobs: dict[Digest, int] = {}
        for entry in (descriptor, *others):
            for part in source.walk(entry):
                if media_types.may_be_absent(part.media_type) and not source.has_blob(part.digest):
                    continue
                source.check_size(part)
                blobs[part.digest] = part.size_bytes
        self.blobs: Mapping[Digest, int] = dict(sorted(blobs.items()))
        self.size_bytes = sum(self.blobs[frame] if isinstance(frame, Digest) else len(frame) for frame in self.frames())

    def write(self, out: BinaryIO) -> None:
        """Write the archive; each blob is hashed on its way.

        Args:
            out: Takes ``size_bytes`` bytes; not closed by us. After an error it holds the beginning of an archive.

        Raises:
            BlobNotFoundError: A blob went missing.
            LayoutError: A blob is damaged.
            OSError: ``out`` cannot be written.
        """
        for frame in self.frames():
            if isinstance(frame, Digest):
                for chunk in self._source.read_blob(frame, self.blobs[frame]):
                    out.write(chunk)
            else:
                out.write(frame)

    def frames(self) -> Iterator[bytes | Digest]:
        """Yield the archive in order; a digest stands for that blob's bytes, which the caller reads and checks."""
        yield from self.members()
        yield END_MARK

    def members(self) -> Iterator[bytes | Digest]:
        """Yield the same without the end mark, for an archive that has more files than an image's."""
        for name, data in self._documents.items():
            yield tar_header(name, len(data))
            yield data + _padding(len(data))
        folders = sorted({f"blobs/{digest.algorithm}" for digest in self.blobs})
        for folder in ("blobs", *folders):
            yield tar_header(folder, 0, is_directory=True)
        for digest, size in self.blobs.items():
            yield tar_header(f"blobs/{digest.algorithm}/{digest.hex}", size)
            yield digest
            yield _padding(size)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK_BYTES)


def write_oci_archive(layout: ImageLayout, descriptor: Descriptor, names: Sequence[str], out: BinaryIO) -> None:
    """Write an image as an OCI archive; see :class:`OciArchive`."""
    OciArchive(layout, descriptor, names).write(out)


def import_oci_archive(
    stream: ByteReader, layout: ImageLayout, limits: ArchiveLimits | None = None
) -> list[ImportedImage]:
    """Read an archive's images into a layout; the layout's index is left to the caller.

    Until the caller names them there, the blobs are protected from a prune by their age alone.

    Args:
        stream: A tar stream, plain or in gzip or zstd, read to its end. Compression is told from its bytes.
        layout: Takes the blobs.
        limits: See :class:`ArchiveLimits`.

    Returns:
        One entry an image, at least one, in the archive's order.

    Raises:
        LayoutError: The archive is damaged, incomplete, too large, or holds no image; nothing is kept of it. Or the
            layout cannot be written.
    """
    with stage_oci_archive(stream, layout, limits) as staged:
        staged.commit()
        return staged.images
