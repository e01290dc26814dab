"""JSON lines: times, escapes and reading back."""

from __future__ import annotations

import pytest

from buildkit_client.errors import RemoteProtocolError
from buildkit_client.progress import (
    ProgressGroup,
    RawJsonProgress,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    read_rawjson,
    to_rawjson,
)
from buildkit_client.progress.rawjson import format_time, parse_time
from tests.support.status_streams import read_wire


@pytest.mark.parametrize(
    ("moment_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_735_787_045_060_000_000, "2025-01-02T03:04:05.06Z"),
        (1_735_787_045_000_000_001, "2025-01-02T03:04:05.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (10**30, "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_written_as_go_writes_them(moment_ns: int, text: str) -> None:
    assert format_time(moment_ns) == text


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("2025-01-02T03:04:05.06Z", 1_735_787_045_060_000_000),
        ("2025-01-02T04:04:05.123456789+01:00", 1_735_787_045_123_456_789),
    ],
)
def test_times_are_read_with_nine_digits_and_zones(text: str, moment_ns: int) -> None:
    assert parse_time(text) == moment_ns


@pytest.mark.parametrize(
    "text", ["", "2025-01-02", "2025-01-02T03:04:05", "2025-13-02T03:04:05Z", "2025-01-02T03:04:05.Z"]
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_empty_values_are_left_out_and_html_is_escaped() -> None:
    update = StatusUpdate(
        vertexes=(Vertex("d", name='a <b> & \u2028 "é"\x01', progress_group=ProgressGroup("")),),
        statuses=(VertexStatus("s", ""),),
        logs=(VertexLog("d", 0, b""),),
    )
    assert to_rawjson(update) == (
        '{"vertexes":[{"digest":"d","name":"a \\u003cb\\u003e \\u0026 \\u2028 \\"é\\"\\u0001","progressGroup":{}}],'
        '"statuses":[{"id":"s","current":0,"timestamp":"1970-01-01T00:00:00Z"}],'
        '"logs":[{"vertex":"d","data":null,"timestamp":"1970-01-01T00:00:00Z"}]}'
    )


def test_an_empty_message_is_an_empty_object() -> None:
    lines: list[str] = []
    RawJsonProgress(lines.append).update(StatusUpdate())
    assert lines == ["{}\n"]


@pytest.mark.parametrize("name", ["parallel", "failed", "cached"])
def test_lines_read_back_are_the_same_apart_from_the_definition_in_sources(name: str) -> None:
    for _, update in read_wire(name):
        back = read_rawjson(to_rawjson(update))
        assert (back.vertexes, back.statuses, back.logs) == (update.vertexes, update.statuses, update.logs)
        assert [(one.text, one.url, one.ranges, one.source) for one in back.warnings] == [
            (one.text, one.url, one.ranges, one.source) for one in update.warnings
        ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "nothing",
        '{"vertexes":[3]}',
        '{"logs":[{"data":"*"}]}',
        '{"vertexes":[{"started":"soon"}]}',
        '{"statuses":[{}]}',
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read_rawjson(line)
