"""An import that is killed leaves no half image: what has a digest's name is whole, the rest goes at the next start."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildkit_client.oci.archive import write_oci_archive
from buildkit_client.oci.layout import ImageLayout
from tests.support.images import add_image

PROGRAM = """
import sys
from buildkit_client.oci.archive import import_oci_archive
from buildkit_client.oci.layout import ImageLayout
layout = ImageLayout(sys.argv[1])
for image in import_oci_archive(sys.stdin.buffer, layout):
    layout.add_image(image.descriptor, ["app:1"])
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    layout = ImageLayout.create(tmp_path_factory.mktemp("source"))
    out = io.BytesIO()
    write_oci_archive(layout, add_image(layout, [os.urandom(300_000), os.urandom(300_000)]), [], out)
    return out.getvalue()


def _feed(target: Path, data: bytes, *, whole: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, target], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
    if whole:
        process.stdin.close()
        assert process.wait(30) == 0
        return
    deadline = time.monotonic() + 10
    while not list((target / "ingest").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(30)
    process.stdin.close()


@pytest.mark.parametrize("part", [0.6, 0.9, 0.999])
def test_killed_import(tmp_path: Path, archive: bytes, part: float) -> None:
    target = tmp_path / "target"
    layout = ImageLayout.create(target)
    _feed(target, archive[: int(len(archive) * part)], whole=False)
    assert layout.read_index().manifests == ()
    assert list(layout.blobs()) == []
    leftovers = list((target / "ingest").iterdir())
    assert leftovers
    for path in leftovers:
        os.utime(path, (1, 1))
    ImageLayout(target)
    assert list((target / "ingest").iterdir()) == []
    _feed(target, archive, whole=True)
    found = layout.find("app:1")
    assert found is not None
    layout.verify(found)
