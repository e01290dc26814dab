"""Builds whose process is gone: found by the next command and marked as failed.

A build that is killed, or whose machine loses power, cannot write its own end. Its record names the process that ran
it, precisely enough that a later process with the same number is not taken for it; whoever reads builds next looks for
that process and, when it is gone, ends the record. The log stays as it was.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from convox.errors import NotFoundError
from convox.models import Build, BuildStatus, now
from convox.store import TransitionError
from convox.store.process import is_alive

if TYPE_CHECKING:
    from convox.store import Store

ABANDONED_REASON = "the process that ran it ended without finishing"
"""The reason of a build that its process left behind."""


def fail_if_abandoned(store: Store, build: Build) -> Build:
    """Mark a build as failed when the process that ran it is gone.

    Returns:
        The build as it is now; unchanged when it has ended or its process may still run.
    """
    if build.status.is_final or is_alive(build.process):
        return build
    try:
        return store.update_build(
            build.app, build.id, status=BuildStatus.FAILED, reason=ABANDONED_REASON, ended=_last_sign(store, build)
        )
    except TransitionError:
        return store.get_build(build.app, build.id)  # it ended, or another command was faster


def fail_abandoned_builds(store: Store, app: str | None = None) -> list[Build]:
    """Mark every build as failed whose process is gone; its log is kept.

    Args:
        store: The rack's store.
        app: Only builds of this app; None for all.

    Returns:
        The builds that were marked now, oldest first.
    """
    failed: list[Build] = []
    for build in store.list_unfinished_builds(app):
        try:
            after = fail_if_abandoned(store, build)
        except NotFoundError:
            continue
        if after is not build and after.reason == ABANDONED_REASON:
            failed.append(after)
    return failed


def _last_sign(store: Store, build: Build) -> datetime:
    """Return when a build was last seen at work: the last write to its log, else its start."""
    from convox.store.logs import log_path  # noqa: PLC0415  (logs imports this module)

    started = build.started or now()
    try:
        written = log_path(store.logs_dir, build.app, build.id).stat().st_mtime
    except OSError:
        return started
    return max(started, datetime.fromtimestamp(written, UTC))
