"""The stubs with the oldest and the newest protobuf that users may have; installs both through pip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_INSTALLED = 2


def test_oldest_and_newest_runtime() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "check_protobuf_runtimes.sh")],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode == NOT_INSTALLED:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0].partition(".")[0] for line in lines] == ["protobuf 6"] * 2 + ["protobuf 7"] * 2
    assert len({line.rpartition(" ")[2] for line in lines}) == 1
