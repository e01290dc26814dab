"""Decoding of wire messages."""

from __future__ import annotations

import pytest

from buildkit_client._proto import control_pb2
from buildkit_client.progress import (
    Position,
    ProgressGroup,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    decode_status,
)


def test_every_field_of_a_message_arrives() -> None:
    response = control_pb2.StatusResponse()
    vertex = response.vertexes.add(digest="sha256:a", inputs=["sha256:b"], name="n", cached=True, error="bad")
    vertex.started.FromNanoseconds(1_500_000_000)
    vertex.completed.FromNanoseconds(2_500_000_001)
    vertex.progressGroup.id, vertex.progressGroup.name, vertex.progressGroup.weak = "g", "group", True
    status = response.statuses.add(ID="s", vertex="sha256:a", name="loading", current=3, total=4)
    status.timestamp.FromNanoseconds(7)
    status.started.FromNanoseconds(5)
    log = response.logs.add(vertex="sha256:a", stream=2, msg=b"\xff\n")
    log.timestamp.FromNanoseconds(9)
    update = decode_status(response)
    assert update == StatusUpdate(
        vertexes=(
            Vertex(
                "sha256:a",
                ("sha256:b",),
                "n",
                cached=True,
                started_ns=1_500_000_000,
                completed_ns=2_500_000_001,
                error="bad",
                progress_group=ProgressGroup("g", "group", weak=True),
            ),
        ),
        statuses=(VertexStatus("s", "sha256:a", "loading", 3, 4, 7, 5, None),),
        logs=(VertexLog("sha256:a", 2, b"\xff\n", 9),),
    )


def test_a_warning_brings_its_source_and_places() -> None:
    response = control_pb2.StatusResponse()
    warning = response.warnings.add(vertex="sha256:a", level=1, short=b"Rule: \xff", detail=[b"d"], url="https://x")
    warning.info.filename, warning.info.data, warning.info.language = "Dockerfile", b"FROM x\n", "Dockerfile"
    place = warning.ranges.add()
    place.start.line, place.start.character, place.end.line, place.end.character = 2, 1, 3, 4
    decoded = decode_status(response).warnings[0]
    assert decoded.text == "Rule: \ufffd"
    assert decoded.detail == (b"d",)
    assert decoded.ranges == ((Position(2, 1), Position(3, 4)),)
    assert decoded.source is not None
    assert (decoded.source.filename, decoded.source.data, decoded.source.ranges) == (
        "Dockerfile",
        b"FROM x\n",
        ((2, 3),),
    )
    assert decoded.source_info == warning.info.SerializeToString()


def test_what_has_no_time_has_none() -> None:
    response = control_pb2.StatusResponse()
    response.vertexes.add(digest="d")
    response.statuses.add(ID="s")
    response.logs.add(msg=b"x")
    update = decode_status(response)
    assert (update.vertexes[0].started_ns, update.vertexes[0].completed_ns) == (None, None)
    assert (update.statuses[0].timestamp_ns, update.statuses[0].started_ns) == (0, None)
    assert update.logs[0].timestamp_ns == 0


@pytest.mark.parametrize("update", [StatusUpdate(vertexes=(Vertex("d"),)), StatusUpdate(logs=(VertexLog("d"),))])
def test_a_message_that_says_something_is_true(update: StatusUpdate) -> None:
    assert update


def test_an_empty_message_is_false() -> None:
    assert not decode_status(control_pb2.StatusResponse())
