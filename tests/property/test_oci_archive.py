"""Archives: what goes in comes out, and no damage comes out as something else."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.errors import LayoutError
from buildkit_client.oci.archive import OciArchive, import_oci_archive
from buildkit_client.oci.decompress import DecompressedReader
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.tar_stream import TarReader
from tests.support.images import add_image, add_index
from tests.support.tars import files

LAYERS = st.lists(st.binary(max_size=2000), max_size=4)
PLATFORMS = st.builds(Platform, st.sampled_from(["linux", "windows"]), st.sampled_from(["amd64", "arm64", "s390x"]))
NAMES = st.lists(
    st.from_regex(r"\A[a-z]{1,8}(:[0-9]{4})?/[a-z]{1,5}:[a-z0-9_][a-z0-9_.-]{0,20}\Z"), max_size=3, unique=True
)


class Stutter(io.RawIOBase):
    """Gives bytes in the steps that a test chose, again and again."""

    def __init__(self, data: bytes, steps: list[int]) -> None:
        self._data, self._steps = io.BytesIO(data), steps

    def read(self, size: int = -1) -> bytes:
        step = self._steps.pop(0)
        self._steps.append(step)
        return self._data.read(step if size < 0 else min(step, size))


def write(layout: ImageLayout, descriptor: Descriptor, names: list[str]) -> bytes:
    out = io.BytesIO()
    archive = OciArchive(layout, descriptor, names)
    archive.write(out)
    assert len(out.getvalue()) == archive.size_bytes
    return out.getvalue()


@given(
    st.lists(st.tuples(PLATFORMS, LAYERS), min_size=1, max_size=3),
    st.booleans(),
    NAMES,
    st.sampled_from(["", "gzip", "zstd"]),
)
def test_round_trip(images: list[tuple[Platform, list[bytes]]], nested: bool, names: list[str], pack: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = ImageLayout.create(Path(folder, "a")), ImageLayout.create(Path(folder, "b"))
        descriptors = [add_image(source, layers, platform=platform) for platform, layers in images]
        descriptor = add_index(source, *descriptors) if nested or len(descriptors) > 1 else descriptors[0]
        first = write(source, descriptor, names)
        packed = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[pack](first)
        (image,) = import_oci_archive(io.BytesIO(packed), target)
        assert image.descriptor == descriptor
        assert list(image.names) == names
        target.verify(descriptor)
        assert {info.digest for info in target.blobs()} == {part.digest for part in source.walk(descriptor)}
        assert write(target, image.descriptor, list(image.names)) == first


@given(st.data())
def test_damage_is_an_error_or_no_difference(data: st.DataObject) -> None:
    """Flipped, cut and doubled bytes either leave the image as it was or are refused with nothing kept."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = ImageLayout.create(Path(folder, "a")), ImageLayout.create(Path(folder, "b"))
        descriptor = add_image(source, [b"one", b"two"])
        archive = bytearray(write(source, descriptor, ["app:1"]))
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(archive) - 1))
            match data.draw(st.sampled_from(["flip", "cut", "double", "insert"])):
                case "flip":
                    archive[place] ^= 1 << data.draw(st.integers(0, 7))
                case "cut":
                    del archive[place : place + data.draw(st.integers(1, 2000))]
                case "double":
                    archive[place:place] = archive[place : place + 512]
                case "insert":
                    archive[place:place] = data.draw(st.binary(min_size=1, max_size=600))
            if not archive:
                break
        try:
            images = import_oci_archive(io.BytesIO(bytes(archive)), target)
        except LayoutError:
            assert list(target.blobs()) == []
        else:
            for image in images:
                target.verify(image.descriptor)
        assert list((target.path / "ingest").iterdir()) == []
        assert sorted(path.name for path in Path(folder).iterdir()) == ["a", "b"]


@given(st.binary(max_size=3000))
def test_noise_is_no_archive(noise: bytes) -> None:
    try:
        for _ in TarReader(io.BytesIO(noise)):
            pass
    except LayoutError:
        pass
    else:
        assert noise.count(0) == len(noise)  # an end mark alone is an empty archive


@given(
    st.lists(st.tuples(st.from_regex(r"\A[a-z/]{1,150}\Z"), st.binary(max_size=1500)), max_size=5),
    st.lists(st.integers(1, 700), min_size=1),
)
def test_tar_reader_takes_any_steps(entries: list[tuple[str, bytes]], steps: list[int]) -> None:
    reader = TarReader(Stutter(files(entries), steps))  # type: ignore[arg-type]
    assert [(member.name, b"".join(reader.chunks())) for member in reader] == entries


@given(
    st.lists(st.binary(max_size=5000), min_size=1, max_size=4),
    st.sampled_from(["gzip", "zstd"]),
    st.lists(st.integers(1, 3000), min_size=1),
    st.integers(1, 4000),
)
def test_decompression_takes_any_steps(parts: list[bytes], kind: str, steps: list[int], size: int) -> None:
    pack = gzip.compress if kind == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress
    reader = DecompressedReader(Stutter(b"".join(map(pack, parts)), steps))  # type: ignore[arg-type]
    out = []
    while chunk := reader.read(size):
        assert len(chunk) <= size
        out.append(chunk)
    assert b"".join(out) == b"".join(parts)
