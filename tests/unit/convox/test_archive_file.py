"""The file around an export: its packing, and that it appears whole or not at all."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import stat
from pathlib import Path

import pytest
import zstandard

from convox.archive_file import COMPRESSIONS, Compression, choose_compression, choose_format, packing_sink, whole_file
from convox.errors import ArchiveError, UsageError
from convox.interrupts import interrupt


def packed(chunks: list[bytes], compression: Compression) -> bytes:
    out = io.BytesIO()
    sink = packing_sink(out, compression)
    for chunk in chunks:
        sink.write(chunk)
    sink.finish()
    return out.getvalue()


def unpacked(data: bytes, compression: Compression) -> bytes:
    match compression:
        case "gzip":
            return gzip.decompress(data)
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        case "none":
            return data


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("size", [0, 1, 65534, 65535, 65536, 131070, 131071, 1 << 20])
def test_packing_gives_back_what_went_in(compression: Compression, size: int) -> None:
    data = os.urandom(size)
    assert unpacked(packed([data], compression), compression) == data


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_packing_does_not_depend_on_the_pieces(compression: Compression) -> None:
    data = b"".join(bytes([number % 256]) * number for number in range(600))
    whole = packed([data], compression)
    for step in (1000, 65535, 65536, 70000):
        assert packed([data[at : at + step] for at in range(0, len(data), step)], compression) == whole
    assert packed([b"", data[:1], b"", data[1:], b""], compression) == whole


def test_gzip_only_stores() -> None:
    data = bytes(1 << 20)
    assert len(data) < len(packed([data], "gzip")) < len(data) * 1.001


def test_zstd_carries_a_checksum() -> None:
    damaged = bytearray(packed([os.urandom(1000)], "zstd"))
    damaged[-10] ^= 1
    with pytest.raises(zstandard.ZstdError):
        unpacked(bytes(damaged), "zstd")


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        (None, None, "gzip"),
        (None, "x.tgz", "gzip"),
        (None, "x.zst", "zstd"),
        (None, ".zst", "zstd"),
        ("gzip", "x.zst", "gzip"),
        ("none", "x.zst", "none"),
        ("zstd", None, "zstd"),
    ],
)
def test_choice(given: str | None, name: str | None, expected: str) -> None:
    assert choose_compression(given, name) == expected


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        (None, None, "none"),
        (None, "x.tar", "none"),
        (None, "x.tgz", "gzip"),
        (None, "x.tar.gz", "gzip"),
        (None, "x.zst", "zstd"),
        ("zstd", "x.tgz", "zstd"),
    ],
)
def test_choice_for_image_layouts(given: str | None, name: str | None, expected: str) -> None:
    assert choose_compression(given, name, "oci") == expected


def test_choice_of_the_form() -> None:
    assert [choose_format(given) for given in (None, "convox", "oci")] == ["convox", "convox", "oci"]
    with pytest.raises(UsageError, match="unknown format: tar"):
        choose_format("tar")


def test_an_interrupt_while_the_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between making the file and remembering it."""
    lock = fcntl.flock

    def interrupted(*args: object) -> None:
        interrupt()
        lock(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "x.tgz"):
        pytest.fail("it goes on")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_choice() -> None:
    with pytest.raises(UsageError, match="unknown compression: xz") as caught:
        choose_compression("xz", None)
    assert caught.value.why == "--compression is one of gzip, zstd, none"


# --- the file ---


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    with whole_file(path) as stream:
        stream.write(b"data")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, ArchiveError])
def test_nothing_is_left_of_a_file_that_failed(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(b"old")
    with pytest.raises(error), whole_file(path) as stream:
        stream.write(b"new")
        raise error("no")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_modes(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"")
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        for path in (old, tmp_path / "new"):
            with whole_file(path):
                pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_symlink_keeps_leading_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/real")
    with whole_file(link) as stream:
        stream.write(b"data")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == b"data"


def test_leftovers_of_a_killed_export_go_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    left = tmp_path / ".x.tgz.0123456789ab.part"
    left.write_bytes(b"left")
    other = tmp_path / ".other.tgz.0123456789ab.part"
    other.write_bytes(b"of another file")
    with whole_file(path):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([path, other])


def test_a_file_that_another_export_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    with whole_file(path) as first:
        first.write(b"first")
        with whole_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_among_the_leftovers_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".x.tgz.0123456789ab.part")
    with whole_file(tmp_path / "x.tgz") as stream:
        stream.write(b"data")
    assert (tmp_path / "x.tgz").read_bytes() == b"data"


def test_a_part_that_was_taken_for_a_leftover_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another export may look between the moment in which a part is made and the one in which it is locked."""
    lock = fcntl.flock
    unlinked = []

    def lock_late(stream: object, how: int) -> None:
        if not unlinked and hasattr(stream, "name"):
            [part] = tmp_path.glob(".*.part")
            part.unlink()
            unlinked.append(part)
        lock(stream, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with whole_file(tmp_path / "x.tgz") as stream:
        stream.write(b"data")
    assert unlinked
    assert (tmp_path / "x.tgz").read_bytes() == b"data"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "nowhere" / "x", tmp_path / "file" / "x", tmp_path / ("x" * 300)):
        with pytest.raises(ArchiveError, match="cannot write") as caught, whole_file(path):
            pytest.fail("the block must not run")
        assert caught.value.why
