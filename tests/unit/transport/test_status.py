"""From a failed call's code, message and trailers to an error."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from buildkit_client._proto import rpc_status_pb2
from buildkit_client.errors import (
    BuildCancelledError,
    BuildKitError,
    ConnectError,
    ConnectionLostError,
    DaemonError,
    SolveError,
)
from buildkit_client.transport.status import code_name, decode_details, error_from_rpc

ADDRESS = "tcp://builder:1234"
RECORDED = Path(__file__).parent.parent.parent / "wire" / "errors"


def trailer_of(code: int, message: str, **details: bytes) -> bytes:
    status = rpc_status_pb2.Status(code=code, message=message)
    for name, value in details.items():
        type_name = name.replace("_", ".", 1)
        status.details.add(type_url=f"github.com/moby/buildkit/{type_name}+json", value=value)
    return status.SerializeToString()


def rpc_error(code: int, message: str, trailer: bytes | None = None, **options: bool) -> BuildKitError:
    trailing = [("content-type", "application/grpc")]
    pairs = [*trailing, ("grpc-status-details-bin", trailer)] if trailer is not None else trailing
    return error_from_rpc(code, message, pairs, address=ADDRESS, **options)


def test_a_failed_run_has_its_vertex_exit_code_and_place() -> None:
    error = rpc_error(2, "ignored", (RECORDED / "run.details").read_bytes())
    assert isinstance(error, SolveError)
    assert error.vertex.startswith("sha256:")
    assert (error.exit_code, error.kind) == (7, "run")
    (snippet,) = error.snippets
    assert (snippet.filename, snippet.language, snippet.ranges) == ("Dockerfile", "Dockerfile", ((2, 2),))
    assert snippet.data.split(b"\n")[1] == b"RUN echo hi; exit 7"


def test_a_failed_run_without_trailer_is_still_an_error_of_the_build() -> None:
    error = rpc_error(2, 'process "/bin/sh -c x" did not complete successfully: exit code: 1')
    assert isinstance(error, SolveError)
    assert (error.exit_code, error.snippets, error.kind) == (None, (), "run")


def test_trailers_may_be_a_mapping_and_text() -> None:
    raw = (RECORDED / "run.details").read_bytes()
    assert decode_details({"Grpc-Status-Details-Bin": raw}).exit_code == 7
    assert decode_details({"grpc-status-details-bin": b64encode(raw).decode().rstrip("=")}).exit_code == 7
    assert decode_details(None).exit_code is None


@pytest.mark.parametrize("raw", [b"\xff", b"\x1a\xff\xff\xff\x7f", b""])
def test_a_damaged_trailer_is_left_out(raw: bytes) -> None:
    error = rpc_error(5, "no such thing", raw)
    assert isinstance(error, SolveError)
    assert str(error) == "NotFound: no such thing"


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b"3", b'{"info":3}', b'{"info":{"data":"*"}}', b'{"info":{},"ranges":[{"start":{"line":"x"}}]}'],
)
def test_a_damaged_detail_is_left_out_and_the_others_stay(value: bytes) -> None:
    raw = trailer_of(2, "bad", errdefs_Source=value, gatewayapi_ExitMessage=b'{"Code":3}')
    details = decode_details([("grpc-status-details-bin", raw)])
    assert (details.sources, details.exit_code, details.extra) == ((), 3, ("errdefs.Source+json",))


def test_text_that_is_not_utf8_does_not_lose_the_details() -> None:
    raw = trailer_of(2, "name: ??", gatewayapi_ExitMessage=b'{"Code":3}').replace(b"??", b"\xff\xfe")
    details = decode_details([("grpc-status-details-bin", raw)])
    assert (details.message, details.exit_code) == ("name: \ufffd\ufffd", 3)


@pytest.mark.parametrize(
    ("code", "message"),
    [(1, "Locally cancelled"), (1, ""), (2, "failed to read: context canceled")],
)
def test_a_cancelled_build(code: int, message: str) -> None:
    assert isinstance(rpc_error(code, message), BuildCancelledError)


def test_an_output_that_quotes_cancellation_is_no_cancelled_build() -> None:
    assert isinstance(rpc_error(13, "x: context canceled"), SolveError)


@pytest.mark.parametrize(
    ("message", "established", "kind"),
    [
        ("failed to connect to all addresses; last error: Connection refused", None, ConnectError),
        ("Socket closed", None, ConnectionLostError),
        ("recvmsg:Connection reset by peer", None, ConnectionLostError),
        ("failed to connect to all addresses", True, ConnectionLostError),
        ("Socket closed", False, ConnectError),
    ],
)
def test_unavailable_is_about_the_connection(message: str, established: bool | None, kind: type[BuildKitError]) -> None:
    error = error_from_rpc(14, message, (), address=ADDRESS, established=established)
    assert type(error) is kind
    assert ADDRESS in str(error)
    assert message in error.why
    assert error.hint


def test_unavailable_said_by_the_daemon_is_about_the_build() -> None:
    error = rpc_error(14, "registry is down", trailer_of(14, "registry is down"))
    assert isinstance(error, SolveError)
    assert str(error) == "Unavailable: registry is down"


def test_a_web_server_is_recognised() -> None:
    error = rpc_error(14, "Trying to connect an http1.x server")
    assert isinstance(error, ConnectError)
    assert error.phase == "handshake"
    assert "web server" in error.hint


@pytest.mark.parametrize(
    ("code", "message", "why"),
    [
        (8, "Received message larger than max (17 vs. 16)", "larger than the 16 MiB"),
        (8, "no space", "ran out"),
        (4, "no active session for abc: context deadline exceeded", "session"),
        (4, "Deadline Exceeded", "in time"),
        (12, "unknown service moby.buildkit.v1.Control", "another gRPC server"),
        (12, "unknown method Info for service moby.buildkit.v1.Control", "too old"),
        (12, "unsupported frontend capability x", "does not support"),
        (16, "who are you", "refuses this client"),
        (13, "Received RST_STREAM with error code 2", "broken off"),
    ],
)
def test_codes_that_tell_more_than_the_message(code: int, message: str, why: str) -> None:
    error = rpc_error(code, message)
    assert isinstance(error, SolveError)
    assert why in error.why
    assert error.hint
    assert error.details.code == code
    assert str(error) == f"{code_name(code)}: {message}"


def test_calls_that_are_no_build_get_another_class() -> None:
    error = rpc_error(5, "x", is_build=False)
    assert type(error) is DaemonError
    assert error.details.message == "x"


@pytest.mark.parametrize(
    ("code", "name"), [(0, "OK"), (1, "Canceled"), (4, "DeadlineExceeded"), (15, "DataLoss"), (17, "Code(17)")]
)
def test_codes_have_gos_names(code: int, name: str) -> None:
    assert code_name(code) == name
