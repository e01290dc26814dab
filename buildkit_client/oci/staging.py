"""Reading OCI archives without trust: every file goes into a temporary one until all of an image is there.

Names in an archive only say which digest to expect; they are never made into paths. When all of an image came, and its
sizes, digests and media types agree, :meth:`StagedArchive.commit` gives its blobs their names in the layout. Whatever
the archive holds besides is dropped. Archives of ``docker save`` without an OCI index are turned into OCI images.

Reference: OCI image-spec, image-layout.md; docker image specification v1.2, "Combined Image JSON + Filesystem
Changeset Format"; skopeo ``oci-archive:``.
"""

from __future__ import annotations

import io
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from buildkit_client.errors import BlobNotFoundError, DigestError, ImageFormatError, LayoutError
from buildkit_client.oci import media_types
from buildkit_client.oci.decompress import MAGIC_BYTES, DecompressedReader, DecompressLimits, detect_compression
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest, is_digest
from buildkit_client.oci.docker_archive import DOCKER_MANIFEST_FILE, StagedFile, image_from_docker_archive
from buildkit_client.oci.growing import GrowingBlob
from buildkit_client.oci.image import (
    MAX_DOCUMENT_BYTES,
    ImageIndex,
    ImageManifest,
    parse_index,
    parse_manifest,
    walk_image,
)
from buildkit_client.oci.json_document import get_string, parse_object
from buildkit_client.oci.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, MAX_INDEX_BYTES, ImageLayout
from buildkit_client.oci.tar_stream import MAX_ENTRIES, MAX_TOTAL_BYTES, TarKind, TarMember, TarReader
from buildkit_client.oci.transfer import TransferProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from buildkit_client.oci.blob_store import BlobWriter
    from buildkit_client.oci.decompress import ByteReader
    from buildkit_client.oci.transfer import ProgressCallback

