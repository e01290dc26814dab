"""Exporters: where a build's result goes.

An exporter has two halves: attributes for the daemon, and, for results that come back to us, an output that says
where the bytes go. The output's path is never sent.

Reference: exporter/containerimage/opts.go; exporter/oci/export.go; client/solve.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Compression = Literal["uncompressed", "gzip", "estargz", "zstd"]

_ANNOTATION = re.compile(r"annotation(?:-manifest|-index)?(?:-descriptor)?(?:\[[^\]]*\])?\.")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """Bytes go into a file, which appears whole or not at all."""

    path: Path


@dataclass(frozen=True, slots=True)
class OutputStream:
    """Bytes go into a stream the caller opened, and closes."""

    stream: BinaryIO


@dataclass(frozen=True, slots=True)
class OutputDirectory:
    """Files go into a directory (``local`` exporter)."""

    path: Path


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """Blobs go into an OCI image layout on disk; those it has already are not sent again."""

    path: Path


Output = OutputFile | OutputStream | OutputDirectory | OutputLayout


class Exporter(Protocol):
    """Where a build's result goes."""

    @property
    def type(self) -> str:
        """The exporter's name on the wire."""

    @property
    def output(self) -> Output | None:
        """Where bytes that come back to us go; None for results that stay with the daemon or a registry."""

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon."""


def _common_attrs(exporter: ImageExporter | OciExporter) -> dict[str, str]:
    """Return the attributes that the image exporters share."""
    attrs: dict[str, str] = {}
    names = [exporter.name] if isinstance(exporter.name, str) else list(exporter.name)
    if any("," in name for name in names):
        raise OptionError("an image name holds a comma", hint="give several names as a sequence")
    if any(names):
        attrs["name"] = ",".join(names)
    if exporter.compression:
        attrs["compression"] = exporter.compression
    if exporter.compression_level is not None:
        attrs["compression-level"] = str(exporter.compression_level)
    if exporter.force_compression:
        attrs["force-compression"] = "true"
    if exporter.oci_media_types is not None:
        attrs["oci-mediatypes"] = _bool(exporter.oci_media_types)
    if exporter.rewrite_timestamp:
        attrs["rewrite-timestamp"] = "true"
    if exporter.source_date_epoch is not None:
        attrs["source-date-epoch"] = str(exporter.source_date_epoch)
    for name, value in exporter.annotations.items():
        attrs[name if _ANNOTATION.match(name) else f"annotation.{name}"] = value
    return attrs


def _bool(value: bool) -> str:
    return "true" if value else "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExporter:
    """Make an image, and push it (``type=image``).

    Attributes:
        name: One name or several, with the registry's host.
        push: Push it.
        push_by_digest: Push without a tag.
        insecure: The registry speaks plain HTTP or has a certificate that cannot be verified.
        unpack: Unpack it on the daemon, where that has an image store.
        store: Keep it in the daemon's image store, where it has one.
        compression: Of new layers; empty takes the daemon's default, gzip.
        compression_level: 0-9 for gzip, 0-22 for zstd.
        force_compression: Also recompress layers of the base image.
        oci_media_types: OCI or Docker media types; None takes the daemon's default.
        rewrite_timestamp: Set all times in layers to ``SOURCE_DATE_EPOCH``.
        source_date_epoch: Seconds since 1970; None takes the build argument of that name.
        annotations: Value by key, or by ``annotation-index.key`` and the like.
        attrs: Further attributes, passed on as they are.
    """

    name: str | Sequence[str] = ""
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    unpack: bool = False
    store: bool | None = None
    compression: Compression | Literal[""] = ""
    compression_level: int | None = None
    force_compression: bool = False
    oci_media_types: bool | None = None
    rewrite_timestamp: bool = False
    source_date_epoch: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """``image``."""
        return "image"

    @property
    def output(self) -> Output | None:
        """None: the result goes to a registry or stays with the daemon."""
        return None

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon.

        Raises:
            OptionError: ``push`` without a name.
        """
        if self.push and not any([self.name] if isinstance(self.name, str) else self.name):
            raise OptionError(
                "an image cannot be pushed without a name", hint="name it like registry.example.com/app:tag"
            )
        attrs = _common_attrs(self)
        for key, wanted in (
            ("push", self.push),
            ("push-by-digest", self.push_by_digest),
            ("registry.insecure", self.insecure),
            ("unpack", self.unpack),
        ):
            if wanted:
                attrs[key] = "true"
        if self.store is not None:
            attrs["store"] = _bool(self.store)
        attrs.update(self.attrs)
        return attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class OciExporter:
    """Bring an OCI image layout to us (``type=oci``): a tar file, a stream, or a directory.

    Attributes:
        dest: A :class:`pathlib.Path` of a tar file, or an output of another kind. :class:`OutputLayout` gets blobs one
            by one and skips those it has.
        name: Names recorded in the layout.
        compression: Of new layers; empty takes the daemon's default, gzip.
        compression_level: 0-9 for gzip, 0-22 for zstd.
        force_compression: Also recompress layers of the base image.
        oci_media_types: None takes the daemon's default, OCI.
        rewrite_timestamp: Set all times in layers to ``SOURCE_DATE_EPOCH``.
        source_date_epoch: Seconds since 1970; None takes the build argument of that name.
        annotations: Value by key.
        attrs: Further attributes, passed on as they are.
    """

    dest: Path | OutputFile | OutputStream | OutputLayout
    name: str | Sequence[str] = ""
    compression: Compression | Literal[""] = ""
    compression_level: int | None = None
    force_compression: bool = False
    oci_media_types: bool | None = None
    rewrite_timestamp: bool = False
    source_date_epoch: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """``oci``."""
        return "oci"

    @property
    def output(self) -> Output:
        """Where the layout goes."""
        return OutputFile(self.dest) if isinstance(self.dest, Path) else self.dest

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon."""
        attrs = _common_attrs(self)
        if isinstance(self.output, OutputLayout):
            attrs["tar"] = "false"
        attrs.update(self.attrs)
        return attrs


@dataclass(frozen=True, slots=True)
class RawExporter:
    """An exporter by name, with attributes passed on as they are.

    Attributes:
        type: For example ``tar``.
        attrs: Attributes for the daemon.
        output: Where bytes that come back to us go.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    output: Output | None = None

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes unchanged."""
        return dict(self.attrs)
