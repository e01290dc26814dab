"""The documents an image is made of: index, image manifest, image config; read from bytes with all checks.

What is read here was already compared with its digest. The checks are about meaning: that a document is of the kind
its media type says, and of one kind only, so that two readers cannot see two images in the same bytes
(CVE-2021-41190).

Reference: OCI image-spec, image-index.md, manifest.md, config.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_client.errors import ImageFormatError
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.json_document import (
    JsonObject,
    as_object,
    dump_object,
    get_list,
    get_string,
    get_string_map,
    get_strings,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from buildkit_client.oci.digest import Digest

MAX_DOCUMENT_BYTES = 4 << 20
"""The largest index, manifest or config that is read (4 MiB, the size that registries must take for a manifest)."""
MAX_NESTING = 8
"""How many manifests and indexes may lie inside each other; real images have two."""
MAX_BLOBS = 100_000
"""The most blobs that one image may name."""

_SHOWN_CHARS = 100
_SHOWN_PLATFORMS = 50


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """A list of manifests, one a platform, and their attestations.

    Attributes:
        manifests: In document order; may be empty.
        media_type: OCI index or docker manifest list; empty where a document does not say it.
        annotations: Texts by key.
        artifact_type: Type of what the index carries, if no image.
        subject: The manifest that this index refers to, or None.
    """

    manifests: tuple[Descriptor, ...]
    media_type: str = media_types.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Blobs that the document names."""
        return self.manifests

    def select(self, platform: Platform | None = None) -> Descriptor | None:
        """Return the entry to run on a platform; attestations are never it.

        Args:
            platform: The entry with the same variant wins, then one that leaves the variant open, then one that names
                no platform at all. None takes the first entry.

        Returns:
            The entry, or None when none fits.
        """
        images = [entry for entry in self.manifests if not entry.is_attestation]
        if platform is None:
            return images[0] if images else None
        wanted = platform.normalized()
        best, best_rank = None, 0
        for entry in images:
            rank = _platform_rank(entry.platform, wanted)
            if rank > best_rank:
                best, best_rank = entry, rank
        return best

    @property
    def offered_platforms(self) -> str:
        """The platforms of all images, for errors; ``none`` where there are none."""
        images = [entry for entry in self.manifests if not entry.is_attestation and entry.platform]
        names = sorted({ascii(str(entry.platform)[:_SHOWN_CHARS])[1:-1] for entry in images})
        return ", ".join(names[:_SHOWN_PLATFORMS]) or "none"

    def to_bytes(self) -> bytes:
        """Return the document as JSON without spaces, keys in the specification's order."""
        document: dict[str, object] = {"schemaVersion": 2}
        if self.media_type:
            document["mediaType"] = self.media_type
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        document["manifests"] = [entry.to_json() for entry in self.manifests]
        if self.subject is not None:
            document["subject"] = self.subject.to_json()
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        return dump_object(document)


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One image for one platform: its config and its layers.

    Attributes:
        config: The config blob.
        layers: In the order they are applied; may be empty.
        media_type: OCI or docker image manifest; empty where a document does not say it.
        annotations: Texts by key.
        artifact_type: Type of what the manifest carries, if no image.
        subject: The manifest that this one refers to, or None.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = media_types.OCI_IMAGE_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Blobs that the document names."""
        return (self.config, *self.layers)

    def to_bytes(self) -> bytes:
        """Return the document as JSON without spaces, keys in the specification's order."""
        document: dict[str, object] = {"schemaVersion": 2}
        if self.media_type:
            document["mediaType"] = self.media_type
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        document["config"] = self.config.to_json()
        document["layers"] = [layer.to_json() for layer in self.layers]
        if self.subject is not None:
            document["subject"] = self.subject.to_json()
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        return dump_object(document)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image runs and how its layers look unpacked.

    Attributes:
        platform: Operating system and architecture.
        entrypoint: Words of the entrypoint; may be empty.
        command: Words of the default command; may be empty.
        environment: ``NAME=value`` texts, in order.
        working_dir: Where the process starts; may be empty.
        labels: Texts by key.
        diff_ids: Digests of the unpacked layers, in layer order, as the document has them.
        created: RFC 3339 time, or empty.
        document: The whole config.
    """

    platform: Platform
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    diff_ids: tuple[str, ...] = ()
    created: str = ""
    document: JsonObject = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def from_bytes(cls, data: bytes, what: str = "an image config") -> ImageConfig:
        """Read a config document.

        Raises:
            ImageFormatError: It is no JSON object, or a field we read has the wrong type.
        """
        document = parse_object(data, what)
        run = as_object(document.get("config") or {}, f"the field config of {what}")
        rootfs = as_object(document.get("rootfs") or {}, f"the field rootfs of {what}")
        return cls(
            platform=Platform.from_json(document),
            entrypoint=get_strings(run, "Entrypoint", what),
            command=get_strings(run, "Cmd", what),
            environment=get_strings(run, "Env", what),
            working_dir=get_string(run, "WorkingDir", what),
            labels=get_string_map(run, "Labels", what),
            diff_ids=get_strings(rootfs, "diff_ids", what),
            created=get_string(document, "created", what),
            document=document,
        )


def parse_manifest(data: bytes, media_type: str, what: str = "an image manifest") -> ImageManifest | ImageIndex:
    """Read an image manifest or index.

    Args:
        data: The document.
        media_type: What the descriptor or the registry's answer calls it; decides how it is read.
        what: How errors call it.

    Raises:
        ImageFormatError: The type is no manifest's, the document is of another kind, or a field is malformed.
    """
    if media_type in media_types.SCHEMA1:
        raise ImageFormatError(
            f"{what} is in docker's schema 1",
            why="that format was retired and carries no digests of its parts",
            hint="push the image again with a current tool",
        )
    if media_type not in media_types.MANIFESTS:
        raise ImageFormatError(f"{what} has the media type {media_type!r}", why="that is no image manifest or index")
    if media_type in media_types.INDEXES:
        return parse_index(data, media_type, what)
    document = parse_object(data, what)
    _check_kind(document, media_type, what)
    if document.get("config") is None:
        raise ImageFormatError(f"{what} has no config")
    return ImageManifest(
        config=Descriptor.from_json(document["config"], f"the config of {what}"),
        layers=_descriptors(get_list(document, "layers", what), f"a layer of {what}"),
        media_type=get_string(document, "mediaType", what),
        annotations=get_string_map(document, "annotations", what),
        artifact_type=get_string(document, "artifactType", what),
        subject=_subject(document, what),
    )


def parse_index(data: bytes, media_type: str = media_types.OCI_INDEX, what: str = "an image index") -> ImageIndex:
    """Read an index.

    Args:
        data: The document.
        media_type: OCI index or docker manifest list.
        what: How errors call it.

    Raises:
        ImageFormatError: The document is of another kind, or a field is malformed.
    """
    document = parse_object(data, what)
    _check_kind(document, media_type, what)
    return ImageIndex(
        manifests=_descriptors(get_list(document, "manifests", what), f"an entry of {what}"),
        media_type=get_string(document, "mediaType", what),
        annotations=get_string_map(document, "annotations", what),
        artifact_type=get_string(document, "artifactType", what),
        subject=_subject(document, what),
    )


def guess_media_type(data: bytes, what: str = "an image manifest") -> str:
    """Return the media type that a manifest's own text shows, for answers that do not carry one.

    Raises:
        ImageFormatError: It is no JSON object, or neither manifest nor index.
    """
    document = parse_object(data, what)
    own = get_string(document, "mediaType", what)
    if own:
        return own
    if document.get("schemaVersion") == 1:
        return media_types.DOCKER_SCHEMA1
    if "manifests" in document:
        return media_types.OCI_INDEX
    if "config" in document:
        return media_types.OCI_IMAGE_MANIFEST
    raise ImageFormatError(f"{what} is neither a manifest nor an index")


def _descriptors(values: Sequence[object], what: str) -> tuple[Descriptor, ...]:
    return tuple(Descriptor.from_json(value, what) for value in values)


def _platform_rank(platform: Platform | None, wanted: Platform) -> int:
    """Return how well an entry fits, 0 for not at all."""
    if platform is None:
        return 1
    offered = platform.normalized()
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return 0
    if offered.variant == wanted.variant:
        return 3
    return 2 if not offered.variant or not wanted.variant else 0


def _subject(document: JsonObject, what: str) -> Descriptor | None:
    value = document.get("subject")
    return None if value is None else Descriptor.from_json(value, f"the subject of {what}")


def _check_kind(document: JsonObject, media_type: str, what: str) -> None:
    version = document.get("schemaVersion")
    if version != 2 or isinstance(version, bool):
        raise ImageFormatError(
            f"{what} has schemaVersion {ascii(version)[:_SHOWN_CHARS]}", why="only version 2 is in use"
        )
    own = get_string(document, "mediaType", what)
    if own and own != media_type:
        raise ImageFormatError(
            f"{what} calls itself {own[:_SHOWN_CHARS]!a}", why=f"but it is announced as {media_type}"
        )
    other = ("config", "layers", "fsLayers") if media_type in media_types.INDEXES else ("manifests", "fsLayers")
    for key in other:
        if key in document:
            raise ImageFormatError(f"{what} is ambiguous", why=f"a {media_type} must not have the field {key}")


def select_image(
    root: Descriptor, platform: Platform | None, read_manifest: Callable[[Descriptor], ImageManifest | ImageIndex]
) -> tuple[Descriptor, ImageManifest]:
    """Find the image to run: the root itself, or an entry of the index it is.

    Args:
        root: Index or image manifest.
        platform: See :meth:`ImageIndex.select`.
        read_manifest: Gives the document of a descriptor.

    Returns:
        The image manifest, and the descriptor that leads to it.

    Raises:
        ImageFormatError: No entry fits, or indexes are nested too deep.
    """
    for _ in range(MAX_NESTING):
        document = read_manifest(root)
        if isinstance(document, ImageManifest):
            return root, document
        chosen = document.select(platform)
        if chosen is None:
            wanted = f" for {platform}" if platform else ""
            raise ImageFormatError(
                f"index {root.digest} has no image{wanted}", why=f"its platforms are: {document.offered_platforms}"
            )
        root = chosen
    raise ImageFormatError(f"index {root.digest} is nested too deep", why=f"more than {MAX_NESTING} in each other")


def read_image_config(
    digest: Digest, read_blob: Callable[[Digest], bytes], platform: Platform | None = None
) -> ImageConfig:
    """Read an image's config where documents are had by digest alone, such as a builder's content store.

    Args:
        digest: Of the index or image manifest.
        read_blob: Gives the bytes of a digest, checked.
        platform: See :meth:`ImageIndex.select`.

    Raises:
        ImageFormatError: No entry fits, or a document is malformed.
    """

    def read_manifest(descriptor: Descriptor) -> ImageManifest | ImageIndex:
        what = f"manifest {descriptor.digest}"
        data = read_blob(descriptor.digest)
        return parse_manifest(data, descriptor.media_type or guess_media_type(data, what), what)

    config = select_image(Descriptor("", digest, 0), platform, read_manifest)[1].config
    return ImageConfig.from_bytes(read_blob(config.digest), f"the config {config.digest}")


def walk_image(
    root: Descriptor, read_manifest: Callable[[Descriptor], ImageManifest | ImageIndex | None]
) -> Iterator[Descriptor]:
    """Yield everything an image is made of: the root first, then each manifest before what it names.

    A blob that is named twice with one media type comes once.

    Args:
        root: Index, image manifest, or any other blob, which then comes alone.
        read_manifest: Gives the document of a descriptor whose media type is a manifest's; None when it is not there
            and its parts shall be passed over.

    Yields:
        Descriptors as the documents have them, with platform and annotations.

    Raises:
        ImageFormatError: Indexes are nested too deep, name themselves, or name too many blobs.
    """
    seen: set[tuple[Digest, str]] = set()

    def visit(descriptor: Descriptor, ancestors: frozenset[Digest]) -> Iterator[Descriptor]:
        if descriptor.digest in ancestors:
            raise ImageFormatError(f"the image {root.digest} contains itself", why=f"through {descriptor.digest}")
        key = (descriptor.digest, descriptor.media_type)
        if key in seen:
            return
        if len(ancestors) > MAX_NESTING:
            raise ImageFormatError(
                f"the image {root.digest} is nested too deep", why=f"more than {MAX_NESTING} manifests in each other"
            )
        seen.add(key)
        if len(seen) > MAX_BLOBS:
            raise ImageFormatError(f"the image {root.digest} has more than {MAX_BLOBS} blobs")
        yield descriptor
        if descriptor.media_type in media_types.SCHEMA1:
            parse_manifest(b"", descriptor.media_type, f"the manifest {descriptor.digest}")
        if descriptor.media_type not in media_types.MANIFESTS:
            return
        manifest = read_manifest(descriptor)
        if manifest is None:
            return
        for child in manifest.children:
            yield from visit(child, ancestors | {descriptor.digest})

    yield from visit(root, frozenset())
