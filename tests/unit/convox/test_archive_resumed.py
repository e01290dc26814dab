"""Exports that go on where an earlier one stopped: what is fetched, and that nothing is believed without its digest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from buildkit_client.errors import RegistryError
from convox.archive import export_build
from convox.archive_file import COMPRESSIONS, FORMATS, Compression, ExportFormat, whole_file
from convox.archive_part import DamagedPartError, EarlierPart
from convox.errors import ArchiveError
from convox.models import Build
from tests.support.exports import NO_CREDENTIALS, DiskRack, plain_image
from tests.support.fake_registry import FakeRegistry, Fault

LAYER_BYTES = 3 << 20
LOST_BYTES = 300_000
"""More than documents and the last block of a packed file, which is of no use when it is not whole."""


@pytest.fixture
def remote(registry: FakeRegistry, tmp_path: Path) -> DiskRack:
    """A rack with a registry; its store is closed with the process."""
    return DiskRack(tmp_path / "remote", registry=registry.host)


def layers(rack: DiskRack, count: int = 3) -> Build:
    """Add a build of services of one layer each; the last has the first one's image."""
    images = [plain_image(rack.layout, os.urandom(LAYER_BYTES)) for _ in range(count - 1)]
    return rack.add_build({f"s{number}": image for number, image in enumerate([*images, images[0]])}, manifest="")


def export(
    rack: DiskRack, build: Build, path: Path, compression: Compression = "gzip", file_format: ExportFormat = "convox"
) -> bytes:
    """Export to a file as the command does."""
    with rack.images.open_source(NO_CREDENTIALS) as source, whole_file(path, resumes=True) as out:
        export_build(
            rack.store, build, source, out, file_format=file_format, compression=compression, resume_in=path.parent
        )
    return path.read_bytes()


def leave(path: Path, data: bytes) -> Path:
    """Leave what a killed export would."""
    part = path.with_name(f".{path.name}.0123456789ab.part")
    part.write_bytes(data)
    return part


def fetched(registry: FakeRegistry) -> int:
    """Return how many bytes of layers were asked for, and forget it."""
    sizes = {digest: len(data) for (_, digest), data in registry.blobs.items()}
    total = 0
    for seen in registry.requests("GET", r"/blobs/"):
        start = re.search(r"bytes=(\d+)-", seen.headers.get("range", ""))
        total += sizes[seen.path.rpartition("/")[2]] - (int(start[1]) if start else 0)
    registry.seen.clear()
    return total


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_only_the_rest_is_fetched(
    remote: DiskRack, registry: FakeRegistry, tmp_path: Path, compression: Compression, file_format: ExportFormat
) -> None:
    build = layers(remote)
    path = tmp_path / "x"
    whole = export(remote, build, path, compression, file_format)
    everything = fetched(registry)
    assert 2 * LAYER_BYTES < everything < 2 * LAYER_BYTES + LOST_BYTES
    kept = len(whole) // 2 if file_format == "oci" else len(whole) // 3
    for size in (kept, kept + 1, kept + LAYER_BYTES // 2, len(whole)):
        leave(path, whole[:size])
        assert export(remote, build, path, compression, file_format) == whole
        assert fetched(registry) <= max(0, everything - size) + LOST_BYTES
        assert sorted(tmp_path.iterdir()) == [tmp_path / "remote", path]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("place", [30, 700, 5000, LAYER_BYTES, LAYER_BYTES + 70_000])
def test_what_is_damaged_is_not_believed(
    remote: DiskRack, tmp_path: Path, compression: Compression, place: int
) -> None:
    build = layers(remote)
    path = tmp_path / "x"
    whole = export(remote, build, path, compression)
    damaged = bytearray(whole[: 2 * LAYER_BYTES])
    damaged[place] ^= 0x55
    leave(path, bytes(damaged))
    assert export(remote, build, path, compression) == whole


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_another_export_left_is_discarded(remote: DiskRack, tmp_path: Path, compression: Compression) -> None:
    build, other = layers(remote), layers(remote, 4)
    path = tmp_path / "x"
    whole = export(remote, build, path, compression)
    others = [export(remote, other, path, kind) for kind in COMPRESSIONS]
    others += [export(remote, build, path, kind) for kind in COMPRESSIONS if kind != compression]
    for data in (*others, os.urandom(2 << 20), bytes(2 << 20), b"x"):
        leave(path, data)
        assert export(remote, build, path, compression) == whole


def test_a_registry_that_fails(remote: DiskRack, registry: FakeRegistry, tmp_path: Path) -> None:
    """What came stays, the error says so, and it may happen again and again."""
    build = layers(remote)
    path = tmp_path / "x"
    whole = export(remote, build, path)
    path.unlink()
    last = json.loads(registry.manifests["web", build.images["s1"]][1])["layers"][0]["digest"]
    for _ in range(2):
        registry.faults[:] = [Fault("GET", f"/blobs/{last}", count=100, status=403)]
        with pytest.raises(RegistryError) as caught:
            export(remote, build, path)
        assert caught.value.hint.endswith("run the same command again: it goes on from where it stopped")
        [part] = tmp_path.glob(".x.*.part")
        assert not path.exists()
        assert part.stat().st_size >= 1 << 20
    registry.faults.clear()
    registry.seen.clear()
    assert export(remote, build, path) == whole
    assert fetched(registry) < LAYER_BYTES + LOST_BYTES
    assert list(tmp_path.glob(".x.*")) == []


def test_what_is_not_worth_keeping(remote: DiskRack, registry: FakeRegistry, tmp_path: Path) -> None:
    """Less than a mebibyte, or after an error that another attempt does not help."""
    build = layers(remote)
    path = tmp_path / "x"
    registry.faults.append(Fault("GET", r"/blobs/", count=100, status=403))
    with pytest.raises(RegistryError) as caught:
        export(remote, build, path)
    assert "again" not in caught.value.hint
    for error in (ValueError, ArchiveError, OSError):
        with pytest.raises((error, ArchiveError)), whole_file(path, resumes=True) as out:
            out.write(bytes(2 << 20))
            raise error("no")
    assert list(tmp_path.glob(".x.*")) == []


def test_a_part_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    """In a folder for all, anybody can make a file of that name, and go on changing it."""
    path, other = tmp_path / "x", tmp_path / "other"
    other.write_bytes(b"old")
    linked, link = (path.with_name(f".x.{number}.part") for number in "12")
    os.link(other, linked)
    link.symlink_to(other)
    with whole_file(path, resumes=True) as out:
        out.write(b"new")
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_two_at_once_do_not_share_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x"
    leave(path, b"left")
    with whole_file(path, resumes=True) as first, whole_file(path, resumes=True) as second:
        assert sorted(os.fstat(one.fileno()).st_size for one in (first, second)) == [0, 4]
    assert path.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_gets_shorter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    with path.open("r+b") as file:
        earlier = EarlierPart(file, "none", tmp_path)
        file.truncate(10)
        with pytest.raises(DamagedPartError):
            list(earlier.read(0, 100))


def test_memory_stays_flat(remote: DiskRack, tmp_path: Path) -> None:
    """Of what was left, no more is held at once than of what comes from a registry."""
    path = tmp_path / "part"
    with path.open("w+b") as file:
        file.truncate(1 << 30)
        for chunk in EarlierPart(file, "none", tmp_path).read(0, 64 << 20):
            assert len(chunk) <= 1 << 20
        for chunk in EarlierPart(file, "gzip", tmp_path).read(12345, 64 << 20):
            assert len(chunk) <= 1 << 20
