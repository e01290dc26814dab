"""Messages whose text is not UTF-8."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from buildkit_client._proto import control_pb2
from buildkit_client.transport.lenient import parse_message

MARK = "mark"


def test_bad_text_is_replaced_and_everything_else_stays() -> None:
    response = control_pb2.StatusResponse()
    response.vertexes.add(digest="sha256:a", name=f"copy {MARK} to x", cached=True).started.FromNanoseconds(
        1_500_000_001
    )
    response.logs.add(vertex="sha256:a", msg=b"\xff raw", stream=2)
    response.statuses.add(ID="s", current=-1, total=2**62)
    damaged = response.SerializeToString().replace(MARK.encode(), b"a\xff\xfeb")
    with pytest.raises(DecodeError):
        control_pb2.StatusResponse.FromString(damaged)
    parsed = parse_message(control_pb2.StatusResponse, damaged)
    assert parsed.vertexes[0].name == "copy a\ufffd\ufffdb to x"
    parsed.vertexes[0].name = response.vertexes[0].name
    assert parsed == response


def test_good_messages_are_parsed_as_they_are() -> None:
    request = control_pb2.SolveRequest(Ref="é", FrontendAttrs={"a": "b"})
    assert parse_message(control_pb2.SolveRequest, request.SerializeToString()) == request


def test_bad_text_in_a_map_is_replaced() -> None:
    damaged = (
        control_pb2.SolveRequest(FrontendAttrs={MARK: "v"}).SerializeToString().replace(b"mark", b"\xff\xff\xff\xff")
    )
    assert dict(parse_message(control_pb2.SolveRequest, damaged).FrontendAttrs) == {"\ufffd" * 4: "v"}


def test_unknown_fields_stay() -> None:
    unknown = b"\xa8\x7d\x05" + b"\xa1\x7d" + bytes(8) + b"\xa5\x7d" + bytes(4) + b"\xa2\x7d\x01\xff"
    parsed = parse_message(control_pb2.StatusRequest, b"\x0a\x01\xff" + unknown)
    assert parsed.Ref == "\ufffd"
    assert parsed.SerializeToString().endswith(unknown)


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05a", b"\x0b", b"\xff" * 11, b"\x0a\x01\xff\x09\x01"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_message(control_pb2.StatusRequest, data)
