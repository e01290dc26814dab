"""The log between a build and its two readers."""

from __future__ import annotations

import pytest

from convox.build_log import LinePrefixer, LogTee
from convox.errors import ConvoxError, StoreError


class Sink:
    """Takes bytes until it is told to fail."""

    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = None

    def __call__(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.data += data


@pytest.fixture
def shown() -> Sink:
    return Sink()


@pytest.fixture
def kept() -> Sink:
    return Sink()


class TestLogTee:
    def test_both_get_everything_masked(self, shown: Sink, kept: Sink) -> None:
        tee = LogTee(shown, kept, ["hunter22"])
        tee.write(b"one hun")
        tee.write(b"ter22 two\n")
        tee.line("three \udcff")
        tee.flush()
        assert shown.data == kept.data == b"one *** two\nthree \xff\n"

    def test_secrets_found_later(self, shown: Sink, kept: Sink) -> None:
        tee = LogTee(shown, kept, ["first-secret"])
        tee.write(b"first-secret second-secret first-")
        tee.hide(["first-secret", "second-secret"])
        tee.line(" second-secret")
        tee.flush()
        assert kept.data == b"*** second-secret first- ***\n"

    def test_end_is_kept_and_not_shown_and_nothing_follows(self, shown: Sink, kept: Sink) -> None:
        tee = LogTee(shown, kept, ["secret"])
        tee.write(b"held back: sec")
        tee.end("ERROR: it is over")
        tee.line("too late")
        assert shown.data == b"held back: sec"
        assert kept.data == b"held back: secERROR: it is over\n"

    @pytest.mark.parametrize("error", [BrokenPipeError(), ConvoxError("cannot write the output")])
    def test_log_goes_on_when_nobody_reads(self, shown: Sink, kept: Sink, error: Exception) -> None:
        tee = LogTee(shown, kept, [])
        tee.line("one")
        shown.error = error
        tee.line("two")
        shown.error = None
        tee.line("three")
        tee.check()
        assert shown.data == b"one\n"
        assert kept.data == b"one\ntwo\nthree\n"

    def test_log_that_cannot_be_kept_is_told_to_whoever_asks(self, shown: Sink, kept: Sink) -> None:
        tee = LogTee(shown, kept, [])
        tee.check()
        kept.error = StoreError("cannot write the log")
        tee.line("one")
        with pytest.raises(StoreError, match="cannot write the log"):
            tee.check()
        tee.end("ERROR: cannot write the log")
        assert shown.data == b"one\n"


class TestLinePrefixer:
    def prefixed(self, *pieces: str) -> bytes:
        sink = Sink()
        prefixer = LinePrefixer("web | ", sink)
        for piece in pieces:
            prefixer.write(piece)
        prefixer.close()
        return sink.data

    def test_pieces_become_whole_lines(self) -> None:
        sink = Sink()
        prefixer = LinePrefixer("web | ", sink)
        prefixer.write("#1 on")
        assert sink.data == b""
        prefixer.write("e\n#2 two\n#3")
        assert sink.data == b"web | #1 one\nweb | #2 two\n"
        prefixer.close()
        assert sink.data == b"web | #1 one\nweb | #2 two\nweb | #3\n"

    def test_empty_line_has_no_space_at_its_end(self) -> None:
        assert self.prefixed("#1 one\n\n#2 two\n") == b"web | #1 one\nweb |\nweb | #2 two\n"

    def test_only_line_feeds_end_a_line(self) -> None:
        assert self.prefixed("10%\r20%\v\x85\u2028end\r\n") == "web | 10%\r20%\v\x85\u2028end\r\n".encode()

    def test_bytes_that_are_no_text_come_back(self) -> None:
        assert self.prefixed("a\udcff\udc80\n") == b"web | a\xff\x80\n"
