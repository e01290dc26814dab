"""A disk that is full or may not be written: one clear error, and whatever can be kept is kept."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convox.models import BuildStatus
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox
from tests.support.exports import DiskRack, plain_image

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount small disks"),
]

SmallDisk = Callable[[Path, int], Path]
NO_SPACE = "No space left on device"


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """Put a disk of a few KiB in the place of a folder."""
    mounted = []

    def mount(path: Path, size_kib: int) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=700", "tmpfs", str(path)], check=True)
        mounted.append(path)
        return path

    yield mount
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_no_room_for_the_log(convox: Convox, make_app: MakeApp, small_disk: SmallDisk) -> None:
    convox.ok("rack")
    small_disk(convox.rack_path() / "logs", 64)
    app = make_app("RUN yes 0123456789 | head -n 20000; sleep 20\n")
    started = time.monotonic()
    result = convox.run("build", str(app), "-a", "app")
    assert time.monotonic() - started < 10, "the build went on although its log was lost"
    record = convox.build("app")
    assert result.code == 1
    path = convox.rack_path() / f"logs/app/{record.id}.log"
    assert result.stderr == f"ERROR: cannot write {path}\n  why: {NO_SPACE}\n  try: free some space on that disk\n"
    assert record.status is BuildStatus.FAILED
    assert record.reason == f"cannot write {path}: {NO_SPACE}"
    assert path.read_text().startswith("web | #1 ")


def test_no_room_for_the_records(convox: Convox, make_app: MakeApp, small_disk: SmallDisk) -> None:
    small_disk(convox.config, 40)
    result = convox.run("build", str(make_app()), "-a", "app")
    assert result.code == 1
    assert result.stderr.startswith("ERROR: ")
    assert "store.db" in result.stderr
    assert "no space is left on its disk" in result.stderr or NO_SPACE in result.stderr


def test_no_room_for_anything_in_the_middle(convox: Convox, make_app: MakeApp, small_disk: SmallDisk) -> None:
    """Log and records are on one disk, and the log fills it: the end of the record cannot be written, nor the log's."""
    small_disk(convox.config, 400)
    app = make_app("RUN yes 0123456789 | head -n 60000; sleep 20\n")
    result = convox.run("build", str(app), "-a", "app")
    assert result.code == 1
    assert f"  why: {NO_SPACE}\n" in result.stderr
    assert result.stderr.count("ERROR: ") == 1
    for path in (convox.rack_path() / "logs/app").iterdir():
        path.write_text("")
    assert convox.ok("builds", "-a", "app").stdout.splitlines()[1].split()[1] == "failed"
    assert convox.build("app").reason


def test_no_room_for_the_images(convox: Convox, make_app: MakeApp, small_disk: SmallDisk) -> None:
    convox.ok("rack")
    small_disk(convox.layout_path, 200)
    result = convox.run("build", str(make_app()), "-a", "app")
    assert result.code == 1
    assert "ERROR: build failed\n  why: service web: " in result.stderr
    assert NO_SPACE in result.stderr
    record = convox.build("app")
    assert record.status is BuildStatus.FAILED
    assert NO_SPACE in record.reason


def test_no_room_for_an_export(convox: Convox, small_disk: SmallDisk, tmp_path: Path) -> None:
    with DiskRack(tmp_path / "source") as rack:
        image = plain_image(rack.layout, os.urandom(2 << 20))
        (tmp_path / "build.tgz").write_bytes(rack.export(rack.add_build({"web": image})))
    convox.ok("builds", "import", "-f", str(tmp_path / "build.tgz"), "-a", "app")
    folder = small_disk(tmp_path / "small", 1500)
    result = convox.run("builds", "export", convox.build("app").id, "-a", "app", "-f", str(folder / "x.tgz"))
    assert result.code == 1
    assert result.stderr == f"ERROR: cannot write {folder}/x.tgz\n  why: {NO_SPACE}\n"
    assert list(folder.iterdir()) == []


def test_no_room_for_an_import(convox: Convox, small_disk: SmallDisk, tmp_path: Path) -> None:
    with DiskRack(tmp_path / "source") as rack:
        image = plain_image(rack.layout, os.urandom(2 << 20))
        (tmp_path / "build.tgz").write_bytes(rack.export(rack.add_build({"web": image})))
    convox.ok("rack")
    small_disk(convox.layout_path, 1500)
    result = convox.run("builds", "import", "-f", str(tmp_path / "build.tgz"), "-a", "app")
    assert result.code == 1
    assert NO_SPACE in result.stderr
    assert result.stderr.count("ERROR: ") == 1
    assert convox.builds("app") == []
    assert [path for path in convox.layout_path.rglob("*") if path.is_file() and path.stat().st_size > 1000] == []


@pytest.mark.parametrize("closed", ["config", "rack", "images", "logs"])
def test_folder_that_may_not_be_written(convox: Convox, make_app: MakeApp, closed: str) -> None:
    convox.ok("rack")
    folder = {
        "config": convox.config.parent / "closed",
        "rack": convox.rack_path(),
        "images": convox.layout_path,
        "logs": convox.rack_path() / "logs",
    }[closed]
    folder.mkdir(exist_ok=True)
    app = make_app()
    if closed == "config":
        convox.config = folder / "config"
    convox.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    folder.chmod(0o500)
    try:
        result = convox.run("build", str(app), "-a", "app")
    finally:
        folder.chmod(0o700)
    assert result.code == 1
    assert result.stderr.count("ERROR: ") == 1
    assert str(folder) in result.stderr
    assert "ermission denied" in result.stderr or "readonly" in result.stderr
    assert ("with CONVOX_CONFIG" in result.stderr) is (closed == "config")
    if closed in ("images", "logs"):
        record = convox.build("app")
        assert record.status is BuildStatus.FAILED
        assert "ermission denied" in record.reason


def test_output_that_cannot_be_written(convox: Convox, make_app: MakeApp) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*convox._command(("build", str(make_app()), "-a", "app"))]
        done = subprocess.run(
            command, env=convox._env(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == f"ERROR: cannot write the output\n  why: {NO_SPACE}\n"
    assert convox.build("app").status is BuildStatus.FAILED
