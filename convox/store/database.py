"""The store in a database, by peewee: SQLite in a file of the rack, or PostgreSQL for a team.

One connection per store, one lock around it: a build writes a handful of records, so threads can wait for each other.
SQLite runs in WAL mode, where readers never wait for a writer, with a busy timeout for two writers. What moves the
status of a build is one UPDATE that names the states it may come from, so of two processes only one can win.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import peewee

from convox.errors import NotFoundError, StoreError
from convox.interrupts import uninterrupted
from convox.models import App, Build, BuildStatus, Release, new_release_id, now
from convox.store import BuildInUseError, IdTakenError, TransitionError
from convox.store.files import make_folder, open_file
from convox.store.logs import LogWriter
from convox.store.migrations import POSTGRESQL, SQLITE, Dialect, migrate
from convox.store.rows import APP_COLUMNS, BUILD_COLUMNS, RELEASE_COLUMNS, to_app, to_build, to_release, to_sql
from convox.store.sql_errors import explain, sqlite_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BUSY_TIMEOUT_S = 15
"""How long a write waits for another process before it gives up."""

_MAY_COME_FROM: Mapping[BuildStatus, tuple[BuildStatus, ...]] = {
    BuildStatus.CREATED: (),
    BuildStatus.RUNNING: (BuildStatus.CREATED,),
    BuildStatus.COMPLETE: (BuildStatus.RUNNING,),
    BuildStatus.FAILED: (BuildStatus.CREATED, BuildStatus.RUNNING),
}


class DatabaseStore:
    """A :class:`~convox.store.Store` in one database; open it with :func:`convox.store.open_store`."""

    def __init__(self, database: peewee.Database, dialect: Dialect, *, name: str, logs_dir: Path) -> None:
        self._db: Any = database  # peewee makes the attributes of a table when it runs, so they have no types
        self.dialect = dialect
        self._name = name
        self._logs_dir = logs_dir
        self._lock = threading.RLock()
        self._closed = False
        self._builds: Any = peewee.Table("builds", ("seq", *BUILD_COLUMNS)).bind(database)
        self._releases: Any = peewee.Table("releases", ("seq", *RELEASE_COLUMNS)).bind(database)
        self._apps: Any = peewee.Table("apps", APP_COLUMNS).bind(database)

    @classmethod
    def open(cls, url: str, *, logs_dir: Path) -> DatabaseStore:
        """Open a database by URL and bring its schema up to date; see :func:`convox.store.open_store`."""
        parts = urlsplit(url)
        if parts.scheme == "sqlite":
            store = cls._open_sqlite(_sqlite_path(url), logs_dir)
        elif parts.scheme in ("postgresql", "postgres"):
            store = cls._open_postgresql(url, logs_dir)
        else:
            from convox.masking import scrub  # noqa: PLC0415  (only where something went wrong)

            raise StoreError(
                f"cannot open a store at {scrub(url)}",
                why=f"{parts.scheme or 'no scheme'!r} is not a kind of store",
                hint="name it as sqlite:///path/to/store.db or postgresql://user@host/database",
            )
        try:
            with store._errors("cannot prepare"):
                migrate(store, name=store._name)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _open_sqlite(cls, path: Path, logs_dir: Path) -> DatabaseStore:
        make_folder(path.parent)
        # Made here and not by SQLite, which would give it mode 0644; its -wal and -shm files take over this mode.
        descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"cannot open the store {path}", why="it is not a regular file")
        finally:
            os.close(descriptor)
        database = peewee.SqliteDatabase(
            str(path), timeout=BUSY_TIMEOUT_S, thread_safe=False, autoconnect=False, check_same_thread=False
        )
        store = cls(database, SQLITE, name=str(path), logs_dir=logs_dir)
        with store._errors("cannot open"):
            database.connect()
            store._use_wal()
            store.execute("PRAGMA synchronous = FULL")
        return store

    @classmethod
    def _open_postgresql(cls, url: str, logs_dir: Path) -> DatabaseStore:
        parts = urlsplit(url)
        name = f"postgresql://{parts.hostname or ''}{parts.path}"
        # libpq reads the URL itself, with everything it may hold.
        database = peewee.PostgresqlDatabase(url, thread_safe=False, autoconnect=False)
        store = cls(database, POSTGRESQL, name=name, logs_dir=logs_dir)
        try:
            with store._errors("cannot open"):
                database.connect()
        except peewee.ImproperlyConfigured as exc:
            raise StoreError(
                f"cannot open the store {name}",
                why="no PostgreSQL driver is installed",
                hint="install psycopg: pip install 'psycopg[binary]'",
            ) from exc
        return store

    def _use_wal(self) -> None:
        """Turn on WAL mode, which the file then keeps; a file system without shared memory keeps the old mode.

        Two processes that do this at once on a new file: SQLite tells one of them "locked" without waiting, so the
        waiting is done here.
        """
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._db.execute_sql("PRAGMA journal_mode = WAL").fetchone()
            except peewee.OperationalError as exc:
                if sqlite_code(exc) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    # What migrations need

    def execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement and return its rows; see :class:`~convox.store.migrations.SqlConnection`."""
        with self._lock:
            cursor = self._db.execute_sql(sql, values)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def table_names(self) -> set[str]:
        """Return the names of the tables that are there."""
        if self.dialect is SQLITE:
            rows = self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        else:
            rows = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return {str(row[0]) for row in rows}

    def write_transaction(self) -> AbstractContextManager[object]:
        """Return a block that is committed as a whole; on SQLite it takes the write lock when it begins."""
        # A transaction that reads first and writes later could fail at once instead of waiting for its turn.
        transaction: AbstractContextManager[object] = (
            self._db.atomic("IMMEDIATE") if self.dialect is SQLITE else self._db.atomic()
        )
        return transaction

    # Builds

    @property
    def logs_dir(self) -> Path:
        """The folder of the build logs."""
        return self._logs_dir

    def create_build(self, build: Build) -> None:
        """Add a build; see :class:`~convox.store.Store`."""
        with self._writing(f"cannot add build {build.id}"):
            self._add_app(build.app)
            try:
                self._builds.insert({column: to_sql(getattr(build, column)) for column in BUILD_COLUMNS}).execute()
            except peewee.IntegrityError as exc:
                raise _id_taken("build", build.id) from exc

    def update_build(self, app: str, build_id: str, **changes: object) -> Build:
        """Change fields of a build; see :class:`~convox.store.Store`."""
        _check_fields(changes, set(BUILD_COLUMNS) - {"id", "app"})
        with self._writing(f"cannot update build {build_id}"):
            return self._change_build(app, build_id, changes)

    def complete_build(
        self, app: str, build_id: str, make_release: Callable[[Release | None], Release], **changes: object
    ) -> tuple[Build, Release]:
        """Add the release of a build and mark the build as complete; see :class:`~convox.store.Store`."""
        _check_fields(changes, set(BUILD_COLUMNS) - {"id", "app", "status", "release"})
        with self._writing(f"cannot complete build {build_id}"):
            release = self.fork_release(app, make_release)
            done = {**changes, "status": BuildStatus.COMPLETE, "release": release.id}
            return self._change_build(app, build_id, done), release

    def delete_build(self, app: str, build_id: str) -> None:
        """Remove a build that has ended; see :class:`~convox.store.Store`."""
        with self._writing(f"cannot remove build {build_id}"):
            build = self._find_build(app, build_id)
            if not build.status.is_final:
                raise BuildInUseError(
                    f"build {build_id} cannot be removed",
                    why=f"it is {build.status}",
                    hint=f"convox builds cancel {build_id} -a {app}",
                )
            table = self._releases
            of_build = (table.app == app) & (table.build == build_id)
            active = self._find_app(app).release
            if table.select().where(of_build & (table.id == active)).first() is not None:
                raise BuildInUseError(
                    f"build {build_id} cannot be removed",
                    why=f"the active release {active} is made of it",
                    hint=f"promote another release first: convox releases -a {app}",
                )
            table.update({table.build: ""}).where(of_build).execute()
            self._builds.delete().where((self._builds.app == app) & (self._builds.id == build_id)).execute()

    def get_build(self, app: str, build_id: str) -> Build:
        """Return one build; see :class:`~convox.store.Store`."""
        with self._reading(f"cannot read build {build_id}"):
            return self._find_build(app, build_id)

    def list_builds(self, app: str, *, limit: int = 10) -> list[Build]:
        """Return the builds of an app, newest first; see :class:`~convox.store.Store`."""
        _check_limit(limit)
        with self._reading("cannot list builds"):
            table = self._builds
            query = table.select().where(table.app == app).order_by(table.started.desc(), table.seq.desc()).limit(limit)
            return [to_build(row) for row in query.execute()]

    def list_unfinished_builds(self, app: str | None = None) -> list[Build]:
        """Return the builds that are created or running; see :class:`~convox.store.Store`."""
        with self._reading("cannot list builds"):
            table = self._builds
            where = table.status.in_([str(status) for status in BuildStatus if not status.is_final])
            if app is not None:
                where &= table.app == app
            return [to_build(row) for row in table.select().where(where).order_by(table.seq).execute()]

    # Releases

    def create_release(self, release: Release) -> None:
        """Add a release; see :class:`~convox.store.Store`."""
        with self._writing(f"cannot add release {release.id}"):
            self._insert_release(release)

    def fork_release(self, app: str, make: Callable[[Release | None], Release]) -> Release:
        """Add the release that follows from the newest one; see :class:`~convox.store.Store`."""
        with self._writing(f"cannot add a release of app {app}"):
            self._add_app(app)
            # Changes nothing; others that fork a release of this app wait from here on, on PostgreSQL too.
            self._apps.update({self._apps.name: app}).where(self._apps.name == app).execute()
            newest = self.latest_release(app)
            release = make(newest)
            if newest is not None and newest.created and release.created and release.created < newest.created:
                release = replace(release, created=newest.created)
            while self._releases.select().where(self._releases.id == release.id).first() is not None:
                release = replace(release, id=new_release_id())
            self._insert_release(release)
            return release

    def get_release(self, app: str, release_id: str) -> Release:
        """Return one release; see :class:`~convox.store.Store`."""
        with self._reading(f"cannot read release {release_id}"):
            table = self._releases
            row = table.select().where((table.app == app) & (table.id == release_id)).first()
            if row is None:
                raise NotFoundError(
                    f"release {release_id} not found",
                    why=f"app {app!r} has no release of that id",
                    hint=f"convox releases -a {app}",
                )
            return to_release(row)

    def list_releases(self, app: str, *, limit: int = 10) -> list[Release]:
        """Return the releases of an app, newest first; see :class:`~convox.store.Store`."""
        _check_limit(limit)
        with self._reading("cannot list releases"):
            table = self._releases
            query = table.select().where(table.app == app).order_by(table.created.desc(), table.seq.desc()).limit(limit)
            return [to_release(row) for row in query.execute()]

    def latest_release(self, app: str) -> Release | None:
        """Return the newest release of an app, None when it has none."""
        releases = self.list_releases(app, limit=1)
        return releases[0] if releases else None

    # Apps

    def get_app(self, name: str) -> App:
        """Return one app; see :class:`~convox.store.Store`."""
        with self._reading(f"cannot read app {name}"):
            return self._find_app(name)

    def list_apps(self) -> list[App]:
        """Return all apps, sorted by name."""
        with self._reading("cannot list apps"):
            return sorted((to_app(row) for row in self._apps.select().execute()), key=lambda app: app.name)

    def create_app(self, name: str) -> App:
        """Add an app; see :class:`~convox.store.Store`."""
        with self._writing(f"cannot add app {name}"):
            if self._apps.select().where(self._apps.name == name).first() is not None:
                raise IdTakenError(f"app already exists: {name}", hint="choose another name")
            self._add_app(name)
            return self._find_app(name)

    def delete_app(self, name: str) -> None:
        """Take an app away with its records; see :class:`~convox.store.Store`."""
        with self._writing(f"cannot delete app {name}"):
            self._find_app(name)
            if unfinished := self.list_unfinished_builds(name):
                raise BuildInUseError(
                    f"cannot delete app {name}",
                    why=f"build {unfinished[0].id} is {unfinished[0].status}",
                    hint="wait for it, or end it",
                )
            for table in (self._releases, self._builds):
                table.delete().where(table.app == name).execute()
            self._apps.delete().where(self._apps.name == name).execute()

    def ensure_app(self, name: str) -> App:
        """Return an app, made now where it is new."""
        with self._writing(f"cannot add app {name}"):
            self._add_app(name)
            return self._find_app(name)

    def update_app(self, name: str, **changes: object) -> App:
        """Change ``release`` or ``params`` of an app; see :class:`~convox.store.Store`."""
        _check_fields(changes, {"release", "params"})
        with self._writing(f"cannot update app {name}"):
            if changes:
                values = {getattr(self._apps, column): to_sql(value) for column, value in changes.items()}
                self._apps.update(values).where(self._apps.name == name).execute()
            return self._find_app(name)

    def append_log(self, app: str, build_id: str, data: bytes) -> None:
        """Add bytes to a build's log; see :class:`~convox.store.Store`."""
        with LogWriter(self._logs_dir, app, build_id) as log:
            log.write(data)

    def close(self) -> None:
        """Let go of the database; a second call does nothing."""
        with self._lock, self._errors("cannot close"):
            self._closed = True
            self._db.close()

    # Inside one transaction

    def _add_app(self, name: str) -> None:
        values = {"name": name, "release": "", "created": to_sql(now()), "params": "{}"}
        self._apps.insert(values).on_conflict_ignore().execute()

    def _insert_release(self, release: Release) -> None:
        self._add_app(release.app)
        try:
            self._releases.insert({column: to_sql(getattr(release, column)) for column in RELEASE_COLUMNS}).execute()
        except peewee.IntegrityError as exc:
            raise _id_taken("release", release.id) from exc

    def _change_build(self, app: str, build_id: str, changes: Mapping[str, object]) -> Build:
        here = (self._builds.app == app) & (self._builds.id == build_id)
        where = here
        if "status" in changes:
            sources = _MAY_COME_FROM[BuildStatus(str(changes["status"]))]
            where = here & self._builds.status.in_([str(source) for source in sources])
        changed = 0
        if changes:
            values = {getattr(self._builds, name): to_sql(value) for name, value in changes.items()}
            changed = self._builds.update(values).where(where).execute()
        build = self._find_build(app, build_id)
        if changes and not changed:
            raise TransitionError(
                f"build {build_id} cannot become {changes.get('status')}",
                why=f"its status is {build.status}" + (f": {build.reason}" if build.reason else ""),
            )
        return build

    def _find_app(self, name: str) -> App:
        row = self._apps.select().where(self._apps.name == name).first()
        if row is None:
            raise NotFoundError(
                f"app not found: {name}",
                why="nothing of that name was built on this rack",
                hint="name it with -a, or make it with convox build",
            )
        return to_app(row)

    def _find_build(self, app: str, build_id: str) -> Build:
        table = self._builds
        row = table.select().where((table.app == app) & (table.id == build_id)).first()
        if row is None:
            raise NotFoundError(
                f"build {build_id} not found",
                why=f"app {app!r} has no build of that id",
                hint=f"convox builds -a {app}",
            )
        return to_build(row)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        with self._lock, self._errors(what):
            self._reconnect()
            yield

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        with uninterrupted(), self._lock, self._errors(what):
            self._reconnect()
            with self.write_transaction():
                yield

    def _reconnect(self) -> None:
        """Connect again where a server ended the connection since it was last used, as it may during a long build."""
        if not self._closed and not self._db.is_connection_usable():
            self._db.close()
            self._db.connect()

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn the database's errors into ours."""
        try:
            yield
        except peewee.PeeweeException as exc:
            if isinstance(exc, peewee.ImproperlyConfigured):
                raise
            why, hint = explain(exc, self._name, busy_timeout_s=BUSY_TIMEOUT_S)
            raise StoreError(f"{what}: the store {self._name} cannot be used", why=why, hint=hint) from exc


def _sqlite_path(url: str) -> Path:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc or not path.is_absolute() or parts.query or parts.fragment:
        raise StoreError(
            f"cannot open a store at {url}",
            why="an sqlite URL has three slashes and an absolute path",
            hint="for example sqlite:///home/me/store.db",
        )
    return Path("/" + str(path).lstrip("/"))


def _id_taken(kind: str, record_id: str) -> IdTakenError:
    return IdTakenError(f"{kind} {record_id} exists already", why="ids are drawn at random", hint="try again")


def _check_fields(changes: Mapping[str, object], allowed: set[str]) -> None:
    if unknown := set(changes) - allowed:
        raise TypeError(f"no field {sorted(unknown)[0]!r} that could be changed")


def _check_limit(limit: int) -> None:
    if limit < 0:
        raise ValueError(f"limit is {limit}, not 0 or more")
