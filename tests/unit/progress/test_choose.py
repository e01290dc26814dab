"""Which display a mode, a stream and an environment give."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Iterator
from typing import TextIO

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.progress import (
    PlainProgress,
    QuietProgress,
    RawJsonProgress,
    StatusUpdate,
    TtyProgress,
    Vertex,
    VertexLog,
    make_progress,
)
from buildkit_client.progress.choose import display_rate_s


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        yield stream
    os.close(leader)


def test_auto_without_a_terminal_is_plain() -> None:
    assert isinstance(make_progress("auto", io.StringIO()), PlainProgress)
    assert isinstance(make_progress("", io.StringIO()), PlainProgress)


def test_auto_on_a_terminal_is_live_unless_it_is_dumb(terminal: TextIO) -> None:
    assert isinstance(make_progress("auto", terminal), TtyProgress)
    assert isinstance(make_progress("auto", terminal, environ={"TERM": "dumb"}), PlainProgress)


def test_the_environment_replaces_auto_only() -> None:
    environ = {"BUILDKIT_PROGRESS": "rawjson"}
    assert isinstance(make_progress("auto", io.StringIO(), environ=environ), RawJsonProgress)
    assert isinstance(make_progress("quiet", io.StringIO(), environ=environ), QuietProgress)


def test_a_live_display_needs_a_terminal() -> None:
    with pytest.raises(OptionError, match="failed to get console: provided file is not a console"):
        make_progress("tty", io.StringIO())


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(OptionError, match="invalid progress mode fancy"):
        make_progress("fancy", io.StringIO())


def test_bytes_of_the_build_reach_a_file_as_they_came() -> None:
    raw = io.BytesIO()
    display = make_progress("plain", io.TextIOWrapper(raw, encoding="ascii"))
    display.update(
        StatusUpdate(vertexes=(Vertex("a", name="é", started_ns=0),), logs=(VertexLog("a", data=b"\xff\n"),))
    )
    assert raw.getvalue() == b"#1 \xc3\xa9\n#1 0.000 \xff\n"


@pytest.mark.parametrize(("text", "seconds"), [("", 0), ("250", 0.25), ("-1", 0), ("fast", 0), ("0", 0)])
def test_the_display_rate_is_in_milliseconds(text: str, seconds: float) -> None:
    assert display_rate_s({"TTY_DISPLAY_RATE": text}) == seconds
