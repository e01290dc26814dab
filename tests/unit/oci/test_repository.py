"""Archives made straight from a registry."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.errors import BlobNotFoundError, DigestMismatchError, RegistryError
from buildkit_client.oci import media_types
from buildkit_client.oci.archive import OciArchive, import_oci_archive
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex, ImageManifest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry import RegistryClient
from buildkit_client.oci.repository import RepositoryBlobs
from buildkit_client.oci.transfer import push_image
from tests.support.fake_registry import FakeRegistry
from tests.support.images import add_image, add_platforms


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def client(registry: FakeRegistry) -> Iterator[RegistryClient]:
    with RegistryClient(registry.host) as client:
        yield client


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "layout")


@pytest.fixture
def blobs(client: RegistryClient, registry: FakeRegistry) -> RepositoryBlobs:
    return RepositoryBlobs(client, Reference.parse(f"{registry.host}/app:1"))


def pushed(client: RegistryClient, layout: ImageLayout, descriptor: Descriptor) -> Descriptor:
    push_image(client, layout, descriptor, Reference.parse(f"{client.host}/app:1"))
    return descriptor


def written(archive: OciArchive) -> bytes:
    out = io.BytesIO()
    archive.write(out)
    assert len(out.getvalue()) == archive.size_bytes
    return out.getvalue()


def test_the_archive_is_that_of_the_layout(
    client: RegistryClient, layout: ImageLayout, blobs: RepositoryBlobs, registry: FakeRegistry, tmp_path: Path
) -> None:
    descriptor = pushed(client, layout, add_platforms(layout))
    registry.seen.clear()
    data = written(OciArchive(blobs, blobs.resolve(descriptor.digest)))
    assert data == written(OciArchive(layout, descriptor))
    assert len(registry.seen) == len({seen.path for seen in registry.seen})  # each part was fetched once
    target = ImageLayout.create(tmp_path / "target")
    [image] = import_oci_archive(io.BytesIO(data), target)
    target.verify(image.descriptor)


def test_no_such_image(blobs: RepositoryBlobs) -> None:
    with pytest.raises(RegistryError) as caught:
        blobs.resolve(Digest.of(b"nothing"))
    assert caught.value.status == 404


def test_a_blob_that_is_gone_or_another_one(
    client: RegistryClient, layout: ImageLayout, blobs: RepositoryBlobs, registry: FakeRegistry
) -> None:
    descriptor = pushed(client, layout, add_image(layout))
    archive = OciArchive(blobs, blobs.resolve(descriptor.digest))
    key = next(iter(registry.blobs))
    data = registry.blobs[key]
    registry.blobs[key] = bytes([data[0] ^ 1]) + data[1:]
    with pytest.raises(DigestMismatchError):
        written(archive)
    del registry.blobs[key]
    with pytest.raises(BlobNotFoundError):
        written(archive)


def test_a_manifest_of_another_size_than_the_index_says(
    layout: ImageLayout, blobs: RepositoryBlobs, registry: FakeRegistry
) -> None:
    manifest = layout.read_small_blob(add_image(layout).digest, limit=10_000)
    registry.add_manifest("app", manifest, media_types.OCI_IMAGE_MANIFEST)
    entry = Descriptor(media_types.OCI_IMAGE_MANIFEST, Digest.of(manifest), len(manifest) + 1)
    from buildkit_client.oci.image import ImageIndex

    index = ImageIndex((entry,)).to_bytes()
    registry.add_manifest("app", index, media_types.OCI_INDEX)
    with pytest.raises(RegistryError) as caught:
        OciArchive(blobs, blobs.resolve(Digest.of(index)))
    assert "its descriptor says" in caught.value.why


def test_a_manifest_that_is_named_twice_with_two_sizes(blobs: RepositoryBlobs, registry: FakeRegistry) -> None:
    """The archive's length follows from the sizes, so a wrong one would spoil all that comes behind it."""
    config = Descriptor.of(media_types.OCI_CONFIG, b"{}")
    data = ImageManifest(config, (), media_type="").to_bytes()
    one = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, data)
    two = Descriptor(media_types.DOCKER_IMAGE_MANIFEST, one.digest, one.size_bytes + 512)
    registry.add_manifest("app", data, media_types.OCI_IMAGE_MANIFEST)
    registry.blobs["app", config.digest] = b"{}"
    registry.add_manifest("app", ImageIndex((one, two)).to_bytes(), media_types.OCI_INDEX, "1")
    with pytest.raises(RegistryError) as caught:
        OciArchive(blobs, blobs.resolve())
    assert "its descriptor says" in caught.value.why


def test_an_image_that_is_malformed(blobs: RepositoryBlobs, registry: FakeRegistry) -> None:
    document = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}'
    registry.add_manifest("app", document, media_types.OCI_IMAGE_MANIFEST)
    with pytest.raises(RegistryError) as caught:
        OciArchive(blobs, blobs.resolve(Digest.of(document)))
    assert "has no config" in caught.value.why


def test_foreign_layers_may_be_elsewhere(layout: ImageLayout, blobs: RepositoryBlobs, registry: FakeRegistry) -> None:
    config = b"{}"
    registry.add_blob("app", config)
    foreign = Descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", Digest.of(b"far away"), 8)
    document = ImageManifest(Descriptor.of(media_types.OCI_CONFIG, config), (foreign,)).to_bytes()
    registry.add_manifest("app", document, media_types.OCI_IMAGE_MANIFEST)
    archive = OciArchive(blobs, blobs.resolve(Digest.of(document)))
    assert foreign.digest not in archive.blobs
    assert len(archive.blobs) == 2


def test_an_image_by_name_and_platform(client: RegistryClient, layout: ImageLayout, blobs: RepositoryBlobs) -> None:
    descriptor = pushed(client, layout, add_platforms(layout))
    assert blobs.resolve() == descriptor.without_context()
    arm = blobs.resolve(platform=Platform("linux", "arm64"))
    assert layout.read_config(arm).platform.architecture == "arm64"
    with pytest.raises(RegistryError) as caught:
        blobs.resolve(platform=Platform("linux", "s390x"))
    assert "linux/s390x" in caught.value.why


def test_from_registry_to_registry(client: RegistryClient, layout: ImageLayout, blobs: RepositoryBlobs) -> None:
    descriptor = pushed(client, layout, add_platforms(layout))
    with FakeRegistry() as other, RegistryClient(other.host) as target:
        reference = Reference.parse(f"{other.host}/copy:1")
        push_image(target, blobs, blobs.resolve(), reference)
        assert other.tags["copy", "1"] == descriptor.digest
        assert written(OciArchive(RepositoryBlobs(target, reference), descriptor)) == written(
            OciArchive(layout, descriptor)
        )
