from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from buildkit_client.errors import BlobNotFoundError, DigestMismatchError, LayoutError
from buildkit_client.oci.blob_store import LEFTOVER_AGE_S, BlobStore
from buildkit_client.oci.digest import Digest

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def _temporary_files(store: BlobStore) -> list[str]:
    folder = store.path / "ingest"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def _age(path: Path, seconds: float) -> None:
    before = path.stat().st_mtime - seconds
    os.utime(path, (before, before))


@pytest.mark.parametrize("durable", [False, True])
def test_write_and_read(tmp_path: Path, durable: bool) -> None:
    store = BlobStore(tmp_path, durable=durable)
    with store.begin_blob(DIGEST, len(DATA)) as writer:
        writer.write(DATA[:4])
        assert not store.has_blob(DIGEST)
        writer.write(memoryview(DATA)[4:])
        assert writer.digest == DIGEST
        assert writer.commit() == DIGEST
    assert store.has_blob(DIGEST)
    assert (tmp_path / "blobs" / "sha256" / DIGEST.hex).read_bytes() == DATA
    assert store.blob_size(DIGEST) == len(DATA)
    assert b"".join(store.read_blob(DIGEST, len(DATA))) == DATA
    with store.open_blob(DIGEST, 5) as stream:
        assert stream.read() == DATA[5:]
    assert _temporary_files(store) == []


def test_digest_can_be_found_out(store: BlobStore) -> None:
    with store.begin_blob() as writer:
        writer.write(DATA)
        assert writer.commit() == DIGEST


def test_sha512(store: BlobStore) -> None:
    digest = Digest.of(DATA, "sha512")
    with store.begin_blob(digest) as writer:
        writer.write(DATA)
        writer.commit()
    assert b"".join(store.read_blob(digest)) == DATA
    assert store.put_blob(DATA, "sha512") == digest


def test_commit_may_name_another_algorithm(store: BlobStore) -> None:
    digest = Digest.of(DATA, "sha512")
    with store.begin_blob() as writer:
        writer.write(DATA)
        assert writer.commit(digest) == digest
    assert store.has_blob(digest)


@pytest.mark.parametrize(
    ("expected", "size", "complaint"),
    [
        (Digest.of(b"other"), None, f"digest is {DIGEST}"),
        (Digest.of(b"x", "sha512"), None, "digest is sha512"),
        (DIGEST, 11, "10 bytes came; expected 11"),
        (None, 11, "10 bytes came; expected 11"),
    ],
)
def test_wrong_bytes_leave_nothing(store: BlobStore, expected: Digest | None, size: int | None, complaint: str) -> None:
    with pytest.raises(DigestMismatchError) as caught, store.begin_blob(expected, size) as writer:
        writer.write(DATA)
        writer.commit()
    assert complaint in caught.value.why
    assert list(store.blobs()) == []
    assert _temporary_files(store) == []


def test_too_many_bytes_are_refused_at_once(store: BlobStore) -> None:
    with store.begin_blob(DIGEST, 4) as writer, pytest.raises(DigestMismatchError):
        writer.write(DATA)
    assert _temporary_files(store) == []


def test_leaving_without_commit_drops(store: BlobStore) -> None:
    with store.begin_blob(DIGEST) as writer:
        writer.write(DATA)
        assert len(_temporary_files(store)) == 1
    assert _temporary_files(store) == []
    assert not store.has_blob(DIGEST)


def test_sealed_blob_can_be_read_before_its_commit(store: BlobStore) -> None:
    with store.begin_blob() as writer:
        writer.write(DATA)
        assert writer.seal() == DIGEST
        with pytest.raises(LayoutError):
            writer.write(b"more")
        with writer.open_written() as stream:
            assert stream.read() == DATA
        assert not store.has_blob(DIGEST)
        writer.commit(DIGEST)
    assert store.has_blob(DIGEST)


def test_truncate_starts_over(store: BlobStore) -> None:
    with store.begin_blob() as writer:
        writer.write(b"wrong and longer than the rest")
        writer.truncate()
        assert (writer.size_bytes, writer.digest) == (0, Digest.of(b""))
        writer.write(DATA)
        assert writer.commit() == DIGEST
    assert b"".join(store.read_blob(DIGEST)) == DATA


def test_writers_of_one_digest_do_not_disturb_each_other(store: BlobStore) -> None:
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with store.begin_blob(DIGEST) as writer:
                writer.write(DATA)
                barrier.wait(10)
                writer.commit()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [info.digest for info in store.blobs()] == [DIGEST]
    assert _temporary_files(store) == []


def test_damaged_blob_of_wrong_size_is_written_again(store: BlobStore) -> None:
    store.put_blob(DATA)
    store.blob_path(DIGEST).write_bytes(b"cut")
    assert not store.keep_blob(DIGEST, len(DATA))
    store.put_blob(DATA)
    assert b"".join(store.read_blob(DIGEST)) == DATA


@pytest.mark.parametrize(
    ("content", "size", "complaint"),
    [
        (b"Some bytes", len(DATA), "digest"),
        (b"some bytez", len(DATA), "digest"),
        (b"some", len(DATA), "4 bytes; expected 10"),
        (b"some bytes and more", len(DATA), "19 bytes; expected 10"),
        (b"", None, "digest"),
    ],
)
def test_damage_is_seen_when_read(store: BlobStore, content: bytes, size: int | None, complaint: str) -> None:
    store.put_blob(DATA)
    store.blob_path(DIGEST).write_bytes(content)
    with pytest.raises(LayoutError) as caught:
        list(store.read_blob(DIGEST, size))
    assert complaint in caught.value.why


