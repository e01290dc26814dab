"""What ``docker save`` wrote before it wrote OCI layouts: a list of images, each a config and layer tars by file name.

Only the meaning of ``manifest.json`` lives here; the files themselves were staged by the reader of the archive.

Reference: docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from buildkit_client.errors import ImageFormatError, LayoutError
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.image import ImageConfig, ImageManifest
from buildkit_client.oci.json_document import as_object, get_string, get_strings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buildkit_client.oci.decompress import Compression
    from buildkit_client.oci.digest import Digest

DOCKER_MANIFEST_FILE: Final = "manifest.json"

_LAYER_TYPES: Final[dict[Compression, str]] = {
    "none": media_types.OCI_LAYER,
    "gzip": media_types.OCI_LAYER_GZIP,
    "zstd": media_types.OCI_LAYER_ZSTD,
}


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file of an archive whose bytes wait in a temporary file.

    Attributes:
        digest: Computed from its bytes.
        size_bytes: Its length.
        compression: What its first bytes show.
    """

    digest: Digest
    size_bytes: int
    compression: Compression


def image_from_docker_archive(
    data: bytes, resolve: Callable[[str], StagedFile], read_document: Callable[[Digest], bytes]
) -> Iterator[tuple[ImageManifest, tuple[str, ...]]]:
    """Yield the OCI image manifests that stand for a docker archive's images, with the images' names.

    Args:
        data: The archive's ``manifest.json``.
        resolve: Gives the file for a name in it.
        read_document: Gives the bytes of a config.

    Raises:
        ImageFormatError: ``manifest.json`` or a config is malformed, or layers and config do not agree.
        LayoutError: A file is missing.
    """
    try:
        entries = json.loads(data.decode())
    except (ValueError, RecursionError) as exc:
        raise ImageFormatError(f"{DOCKER_MANIFEST_FILE} is not JSON", why=str(exc)) from exc
    if not isinstance(entries, list):
        raise ImageFormatError(f"{DOCKER_MANIFEST_FILE} is no list")
    for value in entries:
        entry = as_object(value, f"an entry of {DOCKER_MANIFEST_FILE}")
        config_file = resolve(get_string(entry, "Config", DOCKER_MANIFEST_FILE))
        layer_files = [resolve(name) for name in get_strings(entry, "Layers", DOCKER_MANIFEST_FILE)]
        config = ImageConfig.from_bytes(read_document(config_file.digest), "the config of a docker image")
        if len(config.diff_ids) != len(layer_files):
            raise LayoutError(
                "the archive is damaged",
                why=f"an image has {len(layer_files)} layers and {len(config.diff_ids)} layer digests",
            )
        for file, diff_id in zip(layer_files, config.diff_ids, strict=True):
            if file.compression == "none" and file.digest != diff_id:
                raise LayoutError(
                    "the archive is damaged", why=f"a layer has digest {file.digest}, not {diff_id[:100]!a}"
                )
        manifest = ImageManifest(
            config=Descriptor(media_types.OCI_CONFIG, config_file.digest, config_file.size_bytes),
            layers=tuple(Descriptor(_LAYER_TYPES[f.compression], f.digest, f.size_bytes) for f in layer_files),
        )
        yield manifest, get_strings(entry, "RepoTags", DOCKER_MANIFEST_FILE)
