"""The displays against text that the reference made from the same streams."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from buildkit_client.progress import PlainProgress, TtyProgress, read_rawjson, to_rawjson
from tests.support.status_streams import GOLDEN_DIR, FakeClock, Steps, play, read_wire, render_screen


def plain_text(steps: Steps, end_ns: int) -> bytes:
    clock, pieces = FakeClock(), []
    play(PlainProgress(pieces.append, clock=clock, errors="surrogateescape"), clock, steps, end_ns=end_ns)
    return "".join(pieces).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", ["parallel", "failed"])
def test_plain_text_of_a_recorded_build_is_the_references(name: str) -> None:
    steps = read_wire(name)
    assert plain_text(steps, steps[-1][0] + 1) == (GOLDEN_DIR / f"{name}.plain.txt").read_bytes()


@pytest.mark.parametrize("number", range(12))
def test_plain_text_of_a_random_stream_is_the_references(number: int) -> None:
    lines = (GOLDEN_DIR / "scenarios.jsonl").read_text().splitlines()
    scenario = json.loads(lines[number])
    steps = [(step["at_ns"], read_rawjson(json.dumps(step["status"]))) for step in scenario["steps"]]
    assert plain_text(steps, scenario["end_ns"]) == b64decode(scenario["plain"])


@pytest.mark.parametrize("name", ["parallel", "failed", "cached"])
def test_rawjson_of_a_recorded_build_is_the_references(name: str) -> None:
    lines = "".join(to_rawjson(update) + "\n" for _, update in read_wire(name))
    assert lines == (GOLDEN_DIR / f"{name}.rawjson").read_text()


@pytest.mark.parametrize("name", ["parallel", "failed", "cached"])
def test_last_screen_of_a_recorded_build_is_the_references(name: str) -> None:
    steps = read_wire(name)
    clock, pieces = FakeClock(), []
    play(TtyProgress(pieces.append, size=lambda: (100, 30), clock=clock), clock, steps, end_ns=steps[-1][0] + 1)
    screen = render_screen("".join(pieces)).partition("------\n")[0]
    assert screen.rstrip("\n") == (GOLDEN_DIR / f"{name}.screen.txt").read_text().rstrip("\n")
