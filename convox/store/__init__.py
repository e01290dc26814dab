"""Where the records of a rack live: builds, releases, apps, and the logs of builds.

:class:`Store` is the role; :func:`open_store` gives the implementation that a URL names. Records go into a database,
logs are plain files beside it (:mod:`convox.store.logs`), so that any program can read a log while it is written.
Nothing here imports the database library before a store is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from convox.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from convox.models import App, Build, Release


class IdTakenError(StoreError):
    """A record with that id exists already; draw another one."""


class TransitionError(StoreError):
    """A build's status cannot move that way: it only goes created, running, then complete or failed."""


class BuildInUseError(StoreError):
    """A build that runs, or that the active release is made of, cannot be removed."""


class Store(Protocol):
    """The records of one rack.

    Every method may be called from any thread, and raises :class:`~convox.errors.StoreError` when the store cannot be
    used. Each change is on disk when its method returns.
    """

    @property
    def logs_dir(self) -> Path:
        """The folder of the build logs; see :mod:`convox.store.logs` for what is in it."""

    def create_build(self, build: Build) -> None:
        """Add a build; its app is added too where it is new.

        Raises:
            IdTakenError: A build with that id exists.
        """

    def update_build(self, app: str, build_id: str, **changes: object) -> Build:
        """Change fields of a build and return it as it is then.

        Args:
            app: The app's name.
            build_id: The build's id.
            changes: New values by field name of :class:`~convox.models.Build`, all but ``id`` and ``app``. With
                ``status``, the whole change happens only if the status may move so from where it stands.

        Raises:
            NotFoundError: There is no such build.
            TransitionError: The status cannot move that way, because another process was faster or the build has ended.
        """

    def get_build(self, app: str, build_id: str) -> Build:
        """Return one build.

        Raises:
            NotFoundError: There is no such build.
        """

    def list_builds(self, app: str, *, limit: int = 10) -> list[Build]:
        """Return the builds of an app, newest start first; of equal starts the one added later comes first."""

    def complete_build(
        self, app: str, build_id: str, make_release: Callable[[Release | None], Release], **changes: object
    ) -> tuple[Build, Release]:
        """Add the release of a build and mark the build as complete: both, or neither.

        Args:
            app: The app's name.
            build_id: The build's id.
            make_release: Makes the release, as for :meth:`fork_release`.
            changes: Other new values of the build, as for :meth:`update_build`.

        Raises:
            NotFoundError: There is no such build.
            TransitionError: The build does not run any more.
        """

    def delete_build(self, app: str, build_id: str) -> None:
        """Remove a build that has ended; releases of it stay, as releases without a build.

        Raises:
            NotFoundError: There is no such build.
            BuildInUseError: It has not ended, or the app's active release is one of it.
        """

    def list_unfinished_builds(self, app: str | None = None) -> list[Build]:
        """Return the builds that are created or running, of one app or of all, oldest first."""

    def create_release(self, release: Release) -> None:
        """Add a release; its app is added too where it is new.

        Raises:
            IdTakenError: A release with that id exists.
        """

    def fork_release(self, app: str, make: Callable[[Release | None], Release]) -> Release:
        """Add the release that follows from the newest one, and return it as it was added.

        Nobody else adds a release of the app in between, so of two changes made at once none gets lost. The id is
        drawn again where it is taken, and the new release is never older than the one it follows, whatever the clock
        did. Its app is added too where it is new.

        Args:
            app: The app's name.
            make: Gets the newest release, None where there is none, and returns the new one. What it raises is passed
                on, and nothing is added.
        """

    def get_release(self, app: str, release_id: str) -> Release:
        """Return one release.

        Raises:
            NotFoundError: There is no such release.
        """

    def list_releases(self, app: str, *, limit: int = 10) -> list[Release]:
        """Return the releases of an app, newest first; of equal times the one added later comes first."""

    def latest_release(self, app: str) -> Release | None:
        """Return the newest release of an app, None when it has none."""

    def get_app(self, name: str) -> App:
        """Return one app.

        Raises:
            NotFoundError: There is no such app.
        """

    def list_apps(self) -> list[App]:
        """Return all apps, sorted by name."""

    def create_app(self, name: str) -> App:
        """Add an app.

        Raises:
            IdTakenError: There is an app of that name.
        """

    def delete_app(self, name: str) -> None:
        """Take an app away, with all its builds and releases; logs and images stay.

        Raises:
            NotFoundError: There is no such app.
            BuildInUseError: A build of it has not ended.
        """

    def ensure_app(self, name: str) -> App:
        """Return an app, made now where it is new."""

    def update_app(self, name: str, **changes: object) -> App:
        """Change ``release`` or ``params`` of an app and return it as it is then.

        Raises:
            NotFoundError: There is no such app.
        """

    def append_log(self, app: str, build_id: str, data: bytes) -> None:
        """Add bytes to a build's log; for many writes open a :class:`~convox.store.logs.LogWriter` instead."""

    def close(self) -> None:
        """Let go of the database; the store cannot be used afterwards. A second call does nothing."""


def open_store(url: str, *, logs_dir: Path) -> Store:
    """Open the store that a URL names, made or brought to the newest schema where needed.

    Args:
        url: ``sqlite:///absolute/path.db`` (see :func:`sqlite_url`) or ``postgresql://user@host/database``.
        logs_dir: Where the build logs go; made on first use.

    Raises:
        StoreError: The URL names no kind of store we know; or the database cannot be opened, is damaged, or was
            written by a newer version.
    """
    from convox.store.database import DatabaseStore  # noqa: PLC0415  (the database library costs 40 ms)

    return DatabaseStore.open(url, logs_dir=logs_dir)


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, for :func:`open_store`."""
    from urllib.parse import quote  # noqa: PLC0415  (not needed by every command)

    return "sqlite://" + quote(str(path.absolute()))
