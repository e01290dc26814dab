"""Exporters that make images: into a registry or the daemon's store, or as an archive or layout for us.

Reference: exporter/containerimage/exptypes/keys.go; exporter/containerimage/opts.go; exporter/oci/export.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from buildkit_client.errors import OptionError
from buildkit_client.options.compression import bool_text, compression_attrs
from buildkit_client.options.known import check_exporter
from buildkit_client.options.outputs import OutputLayout, as_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from buildkit_client.options.compression import Compression
    from buildkit_client.options.outputs import Output, OutputFile, OutputStream

_ANNOTATION = re.compile(r"annotation(?:-manifest|-index)?(?:-descriptor)?(?:\[[^\]]*\])?\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What every exporter that makes an image takes.

    Attributes:
        name: One name or several, with the registry's host; ``*`` takes the name that the frontend gives.
        compression: Of new layers; empty takes the daemon's default, gzip.
        compression_level: 0-9 for gzip and estargz, 0-22 for zstd.
        force_compression: Also recompress layers of the base image.
        oci_media_types: OCI or Docker media types; None takes the daemon's default.
        oci_artifact: Whether attestations are stored as OCI artifacts; None takes the daemon's default.
        attestation_inline: Keep attestations in the image's index; None takes the default, which is yes for ``image``.
        prefer_nondist_layers: Keep layers that must not be distributed as such, rather than turn them into others.
        rewrite_timestamp: Set all times in layers to ``SOURCE_DATE_EPOCH``.
        source_date_epoch: Seconds since 1970; None takes the build argument of that name.
        annotations: Value by key, or by ``annotation-index.key``, ``annotation-manifest[linux/amd64].key`` and the
            like; a bare key goes to the manifests.
        attrs: Further attributes, passed on as they are; they win over the fields above.
    """

    name: str | Sequence[str] = ""
    compression: Compression | Literal[""] = ""
    compression_level: int | None = None
    force_compression: bool = False
    oci_media_types: bool | None = None
    oci_artifact: bool | None = None
    attestation_inline: bool | None = None
    prefer_nondist_layers: bool = False
    rewrite_timestamp: bool = False
    source_date_epoch: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are not empty."""
        return tuple(name for name in ([self.name] if isinstance(self.name, str) else self.name) if name)

    def _image_attrs(self, kind: str) -> dict[str, str]:
        """Return the attributes of the fields above, except ``attrs``, which are only checked."""
        if any("," in name for name in self.names):
            raise OptionError("an image name holds a comma", hint="give several names as a sequence")
        if self.oci_artifact and self.oci_media_types is False:
            raise OptionError("attestations as OCI artifacts need OCI media types")
        check_exporter(kind, self.attrs)
        attrs = {"name": ",".join(self.names)} if self.names else {}
        attrs |= compression_attrs(
            self.compression,
            self.compression_level,
            force=self.force_compression,
            oci_media_types=self.oci_media_types,
        )
        for key, value in (
            ("oci-mediatypes", self.oci_media_types),
            ("oci-artifact", self.oci_artifact),
            ("attestation-inline", self.attestation_inline),
            ("prefer-nondist-layers", self.prefer_nondist_layers or None),
            ("rewrite-timestamp", self.rewrite_timestamp or None),
        ):
            if value is not None:
                attrs[key] = bool_text(value)
        if self.source_date_epoch is not None:
            attrs["source-date-epoch"] = str(self.source_date_epoch)
        for name, text in self.annotations.items():
            if not name or any(letter.isspace() for letter in name):
                # The daemon would take it for something else than an annotation and say nothing.
                raise OptionError(f"{name!r} cannot be an annotation's key", why="a key has letters and no spaces")
            attrs[name if _ANNOTATION.match(name) else f"annotation.{name}"] = text
        return attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExporter(ImageOptions):
    """Make an image, and push it (``type=image``).

    Attributes:
        push: Push it.
        push_by_digest: Push without a tag.
        insecure: The registry speaks plain HTTP or has a certificate that cannot be verified.
        unpack: Unpack it on the daemon, where that has an image store.
        store: Keep it in the daemon's image store, where it has one; None takes the default, yes.
        name_canonical: Also name it ``<name>@<digest>``.
        dangling_name_prefix: Also name it ``<prefix>@<digest>``.
        dangling_name_empty_only: Use that prefix only when there is no other name.

    The other fields are those of :class:`ImageOptions`.
    """

    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    unpack: bool = False
    store: bool | None = None
    name_canonical: bool = False
    dangling_name_prefix: str = ""
    dangling_name_empty_only: bool = False

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
            OptionError: Two options exclude each other, or a value cannot work.
        """
        if self.push and not self.names and not self.attrs.get("name"):
            raise OptionError(
                "an image cannot be pushed without a name", hint="name it like registry.example.com/app:tag"
            )
        if self.unpack and self.rewrite_timestamp:
            raise OptionError("an image with rewritten times cannot be unpacked", hint="choose one of the two")
        attrs = self._image_attrs(self.type)
        for key, wanted in (
            ("push", self.push),
            ("push-by-digest", self.push_by_digest),
            ("registry.insecure", self.insecure),
            ("unpack", self.unpack),
            ("name-canonical", self.name_canonical),
            ("danging-name-empty-only", self.dangling_name_empty_only),  # exptypes/keys.go spells it so
        ):
            if wanted:
                attrs[key] = "true"
        if self.store is not None:
            attrs["store"] = bool_text(self.store)
        if self.dangling_name_prefix:
            attrs["dangling-name-prefix"] = self.dangling_name_prefix
        return attrs | dict(self.attrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class OciExporter(ImageOptions):
    """Bring an OCI image layout to us (``type=oci``): a tar file, a stream, or a directory.

    Attributes:
        dest: A tar file's path, or an output of another kind. :class:`OutputLayout` gets blobs one
            by one and skips those it has.

    The other fields are those of :class:`ImageOptions`.
    """

    dest: Path | str | OutputFile | OutputStream | OutputLayout

    @property
    def type(self) -> str:
        """``oci``."""
        return "oci"

    @property
    def output(self) -> Output:
        """Where the layout goes."""
        return as_output(self.dest)

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon.

        Raises:
            OptionError: Two options exclude each other, or a value cannot work.
        """
        attrs = self._image_attrs(self.type)
        if isinstance(self.output, OutputLayout):
            attrs["tar"] = "false"
        return attrs | dict(self.attrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerExporter(OciExporter):
    """Bring an image for ``docker load`` to us (``type=docker``); one platform only.

    The fields are those of :class:`OciExporter`.
    """

    @property
    def type(self) -> str:
        """``docker``."""
        return "docker"
