"""Exports and imports that are killed at any moment: no half file, no half record, and nothing left by the next one."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
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


def kills(convox: Convox, *words: str) -> Iterator[int]:
    """Run a command again and again, and kill it at random moments, one in each of equal parts of its life.

    How long it lives is measured first, and again whenever it was over before it was killed: the first one may have
    been slow because the machine was busy.

    Yields:
        Its exit code, -9 where it was killed.
    """
    started = time.monotonic()
    convox.ok(*words)
    seconds = time.monotonic() - started
    for number in random.sample(range(KILLS), KILLS):
        started = time.monotonic()
        process = convox.start(*words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds * (number + random.random()) / KILLS)
            seconds = min(seconds, time.monotonic() - started)
        process.kill()
        process.communicate(timeout=20)
        yield process.returncode


def test_exports(convox: Convox, export: Path, tmp_path: Path) -> None:
    convox.ok("builds", "import", "-f", str(export), "-a", "app")
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "build.tgz"
    words = ("builds", "export", convox.build("app").id, "-a", "app", "-f", str(path))
    convox.ok(*words)
    whole = path.read_bytes()
    codes = []
    for code in kills(convox, *words):
        codes.append(code)
        if path.exists():
            assert path.read_bytes() == whole
        assert len([one for one in folder.iterdir() if one != path]) <= 1, "leftovers pile up"
        path.unlink(missing_ok=True)
    assert codes.count(-9) > KILLS // 2
    convox.ok(*words)
    assert path.read_bytes() == whole
    assert list(folder.iterdir()) == [path]


def test_imports(convox: Convox, export: Path) -> None:
    words = ("builds", "import", "-f", str(export), "-a", "app")
    codes = list(kills(convox, *words))
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
