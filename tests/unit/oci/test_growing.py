"""Blobs that are sent while they still come out of an archive."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buildkit_client.errors import LayoutError
from buildkit_client.oci import growing, media_types
from buildkit_client.oci.archive import OciArchive
from buildkit_client.oci.blob_store import BlobWriter
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import CHUNK_BYTES, Digest
from buildkit_client.oci.growing import GrowingBlob
from buildkit_client.oci.image import ImageManifest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.staging import stage_oci_archive

CHUNKS = [bytes([number]) * CHUNK_BYTES for number in range(12)] + [b"the end"]
LARGE = b"".join(CHUNKS)


class Reader:
    """Reads chunks in a thread, and keeps what came of it."""

    def __init__(self, chunks: Callable[[], Iterator[bytes]]) -> None:
        self.got = bytearray()
        self.error: Exception | None = None
        self._took = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(chunks,))
        self._thread.start()

    def _run(self, chunks: Callable[[], Iterator[bytes]]) -> None:
        try:
            for chunk in chunks():
                with self._took:
                    self.got += chunk
                    self._took.notify_all()
        except LayoutError as exc:
            self.error = exc

    def wait_for(self, size_bytes: int) -> None:
        with self._took:
            assert self._took.wait_for(lambda: len(self.got) >= size_bytes, 10)

    def end(self) -> bytes:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return bytes(self.got)


@pytest.fixture
def writer(tmp_path: Path) -> BlobWriter:
    return ImageLayout.create(tmp_path / "layout").begin_blob(Digest.of(LARGE))


def test_bytes_are_given_as_they_come_and_the_last_ones_when_all_are_checked(writer: BlobWriter) -> None:
    blob = GrowingBlob(writer, len(LARGE))
    reader = Reader(blob.chunks)
    for chunk in CHUNKS[:9]:
        writer.write(chunk)
        blob.grow()
    reader.wait_for(7 * CHUNK_BYTES)
    for chunk in CHUNKS[9:]:
        writer.write(chunk)
        blob.grow()
    writer.seal()
    reader.wait_for(11 * CHUNK_BYTES)
    assert len(reader.got) < len(LARGE)
    blob.finish(is_whole=True)
    assert reader.end() == LARGE
    assert b"".join(blob.chunks()) == LARGE  # once more, for another try


def test_nothing_is_given_of_what_will_take_long(writer: BlobWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "_SOON_S", 0.0)
    blob = GrowingBlob(writer, len(LARGE))
    reader = Reader(blob.chunks)
    for chunk in CHUNKS:
        writer.write(chunk)
        blob.grow()
    assert reader.got == b""
    writer.seal()
    blob.finish(is_whole=True)
    assert reader.end() == LARGE


def test_a_blob_that_does_not_become_whole_is_an_error(writer: BlobWriter) -> None:
    blob = GrowingBlob(writer, len(LARGE))
    reader = Reader(blob.chunks)
    for chunk in CHUNKS[:10]:
        writer.write(chunk)
        blob.grow()
    reader.wait_for(CHUNK_BYTES)
    blob.finish(is_whole=False)
    writer.abort()
    assert len(reader.end()) < len(LARGE)
    assert reader.error is not None


def archive_of(folder: Path, layer: bytes) -> bytes:
    layout = ImageLayout.create(folder)
    layers = tuple(Descriptor(media_types.OCI_LAYER, layout.put_blob(data), len(data)) for data in (layer, b"small"))
    config = Descriptor(media_types.OCI_CONFIG, layout.put_blob(b"{}"), 2)
    document = ImageManifest(config, layers).to_bytes()
    out = io.BytesIO()
    OciArchive(layout, Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(document), len(document))).write(out)
    return out.getvalue()


def test_large_blobs_of_an_archive_are_announced_when_they_begin(tmp_path: Path) -> None:
    readers: dict[Descriptor, Reader] = {}

    def on_blob(blob: Descriptor, chunks: Callable[[], Iterator[bytes]]) -> None:
        readers[blob] = Reader(chunks)

    archive = io.BytesIO(archive_of(tmp_path / "source", LARGE))
    with stage_oci_archive(archive, ImageLayout.create(tmp_path / "target"), on_blob=on_blob) as staged:
        [(blob, reader)] = readers.items()
        assert (blob.digest, blob.size_bytes) == (Digest.of(LARGE), len(LARGE))
        assert reader.end() == LARGE
        staged.commit()


@pytest.mark.parametrize("harm", ["other bytes", "cut short"])
def test_a_damaged_blob_is_never_given_to_its_end(tmp_path: Path, harm: str) -> None:
    archive = archive_of(tmp_path / "source", LARGE)
    damaged = archive.replace(b"the end", b"an end.") if harm == "other bytes" else archive[: len(LARGE) // 2]
    readers: list[Reader] = []
    target = ImageLayout.create(tmp_path / "target")
    with pytest.raises(LayoutError):
        stage_oci_archive(io.BytesIO(damaged), target, on_blob=lambda _, chunks: readers.append(Reader(chunks)))
    [reader] = readers
    assert len(reader.end()) < len(LARGE)
    assert reader.error is not None
    assert not list((target.path / "ingest").glob("*"))
