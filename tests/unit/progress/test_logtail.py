"""The last lines of an output."""

from __future__ import annotations

from buildkit_client.progress.logtail import MAX_LINE_BYTES, LogTail


def test_lines_cut_in_pieces_are_joined() -> None:
    tail = LogTail(5)
    for piece in (b"on", b"e\ntw", b"o\n", b"\nthr"):
        tail.feed(piece)
    assert tail.lines(9) == ("one", "two", "", "thr")
    assert tail.total_bytes == len(b"one\ntwo\n\nthr")


def test_only_the_last_lines_stay() -> None:
    tail = LogTail(3)
    tail.feed(b"start")
    tail.feed(b"".join(b"%d\n" % number for number in range(100_000)))
    assert tail.lines(3) == ("99997", "99998", "99999")
    assert tail.lines(2) == ("99998", "99999")
    assert tail.lines(0) == ()


def test_a_line_of_ten_megabytes_keeps_its_end() -> None:
    tail = LogTail(3)
    for _ in range(160):
        tail.feed(b"x" * (1 << 16))
    tail.feed(b"the end\nnext\n")
    first, second = tail.lines(3)
    assert first.endswith("xxthe end")
    assert len(first) == MAX_LINE_BYTES
    assert second == "next"


def test_an_overwritten_line_shows_what_stands_there_at_last() -> None:
    tail = LogTail(3)
    tail.feed(b"10%\r20%\r30%\r\nend\r\n")
    assert tail.lines(3) == ("30%", "end")


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    tail = LogTail(3)
    tail.feed(b"caf\xc3")
    tail.feed(b"\xa9 \xff\n")
    assert tail.lines(3) == ("café \ufffd",)
