"""The daemon's times moved onto this machine's clock."""

from __future__ import annotations

from buildkit_client.progress import ClockShift, StatusUpdate, Vertex, VertexLog, VertexStatus


def test_the_last_start_of_the_first_message_becomes_now() -> None:
    shift = ClockShift(1000)
    first = StatusUpdate(
        vertexes=(Vertex("a", started_ns=50, completed_ns=70), Vertex("b", started_ns=60), Vertex("c"))
    )
    moved = shift.apply(first)
    assert [(one.started_ns, one.completed_ns) for one in moved.vertexes] == [(990, 1010), (1000, None), (None, None)]
    later = shift.apply(
        StatusUpdate(
            vertexes=(Vertex("c", started_ns=80),),
            statuses=(VertexStatus("s", "a", timestamp_ns=61, started_ns=60),),
            logs=(VertexLog("a", timestamp_ns=62),),
        )
    )
    assert later.vertexes[0].started_ns == 1020
    assert (later.statuses[0].timestamp_ns, later.statuses[0].started_ns) == (1001, 1000)
    assert later.logs[0].timestamp_ns == 1002


def test_before_the_first_start_nothing_moves() -> None:
    update = StatusUpdate(vertexes=(Vertex("a"),))
    assert ClockShift(1000).apply(update) is update