def test_missing_blob(store: BlobStore) -> None:
    for call in (store.blob_info, store.blob_size, store.open_blob, lambda d: list(store.read_blob(d))):
        with pytest.raises(BlobNotFoundError, match=DIGEST):
            call(DIGEST)
    assert not store.has_blob(DIGEST)
    assert not store.keep_blob(DIGEST)
    assert not store.delete_blob(DIGEST)


def test_small_blob_has_a_limit(store: BlobStore) -> None:
    store.put_blob(DATA)
    assert store.read_small_blob(DIGEST, limit=10) == DATA
    with pytest.raises(LayoutError, match="too large"):
        store.read_small_blob(DIGEST, limit=9)


def test_a_pipe_in_place_of_a_blob_does_not_hang(store: BlobStore) -> None:
    store.put_blob(DATA)
    store.blob_path(DIGEST).unlink()
    os.mkfifo(store.blob_path(DIGEST))
    assert not store.has_blob(DIGEST)
    with pytest.raises(LayoutError, match="regular"):
        store.open_blob(DIGEST)


def test_chunks_are_at_most_a_mebibyte(store: BlobStore) -> None:
    data = bytes(3 << 20)
    digest = store.put_blob(data)
    assert {len(chunk) for chunk in store.read_blob(digest)} == {1 << 20}


def test_blobs_lists_digests_only(store: BlobStore) -> None:
    store.put_blob(DATA)
    store.put_blob(DATA, "sha512")
    folder = store.path / "blobs" / "sha256"
    (folder / "README").write_text("x")
    (folder / ("A" * 64)).write_text("x")
    (folder / ("0" * 64)).mkdir()
    assert sorted(info.digest for info in store.blobs()) == [DIGEST, Digest.of(DATA, "sha512")]


def test_leftovers_of_killed_writers_go_after_a_day(store: BlobStore) -> None:
    dead, alive = store.begin_blob(), store.begin_blob()
    _age(dead._path, LEFTOVER_AGE_S + 60)
    (store.path / "ingest" / "of-another-tool").write_text("x")
    _age(store.path / "ingest" / "of-another-tool", LEFTOVER_AGE_S + 60)
    assert store.remove_leftovers() == 1
    assert not dead._path.exists()
    alive.write(DATA)
    alive.commit(DIGEST)
    assert store.has_blob(DIGEST)
    assert _temporary_files(store) == ["of-another-tool"]
    dead.abort()


def test_keeping_a_blob_makes_it_young(store: BlobStore) -> None:
    store.put_blob(DATA)
    _age(store.blob_path(DIGEST), 5000)
    old = store.blob_info(DIGEST).mod_time_ns
    assert store.keep_blob(DIGEST, len(DATA))
    assert store.blob_info(DIGEST).mod_time_ns > old
    assert not store.delete_blob_unused_since(DIGEST, old)
    assert store.has_blob(DIGEST)
    assert store.delete_blob_unused_since(DIGEST, store.blob_info(DIGEST).mod_time_ns)
    assert not store.has_blob(DIGEST)
    assert _temporary_files(store) == []


def test_full_disk_is_told(store: BlobStore) -> None:
    writer = store.begin_blob()
    assert writer._file is not None
    writer._file.close()
    writer._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    with pytest.raises(LayoutError) as caught, writer:
        writer.write(DATA)
    assert caught.value.why == "No space left on device"
    assert _temporary_files(store) == []


def test_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "ingest").write_text("a file, not a folder")
    with pytest.raises(LayoutError, match="cannot write"):
        BlobStore(tmp_path).begin_blob()


def test_modes_follow_the_umask(store: BlobStore) -> None:
    old = os.umask(0o027)
    try:
        store.put_blob(DATA)
    finally:
        os.umask(old)
    assert store.blob_path(DIGEST).stat().st_mode & 0o777 == 0o640
    assert store.blob_path(DIGEST).parent.stat().st_mode & 0o777 == 0o750


def test_a_committed_writer_leaves_the_next_ones_beginning_alone(store: BlobStore) -> None:
    """The next one looked for the blob just before the first had stored it, and has the same temporary name."""
    with store.begin_blob(DIGEST, len(DATA), resume=True) as first:
        first.write(DATA)
        first.commit()
        second = store.begin_blob(DIGEST, len(DATA), resume=True)
    store.delete_blob(DIGEST)
    with second:
        second.write(DATA)
        assert second.commit() == DIGEST
    assert store.has_blob(DIGEST, len(DATA))


def test_a_leftover_that_cannot_be_deleted_does_not_keep_the_others(store: BlobStore) -> None:
    for number in range(3):
        store.new_part_path().write_bytes(b"x" * number)
    folder = store.path / "ingest"
    (folder / "folder.part").mkdir()
    for path in folder.iterdir():
        _age(path, 2 * LEFTOVER_AGE_S)
    assert store.remove_leftovers() == 3
    assert _temporary_files(store) == ["folder.part"]


def test_what_was_appended_is_in_the_digest_whoever_asks_next(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with store.begin_blob() as writer:
        writer.append(b"dropped")
        writer.truncate()
        writer.append(b"one ")
        writer.append(b"two ")
        writer.write(b"three ")
        writer.append(b"four ")
        assert writer.digest == Digest.of(b"one two three four ")
        writer.append(b"five")
        assert writer.size_bytes == 23
        assert writer.commit() == Digest.of(b"one two three four five")
    assert b"".join(store.read_blob(Digest.of(b"one two three four five"))) == b"one two three four five"


def test_appending_more_than_was_announced_is_refused(tmp_path: Path) -> None:
    with BlobStore(tmp_path).begin_blob(Digest.of(b"abc"), 3) as writer:
        writer.append(b"abc")
        with pytest.raises(DigestMismatchError):
            writer.append(b"d")