_BLOB_NAME = re.compile(r"blobs/([a-z0-9]+)/([^/]+)", re.ASCII)
_BUFFER_BYTES = 256 << 10
_MAX_LINKS = 10_000


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How large an archive may be.

    Attributes:
        total_bytes: The most bytes of all its files together, and of the unpacked stream.
        entries: The most members.
        ratio: The most bytes that one byte of a compressed archive may unpack to, beyond the first 256 MiB.
    """

    total_bytes: int = MAX_TOTAL_BYTES
    entries: int = MAX_ENTRIES
    ratio: int = 250


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """An image that came out of an archive.

    Attributes:
        descriptor: Its index or image manifest; its blobs are in the layout, its name is not.
        names: What the archive calls it: full names, or else bare tags; may be empty.
    """

    descriptor: Descriptor
    names: tuple[str, ...] = ()


def stage_oci_archive(
    stream: ByteReader,
    layout: ImageLayout,
    limits: ArchiveLimits | None = None,
    *,
    has_blob: Callable[[Digest, int], bool] | None = None,
    on_blob: Callable[[Descriptor, Callable[[], Iterator[bytes]]], None] | None = None,
) -> StagedArchive:
    """Read an archive into a layout's temporary files.

    Args:
        stream: A tar stream, plain or in gzip or zstd, read to its end. Compression is told from its bytes.
        layout: Takes the blobs.
        limits: See :class:`ArchiveLimits`.
        has_blob: Whether a blob of that digest and size need not be stored, since it is where it shall go. It is
            hashed all the same. Not asked for blobs of at most 4 MiB.
        on_blob: Told of each other blob of more than 4 MiB that is named by its digest when it begins to come; gets its
            descriptor, without a media type, and a function that gives its bytes as they come, in another thread. That
            one keeps the last bytes back until all have the digest, and raises a :class:`LayoutError` if they have not.

    Returns:
        What came, whole and checked; to be committed or closed.

    Raises:
        LayoutError: The archive is damaged, incomplete, too large, or holds no image; nothing is kept of it. Or the
            layout cannot be written.
    """
    limits = limits or ArchiveLimits()
    unpacked = DecompressedReader(stream, DecompressLimits(total_bytes=limits.total_bytes, ratio=limits.ratio))
    tar = TarReader(
        io.BufferedReader(unpacked, _BUFFER_BYTES), max_entries=limits.entries, max_total_bytes=limits.total_bytes
    )
    staged = StagedArchive(layout, has_blob, on_blob)
    try:
        for member in tar:
            staged.take(member, tar)
        staged.finish()
    except BaseException:
        staged.close()
        raise
    return staged


@dataclass(frozen=True, slots=True)
class _StagedBlob:
    """A blob that came; ``writer`` is None when it was hashed and dropped."""

    size_bytes: int
    head: bytes
    writer: BlobWriter | None

    def drop(self) -> None:
        if self.writer is not None:
            self.writer.abort()


class StagedArchive:
    """An archive's files on their way: documents in memory, everything else in temporary files.

    Whoever reads the archive hands over its members with :meth:`take` and calls :meth:`finish` after the last;
    :func:`stage_oci_archive` does so for a whole stream. Leaving the ``with`` block without a commit drops them.

    Args:
        layout: Takes the blobs.
        has_blob: See :func:`stage_oci_archive`, as for the following.
        on_blob: Told of large blobs.

    Attributes:
        images: What the archive holds, at least one, in its order; empty before :meth:`finish`.
    """

    def __init__(
        self,
        layout: ImageLayout,
        has_blob: Callable[[Digest, int], bool] | None = None,
        on_blob: Callable[[Descriptor, Callable[[], Iterator[bytes]]], None] | None = None,
    ) -> None:
        self.images: list[ImportedImage] = []
        self._layout = layout
        self._has_blob = has_blob
        self._on_blob = on_blob
        self._documents: dict[str, bytes] = {}
        self._files: dict[str, StagedFile] = {}
        self._links: dict[str, str] = {}
        self._blobs: dict[Digest, _StagedBlob] = {}
        self._order: list[Digest] = []

    def __enter__(self) -> Self:
        """Return the archive."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not committed."""
        self.close()

    def take(self, member: TarMember, tar: TarReader) -> None:
        """Store one member of the archive.

        Raises:
            LayoutError: It has no place in an archive, or cannot be stored.
            BuildKitError: What ``has_blob`` raised.
        """
        name = checked_member_name(member)
        if member.kind is TarKind.DIRECTORY:
            return
        if name in self._documents or name in self._files or name in self._links:
            raise LayoutError("the archive is damaged", why=f"it has two files named {name!a}")
        if member.kind is TarKind.SYMLINK:
            self._links[name] = member.link_target
            if len(self._links) > _MAX_LINKS:
                raise LayoutError("the archive has too many links", why=f"the limit is {_MAX_LINKS}")
        elif member.kind is not TarKind.FILE:
            raise LayoutError("the archive has a kind of file that is not taken", why=f"{name!a}: {member.kind.value}")
        elif name in (INDEX_FILE, LAYOUT_FILE, DOCKER_MANIFEST_FILE):
            self._documents[name] = tar.read_content(MAX_INDEX_BYTES)
        else:
            self._take_blob(name, member.size_bytes, tar)

    def finish(self) -> None:
        """Find out which images came, and check that all of each is there.

        Raises:
            LayoutError: The archive is damaged, incomplete, or holds no image.
        """
        parts: dict[Digest, None] = {}
        try:
            self.images = self._find_images()
            for image in self.images:
                for part in walk_image(image.descriptor, self._read_manifest):
                    if self._is_whole(part):
                        parts.pop(part.digest, None)
                        parts[part.digest] = None
        except (BlobNotFoundError, DigestError, ImageFormatError) as exc:
            raise LayoutError("the archive is damaged", why=f"{exc}: {exc.why}" if exc.why else str(exc)) from exc
        self._order = list(reversed(parts))

    def commit(self, on_progress: ProgressCallback | None = None) -> None:
        """Give the images' blobs their names in the layout, parts before what names them.

        Args:
            on_progress: Told of each blob; it is a skipped one when the layout, or another place, had it.

        Raises:
            LayoutError: The layout cannot be written.
        """
        for digest in self._order:
            blob = self._blobs[digest]
            is_there = blob.writer is None or self._layout.has_blob(digest, blob.size_bytes)
            if blob.writer is not None:
                blob.writer.commit(digest)
            if on_progress is not None:
                on_progress(TransferProgress(digest, blob.size_bytes, blob.size_bytes, is_skipped=is_there))

    def close(self) -> None:
        """Drop every file that got no name."""
        for blob in self._blobs.values():
            if blob.writer is not None:
                blob.writer.abort()

    def _take_blob(self, name: str, size_bytes: int, tar: TarReader) -> None:
        expected = None
        if match := _BLOB_NAME.fullmatch(name):
            text = f"{match[1]}:{match[2]}"
            if not is_digest(text):
                raise LayoutError("the archive is damaged", why=f"{name!a} is named by no digest")
            expected = Digest(text)
        if expected is not None and self._is_elsewhere(expected, size_bytes):
            found, blob = self._hash_blob(expected, size_bytes, tar)
        else:
            found, blob = self._store_blob(expected, size_bytes, tar)
        self._files[name] = StagedFile(found, blob.size_bytes, detect_compression(blob.head))
        if self._blobs.setdefault(found, blob) is not blob:
            blob.drop()

    def _is_elsewhere(self, digest: Digest, size_bytes: int) -> bool:
        return self._has_blob is not None and size_bytes > MAX_DOCUMENT_BYTES and self._has_blob(digest, size_bytes)

    @staticmethod
    def _hash_blob(expected: Digest, size_bytes: int, tar: TarReader) -> tuple[Digest, _StagedBlob]:
        hasher = expected.new_hash()
        head = b""
        for chunk in tar.chunks():
            head = head or chunk[:MAGIC_BYTES]
            hasher.update(chunk)
        found = Digest.from_hash(hasher)
        _check_digest(expected, found)
        return found, _StagedBlob(size_bytes, head, None)

    def _store_blob(self, expected: Digest | None, size_bytes: int, tar: TarReader) -> tuple[Digest, _StagedBlob]:
        writer = self._layout.begin_blob(expected)
        growing = GrowingBlob(writer, size_bytes)
        is_whole = False
        try:
            is_new = expected is not None and expected not in self._blobs
            if self._on_blob is not None and expected is not None and is_new and size_bytes > MAX_DOCUMENT_BYTES:
                self._on_blob(Descriptor("", expected, size_bytes), growing.chunks)
            head = b""
            for chunk in tar.chunks():
                head = head or chunk[:MAGIC_BYTES]
                writer.write(chunk)
                growing.grow()
            found = writer.seal()
            _check_digest(expected, found)
            is_whole = True
            return found, _StagedBlob(writer.size_bytes, head, writer)
        finally:
            growing.finish(is_whole=is_whole)
            if not is_whole:
                writer.abort()

    def _find_images(self) -> list[ImportedImage]:
        if INDEX_FILE in self._documents:
            if LAYOUT_FILE not in self._documents:
                raise LayoutError("the archive is no OCI archive", why=f"it has no file {LAYOUT_FILE}")
            if self._links:
                raise LayoutError("the archive is damaged", why=f"it has a symbolic link: {next(iter(self._links))!a}")
            layout = parse_object(self._documents[LAYOUT_FILE], LAYOUT_FILE)
            if get_string(layout, "imageLayoutVersion", LAYOUT_FILE) != LAYOUT_VERSION:
                raise LayoutError("the archive has an unknown version", why=f"only {LAYOUT_VERSION} is known")
            index = parse_index(self._documents[INDEX_FILE], what=INDEX_FILE)
            images = _named_images(index)
        elif DOCKER_MANIFEST_FILE in self._documents:
            images = [
                ImportedImage(self._add_manifest(manifest), names)
                for manifest, names in image_from_docker_archive(
                    self._documents[DOCKER_MANIFEST_FILE], self._resolve, self._read_document
                )
            ]
        else:
            raise LayoutError(
                "the archive holds no image", why=f"it has neither {INDEX_FILE} nor {DOCKER_MANIFEST_FILE}"
            )
        if not images:
            raise LayoutError("the archive holds no image", why="its index is empty")
        return images

    def _is_whole(self, part: Descriptor) -> bool:
        """Whether a blob came and is what its descriptor says; False for a foreign layer that did not come."""
        blob = self._blobs.get(part.digest)
        if blob is None:
            if media_types.may_be_absent(part.media_type):
                return False
            raise LayoutError("the archive is incomplete", why=f"blob {part.digest} is missing")
        if blob.size_bytes != part.size_bytes:
            raise LayoutError(
                "the archive is damaged",
                why=f"blob {part.digest} has {blob.size_bytes} bytes; its descriptor says {part.size_bytes}",
            )
        announced = media_types.layer_compression(part.media_type)
        found = detect_compression(blob.head)
        if announced is not None and announced != found and blob.size_bytes:
            raise LayoutError(
                "the archive is damaged",
                why=f"layer {part.digest} is announced as {part.media_type}; its bytes show compression {found}",
            )
        return True

    def _resolve(self, name: str) -> StagedFile:
        """Return the file that a docker archive means by a name, links followed inside the archive alone."""
        current = posixpath.normpath(name)
        for _ in range(40):  # as many as Linux follows
            if current in self._files:
                return self._files[current]
            if current not in self._links:
                break
            current = posixpath.normpath(posixpath.join(posixpath.dirname(current), self._links[current]))
        raise LayoutError("the archive is incomplete", why=f"it has no file {name!a}")

    def _read_document(self, digest: Digest) -> bytes:
        blob = self._blobs.get(digest)
        if blob is None:
            raise BlobNotFoundError(f"blob {digest} is not in the archive")
        if blob.size_bytes > MAX_DOCUMENT_BYTES or blob.writer is None:
            raise LayoutError("the archive is damaged", why=f"{digest} is larger than {MAX_DOCUMENT_BYTES} bytes")
        with blob.writer.open_written() as stream:
            return stream.read()

    def _read_manifest(self, descriptor: Descriptor) -> ImageManifest | ImageIndex:
        data = self._read_document(descriptor.digest)
        return parse_manifest(data, descriptor.media_type, f"manifest {descriptor.digest}")

    def _add_manifest(self, manifest: ImageManifest) -> Descriptor:
        data = manifest.to_bytes()
        writer = self._layout.begin_blob()
        writer.write(data)
        digest = writer.seal()
        blob = _StagedBlob(len(data), data[:MAGIC_BYTES], writer)
        if self._blobs.setdefault(digest, blob) is not blob:
            blob.drop()
        return Descriptor(media_types.OCI_IMAGE_MANIFEST, digest, len(data))


