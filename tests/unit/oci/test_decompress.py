from __future__ import annotations

import gzip
import io
import os
import random
import tracemalloc

import pytest
import zstandard

from buildkit_client.errors import LayoutError
from buildkit_client.oci.decompress import DecompressedReader, DecompressLimits, detect_compression

DATA = b"".join(b"line %d\n" % number for number in range(20_000)) + random.Random(1).randbytes(50_000)
SKIPPABLE = b"\x5a\x2a\x4d\x18\x05\0\0\0hello"


def zstd(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


def zstd_stream(data: bytes) -> bytes:
    """A frame that does not say how long it is."""
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return compressor.compress(data) + compressor.flush()


PACKED = {
    "none": DATA,
    "gzip": gzip.compress(DATA),
    "gzip members": gzip.compress(DATA[:1000]) + gzip.compress(b"") + gzip.compress(DATA[1000:]),
    "gzip padded": gzip.compress(DATA) + bytes(10_000),
    "zstd": zstd(DATA),
    "zstd checksum": zstd(DATA, write_checksum=True),
    "zstd unknown size": zstd_stream(DATA),
    "zstd frames": zstd(DATA[:1000]) + zstd_stream(b"") + zstd_stream(DATA[1000:]),
    "zstd skippable": SKIPPABLE + zstd(DATA[:10]) + SKIPPABLE + zstd(DATA[10:]) + SKIPPABLE,
}


def unpack(data: bytes, step: int = 100_000, limits: DecompressLimits | None = None) -> bytes:
    reader = DecompressedReader(io.BytesIO(data), limits)
    parts = []
    while part := reader.read(step):
        parts.append(part)
    assert reader.read(step) == b""
    return b"".join(parts)


@pytest.mark.parametrize("step", [100, 512, 1 << 20])
@pytest.mark.parametrize("kind", PACKED)
def test_round_trip(kind: str, step: int) -> None:
    assert unpack(PACKED[kind], step) == DATA
    assert DecompressedReader(io.BytesIO(PACKED[kind])).compression == kind.split(maxsplit=1)[0]


@pytest.mark.parametrize("kind", ["gzip", "gzip members", "zstd", "zstd checksum", "zstd unknown size"])
def test_every_cut_is_seen(kind: str) -> None:
    packed = PACKED[kind]
    borders = (
        {len(gzip.compress(DATA[:1000])), len(gzip.compress(DATA[:1000]) + gzip.compress(b""))}
        if "members" in kind
        else set()
    )
    for percent in range(1, 100):
        length = max(4, len(packed) * percent // 100)
        if length in borders:
            continue
        with pytest.raises(LayoutError, match=r"cut short|damaged"):
            unpack(packed[:length], 1 << 20)
    with pytest.raises(LayoutError, match=r"cut short|damaged"):
        unpack(packed[:-1])


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zstd skippable"])
@pytest.mark.parametrize("tail", [b"garbage after the end", b"\0\0\0\0\0\0\0\0garbage", b"PK\x03\x04" + bytes(100)])
def test_garbage_behind_is_refused(kind: str, tail: bytes) -> None:
    with pytest.raises(LayoutError, match="damaged"):
        unpack(PACKED[kind] + tail)


@pytest.mark.parametrize("kind", ["gzip", "zstd checksum"])
def test_flipped_bit_is_seen(kind: str) -> None:
    packed = bytearray(PACKED[kind])
    packed[len(packed) // 2] ^= 0x10
    with pytest.raises(LayoutError):
        unpack(bytes(packed))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_bomb_is_stopped_by_its_ratio(pack: object) -> None:
    packed = pack(bytes(8 << 20))  # type: ignore[operator]
    limits = DecompressLimits(ratio=100, ratio_from_bytes=1 << 20)
    with pytest.raises(LayoutError, match="bomb"):
        unpack(packed, 1 << 16, limits)
    assert len(unpack(packed, 1 << 20, DecompressLimits(ratio=100, ratio_from_bytes=64 << 20))) == 8 << 20


@pytest.mark.parametrize("pack", [gzip.compress, zstd, bytes])
def test_total_size_is_limited(pack: object) -> None:
    packed = pack(os.urandom(1 << 20))  # type: ignore[operator]
    with pytest.raises(LayoutError, match="too large"):
        unpack(packed, 1 << 16, DecompressLimits(total_bytes=1 << 19))


@pytest.mark.parametrize("pack", [gzip.compress, zstd_stream])
def test_memory_stays_flat(pack: object) -> None:
    """A few hundred bytes that unpack to megabytes come out in the pieces that were asked for."""
    packed = pack(bytes(64 << 20))  # type: ignore[operator]
    reader = DecompressedReader(io.BytesIO(packed))
    tracemalloc.start()
    try:
        while reader.read(1 << 16):
            pass
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_window_is_limited() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(b"x" * 1000) + compressor.flush()
    assert unpack(packed) == b"x" * 1000
    with pytest.raises(LayoutError, match="damaged"):
        unpack(packed, limits=DecompressLimits(window_bytes=64 << 20))


@pytest.mark.parametrize("data", [b"", b"\x1f", b"ab", b"\x28\xb5\x2f"])
def test_short_streams_are_plain(data: bytes) -> None:
    assert unpack(data) == data
    assert detect_compression(data) == "none"
