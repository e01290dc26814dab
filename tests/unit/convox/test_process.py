"""Who ran a build, and whether that process still lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convox.store import process as process_module
from convox.store.process import current_process_id, is_alive

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def changed(process: str, **parts: str) -> str:
    host, pid, start = process.rsplit(":", 2)
    ticks, boot, namespace = start.split("-")
    values = {"host": host, "pid": pid, "ticks": ticks, "boot": boot, "namespace": namespace, **parts}
    return "{host}:{pid}:{ticks}-{boot}-{namespace}".format(**values)


def test_this_process_lives() -> None:
    process = current_process_id()
    assert process.startswith(f"{os.uname().nodename}:{os.getpid()}:")
    assert process == current_process_id()
    assert is_alive(process)


@linux
@pytest.mark.parametrize(
    ("parts", "alive"),
    [
        ({"ticks": "1"}, False),  # the number was given to another process since
        ({"pid": "4194303"}, False),
        ({"boot": "0" * 12}, False),  # the machine was started again
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "pid": "4194303"}, True),
        ({"namespace": "1", "pid": "4194303"}, True),  # a container with our host's name
        ({"pid": "0"}, True),
        ({"pid": "-1"}, True),
        ({"pid": "99999999999999999999"}, True),  # no number of a process
    ],
)
def test_what_can_be_told_of_another(parts: dict[str, str], alive: bool) -> None:
    assert is_alive(changed(current_process_id(), **parts)) is alive


@pytest.mark.parametrize("text", ["", ":", "::", "a", "a:b", "a:b:c", "host:1:2:3", "B" * 1000, "\0:1:2"])
def test_of_any_other_text_nothing_can_be_told(text: str) -> None:
    assert is_alive(text)


def test_a_process_that_has_ended_is_gone_also_before_it_is_waited_for() -> None:
    script = "from convox.store.process import current_process_id as c; print(c(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        process = child.stdout.readline().strip()
        assert is_alive(process)
        child.stdin.close()
        assert child.stdout.read() == ""
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        assert not is_alive(process)
    assert not is_alive(process)


def test_without_proc_only_the_number_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process_module, "_PROC", tmp_path)
    process = current_process_id()
    assert process.endswith(f":{os.getpid()}:0")
    assert is_alive(process)
    assert not is_alive(f"{os.uname().nodename}:4194303:0")
