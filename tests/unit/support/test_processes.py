"""The shell functions that keep background services: pid files, ports, and programs that hold nothing of ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "services" / "processes.sh"
PROLOGUE = 'set -euo pipefail; run=$PWD logs=$PWD; declare -A preferred_port=([x]=$PORT); . "$SCRIPT"; '


def shell(folder: Path, code: str, *, port: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", PROLOGUE + code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "SCRIPT": str(SCRIPT), "PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_service_outlives_the_script_and_holds_none_of_its_pipes(tmp_path: Path) -> None:
    """Without detaching, reading the script's output would last as long as the service."""
    before = time.monotonic()
    done = shell(tmp_path, "exec 9>lock; flock 9; start x sleep 60; running_pid x")
    assert time.monotonic() - before < 20
    pid = int(done.stdout)
    try:
        assert os.getsid(pid) == pid
        assert sorted(path.name for path in Path(f"/proc/{pid}/fd").iterdir()) == ["0", "1", "2"]
        assert shell(tmp_path, "exec 9>lock; flock -n 9").returncode == 0
        assert shell(tmp_path, "stop x").returncode == 0
        assert shell(tmp_path, "running_pid x").returncode != 0
    finally:
        if Path(f"/proc/{pid}/stat").exists():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "content",
    ["", "999999999 1\n", f"{os.getpid()}\n", f"{os.getpid()} 1\n", "words and more\n"],
    ids=["empty", "gone", "pid alone", "other start time", "words"],
)
def test_a_stale_pid_file_names_no_service(tmp_path: Path, content: str) -> None:
    """The last but one is the case that matters: the pid lives, and is somebody else."""
    (tmp_path / "x.pid").write_text(content)
    assert shell(tmp_path, "running_pid x").returncode != 0
    assert shell(tmp_path, "stop x").returncode == 0
    assert not (tmp_path / "x.pid").exists()


def test_a_program_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    done = shell(tmp_path, "ensure x 10 false settings sh -c 'echo last words; exit 1' || echo gave up")
    assert done.stdout == "gave up\n"
    assert "x ended at once" in done.stderr
    assert "last words" in done.stderr


def test_ensure_keeps_what_runs_and_replaces_it_when_settings_change(tmp_path: Path) -> None:
    code = "ensure x 10 true {} sleep 60; running_pid x"
    first, same, other = (shell(tmp_path, code.format(settings)).stdout for settings in ("one", "one", "two"))
    shell(tmp_path, "stop x")
    assert first == same
    assert other not in {"", first}


def test_a_port_that_is_taken_is_given_up_and_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = shell(tmp_path, "choose_port x; port x", port=number)
    assert done.returncode == 0, done.stderr
    chosen = int(done.stdout)
    assert chosen != number
    assert f"port {number} is taken by another program: x gets {chosen}" in done.stderr
    assert shell(tmp_path, "choose_port x; port x", port=number).stdout == f"{chosen}\n"
