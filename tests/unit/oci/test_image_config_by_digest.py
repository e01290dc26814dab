"""An image's config, read where documents are had by digest alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from buildkit_client.errors import ImageFormatError
from buildkit_client.oci import Descriptor, Digest, ImageIndex, ImageManifest, Platform, read_image_config
from buildkit_client.oci.media_types import OCI_IMAGE_MANIFEST

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


class Blobs(dict[Digest, bytes]):
    def add(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self[digest] = data
        return digest

    def add_image(self, architecture: str) -> Descriptor:
        config = json.dumps(
            {"architecture": architecture, "os": "linux", "config": {"Entrypoint": [architecture]}, "rootfs": {}}
        ).encode()
        self.add(config)
        manifest = ImageManifest(Descriptor.of(CONFIG_TYPE, config), ()).to_bytes()
        self.add(manifest)
        return Descriptor.of(OCI_IMAGE_MANIFEST, manifest)


def test_of_a_manifest() -> None:
    blobs = Blobs()
    image = blobs.add_image("amd64")
    assert read_image_config(image.digest, blobs.__getitem__).entrypoint == ("amd64",)


def test_of_an_index_the_platform_decides() -> None:
    blobs = Blobs()
    images = [replace(blobs.add_image(name), platform=Platform("linux", name)) for name in ("amd64", "arm64")]
    index = blobs.add(ImageIndex(tuple(images)).to_bytes())
    assert read_image_config(index, blobs.__getitem__).entrypoint == ("amd64",)
    assert read_image_config(index, blobs.__getitem__, Platform("linux", "arm64")).entrypoint == ("arm64",)


def test_what_is_no_image() -> None:
    blobs = Blobs()
    with pytest.raises(ImageFormatError):
        read_image_config(blobs.add(b"{}"), blobs.__getitem__)
