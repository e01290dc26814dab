"""The base image is an OCI layout whose digests hold, and the same bytes on every run."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "base_image.py"


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    path = tmp_path / "busybox"
    path.write_text("#!/bin/sh\nprintf 'bin/busybox\\nusr/bin/env\\nbin/sh\\nlinuxrc\\n'\n")
    path.chmod(0o755)
    return path


def make(busybox: Path, output: Path) -> str:
    command = [sys.executable, str(SCRIPT), "--busybox", str(busybox), "--output", str(output)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def blob(layout: Path, digest: str) -> bytes:
    algorithm, _, hexadecimal = digest.partition(":")
    content = (layout / "blobs" / algorithm / hexadecimal).read_bytes()
    assert hashlib.new(algorithm, content).hexdigest() == hexadecimal
    return content


def test_two_runs_give_the_same_image(busybox: Path, tmp_path: Path) -> None:
    assert make(busybox, tmp_path / "one") == make(busybox, tmp_path / "two")


def test_layer_holds_busybox_links_and_usual_files(busybox: Path, tmp_path: Path) -> None:
    digest = make(busybox, tmp_path / "image")
    manifest = json.loads(blob(tmp_path / "image", digest))
    config = json.loads(blob(tmp_path / "image", manifest["config"]["digest"]))
    layer = gzip.decompress(blob(tmp_path / "image", manifest["layers"][0]["digest"]))
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    assert config["config"]["Cmd"] == ["sh"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert {name for name, entry in entries.items() if entry.issym()} == {"usr/bin/env", "bin/sh"}
    assert entries["bin/sh"].linkname == "/bin/busybox"
    assert entries["tmp"].mode == 0o1777
    assert entries["bin/busybox"].mode == 0o755
    assert {"etc/passwd", "etc/group"} <= entries.keys()
    assert {(entry.mtime, entry.uid, entry.gid) for entry in entries.values()} == {(0, 0, 0)}
