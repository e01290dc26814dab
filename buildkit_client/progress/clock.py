"""Moves the daemon's times onto this machine's clock.

Daemon and client may be machines with different clocks. The reference CLI shifts every time of a build so that the
first start it hears of is the moment it began to listen; durations stay exact.

Reference: util/progress/progresswriter/reset.go, ResetTime.
"""

from __future__ import annotations

import time

from buildkit_client.progress.model import StatusUpdate, VertexLog


class ClockShift:
    """Shifts the times of one build's status messages.

    Args:
        start_ns: The moment that the first start becomes, in nanoseconds since 1970; None takes the present.
    """

    def __init__(self, start_ns: int | None = None) -> None:
        self._start_ns = time.time_ns() if start_ns is None else start_ns
        self._shift_ns: int | None = None

    def apply(self, update: StatusUpdate) -> StatusUpdate:
        """Return the message with its times shifted; unchanged until a message has a start."""
        if self._shift_ns is None:
            starts = [vertex.started_ns for vertex in update.vertexes if vertex.started_ns is not None]
            if not starts:
                return update
            # Of several starts in the first message the last one counts, as in the reference.
            self._shift_ns = starts[-1] - self._start_ns
        shift = self._shift_ns
        logs = tuple(
            [VertexLog(vertex, stream, data, time_ns - shift) for vertex, stream, data, time_ns in update.logs]
        )
        if not (update.vertexes or update.statuses or update.warnings):
            return StatusUpdate(logs=logs)
        return StatusUpdate(
            vertexes=tuple(
                one._replace(started_ns=_moved(one.started_ns, shift), completed_ns=_moved(one.completed_ns, shift))
                for one in update.vertexes
            ),
            statuses=tuple(
                one._replace(
                    started_ns=_moved(one.started_ns, shift),
                    completed_ns=_moved(one.completed_ns, shift),
                    timestamp_ns=one.timestamp_ns - shift,
                )
                for one in update.statuses
            ),
            logs=logs,
            warnings=update.warnings,
        )


def _moved(moment_ns: int | None, shift_ns: int) -> int | None:
    return None if moment_ns is None else moment_ns - shift_ns