def _check_digest(expected: Digest | None, found: Digest) -> None:
    if expected not in (None, found):
        raise LayoutError("the archive is damaged", why=f"the bytes of blob {expected} have the digest {found}")


def checked_member_name(member: TarMember) -> str:
    """Return a member's name without ``./`` before and ``/`` behind, if it stays inside the archive.

    Returns:
        The name; empty for the folder that the archive itself is.

    Raises:
        LayoutError: It is absolute, leads outside, or holds what some systems take for more than a name.
    """
    name = member.name
    while name.startswith("./"):
        name = name[2:]
    if member.kind is TarKind.DIRECTORY:
        name = name.rstrip("/") if name.strip("/") else ""
        if name in ("", "."):
            return ""
    unsafe = not name or name.startswith("/") or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if unsafe or any(part in ("", ".", "..") for part in name.split("/")):
        raise LayoutError("the archive is damaged", why=f"it has a file name that is not taken: {name[:200]!a}")
    return name


def _named_images(index: ImageIndex) -> list[ImportedImage]:
    """Return an index's entries, each image once with all its names."""
    names: dict[Digest, list[str]] = {}
    entries: dict[Digest, Descriptor] = {}
    for entry in index.manifests:
        if entry.media_type not in media_types.MANIFESTS | media_types.SCHEMA1:
            raise ImageFormatError(f"{INDEX_FILE} has an entry of type {entry.media_type!a}", why="that is no image")
        known = entries.setdefault(entry.digest, entry)
        if (known.size_bytes, known.media_type) != (entry.size_bytes, entry.media_type):
            raise ImageFormatError(f"{INDEX_FILE} describes {entry.digest} in two ways")
        name = _name_of(entry.annotations)
        if name and name not in names.setdefault(entry.digest, []):
            names[entry.digest].append(name)
    return [ImportedImage(_plain(entry), tuple(names.get(digest, ()))) for digest, entry in entries.items()]


def _plain(entry: Descriptor) -> Descriptor:
    """Return an index entry's descriptor without the archive's names for it."""
    own = {media_types.ANNOTATION_IMAGE_NAME, media_types.ANNOTATION_REF_NAME}
    kept = {key: text for key, text in entry.annotations.items() if key not in own}
    return Descriptor(entry.media_type, entry.digest, entry.size_bytes, kept, entry.platform)


def _name_of(annotations: Mapping[str, str]) -> str:
    return annotations.get(media_types.ANNOTATION_IMAGE_NAME) or annotations.get(media_types.ANNOTATION_REF_NAME, "")
