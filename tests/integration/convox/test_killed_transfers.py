"""Exports and imports that are killed at any moment: no half file, no half record, and nothing left by the next one."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from buildkit_client.oci import ImageLayout
from convox.models import BuildStatus
from tests.integration.convox.harness import Convox
from tests.support.exports import DiskRack, plain_image

pytestmark = pytest.mark.services

LAYER_BYTES = 24 << 20
KILLS = 20


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export of a build with two services."""
    path = tmp_path / "build.tgz"
    with DiskRack(tmp_path / "source") as rack:
        images = {name: plain_image(rack.layout, os.urandom(LAYER_BYTES)) for name in ("web", "worker")}
        path.write_bytes(rack.export(rack.add_build(images)))
    return path


def seconds_of(convox: Convox, *words: str) -> float:
    started = time.monotonic()
    convox.ok(*words)
    return time.monotonic() - started


def moments(seconds: float) -> list[float]:
    """Return random moments in the life of a process that takes so long, one in each of equal parts of it."""
    return [seconds * (number + random.random()) / KILLS for number in range(KILLS)]


def kill_after(convox: Convox, seconds: float, *words: str) -> int:
    """Run a command, and return its exit code: -9 where it was not over by then."""
    process = convox.start(*words)
    time.sleep(seconds)
    process.kill()
    process.communicate(timeout=20)
    return process.returncode


def test_exports(convox: Convox, export: Path, tmp_path: Path) -> None:
    convox.ok("builds", "import", "-f", str(export), "-a", "app")
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "build.tgz"
    words = ("builds", "export", convox.build("app").id, "-a", "app", "-f", str(path))
    seconds = seconds_of(convox, *words)
    whole = path.read_bytes()
    codes = []
    for moment in moments(seconds):
        path.unlink(missing_ok=True)
        codes.append(kill_after(convox, moment, *words))
        if path.exists():
            assert path.read_bytes() == whole
        assert len(list(folder.iterdir())) <= 1 + (not path.exists())
    assert codes.count(-9) > KILLS // 2
    convox.ok(*words)
    assert path.read_bytes() == whole
    assert list(folder.iterdir()) == [path]


def test_imports(convox: Convox, export: Path) -> None:
    words = ("builds", "import", "-f", str(export), "-a", "app")
    seconds = seconds_of(convox, *words)
    codes = [kill_after(convox, moment, *words) for moment in moments(seconds)]
    assert codes.count(-9) > KILLS // 2
    convox.ok("builds", "-a", "app")
    layout = ImageLayout(convox.layout_path)
    for record in convox.builds("app"):
        assert record.status in (BuildStatus.COMPLETE, BuildStatus.FAILED)
        assert record.ended is not None
        if record.status is BuildStatus.FAILED:
            assert record.reason == "the process that ran it ended without finishing"
            continue
        for service in ("web", "worker"):
            found = layout.find(f"localhost/app:{service}.{record.id}")
            assert found is not None and found.digest == record.images[service]
            layout.verify(found)
    convox.ok(*words)
    assert [one for one in (convox.layout_path / "ingest").rglob("*") if one.is_file()] == []
