"""OCI archives: an image layout as one tar stream, written and read without a copy in between.

What is written depends on the image and its names alone: members in a fixed order, owner 0, time 0. Its length is
known before the first byte, so an archive can be a member of another archive.

What is read is not trusted. Each file's bytes go into the layout's temporary folder and are hashed; names in the
archive only say which digest to expect. When all of an image is there, and its sizes, digests and media types agree,
its blobs get their names; whatever the archive holds besides is dropped. Archives of ``docker save`` without an OCI
index are turned into OCI images.

Reference: OCI image-spec, image-layout.md; docker image specification v1.2, "Combined Image JSON + Filesystem
Changeset Format"; skopeo ``oci-archive:``.
"""

from __future__ import annotations

import io
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from buildkit_client.errors import BlobNotFoundError, BuildKitError, ImageFormatError, LayoutError
from buildkit_client.oci import media_types
from buildkit_client.oci.decompress import MAGIC_BYTES, DecompressedReader, DecompressLimits, detect_compression
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest, is_digest
from buildkit_client.oci.docker_archive import DOCKER_MANIFEST_FILE, StagedFile, image_from_docker_archive
from buildkit_client.oci.image import (
    MAX_DOCUMENT_BYTES,
    ImageIndex,
    ImageManifest,
    parse_index,
    parse_manifest,
    walk_image,
)
from buildkit_client.oci.json_document import dump_object, get_string, parse_object
from buildkit_client.oci.layout import (
    INDEX_FILE,
    LAYOUT_FILE,
    LAYOUT_VERSION,
    MAX_INDEX_BYTES,
    ImageLayout,
    name_annotations,
)
from buildkit_client.oci.tar_stream import (
    BLOCK_BYTES,
    END_MARK,
    MAX_ENTRIES,
    MAX_TOTAL_BYTES,
    TarKind,
    TarMember,
    TarReader,
    tar_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildkit_client.oci.blob_store import BlobWriter

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
    """An image ready to be written as an archive.

    Args:
        source: Where its blobs are.
        descriptor: Its index or image manifest.
        names: Full names for the archive's index; may be empty.

    Raises:
        BlobNotFoundError: A blob is missing; foreign layers may be.
        LayoutError: A manifest is damaged, or a blob has the wrong size.
        RegistryError: The registry that has the image cannot be reached or refuses.
        OptionError: A name is no image reference.

    Attributes:
        size_bytes: How long the archive is.
        blobs: Length of each blob by digest, in the archive's order.
    """

    def __init__(self, source: BlobSource, descriptor: Descriptor, names: Sequence[str] = ()) -> None:
        self._source = source
        entries = [descriptor.with_annotations(name_annotations(name)) for name in names] or [descriptor]
        self._documents = {
            LAYOUT_FILE: dump_object({"imageLayoutVersion": LAYOUT_VERSION}),
            INDEX_FILE: ImageIndex(tuple(entries)).to_bytes(),
        }
        blobs: dict[Digest, int] = {}
        for part in source.walk(descriptor):
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
        yield END_MARK


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK_BYTES)


def write_oci_archive(layout: ImageLayout, descriptor: Descriptor, names: Sequence[str], out: BinaryIO) -> None:
    """Write an image as an OCI archive; see :class:`OciArchive`."""
    OciArchive(layout, descriptor, names).write(out)


