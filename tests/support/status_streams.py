"""Recorded and invented status streams, played to displays in virtual time."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

from buildkit_client._proto import control_pb2
from buildkit_client.progress import Progress, StatusUpdate, decode_status

WIRE_DIR = Path(__file__).parent.parent / "wire" / "status"
GOLDEN_DIR = Path(__file__).parent.parent / "golden" / "progress"
TICK_NS = 150_000_000

Steps = list[tuple[int, StatusUpdate]]


class FakeClock:
    """A clock that stands still until it is set."""

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


def read_wire_messages(name: str) -> list[tuple[int, bytes]]:
    """Moments of arrival and serialized messages of a recording."""
    data = (WIRE_DIR / f"{name}.wire").read_bytes()
    messages, position = [], 0
    while position < len(data):
        at_ns, length = struct.unpack_from("<QI", data, position)
        position += 12
        messages.append((at_ns, data[position : position + length]))
        position += length
    return messages


def read_wire(name: str) -> Steps:
    """The messages of a recording, decoded."""
    return [
        (at_ns, decode_status(control_pb2.StatusResponse.FromString(message)))
        for at_ns, message in read_wire_messages(name)
    ]


def play(display: Progress, clock: FakeClock, steps: Iterable[tuple[int, StatusUpdate]], *, end_ns: int) -> None:
    """Feed a display at the recorded moments, with a tick every 150 ms of silence, and finish it."""
    last_ns = 0

    def tick_until(moment_ns: int) -> None:
        for tick_ns in range(last_ns + TICK_NS, moment_ns, TICK_NS):
            clock.now_ns = tick_ns
            display.tick()

    for at_ns, update in steps:
        tick_until(at_ns)
        clock.now_ns = last_ns = at_ns
        display.update(update)
    tick_until(end_ns)
    clock.now_ns = end_ns
    display.finish()


_TOKENS = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\n|\r|[^\x1b\n\r]+")


def render_screen(output: str) -> str:
    """What a terminal shows after an output of lines, carriage returns and cursor movements up."""
    lines, row, column = [""], 0, 0
    for token in _TOKENS.findall(output):
        if token == "\n":
            row, column = row + 1, 0
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b["):
            if token.endswith("A"):
                row = max(0, row - int(token[2:-1] or 1))
            else:
                assert token.endswith(("m", "h", "l")), token
        else:
            while len(lines) <= row:
                lines.append("")
            line = lines[row].ljust(column)
            lines[row] = line[:column] + token + line[column + len(token) :]
            column += len(token)
    return "\n".join(line.rstrip() for line in lines)
