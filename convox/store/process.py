"""Who a process is, precisely enough to tell later, from another process, whether it still runs."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def current_process_id() -> str:
    """Return who this process is, for :attr:`convox.models.Build.process`; see :func:`process_id`."""
    return process_id(os.getpid())


def process_id(pid: int) -> str:
    """Return who a process on this host is: ``host:pid:starttime``.

    The last part is only compared: on Linux the start in clock ticks since boot, the boot, and the process namespace,
    so that neither a number used again nor a restart nor a container that shares the host's name is mistaken for it.

    Args:
        pid: Its number; of a process that has ended, or cannot be looked at, the last part is ``0``.
    """
    return f"{_host()}:{pid}:{_start_time(pid) or '0'}"


def is_alive(process: str) -> bool:
    """Return whether a process may still run: False only when this host can tell that it is gone.

    Args:
        process: What :func:`current_process_id` returned there; of any other text, and of a process on another host or
            in another process namespace, nothing can be told.
    """
    host, pid_text, start = [*process.rsplit(":", 2), "", ""][:3]
    if host != _host() or not pid_text.isdecimal() or int(pid_text) <= 0:
        return True
    pid = int(pid_text)
    here = _start_time(os.getpid())
    if start in ("", "0") or here is None:
        return _exists(pid)
    _, boot, namespace = [*start.split("-", 2), "", ""][:3]
    _, here_boot, here_namespace = here.split("-", 2)
    if not boot or (boot == here_boot and namespace != here_namespace):
        return True
    if boot != here_boot:
        return False  # that was before this machine was started
    found = _start_time(pid)
    # A process that others may not look at (hidepid) has no readable start, but can be asked for.
    return found == start if found is not None else _exists(pid) and not _is_zombie(pid)


def _host() -> str:
    return os.uname().nodename


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # it belongs to someone else, or no process can have that number here
    return True


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/pid/stat from the third on, none where that cannot be read.

    Reference: proc(5), /proc/pid/stat.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    # The second field is the command's name in parentheses and may hold anything, also ")".
    return text.rpartition(")")[2].split()


def _is_zombie(pid: int) -> bool:
    return _stat_fields(pid)[:1] in (["Z"], ["X"], ["x"])


def _start_time(pid: int) -> str | None:
    """Return ``ticks-boot-namespace`` of a process that runs; None when it has ended, or cannot be looked at."""
    fields = _stat_fields(pid)
    if len(fields) < 20 or _is_zombie(pid):
        return None
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
        namespace = _namespace(pid)
    except OSError:
        return None
    return f"{fields[19]}-{boot}-{namespace}"


def _namespace(pid: int) -> str:
    try:
        link = (_PROC / str(pid) / "ns/pid").readlink()
    except PermissionError:  # of another user's process; what has a number here is in our namespace or below
        link = (_PROC / "self/ns/pid").readlink()
    return "".join(c for c in str(link) if c.isdigit())
