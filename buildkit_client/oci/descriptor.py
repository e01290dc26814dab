"""Descriptors and platforms: the value types that tie an image's parts together.

Reference: OCI image-spec, descriptor.md; image-index.md, "platform"; containerd platforms, Normalize.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from buildkit_client.errors import DigestError, ImageFormatError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.json_document import (
    JsonObject,
    as_object,
    get_size,
    get_string,
    get_string_map,
    get_strings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MEDIA_TYPE_CHARS = 255
"""Two names of 127 characters and the slash, the longest that RFC 6838 allows."""

_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_ARCHITECTURE_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "armhf": "arm/v7",
    "armel": "arm/v6",
}
_DEFAULT_VARIANTS = {("arm64", "v8"): "", ("amd64", "v1"): "", ("arm", ""): "v7"}
_ARM_VARIANTS = {"5": "v5", "6": "v6", "7": "v7", "8": "v8"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, for example ``linux/arm64`` or ``linux/arm/v7``.

    Attributes:
        os: For example ``linux``; may be empty.
        architecture: Go's name, for example ``amd64``; may be empty.
        variant: For example ``v7``; usually empty.
        os_version: Used by Windows only.
        os_features: Used by Windows only.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse ``os/architecture[/variant]`` and bring it to its usual spelling.

        Raises:
            OptionError: The text has another shape.
        """
        parts = text.strip().split("/")
        if not 2 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise OptionError(
                f"not a platform: {text[:100]!a}",
                why="a platform is os/architecture or os/architecture/variant",
                hint="for example linux/amd64 or linux/arm/v7",
            )
        return cls(parts[0], parts[1], parts[2] if len(parts) == 3 else "").normalized()

    @classmethod
    def from_json(cls, value: object) -> Platform:
        """Read the ``platform`` object of a descriptor, unchanged.

        Raises:
            ImageFormatError: It is no object, or a field has the wrong type.
        """
        what = "a platform"
        document = as_object(value, what)
        return cls(
            os=get_string(document, "os", what),
            architecture=get_string(document, "architecture", what),
            variant=get_string(document, "variant", what),
            os_version=get_string(document, "os.version", what),
            os_features=get_strings(document, "os.features", what),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object as the specification writes it."""
        document: dict[str, object] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            document["os.version"] = self.os_version
        if self.os_features:
            document["os.features"] = list(self.os_features)
        if self.variant:
            document["variant"] = self.variant
        return document

    def normalized(self) -> Platform:
        """Return the platform in its usual spelling: ``aarch64`` becomes ``arm64``, ``arm64/v8`` loses its variant."""
        os_name = self.os.lower()
        architecture = self.architecture.lower()
        variant = self.variant.lower()
        architecture, _, alias_variant = _ARCHITECTURE_ALIASES.get(architecture, architecture).partition("/")
        variant = variant or alias_variant
        if architecture in ("arm", "arm64"):
            variant = _ARM_VARIANTS.get(variant, variant)
        variant = _DEFAULT_VARIANTS.get((architecture, variant), variant)
        return replace(self, os={"macos": "darwin"}.get(os_name, os_name), architecture=architecture, variant=variant)

    @property
    def is_unknown(self) -> bool:
        """Whether this is the ``unknown/unknown`` that attestation manifests carry."""
        return self.os == "unknown" or self.architecture == "unknown"

    def __str__(self) -> str:
        """Return ``os/architecture`` and, where there is one, ``/variant``."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names a blob: what it is, its digest and its size.

    Attributes:
        media_type: See :mod:`buildkit_client.oci.media_types`.
        digest: Digest of the blob's bytes.
        size_bytes: Length of the blob.
        annotations: Texts by key, in document order.
        platform: Set in an index's entries.
        urls: Places a foreign layer can be had from.
        artifact_type: Type of what a manifest carries, if no image.
        data: The blob itself where it is embedded, else None; never trusted without hashing.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    data: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, media_type: str, blob: bytes) -> Descriptor:
        """Return the descriptor of bytes in memory."""
        return cls(media_type, Digest.of(blob), len(blob))

    @classmethod
    def from_json(cls, value: object, what: str = "a descriptor") -> Descriptor:
        """Read a descriptor; fields that the specification does not know are dropped.

        Args:
            value: What the JSON parser gave.
            what: How errors call it.

        Raises:
            ImageFormatError: A field is missing, malformed or too long.
        """
        document = as_object(value, what)
        media_type = get_string(document, "mediaType", what)
        if len(media_type) > MAX_MEDIA_TYPE_CHARS or not media_type.isprintable():
            raise ImageFormatError(f"{what} is damaged", why="its media type is not one")
        try:
            digest = Digest(get_string(document, "digest", what))
        except DigestError as exc:
            raise ImageFormatError(f"{what} is damaged", why=str(exc), hint=exc.why) from exc
        platform = document.get("platform")
        return cls(
            media_type=media_type,
            digest=digest,
            size_bytes=get_size(document, "size", what),
            annotations=get_string_map(document, "annotations", what),
            platform=None if platform is None else Platform.from_json(platform),
            urls=get_strings(document, "urls", what),
            artifact_type=get_string(document, "artifactType", what),
            data=_embedded_data(document, what),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object as the specification writes it, empty fields left out, annotations sorted as Go does."""
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size_bytes,
        }
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        if self.data is not None:
            document["data"] = base64.b64encode(self.data).decode()
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        return document

    @property
    def is_attestation(self) -> bool:
        """Whether an index's entry describes another entry instead of being an image to run."""
        by_platform = self.platform is not None and self.platform.is_unknown
        return by_platform or media_types.ANNOTATION_REFERENCE_TYPE in self.annotations

    def with_annotations(self, annotations: Mapping[str, str]) -> Descriptor:
        """Return the descriptor with annotations added or replaced."""
        return replace(self, annotations={**self.annotations, **annotations})

    def without_context(self) -> Descriptor:
        """Return media type, digest and size alone, which is all that the blob itself determines."""
        return Descriptor(self.media_type, self.digest, self.size_bytes)


def _embedded_data(document: JsonObject, what: str) -> bytes | None:
    text = document.get("data")
    if text is None:
        return None
    try:
        return base64.b64decode(get_string(document, "data", what), validate=True)
    except binascii.Error as exc:
        raise ImageFormatError(f"{what} is damaged", why="its embedded data is not base64") from exc
