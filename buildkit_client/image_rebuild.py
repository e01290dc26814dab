"""What a builder has to be told so that its exporter writes an image again, byte for byte if it can.

The exporter takes file trees and configs, and writes manifests and indexes of its own. Layers keep their blobs: the
trees come straight from an image layout that the session serves, and are never unpacked. What else goes into a manifest
is taken from the one that is there: the kind of media types, annotations, and platforms in their order. Whether the
result is the same is for the caller to compare.

Left out are attestations: the daemon takes a provenance from nobody but itself.

Reference: exporter/containerimage/writer.go; exporter/containerimage/exptypes; exporter/attestation/unbundle.go.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from buildkit_client import llb
from buildkit_client.errors import DigestChangedError
from buildkit_client.gateway import GatewayResult
from buildkit_client.oci import media_types
from buildkit_client.oci.image import MAX_DOCUMENT_BYTES, ImageConfig, ImageIndex, ImageManifest
from buildkit_client.options import ImageExporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from buildkit_client.gateway import Gateway, Reference
    from buildkit_client.oci.descriptor import Descriptor
    from buildkit_client.oci.layout import ImageLayout

_STORE = "relay"
_CONFIG = "containerimage.config"  # exporter/containerimage/exptypes/types.go
_PLATFORMS = "refs.platforms"


class ImageRebuild:
    """One image that is to be written again.

    Args:
        layout: Has the image, and is served to the builder.
        root: Its index or image manifest.

    Raises:
        LayoutError: A part of the image is damaged.
        BlobNotFoundError: A part of it is missing.
        ImageFormatError: One of its documents is malformed.
        DigestChangedError: It has something that no exporter writes.
    """

    def __init__(self, layout: ImageLayout, root: Descriptor) -> None:
        self._layout = layout
        self._root = root
        self._index: ImageIndex | None = None
        self._images: dict[str, tuple[Descriptor, ImageManifest]] = {}  # by platform; in no index by none
        document = layout.read_manifest(root)
        if isinstance(document, ImageManifest):
            self._images[""] = root, document
            return
        self._index = document
        for entry in document.manifests:
            if entry.is_attestation:
                raise self._refusal("it has attestations, and a builder takes a provenance from nobody but itself")
            manifest = layout.read_manifest(entry)
            key = str(entry.platform or "")
            if isinstance(manifest, ImageIndex) or not key or key in self._images:
                raise self._refusal("its index has more in it than one image for each platform")
            self._images[key] = entry, manifest

    @property
    def layouts(self) -> Mapping[str, Path]:
        """What the session has to serve."""
        return {_STORE: self._layout.path}

    def exporter(self, names: Sequence[str], *, by_digest: bool, insecure: bool) -> ImageExporter:
        """Return the exporter.

        Args:
            names: Where to push; none only writes.
            by_digest: Push without a tag.
            insecure: See :class:`~buildkit_client.options.ImageExporter`.
        """
        is_oci = self._root.media_type in (media_types.OCI_INDEX, media_types.OCI_IMAGE_MANIFEST)
        return ImageExporter(
            name=tuple(names),
            push=bool(names),
            push_by_digest=bool(names) and by_digest,
            insecure=insecure,
            store=False,
            oci_media_types=is_oci,
            annotations=self._annotations() if is_oci else {},
        )

    def _annotations(self) -> dict[str, str]:
        """Return the annotations of all documents under the names by which the exporter tells them apart."""
        found: dict[str, str] = {}
        if self._index is not None:
            found |= {f"annotation-index.{key}": text for key, text in self._index.annotations.items()}
        for platform, (entry, manifest) in self._images.items():
            of = f"[{platform}]" if platform else ""
            found |= {f"annotation-manifest{of}.{key}": text for key, text in manifest.annotations.items()}
            if platform:
                found |= {f"annotation-manifest-descriptor{of}.{key}": text for key, text in entry.annotations.items()}
        return found

    def run(self, gateway: Gateway) -> GatewayResult:
        """Hand trees and configs over; the function of a gateway build."""
        trees = {platform: self._tree(gateway, *image) for platform, image in self._images.items()}
        configs = {platform: self._read(manifest.config) for platform, (_, manifest) in self._images.items()}
        if self._index is None:
            return GatewayResult(ref=trees[""], metadata={_CONFIG: configs[""]})
        platforms = [
            {"ID": platform, "Platform": entry.platform.to_json()}
            for platform, (entry, _) in self._images.items()
            if entry.platform is not None
        ]
        return GatewayResult(
            refs={platform: tree for platform, tree in trees.items() if tree is not None},
            metadata={
                **{f"{_CONFIG}/{platform}": config for platform, config in configs.items()},
                _PLATFORMS: json.dumps({"Platforms": platforms}).encode(),
            },
        )

    def _tree(self, gateway: Gateway, entry: Descriptor, manifest: ImageManifest) -> Reference | None:
        """Return an image's file tree, of which the builder reads nothing until it has to send it."""
        platform = entry.platform or ImageConfig.from_bytes(self._read(manifest.config)).platform
        tree = llb.oci_layout(f"{_STORE}/image@{entry.digest}", store_id=_STORE, platform=platform)
        return gateway.solve(tree.marshal()).ref

    def _read(self, blob: Descriptor) -> bytes:
        return self._layout.read_small_blob(blob.digest, blob.size_bytes, limit=MAX_DOCUMENT_BYTES)

    def _refusal(self, why: str) -> DigestChangedError:
        return DigestChangedError(
            f"image {self._root.digest} cannot be pushed through the builder as it is",
            why=f"the builder writes manifests anew, and cannot write this one: {why}",
            hint="push it from a machine that reaches the registry",
        )
