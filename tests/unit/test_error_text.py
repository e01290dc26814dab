"""Errors as buildctl prints them, against what the reference printed for the same trailers."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_client.error_text import error_lines, snippet_lines
from buildkit_client.errors import (
    BuildCancelledError,
    BuildKitError,
    ConnectError,
    DaemonError,
    SourceSnippet,
    StatusDetails,
)
from buildkit_client.transport.status import error_from_rpc

TESTS = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (TESTS / "wire" / "errors").glob("*.details"))


def test_there_are_recordings() -> None:
    assert len(NAMES) == 6


@pytest.mark.parametrize("name", NAMES)
def test_text_of_a_recorded_error_is_the_references(name: str) -> None:
    trailer = (TESTS / "wire" / "errors" / f"{name}.details").read_bytes()
    error = error_from_rpc(2, "", [("grpc-status-details-bin", trailer)], address="unix:///x")
    text = "".join(f"{line}\n" for line in error_lines(error, errors="surrogateescape"))
    assert text.encode("utf-8", "surrogateescape") == (TESTS / "golden" / "errors" / f"{name}.txt").read_bytes()


def test_a_place_outside_the_file_shows_nothing() -> None:
    assert snippet_lines(SourceSnippet("Dockerfile", b"FROM x\n", ((3, 3),))) == []
    assert snippet_lines(SourceSnippet("Dockerfile", b"FROM x\n", ())) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BuildKitError("it broke"), "error: it broke"),
        (ConnectError("cannot reach x", why="refused"), "error: cannot reach x: refused"),
        (BuildCancelledError("the build was cancelled"), "error: failed to solve: Canceled: context canceled"),
    ],
)
def test_other_errors_are_one_line(error: BuildKitError, line: str) -> None:
    assert error_lines(error) == [line]


def test_other_calls_say_what_they_did() -> None:
    error = DaemonError("NotFound: x", details=StatusDetails(code=5, message="x"))
    assert error_lines(error, doing="failed to call prune") == ["error: failed to call prune: NotFound: x"]
