"""The session's call, which uses parts of gRPC that are not public, with the oldest release that users may have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_oldest_release_has_the_parts(tmp_path: Path) -> None:
    [oldest] = re.findall(r'"grpcio>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), f"grpcio=={oldest}.*"]
    installed = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    if installed.returncode:
        pytest.skip(f"grpcio {oldest} cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    version = [sys.executable, "-c", "import grpc; print(grpc.__version__)"]
    assert subprocess.check_output(version, env=environ, text=True, cwd=tmp_path).startswith(f"{oldest}.")
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/unit/transport/test_session_call.py",
    ]
    done = subprocess.run(tests, env=environ, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
