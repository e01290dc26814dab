"""Archives whose blobs are checked first and stored later, or not at all where they are elsewhere already."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from buildkit_client.errors import LayoutError, RegistryError
from buildkit_client.oci import media_types
from buildkit_client.oci.archive import OciArchive
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import MAX_DOCUMENT_BYTES, ImageManifest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.staging import checked_member_name, stage_oci_archive
from buildkit_client.oci.tar_stream import TarKind, TarMember

LARGE = bytes(MAX_DOCUMENT_BYTES + 1)


@pytest.fixture
def target(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "target")


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """An image with a small and a large layer."""
    layout = ImageLayout.create(tmp_path / "source")
    layers = tuple(Descriptor(media_types.OCI_LAYER, layout.put_blob(data), len(data)) for data in (b"small", LARGE))
    config = Descriptor(media_types.OCI_CONFIG, layout.put_blob(b"{}"), 2)
    document = ImageManifest(config, layers).to_bytes()
    out = io.BytesIO()
    OciArchive(layout, Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(document), len(document))).write(out)
    return out.getvalue()


def files(layout: ImageLayout) -> set[str]:
    found = {path.name for path in (layout.path / "blobs").glob("*/*")} if (layout.path / "blobs").exists() else set()
    return found | {path.name for path in (layout.path / "ingest").glob("*")}


def test_nothing_gets_a_name_before_the_commit(archive: bytes, target: ImageLayout) -> None:
    with stage_oci_archive(io.BytesIO(archive), target) as staged:
        [image] = staged.images
        assert list(target.blobs()) == []
        staged.commit()
        target.verify(image.descriptor)
    target.verify(image.descriptor)
    assert len(files(target)) == 4


def test_without_a_commit_nothing_is_left(archive: bytes, target: ImageLayout) -> None:
    with stage_oci_archive(io.BytesIO(archive), target):
        assert len(files(target)) == 4
    assert files(target) == set()


def test_large_blobs_that_are_elsewhere_are_not_stored(archive: bytes, target: ImageLayout) -> None:
    asked: list[tuple[Digest, int]] = []

    def has_blob(digest: Digest, size_bytes: int) -> bool:
        asked.append((digest, size_bytes))
        return True

    with stage_oci_archive(io.BytesIO(archive), target, has_blob=has_blob) as staged:
        assert asked == [(Digest.of(LARGE), len(LARGE))]
        staged.commit()
    assert not target.has_blob(Digest.of(LARGE))
    assert target.has_blob(Digest.of(b"small"))
    assert len(files(target)) == 3


def test_blobs_that_are_elsewhere_are_hashed_all_the_same(archive: bytes, target: ImageLayout) -> None:
    damaged = archive.replace(LARGE, LARGE[:-1] + b"x")
    assert damaged != archive
    with pytest.raises(LayoutError, match="damaged") as caught:
        stage_oci_archive(io.BytesIO(damaged), target, has_blob=lambda *_: True)
    assert "have the digest" in caught.value.why
    assert files(target) == set()


def test_what_the_other_place_raises_comes_through(archive: bytes, target: ImageLayout) -> None:
    def has_blob(digest: Digest, size_bytes: int) -> bool:
        raise RegistryError("cannot look", status=401)

    with pytest.raises(RegistryError, match="cannot look"):
        stage_oci_archive(io.BytesIO(archive), target, has_blob=has_blob)
    assert files(target) == set()


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("a", TarKind.FILE, "a"),
        ("./a/b", TarKind.FILE, "a/b"),
        ("././a", TarKind.FILE, "a"),
        ("a/", TarKind.DIRECTORY, "a"),
        ("", TarKind.DIRECTORY, ""),
        (".", TarKind.DIRECTORY, ""),
        ("./", TarKind.DIRECTORY, ""),
    ],
)
def test_names_inside(name: str, kind: TarKind, expected: str) -> None:
    assert checked_member_name(TarMember(name, kind, 0)) == expected


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "../a", "a/../b", "a//b", "a/./b", "a/", "..", ".", "C:a", "a\\b", "a\0b"]
)
def test_names_outside(name: str) -> None:
    with pytest.raises(LayoutError, match="damaged"):
        checked_member_name(TarMember(name, TarKind.FILE, 0))
