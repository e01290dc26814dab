"""A place for the result that takes only a part of it: one clear error of ours, and no file that looks finished."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import Services

LIMIT_BLOCKS = 200  # of 512 bytes; a larger file fails as on a full disk, only with other words


@pytest.mark.parametrize(
    ("flag", "left"),
    [
        ("--output=type=tar,dest=out/x.tar", set()),
        ("--output=type=oci,dest=out/x.tar", set()),
        ("--output=type=local,dest=out", {"small"}),
        ("--output=type=oci,tar=false,dest=out", {"index.json", "oci-layout"}),
        ("--export-cache=type=local,dest=out", {"index.json", "oci-layout"}),
    ],
)
def test_what_does_not_fit(services: Services, tmp_path: Path, flag: str, left: set[str]) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    (tmp_path / "out").mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / "small").write_text("small")
    (folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
    for name in ("one", "three", "two"):  # several, so that the daemon is still sending when the first one fails
        (folder / name).write_bytes(random.randbytes(2 << 20))
    program = [sys.executable, "-m", "buildkit_client", "build", "--frontend=dockerfile.v0", "--progress=quiet"]
    locals_ = [f"--local={name}={folder}" for name in ("context", "dockerfile")]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -f {LIMIT_BLOCKS}; exec "$@"', "sh", *program, *locals_, flag],
        env={**os.environ, "BUILDKIT_HOST": services.buildkit_host}, capture_output=True, text=True, timeout=60,
        check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: cannot write ")
    assert line.endswith(": File too large")
    whole = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and path.parent.name != "sha256"}
    assert whole <= left
    assert all(path.stat().st_size < 2 << 20 for path in (tmp_path / "out").rglob("*") if path.is_file())
