"""Programs that outlive the command that started them: begun in a session of their own, ended with all they started.

A daemon that is told to end while it works for somebody may take its time, or leave its work behind: buildkitd waits
for every client, and a step of a build goes on when buildkitd is killed. So the processes below the daemon are noted
while it ends, and what remains of them is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from convox.private_files import open_private_file
from convox.store.process import process_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PROC = Path("/proc")
_POLL_S = 0.05
_LOOK_S = 0.25  # looking at every process of the machine costs milliseconds


def spawn(command: Sequence[str], *, environ: Mapping[str, str], log_path: Path) -> subprocess.Popen[bytes]:
    """Start a program that does not end with us: no terminal, no folder of the caller, output into a file.

    Args:
        command: The program's absolute path and its arguments.
        environ: Its whole environment.
        log_path: Written anew, mode 0600.

    Raises:
        OSError: The program cannot be run, or the log not be written.
    """
    fd = open_private_file(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        return subprocess.Popen(
            command, env=dict(environ), cwd="/", stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, start_new_session=True
        )
    finally:
        os.close(fd)


def let_go(child: subprocess.Popen[bytes]) -> None:
    """Leave a started program to itself; should it end before we do, it is not kept as a zombie."""
    threading.Thread(target=child.wait, name=f"wait-{child.pid}", daemon=True).start()


def is_running(process: str) -> bool:
    """Return whether exactly this process runs, here, so that it may be sent a signal.

    Args:
        process: What :func:`~convox.store.process.process_id` returned of it. Of a process on another host, in another
            process namespace, or that could not be looked at, the answer is no.
    """
    pid = pid_of(process)
    return pid > 1 and not process.endswith(":0") and process_id(pid) == process


def pid_of(process: str) -> int:
    """Return the number in a process id; 0 where there is none."""
    number = [*process.rsplit(":", 2), "", ""][1]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else 0


def end_daemon(process: str, *, grace_s: float) -> bool:
    """End a daemon and everything below it, and wait until it is gone.

    It is asked first. After the grace its containers are killed, which ends the work it may be waiting for and lets it
    put its mounts in order; what is left after as long again is killed with the daemon.

    Args:
        process: Its process id; nothing is done when it does not run.
        grace_s: How long each of the two steps may take.

    Returns:
        Whether it is gone.

    Raises:
        OSError: It belongs to another user.
    """
    if not is_running(process):
        return True
    below = _descendants(pid_of(process))  # it may end as soon as it is asked, and they lose their parent
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid_of(process), signal.SIGTERM)
    stages = [_end_containers, _end_all]
    deadline, next_look = time.monotonic() + grace_s, time.monotonic() + _LOOK_S
    while is_running(process):
        if time.monotonic() >= next_look:
            below |= _descendants(pid_of(process))
            next_look = time.monotonic() + _LOOK_S
        if time.monotonic() >= deadline:
            if not stages:
                return False
            stages.pop(0)(process, below)
            deadline = time.monotonic() + grace_s
        time.sleep(_POLL_S)
    _end_all(process, below)
    return True


def _end_containers(process: str, below: set[str]) -> None:
    namespace = process.rpartition("-")[2]
    _kill(found for found in below if found.rpartition("-")[2] != namespace)


def _end_all(process: str, below: set[str]) -> None:
    _kill((process, *below))


def _kill(processes: Iterable[str]) -> None:
    for process in processes:
        if is_running(process):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid_of(process), signal.SIGKILL)


def _descendants(pid: int) -> set[str]:
    """Return the ids of the processes below one, as far as they can be looked at.

    Reference: proc(5), /proc/pid/stat.
    """
    children: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):  # noqa: PTH208  (names are enough)
        if entry.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The second field is the command's name in parentheses and may hold anything, also ")".
                parent = (_PROC / entry / "stat").read_bytes().rpartition(b")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return {process_id(number) for number in found}
