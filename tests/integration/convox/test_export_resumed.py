"""Exports that are killed or interrupted go on, in another process, where they stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox
from tests.support.breaking_proxy import BreakingProxy
from tests.support.services import Services

pytestmark = pytest.mark.services

LAYER_BYTES = 16 << 20
LAYERS = 3
HINT = "run the same command again: it goes on from where it stopped"


@pytest.fixture
def link(services: Services) -> Iterator[BreakingProxy]:
    with BreakingProxy(services.registry) as link:
        yield link


@pytest.fixture
def build_id(convox: Convox, make_app: MakeApp, link: BreakingProxy) -> str:
    """A build of a few layers, in a registry behind the link."""
    folder = make_app("".join(f"COPY layer{number} /\n" for number in range(LAYERS)))
    for number in range(LAYERS):
        (folder / f"layer{number}").write_bytes(os.urandom(LAYER_BYTES))
    convox.set_params(registry=f"{link.host}/{uuid.uuid4().hex[:12]}", cache="none")
    return convox.ok("build", str(folder), "-a", "app").ids[0]


def part_of(path: Path) -> Path:
    [part] = path.parent.glob(f".{path.name}.*.part")
    return part


def stalled(convox: Convox, link: BreakingProxy, words: tuple[str, ...], path: Path) -> subprocess.Popen[str]:
    """Start an export, and return when at least a layer of it is in the file, and no more comes."""
    link.passed = 0
    link.stall_after = LAYERS * LAYER_BYTES - LAYER_BYTES // 2
    process = convox.start(*words)
    end = time.monotonic() + 40
    size, grown_at = -1, time.monotonic()
    while time.monotonic() < grown_at + 1 or size < LAYER_BYTES:
        assert time.monotonic() < end, f"{link.passed} bytes passed, {size} are in the file"
        assert process.poll() is None
        now = next((part.stat().st_size for part in path.parent.glob(f".{path.name}.*.part")), 0)
        if now != size:
            size, grown_at = now, time.monotonic()
        time.sleep(0.05)
    return process


def go_on(link: BreakingProxy) -> None:
    """Let everything pass again, and count anew; answers to those who are gone are cut off."""
    link.cut()
    link.stall_after = None
    link.passed = 0


@pytest.mark.parametrize("flags", [(), ("--compression", "zstd"), ("--format", "oci")], ids=["gzip", "zstd", "oci"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_next_export_fetches_the_rest(
    convox: Convox, build_id: str, link: BreakingProxy, tmp_path: Path, number: signal.Signals, flags: tuple[str, ...]
) -> None:
    whole, path = tmp_path / "whole", tmp_path / "build"
    words = ("builds", "export", build_id, "-a", "app", *flags, "-f")
    link.passed = 0
    convox.ok(*words, str(whole))
    everything = link.passed
    assert everything > LAYERS * LAYER_BYTES

    process = stalled(convox, link, (*words, str(path)), path)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    if number is signal.SIGINT:
        assert (process.returncode, stderr) == (130, f"ERROR: cancelled\n  try: {HINT}\n")
    assert not path.exists()
    kept = part_of(path).stat().st_size
    assert kept > LAYER_BYTES

    go_on(link)
    convox.ok(*words, str(path))
    assert path.read_bytes() == whole.read_bytes()
    assert link.passed < everything - 0.9 * kept
    assert list(tmp_path.glob(".*.part")) == []


def test_what_was_left_is_damaged(convox: Convox, build_id: str, link: BreakingProxy, tmp_path: Path) -> None:
    """It is found out, and everything is fetched again without a word."""
    whole, path = tmp_path / "whole", tmp_path / "build"
    words = ("builds", "export", build_id, "-a", "app", "-f")
    convox.ok(*words, str(whole))
    process = stalled(convox, link, (*words, str(path)), path)
    process.kill()
    process.communicate(timeout=20)
    with part_of(path).open("r+b") as file:
        file.seek(LAYER_BYTES // 3)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    go_on(link)
    assert convox.ok(*words, str(path)).stderr == ""
    assert path.read_bytes() == whole.read_bytes()
    assert list(tmp_path.glob(".*.part")) == []
