"""Small images for tests, real ones: layers are tars, digests fit."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence

from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex, ImageManifest
from buildkit_client.oci.layout import ImageLayout

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """Return a plain layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def add_image(
    layout: ImageLayout,
    layers: Sequence[bytes] = (b"one", b"two"),
    *,
    platform: Platform = AMD64,
    entrypoint: Sequence[str] = ("/bin/app",),
) -> Descriptor:
    """Put an image into a layout, without a name; each layer is a gzip tar with one file of those bytes."""
    plain = [layer_tar({f"file{number}": data}) for number, data in enumerate(layers)]
    packed = [gzip.compress(data, mtime=0) for data in plain]
    config = json.dumps(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Entrypoint": list(entrypoint), "Env": ["A=b"], "Labels": {"x": "y"}},
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(data) for data in plain]},
            "history": [{"created_by": f"layer {number}"} for number in range(len(plain))],
        }
    ).encode()
    manifest = ImageManifest(
        config=Descriptor(media_types.OCI_CONFIG, layout.put_blob(config), len(config)),
        layers=tuple(Descriptor(media_types.OCI_LAYER_GZIP, layout.put_blob(data), len(data)) for data in packed),
    ).to_bytes()
    return Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(manifest), len(manifest))


def add_index(layout: ImageLayout, *entries: Descriptor) -> Descriptor:
    """Put an index into a layout, without a name."""
    data = ImageIndex(entries).to_bytes()
    return Descriptor(media_types.OCI_INDEX, layout.put_blob(data), len(data))


def add_platforms(layout: ImageLayout) -> Descriptor:
    """Put an index of two platforms and an attestation into a layout."""
    attestation = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, attestation_manifest(layout))
    return add_index(
        layout,
        _for(add_image(layout, [b"base", b"amd64"], platform=AMD64), AMD64),
        _for(add_image(layout, [b"base", b"arm64"], platform=ARM64, entrypoint=["/arm"]), ARM64),
        _for(attestation, Platform("unknown", "unknown")),
    )


def attestation_manifest(layout: ImageLayout) -> bytes:
    statement, config = b'{"_type":"https://in-toto.io/Statement/v0.1"}', b'{"os":"unknown","architecture":"unknown"}'
    manifest = ImageManifest(
        config=Descriptor(media_types.OCI_CONFIG, layout.put_blob(config), len(config)),
        layers=(Descriptor(media_types.IN_TOTO, layout.put_blob(statement), len(statement)),),
    ).to_bytes()
    layout.put_blob(manifest)
    return manifest


def _for(descriptor: Descriptor, platform: Platform) -> Descriptor:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size_bytes, platform=platform)
