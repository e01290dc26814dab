from __future__ import annotations

import io
import re
import tarfile
import time

import pytest

from buildkit_client.errors import LayoutError
from buildkit_client.oci.tar_stream import TarKind, TarReader, tar_header
from tests.support.tars import END, file, header, padded, pax, tar


class Slow(io.RawIOBase):
    """Gives a few bytes at a time, as pipes do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = data, step

    def read(self, size: int = -1) -> bytes:
        count = min(self._step, size if size >= 0 else self._step)
        part, self._data = self._data[:count], self._data[count:]
        return part


def read(data: bytes, **limits: int) -> list[tuple[str, TarKind, bytes]]:
    reader = TarReader(io.BytesIO(data), **limits)
    return [(member.name, member.kind, b"".join(reader.chunks())) for member in reader]


def names(data: bytes) -> list[str]:
    return [name for name, _, _ in read(data)]


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_the_standard_library_writes(style: int) -> None:
    buffer = io.BytesIO()
    long_name = "folder/" * 20 + "file"
    with tarfile.open(fileobj=buffer, mode="w", format=style) as out:
        for name, data in (("a", b"x" * 1000), ("empty", b""), (long_name, b"y" * 512), ("ümlaut", b"z")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
        for name, kind in (
            ("dir", tarfile.DIRTYPE),
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("fifo", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "target" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            out.addfile(info)
    assert read(buffer.getvalue()) == [
        ("a", TarKind.FILE, b"x" * 1000),
        ("empty", TarKind.FILE, b""),
        (long_name, TarKind.FILE, b"y" * 512),
        ("ümlaut", TarKind.FILE, b"z"),
        ("dir/", TarKind.DIRECTORY, b""),
        ("link", TarKind.SYMLINK, b""),
        ("hard", TarKind.HARDLINK, b""),
        ("fifo", TarKind.SPECIAL, b""),
    ]


def test_link_targets() -> None:
    data = tar(header("link", kind=b"2", target=b"../x"), pax({"linkpath": "y" * 300}), header("long", kind=b"2"))
    assert [member.link_target for member in TarReader(io.BytesIO(data))] == ["../x", "y" * 300]


def test_content_that_is_not_read_is_skipped() -> None:
    data = tar(file("a", b"x" * 2000), file("b", b"y"))
    assert [member.name for member in TarReader(io.BytesIO(data))] == ["a", "b"]


@pytest.mark.parametrize("step", [1, 7, 511, 513])
def test_reads_in_any_steps(step: int) -> None:
    reader = TarReader(Slow(tar(file("a", b"x" * 700), file("n" * 200, b"y")), step))  # type: ignore[arg-type]
    assert [(m.name, b"".join(reader.chunks())) for m in reader] == [("a", b"x" * 700), ("n" * 200, b"y")]


def test_large_file_comes_in_chunks() -> None:
    reader = TarReader(io.BytesIO(tar(file("a", bytes(3 << 20)))))
    next(iter(reader))
    assert max(len(chunk) for chunk in reader.chunks()) <= 1 << 20


def test_read_content_has_a_limit() -> None:
    reader = TarReader(io.BytesIO(tar(file("a", b"12345"))))
    next(iter(reader))
    with pytest.raises(LayoutError, match="too large"):
        reader.read_content(4)
    assert reader.read_content(5) == b"12345"


def test_old_formats() -> None:
    v7 = header("dir/", magic=b"", kind=b"\0") + header("dir/a", 1, magic=b"", kind=b"\0") + padded(b"x")
    assert read(tar(v7)) == [("dir/", TarKind.DIRECTORY, b""), ("dir/a", TarKind.FILE, b"x")]
    gnu = header("a", 1, magic=b"ustar  \0", prefix=b"not a prefix here") + padded(b"x")
    assert names(tar(gnu)) == ["a"]
    assert names(tar(header("b", prefix=b"a"))) == ["a/b"]


def test_pax_values_win_and_hold_for_one_file() -> None:
    data = tar(
        pax({"path": "p" * 150, "size": "3", "comment": "x=y"}), header("short", 0) + padded(b"abc"), file("next")
    )
    assert read(data) == [("p" * 150, TarKind.FILE, b"abc"), ("next", TarKind.FILE, b"")]


def test_global_header_with_comment_is_passed_over() -> None:
    assert names(tar(pax({"comment": "commit"}, kind=b"g"), file("a"))) == ["a"]


def test_size_in_base_256() -> None:
    big = 1 << 40
    reader = TarReader(io.BytesIO(header("a", b"\x80" + big.to_bytes(11, "big"))), max_total_bytes=1 << 41)
    assert next(iter(reader)).size_bytes == big


def test_signed_checksum_of_old_writers() -> None:
    block = header("ä")
    total = sum(block[:148] + b" " * 8 + block[156:])
    high = sum(byte > 127 for byte in block)
    assert names(tar(header("ä", checksum=total - 256 * high))) == ["ä"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "ends inside"),
        (b"x" * 512, "checksum|number"),
        (b"PK\x03\x04" + bytes(508), "checksum"),
        (header("a", checksum=1), "checksum"),
        (tar(file("a", b"x"), end=b""), "ends inside"),
        (tar(file("a", b"x"), end=bytes(512)), "ends inside"),
        (tar(file("a", b"x"))[:700], "ends inside"),
        (header("a", 10**6) + b"short", "ends inside"),
        (tar(file("a"), end=bytes(512) + b"x" * 512), "end mark"),
        (tar(file("a")) + b"garbage", "follows"),
        (tar(file("a")) + bytes(5000) + b"\1", "follows"),
        (header("a", b"00000000009\0"), "number"),
        (header("a", b"-0000000001\0"), "number"),
        (header("a", b"\xff" * 12), "negative"),
        (tar(header("a", kind=b"S")), "type b'S'"),
        (tar(header("a", kind=b"M")), "type b'M'"),
        (tar(pax({"GNU.sparse.major": "1"}), header("a")), "sparse"),
        (header("x", 2 << 20, kind=b"x"), "extended header"),
        (header("x", 1 << 40, kind=b"L"), "extended header"),
        (tar(pax({"path": "a"})), "no file"),
        (tar(pax(b"11 path=abcd"), header("a")), "malformed"),
        (tar(pax(b"999 path=a\n"), header("a")), "malformed"),
        (tar(pax(b"path=a\n"), header("a")), "number"),
        (tar(pax(b"0 path=a\n"), header("a")), "malformed"),
        (tar(pax(b"-9 path=a\n"), header("a")), "number"),
        (tar(pax({"size": "-1"}), header("a")), "number"),
        (tar(pax({"size": "9" * 30}), header("a")), "number"),
        (tar(pax({"path": "a"}, kind=b"g"), file("b")), "global"),
        (tar(file(b"\xff\xfe")), "UTF-8"),
        (tar(file("x" * 5000)), "5000 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_damage(data: bytes, complaint: str) -> None:
    with pytest.raises(LayoutError) as caught:
        read(data)
    assert re.search(complaint, f"{caught.value} {caught.value.why}")


def test_every_cut_is_seen() -> None:
    whole = tar(pax({"path": "x" * 120}), file("a", b"data" * 300), file("b"))
    for length in range(0, len(whole), 64):
        with pytest.raises(LayoutError):
            read(whole[:length])


def test_too_many_entries() -> None:
    data = b"".join(header(f"f{number}") for number in range(101)) + END
    assert len(read(data, max_entries=101)) == 101
    with pytest.raises(LayoutError, match="too many"):
        read(data, max_entries=100)


def test_a_million_headers_end_soon() -> None:
    class Endless(io.RawIOBase):
        block = header("f")

        def read(self, size: int = -1) -> bytes:
            return self.block[:size]

    started = time.process_time()
    with pytest.raises(LayoutError, match="too many"):
        list(TarReader(Endless(), max_entries=5000))  # type: ignore[arg-type]
    assert time.process_time() - started < 3


def test_total_size_is_limited_before_it_is_read() -> None:
    with pytest.raises(LayoutError, match="too large"):
        read(header("a", 1 << 30), max_total_bytes=1000)


def test_pax_header_of_many_small_records_is_quick() -> None:
    started = time.process_time()
    assert names(tar(pax(b"6 a=b\n" * 170_000), file("x"))) == ["x"]
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("name", "size"), [("blobs/sha256/" + "0" * 64, 0), ("blobs/sha512/" + "0" * 128, 7), ("big", 9 << 30)]
)
def test_headers_can_be_read(name: str, size: int) -> None:
    member = next(iter(TarReader(io.BytesIO(tar_header(name, size)))))
    assert (member.name, member.kind, member.size_bytes) == (name, TarKind.FILE, size)
    with tarfile.open(fileobj=io.BytesIO(tar_header(name, 0) + END)) as archive:
        (info,) = archive.getmembers()
    assert (info.name, info.mode, info.mtime, info.uid, info.gid, info.uname) == (name, 0o644, 0, 0, 0, "")


def test_folder_header() -> None:
    member = next(iter(TarReader(io.BytesIO(tar_header("blobs", 0, is_directory=True)))))
    assert member.kind is TarKind.DIRECTORY


def test_a_folder_without_a_name() -> None:
    data = tar_header("", 0, is_directory=True, mode=0o700, mod_time_s=1_000_000_000)
    assert data[:100] == bytes(100)
    member = next(iter(TarReader(io.BytesIO(data))))
    assert (member.name, member.kind) == ("", TarKind.DIRECTORY)
    with tarfile.open(fileobj=io.BytesIO(data + END)) as archive:
        (info,) = archive.getmembers()
    assert (info.name, info.isdir(), info.mode, info.mtime) == ("", True, 0o700, 1_000_000_000)


def test_the_reader_is_a_stream_of_the_current_file() -> None:
    reader = TarReader(io.BytesIO(tar(file("a", b"0123456789"), file("b", b"xyz"))))
    members = iter(reader)
    next(members)
    assert reader.read(3) == b"012"
    assert reader.read(0) == b""
    assert next(members).name == "b"  # what was not read is skipped
    assert reader.read(-1) == b"xyz"
    assert reader.read(1) == b""


def test_an_archive_in_an_archive_is_cut_short_with_it() -> None:
    whole = tar(file("outer", tar(file("inner", b"x" * 2000))))
    for end in (600, 1100, 2500, len(whole) - 2000):
        reader = TarReader(io.BytesIO(whole[:end]))
        with pytest.raises(LayoutError, match="cut short"):
            for _ in reader:
                for _ in TarReader(reader):
                    pass
