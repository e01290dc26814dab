"""Caches that a build imports from and exports to.

Reference: cache/remotecache; README of moby/buildkit, "Export cache".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.options.exporters import Compression

CacheMode = Literal["min", "max"]


class Cache(Protocol):
    """A place for a build's cache."""

    @property
    def type(self) -> str:
        """The cache's name on the wire."""

    def to_import_attrs(self) -> dict[str, str]:
        """Return the attributes for importing."""

    def to_export_attrs(self) -> dict[str, str]:
        """Return the attributes for exporting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCache:
    """A cache kept in a registry (``type=registry``).

    Attributes:
        ref: Where it lies, for example ``registry.example.com/app:web.buildcache``.
        mode: ``min`` keeps the layers of the result, ``max`` those of every step.
        image_manifest: Store it as an image manifest, which more registries take than an index.
        oci_media_types: OCI rather than Docker media types.
        compression: Of its layers; empty takes the daemon's default, gzip.
        compression_level: 0-9 for gzip, 0-22 for zstd.
        force_compression: Also recompress layers that exist already.
        insecure: The registry speaks plain HTTP or has a certificate that cannot be verified.
        ignore_error: A failing export does not fail the build.
    """

    ref: str
    mode: CacheMode = "min"
    image_manifest: bool | None = None
    oci_media_types: bool | None = None
    compression: Compression | Literal[""] = ""
    compression_level: int | None = None
    force_compression: bool = False
    insecure: bool = False
    ignore_error: bool = False

    def __post_init__(self) -> None:
        if not self.ref:
            raise OptionError("a registry cache needs a ref", hint="name it like registry.example.com/app:buildcache")
        if self.image_manifest and self.oci_media_types is False:
            raise OptionError("a registry cache as an image manifest needs OCI media types")

    @property
    def type(self) -> str:
        """``registry``."""
        return "registry"

    def to_import_attrs(self) -> dict[str, str]:
        """Return ``ref`` and, where set, ``registry.insecure``."""
        attrs = {"ref": self.ref}
        if self.insecure:
            attrs["registry.insecure"] = "true"
        return attrs

    def to_export_attrs(self) -> dict[str, str]:
        """Return every attribute that is set, and ``mode``."""
        attrs = {"ref": self.ref, "mode": self.mode}
        for key, value in (("image-manifest", self.image_manifest), ("oci-mediatypes", self.oci_media_types)):
            if value is not None:
                attrs[key] = "true" if value else "false"
        if self.compression:
            attrs["compression"] = self.compression
        if self.compression_level is not None:
            attrs["compression-level"] = str(self.compression_level)
        for key, wanted in (
            ("force-compression", self.force_compression),
            ("registry.insecure", self.insecure),
            ("ignore-error", self.ignore_error),
        ):
            if wanted:
                attrs[key] = "true"
        return attrs


@dataclass(frozen=True, slots=True)
class RawCache:
    """A cache by type, with attributes passed on as they are, both ways.

    Attributes:
        type: For example ``inline``.
        attrs: Attributes; keys may hold secrets, so they are not shown.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_import_attrs(self) -> dict[str, str]:
        """Return the attributes unchanged."""
        return dict(self.attrs)

    def to_export_attrs(self) -> dict[str, str]:
        """Return the attributes, with ``mode=min`` when none is given, as buildctl does."""
        return {"mode": "min", **self.attrs}
