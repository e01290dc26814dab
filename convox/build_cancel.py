"""Ending a build that another process of this host runs.

Its record names the process exactly. That process gets the signal that Ctrl-C on a terminal stands for, so it tells the
builder and ends its record by itself; one that does not is killed, which the builder notices as well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from convox.daemon_process import is_running, pid_of
from convox.errors import ConvoxError
from convox.models import BuildStatus
from convox.store.abandoned import ABANDONED_REASON, fail_if_abandoned
from convox.store.process import is_alive

if TYPE_CHECKING:
    from convox.models import Build
    from convox.store import Store

CANCELLED = "cancelled"
"""The reason of a build that was interrupted."""

GRACE_S = 10.0
"""How long the process has to end its build, and after that, how long a killed one has to be gone."""

_POLL_S = 0.1


def cancel_build(store: Store, app: str, build_id: str, *, by: str, grace_s: float = GRACE_S) -> Build:
    """Cancel a build and wait until it has ended.

    Args:
        store: Has the build.
        app: The app's name.
        build_id: The build's id.
        by: Who cancels it, for the record: its reason becomes ``cancelled by <by>``.
        grace_s: See :data:`GRACE_S`.

    Returns:
        The build, ``failed``.

    Raises:
        NotFoundError: There is no such build.
        ConvoxError: It has ended already or ends well meanwhile; its process is on another host, in another container,
            or belongs to another user; or it does not end.
    """
    build = fail_if_abandoned(store, store.get_build(app, build_id))
    if build.status.is_final:
        raise _ended(build)
    _signal(build, signal.SIGTERM)
    ended = _wait(store, build, grace_s)
    if ended is None:
        _signal(build, signal.SIGKILL)
        ended = _wait(store, build, grace_s)
    if ended is None:
        raise ConvoxError(
            f"build {build_id} does not end",
            why=f"its process {pid_of(build.process)} was killed and is still there",
            hint="it may be waiting for a disk or a network file system",
        )
    if ended.status is not BuildStatus.FAILED or ended.reason not in (CANCELLED, ABANDONED_REASON):
        raise _ended(ended)
    return store.update_build(app, build_id, reason=f"{CANCELLED} by {by}")


def current_user() -> str:
    """Return who runs this process, as ``user@host``."""
    import pwd  # noqa: PLC0415 (not needed by every command)

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no entry
        name = str(os.getuid())
    return f"{name}@{os.uname().nodename}"


def _ended(build: Build) -> ConvoxError:
    why = f"its status is {build.status}" + (f": {build.reason}" if build.reason else "")
    return ConvoxError(f"build {build.id} has ended already", why=why)


def _wait(store: Store, build: Build, limit_s: float) -> Build | None:
    """Return the build once it has ended, None when it has not within the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        now = fail_if_abandoned(store, store.get_build(build.app, build.id))
        if now.status.is_final:
            return now
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)


def _signal(build: Build, number: signal.Signals) -> None:
    """Send a signal to a build's process; nothing when it is gone.

    Raises:
        ConvoxError: It cannot be told, or may not be.
    """
    what, pid = f"build {build.id} cannot be cancelled from here", pid_of(build.process)
    if not pid:
        raise ConvoxError(what, why="its record names no process")
    try:
        # A descriptor means one process for good; its number may be given to another one at any time.
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):  # it is gone, or this is no Linux
        descriptor = -1
    try:
        if descriptor < 0 or not is_running(build.process):
            if is_alive(build.process):
                raise ConvoxError(what, why=_elsewhere(build.process), hint="cancel it there")
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    except PermissionError as exc:
        raise ConvoxError(
            what, why=f"process {pid} belongs to another user", hint="run this as that user, or as root"
        ) from exc
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _elsewhere(process: str) -> str:
    """Say where a process is that may run and cannot be reached."""
    host = process.rsplit(":", 2)[0]
    if host != os.uname().nodename:
        return f"it runs on the host {host}"
    return f"its process {pid_of(process)} is in another container, or cannot be told from others"
