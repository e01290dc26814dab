"""Where the records of a rack live: builds, releases, apps, and the logs of builds.

:class:`Store` is the role; :func:`open_store` gives the implementation that a URL names. Records go into a database,
logs are plain files beside it (:mod:`convox.store.logs`), so that any program can read a log while it is written.
Nothing here imports the database library before a store is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from convox.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from convox.models import App, Build, Release


class IdTakenError(StoreError):
    """A record with that id exists already; draw another one."""


class TransitionError(StoreError):
    """A build's status cannot move that way: it only goes created, running, then complete or failed."""


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

    def list_unfinished_builds(self, app: str | None = None) -> list[Build]:
        """Return the builds that are created or running, of one app or of all, oldest first."""

    def create_release(self, release: Release) -> None:
        """Add a release; its app is added too where it is new.

        Raises:
            IdTakenError: A release with that id exists.
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
