"""The names of records for a shell that completes a command line: read from the rack's SQLite file, and nothing done.

Opening a store as commands do may make it, bring it to a newer schema, or wait for another process. None of that may
happen because somebody pressed the tab key, so the file is opened read-only here, without the database library and with
hardly any patience. A database on a server is not asked at all.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 50
_PATIENCE_S = 0.1


def app_names(url: str) -> list[str]:
    """Return the names of the apps, sorted.

    Args:
        url: The store, as for :func:`convox.store.open_store`. Here and below, one that is not there yet, or is on a
            server, has no records.

    Raises:
        sqlite3.Error: The file cannot be read. So do all functions here.
    """
    return [str(row[0]) for row in _read(url, "SELECT name FROM apps ORDER BY name LIMIT 1000")]


def recent_builds(url: str, app: str) -> list[tuple[str, str]]:
    """Return id and description of an app's newest builds, newest first; the description begins with the status."""
    rows = _read(
        url,
        "SELECT id, status || ' ' || substr(description, 1, 100) FROM builds WHERE app = ? "
        "ORDER BY started DESC, seq DESC LIMIT ?",
        app,
        _MOST,
    )
    return [(str(row[0]), str(row[1])) for row in rows]


def recent_releases(url: str, app: str) -> list[tuple[str, str]]:
    """Return id and description of an app's newest releases, newest first."""
    rows = _read(
        url,
        "SELECT id, substr(description, 1, 100) FROM releases WHERE app = ? ORDER BY created DESC, seq DESC LIMIT ?",
        app,
        _MOST,
    )
    return [(str(row[0]), str(row[1])) for row in rows]


def newest_environment(url: str, app: str) -> str:
    """Return the environment of an app's newest release, empty where it has none; has secrets in it."""
    rows = _read(url, "SELECT env FROM releases WHERE app = ? ORDER BY created DESC, seq DESC LIMIT 1", app)
    return next((str(row[0]) for row in rows), "")


def _read(url: str, sql: str, *values: object) -> Iterator[tuple[object, ...]]:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    # What is not a file is not opened: a pipe would make the shell wait for ever.
    if parts.scheme != "sqlite" or not path.exists() or not stat.S_ISREG(path.stat().st_mode):
        return
    source = f"file:{quote(str(path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(source, uri=True, timeout=_PATIENCE_S)) as database:
        yield from database.execute(sql, values).fetchall()
