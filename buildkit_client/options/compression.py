"""How layers are compressed, for every exporter and cache that makes layers.

Reference: util/compression, ParseAttributes; exporter/containerimage/opts.go, ImageCommitOpts.Validate.
"""

from __future__ import annotations

from typing import Literal

from buildkit_client.errors import OptionError

Compression = Literal["uncompressed", "gzip", "estargz", "zstd"]

_HIGHEST_LEVEL = {"": 9, "gzip": 9, "estargz": 9, "zstd": 22}
_OCI_ONLY = ("estargz", "zstd")


def compression_attrs(
    compression: Compression | Literal[""],
    level: int | None,
    *,
    force: bool = False,
    oci_media_types: bool | None = None,
) -> dict[str, str]:
    """Return the attributes for compression.

    Args:
        compression: Empty takes the daemon's default, gzip.
        level: 0-9 for gzip and estargz, 0-22 for zstd; None takes the default.
        force: Also recompress layers that exist already.
        oci_media_types: What else the caller asks for, to tell what cannot go together.

    Raises:
        OptionError: There is no such compression or level, or Docker's media types have no name for it.
    """
    if compression not in ("", "uncompressed", *_HIGHEST_LEVEL):
        raise OptionError(
            f"unknown compression {compression!r}", hint="choose one of uncompressed, gzip, estargz and zstd"
        )
    if compression in _OCI_ONLY and oci_media_types is False:
        raise OptionError(f"compression {compression} needs OCI media types", hint="leave oci_media_types out")
    attrs: dict[str, str] = {"compression": compression} if compression else {}
    if level is not None:
        highest = _HIGHEST_LEVEL.get(compression)
        if highest is None:
            raise OptionError("layers that are not compressed have no compression level")
        if not 0 <= level <= highest:
            raise OptionError(
                f"compression level {level} is out of range", why=f"{compression or 'gzip'} has 0 to {highest}"
            )
        attrs["compression-level"] = str(level)
    if force:
        attrs["force-compression"] = "true"
    return attrs


def bool_text(value: bool) -> str:
    """Write a boolean as the wire has it."""
    return "true" if value else "false"