def import_oci_archive(
    stream: BinaryIO, layout: ImageLayout, limits: ArchiveLimits | None = None
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
    limits = limits or ArchiveLimits()
    unpacked = DecompressedReader(stream, DecompressLimits(total_bytes=limits.total_bytes, ratio=limits.ratio))
    tar = TarReader(
        io.BufferedReader(unpacked, _BUFFER_BYTES), max_entries=limits.entries, max_total_bytes=limits.total_bytes
    )
    staging = _Staging(layout)
    try:
        for member in tar:
            staging.take(member, tar)
        images = staging.images()
        staging.commit(images)
    except LayoutError:
        raise
    except BuildKitError as exc:  # a digest, descriptor or manifest that is malformed
        raise LayoutError("the archive is damaged", why=f"{exc}: {exc.why}" if exc.why else str(exc)) from exc
    finally:
        staging.close()
    return images


@dataclass(slots=True)
class _Staging:
    """An archive's files on their way: documents in memory, everything else in unnamed temporary files."""

    layout: ImageLayout
    documents: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, StagedFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    writers: dict[Digest, BlobWriter] = field(default_factory=dict)
    heads: dict[Digest, bytes] = field(default_factory=dict)

    def take(self, member: TarMember, tar: TarReader) -> None:
        """Store one member of the archive."""
        name = _checked_name(member)
        if member.kind is TarKind.DIRECTORY:
            return
        if name in self.documents or name in self.files or name in self.links:
            raise LayoutError("the archive is damaged", why=f"it has two files named {name!a}")
        if member.kind is TarKind.SYMLINK:
            self.links[name] = member.link_target
            if len(self.links) > _MAX_LINKS:
                raise LayoutError("the archive has too many links", why=f"the limit is {_MAX_LINKS}")
        elif member.kind is not TarKind.FILE:
            raise LayoutError("the archive has a kind of file that is not taken", why=f"{name!a}: {member.kind.value}")
        elif name in (INDEX_FILE, LAYOUT_FILE, DOCKER_MANIFEST_FILE):
            self.documents[name] = tar.read_content(MAX_INDEX_BYTES)
        else:
            self._take_blob(name, tar)

    def _take_blob(self, name: str, tar: TarReader) -> None:
        expected = None
        if match := _BLOB_NAME.fullmatch(name):
            text = f"{match[1]}:{match[2]}"
            if not is_digest(text):
                raise LayoutError("the archive is damaged", why=f"{name!a} is named by no digest")
            expected = Digest(text)
        writer = self.layout.begin_blob(expected)
        kept = False
        try:
            head = b""
            for chunk in tar.chunks():
                head = head or chunk[:MAGIC_BYTES]
                writer.write(chunk)
            found = writer.seal()
            if expected not in (None, found):
                raise LayoutError("the archive is damaged", why=f"the bytes of {name!a} have the digest {found}")
            self.files[name] = StagedFile(found, writer.size_bytes, detect_compression(head))
            if found not in self.writers:
                self.writers[found], self.heads[found] = writer, head
                kept = True
        finally:
            if not kept:
                writer.abort()

    def images(self) -> list[ImportedImage]:
        """Return the images that the archive's documents tell of."""
        if INDEX_FILE in self.documents:
            if LAYOUT_FILE not in self.documents:
                raise LayoutError("the archive is no OCI archive", why=f"it has no file {LAYOUT_FILE}")
            if self.links:
                raise LayoutError("the archive is damaged", why=f"it has a symbolic link: {next(iter(self.links))!a}")
            layout = parse_object(self.documents[LAYOUT_FILE], LAYOUT_FILE)
            if get_string(layout, "imageLayoutVersion", LAYOUT_FILE) != LAYOUT_VERSION:
                raise LayoutError("the archive has an unknown version", why=f"only {LAYOUT_VERSION} is known")
            index = parse_index(self.documents[INDEX_FILE], what=INDEX_FILE)
            images = _named_images(index)
        elif DOCKER_MANIFEST_FILE in self.documents:
            images = [
                ImportedImage(self._add_manifest(manifest), names)
                for manifest, names in image_from_docker_archive(
                    self.documents[DOCKER_MANIFEST_FILE], self.resolve, self.read_document
                )
            ]
        else:
            raise LayoutError(
                "the archive holds no image", why=f"it has neither {INDEX_FILE} nor {DOCKER_MANIFEST_FILE}"
            )
        if not images:
            raise LayoutError("the archive holds no image", why="its index is empty")
        return images

    def commit(self, images: Sequence[ImportedImage]) -> None:
        """Check that the images are whole, and give their blobs their names, parts before what names them."""
        parts: dict[Digest, None] = {}
        for image in images:
            for part in walk_image(image.descriptor, self._read_manifest):
                if self._is_whole(part):
                    parts.pop(part.digest, None)
                    parts[part.digest] = None
        for digest in reversed(parts):
            self.writers[digest].commit(digest)

    def _is_whole(self, part: Descriptor) -> bool:
        """Whether a blob came and is what its descriptor says; False for a foreign layer that did not come."""
        writer = self.writers.get(part.digest)
        if writer is None:
            if media_types.may_be_absent(part.media_type):
                return False
            raise LayoutError("the archive is incomplete", why=f"blob {part.digest} is missing")
        if writer.size_bytes != part.size_bytes:
            raise LayoutError(
                "the archive is damaged",
                why=f"blob {part.digest} has {writer.size_bytes} bytes; its descriptor says {part.size_bytes}",
            )
        announced = media_types.layer_compression(part.media_type)
        found = detect_compression(self.heads[part.digest])
        if announced is not None and announced != found and writer.size_bytes:
            raise LayoutError(
                "the archive is damaged",
                why=f"layer {part.digest} is announced as {part.media_type}; its bytes show compression {found}",
            )
        return True

    def resolve(self, name: str) -> StagedFile:
        """Return the file that a docker archive means by a name, links followed inside the archive alone.

        Raises:
            LayoutError: There is none, or the links go in a circle.
        """
        current = posixpath.normpath(name)
        for _ in range(40):  # as many as Linux follows
            if current in self.files:
                return self.files[current]
            if current not in self.links:
                break
            current = posixpath.normpath(posixpath.join(posixpath.dirname(current), self.links[current]))
        raise LayoutError("the archive is incomplete", why=f"it has no file {name!a}")

    def read_document(self, digest: Digest) -> bytes:
        """Return a small staged blob.

        Raises:
            BlobNotFoundError: The archive has none of that digest.
            LayoutError: It is too large for a document.
        """
        writer = self.writers.get(digest)
        if writer is None:
            raise BlobNotFoundError(f"blob {digest} is not in the archive")
        if writer.size_bytes > MAX_DOCUMENT_BYTES:
            raise LayoutError("the archive is damaged", why=f"{digest} is larger than {MAX_DOCUMENT_BYTES} bytes")
        with writer.open_sealed() as stream:
            return stream.read()

    def _read_manifest(self, descriptor: Descriptor) -> ImageManifest | ImageIndex:
        data = self.read_document(descriptor.digest)
        return parse_manifest(data, descriptor.media_type, f"manifest {descriptor.digest}")

    def _add_manifest(self, manifest: ImageManifest) -> Descriptor:
        data = manifest.to_bytes()
        writer = self.layout.begin_blob()
        writer.write(data)
        digest = writer.seal()
        if digest in self.writers:
            writer.abort()
        else:
            self.writers[digest], self.heads[digest] = writer, data[:MAGIC_BYTES]
        return Descriptor(media_types.OCI_IMAGE_MANIFEST, digest, len(data))

    def close(self) -> None:
        """Drop every file that got no name."""
        for writer in self.writers.values():
            writer.abort()


def _checked_name(member: TarMember) -> str:
    """Return a member's name without ``./`` before and ``/`` behind, if it stays inside the archive."""
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
