"""Blobs read by threads, taken in order."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from buildkit_client.oci.prefetch import read_ahead


def opener(*chunks: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(chunks)


def taken(openers: list[Callable[[], Iterator[bytes]]], **options: int) -> list[bytes]:
    return [b"".join(chunks) for chunks in read_ahead(openers, **options)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def readers() -> int:
    return sum(thread.name.startswith("read-ahead-") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("chunks_ahead", [1, 3])
def test_order_is_kept(workers: int, chunks_ahead: int) -> None:
    blobs = [[b"%d-%d " % (blob, chunk) for chunk in range(blob % 5)] for blob in range(40)]
    expected = [b"".join(blob) for blob in blobs]
    assert taken([opener(*blob) for blob in blobs], workers=workers, chunks_ahead=chunks_ahead) == expected


def test_none() -> None:
    assert taken([]) == []
    wait_until(lambda: readers() == 0)


def test_an_error_comes_where_its_blob_is() -> None:
    def broken() -> Iterator[bytes]:
        yield b"start "
        raise ValueError("broken")

    got = []
    with pytest.raises(ValueError, match="broken"):
        for chunks in read_ahead([opener(b"good"), broken, opener(b"never")]):
            got.extend(chunks)
    assert got == [b"good", b"start "]
    wait_until(lambda: readers() == 0)


def test_several_are_read_at_once() -> None:
    barrier = threading.Barrier(3, timeout=10)

    def together() -> Iterator[bytes]:
        barrier.wait()  # only passed when three are being read
        yield b"x"

    assert taken([together] * 3, workers=3) == [b"x"] * 3


def test_nobody_reads_far_ahead() -> None:
    lock = threading.Lock()
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for _ in range(3):
            with lock:
                read += 1
            yield b"x"

    with contextlib.closing(read_ahead([counted] * 100, workers=2, chunks_ahead=1)) as blobs:
        first = next(blobs)
        wait_until(lambda: read >= 4)
        time.sleep(0.05)
        assert read <= 4  # of two blobs one chunk that waits and one in hand
        assert b"".join(first) == b"xxx"
        wait_until(lambda: read >= 7)
        time.sleep(0.05)
        assert read <= 3 + 2 * 3


def test_small_blobs_do_not_pile_up() -> None:
    started: list[int] = []
    openers = [lambda number=number: (started.append(number), iter([b"x"]))[1] for number in range(100)]  # type: ignore[misc]
    with contextlib.closing(read_ahead(openers, workers=4)) as blobs:
        next(blobs)
        wait_until(lambda: len(started) == 4)
        time.sleep(0.05)
        assert len(started) == 4


def test_closing_ends_the_threads() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    blobs = read_ahead([endless] * 8)
    next(next(blobs))
    assert readers() == 4
    blobs.close()
    wait_until(lambda: readers() == 0)
