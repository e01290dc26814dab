"""The schema of a store, grown by numbered steps.

Each step runs in one transaction together with the row that records it, so a store is never between two versions. Steps
are only ever added at the end: what a step did is what stores of users have. A store that a newer version wrote is
refused, because nobody here can know what its columns mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from convox.errors import StoreError
from convox.models import format_time, now

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Dialect(NamedTuple):
    """Where the SQL of two databases differs.

    Attributes:
        name: ``sqlite`` or ``postgresql``.
        sequence_key: Type of a key column that counts up and is never reused.
        param: Placeholder of a value.
        lock_schema: Statement that keeps other processes from migrating until the transaction ends, or empty where the
            transaction itself does.
    """

    name: str
    sequence_key: str
    param: str
    lock_schema: str = ""


SQLITE = Dialect("sqlite", "INTEGER PRIMARY KEY AUTOINCREMENT", "?")
# The number only has to differ from locks that other programs take in the same database.
POSTGRESQL = Dialect("postgresql", "BIGSERIAL PRIMARY KEY", "%s", "SELECT pg_advisory_xact_lock(7305794160)")


class SqlConnection(Protocol):
    """What a migration needs of a database."""

    dialect: Dialect

    def execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement and return its rows, none where it has no result."""

    def table_names(self) -> set[str]:
        """Return the names of the tables that are there."""

    def write_transaction(self) -> AbstractContextManager[object]:
        """Return a block that is committed as a whole, or rolled back when it raises."""


Migration = Callable[[SqlConnection], None]


def m0001_first_records(db: SqlConnection) -> None:
    """Apps, builds and releases; times are RFC 3339 texts of equal length, so that they sort as texts."""
    db.execute(
        """
        CREATE TABLE apps (
            name TEXT PRIMARY KEY,
            release TEXT NOT NULL DEFAULT '',
            created TEXT NOT NULL DEFAULT '',
            params TEXT NOT NULL DEFAULT '{}'
        )"""
    )
    db.execute(
        f"""
        CREATE TABLE builds (
            seq {db.dialect.sequence_key},
            id TEXT NOT NULL UNIQUE,
            app TEXT NOT NULL REFERENCES apps (name),
            status TEXT NOT NULL CHECK (status IN ('created', 'running', 'complete', 'failed')),
            description TEXT NOT NULL DEFAULT '',
            entrypoint TEXT NOT NULL DEFAULT '',
            git_sha TEXT NOT NULL DEFAULT '',
            logs TEXT NOT NULL DEFAULT '',
            manifest TEXT NOT NULL DEFAULT '',
            process TEXT NOT NULL DEFAULT '',
            release TEXT NOT NULL DEFAULT '',
            reason TEXT NOT NULL DEFAULT '',
            repository TEXT NOT NULL DEFAULT '',
            started TEXT NOT NULL DEFAULT '',
            ended TEXT NOT NULL DEFAULT '',
            images TEXT NOT NULL DEFAULT '{{}}'
        )"""
    )
    db.execute("CREATE INDEX builds_of_app ON builds (app, started, seq)")
    # Asked before every command; nearly always empty.
    db.execute("CREATE INDEX builds_unfinished ON builds (status, app) WHERE status IN ('created', 'running')")
    db.execute(
        f"""
        CREATE TABLE releases (
            seq {db.dialect.sequence_key},
            id TEXT NOT NULL UNIQUE,
            app TEXT NOT NULL REFERENCES apps (name),
            build TEXT NOT NULL DEFAULT '',
            env TEXT NOT NULL DEFAULT '',
            manifest TEXT NOT NULL DEFAULT '',
            description TEXT NOT NULL DEFAULT '',
            created TEXT NOT NULL DEFAULT ''
        )"""
    )
    db.execute("CREATE INDEX releases_of_app ON releases (app, created, seq)")


MIGRATIONS: tuple[Migration, ...] = (m0001_first_records,)
"""Every step, in order; the number of a step is its place, from 1."""

_HISTORY = "schema_migrations"
_TABLES = {"apps", "builds", "releases"}


def migrate(db: SqlConnection, *, name: str, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """Bring a store to the newest version and return that version.

    Safe when several processes open a new or an old store at once: one of them migrates, the others wait and find it
    done.

    Args:
        db: The database.
        name: How errors call the store.
        migrations: The steps.

    Raises:
        StoreError: The store is newer than the steps known here, or the database holds other tables of those names.
    """
    version = _version(db, name, len(migrations))
    for number, step in enumerate(migrations[version:], start=version + 1):
        with db.write_transaction():
            if db.dialect.lock_schema:
                db.execute(db.dialect.lock_schema)
            if _version(db, name, len(migrations)) >= number:
                continue  # another process was faster
            if number == 1:
                db.execute(
                    f"CREATE TABLE {_HISTORY} (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied TEXT NOT NULL)"
                )
            step(db)
            param = db.dialect.param
            db.execute(
                f"INSERT INTO {_HISTORY} (version, name, applied) VALUES ({param}, {param}, {param})",
                number,
                step.__name__,
                format_time(now()),
            )
    return len(migrations)


def _version(db: SqlConnection, name: str, newest: int) -> int:
    tables = db.table_names()
    if _HISTORY not in tables:
        if foreign := tables & _TABLES:
            raise StoreError(
                f"{name} is not a store of convox",
                why=f"it has a table {sorted(foreign)[0]!r} but no record of its schema",
                hint="name another database",
            )
        return 0
    rows = db.execute(f"SELECT MAX(version) FROM {_HISTORY}")
    version = int(str(rows[0][0] or 0))
    if version > newest:
        raise StoreError(
            f"{name} was written by a newer version of convox",
            why=f"its schema has version {version}, this program knows up to {newest}",
            hint="update convox, or name another store",
        )
    return version
