"""Caches that a build imports from and exports to: in a registry, in the image itself, in a directory, or any by name.

Caches in the stores of clouds are in :mod:`buildkit_client.options.cloud_caches`.

Reference: cache/remotecache; README of moby/buildkit, "Export cache".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol

from buildkit_client.errors import OptionError
from buildkit_client.options.compression import bool_text, compression_attrs
from buildkit_client.options.known import check_cache_export, check_cache_import

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from buildkit_client.options.compression import Compression

CacheMode = Literal["min", "max"]
"""``min`` keeps the layers of the result, ``max`` those of every step."""


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
class ManifestCache:
    """What the caches take that are stored as an image manifest or index.

    Attributes:
        mode: ``min`` keeps the layers of the result, ``max`` those of every step.
        image_manifest: Store it as an image manifest, which more registries take than an index; None takes the
            daemon's default.
        oci_media_types: OCI rather than Docker media types; None takes the daemon's default.
        compression: Of its layers; empty takes the daemon's default, gzip.
        compression_level: 0-9 for gzip and estargz, 0-22 for zstd.
        force_compression: Also recompress layers that exist already.
        ignore_error: A failing export does not fail the build.
    """

    mode: CacheMode = "min"
    image_manifest: bool | None = None
    oci_media_types: bool | None = None
    compression: Compression | Literal[""] = ""
    compression_level: int | None = None
    force_compression: bool = False
    ignore_error: bool = False

    def __post_init__(self) -> None:
        check_mode(self.mode)
        if self.image_manifest and self.oci_media_types is False:
            raise OptionError("a cache as an image manifest needs OCI media types", hint="leave oci_media_types out")
        self._manifest_attrs()

    def _manifest_attrs(self) -> dict[str, str]:
        attrs = {"mode": str(self.mode)}
        for key, value in (("image-manifest", self.image_manifest), ("oci-mediatypes", self.oci_media_types)):
            if value is not None:
                attrs[key] = bool_text(value)
        attrs |= compression_attrs(
            self.compression,
            self.compression_level,
            force=self.force_compression,
            oci_media_types=self.oci_media_types,
        )
        if self.ignore_error:
            attrs["ignore-error"] = "true"
        return attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCache(ManifestCache):
    """A cache kept in a registry (``type=registry``).

    Attributes:
        ref: Where it lies, for example ``registry.example.com/app:web.buildcache``.
        insecure: The registry speaks plain HTTP or has a certificate that cannot be verified.

    The other fields are those of :class:`ManifestCache`.
    """

    ref: str
    insecure: bool = False

    def __post_init__(self) -> None:
        if not self.ref:
            raise OptionError("a registry cache needs a ref", hint="name it like registry.example.com/app:buildcache")
        ManifestCache.__post_init__(self)

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
        return self.to_import_attrs() | self._manifest_attrs()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCache(ManifestCache):
    """A cache kept in a directory of ours, as an OCI image layout (``type=local``).

    Attributes:
        path: The directory; exporting makes it, importing from one that is missing gives a warning.
        tag: Name of the cache in the directory's index; a directory may hold several.
        digest: Import this one, whatever the index says.
        reset: After exporting, delete what no entry of the index needs any more. Otherwise the directory only grows.

    The other fields are those of :class:`ManifestCache`.
    """

    path: Path
    tag: str = "latest"
    digest: str = ""
    reset: bool = False

    def __post_init__(self) -> None:
        if not str(self.path) or str(self.path) == ".":
            # Path("") is Path("."): rather an error than blobs in whatever folder this process runs in.
            raise OptionError("a local cache needs a directory", hint="give a path such as ./cache")
        if not self.tag and not self.digest:
            raise OptionError("a local cache needs a tag or a digest", hint='leave the tag out for "latest"')
        ManifestCache.__post_init__(self)

    @property
    def type(self) -> str:
        """``local``."""
        return "local"

    def to_import_attrs(self) -> dict[str, str]:
        """Return ``src``, ``tag`` and, where set, ``digest``; the client turns the tag into a digest."""
        attrs = {"src": str(self.path)}
        if self.tag:
            attrs["tag"] = self.tag
        if self.digest:
            attrs["digest"] = self.digest
        return attrs

    def to_export_attrs(self) -> dict[str, str]:
        """Return every attribute that is set, ``dest`` and ``mode``; the client reads ``tag`` and ``reset``."""
        attrs = {"dest": str(self.path), **self._manifest_attrs()}
        if self.tag:
            attrs["tag"] = self.tag
        if self.reset:
            attrs["reset"] = "true"
        return attrs


@dataclass(frozen=True, slots=True)
class InlineCache:
    """A cache inside the image that the build makes (``type=inline``): of the result's layers only.

    It needs an image exporter beside it. To import it, name the image as :class:`RegistryCache`.
    """

    @property
    def type(self) -> str:
        """``inline``."""
        return "inline"

    def to_import_attrs(self) -> NoReturn:
        """Refuse: it is imported as a registry cache.

        Raises:
            OptionError: Always.
        """
        raise OptionError(
            "an inline cache cannot be imported by that name",
            why="it lies inside an image",
            hint="import RegistryCache(ref=...) with the image's name",
        )

    def to_export_attrs(self) -> dict[str, str]:
        """Return no attributes: there are none."""
        return {}


@dataclass(frozen=True, slots=True)
class RawCache:
    """A cache by type, with attributes passed on as they are, both ways.

    Attributes:
        type: For example ``inline``.
        attrs: Attributes; they may hold secrets, so they are not shown.
        unchecked: Take types and attributes that this library does not know, for daemons that know more.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)
    unchecked: bool = field(default=False, kw_only=True)

    def to_import_attrs(self) -> dict[str, str]:
        """Return the attributes unchanged.

        Raises:
            OptionError: The type or an attribute is not known.
        """
        if not self.unchecked:
            check_cache_import(self.type, self.attrs)
        return dict(self.attrs)

    def to_export_attrs(self) -> dict[str, str]:
        """Return the attributes, with ``mode=min`` when none is given, as buildctl does.

        Raises:
            OptionError: The type or an attribute is not known.
        """
        if not self.unchecked:
            check_cache_export(self.type, self.attrs)
        return {"mode": "min", **self.attrs}


def check_mode(mode: str) -> None:
    """Refuse a mode that the daemon would silently take for ``min``.

    Raises:
        OptionError: It is neither ``min`` nor ``max``.
    """
    if mode not in ("min", "max"):
        raise OptionError(f"unknown cache mode {mode!r}", hint="choose min or max")
