"""What a database error means for the person who reads it: its cause, and what to try."""

from __future__ import annotations

import sqlite3


def explain(exc: Exception, name: str, *, busy_timeout_s: float) -> tuple[str, str]:
    """Return cause and advice for a database error."""
    match sqlite_code(exc):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                f"another process kept it locked for {busy_timeout_s} s",
                "end the other convox command, or wait for it, then try again",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "it may only be read", f"check owner and mode of {name} and of its folder"
        case sqlite3.SQLITE_CANTOPEN:
            return "it cannot be opened, or not with its -wal file", f"check owner and mode of {name} and of its folder"
        case sqlite3.SQLITE_FULL:
            return "no space is left on its disk", "free some space, then try again"
        case sqlite3.SQLITE_IOERR:
            return "its disk reports an error", "check the disk and its free space"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return (
                "the file is damaged, or not a database",
                f"restore {name} from a copy, or move it away to begin anew",
            )
        case _:
            from convox.masking import scrub  # noqa: PLC0415  (only where something went wrong)

            lines = scrub(str(exc)).strip().splitlines()
            return (lines[0] if lines else type(exc).__name__), "check that the database is reachable and intact"


def sqlite_code(exc: BaseException) -> int | None:
    """Return SQLite's primary result code behind a peewee error, None when SQLite is not the cause.

    After some errors, a full disk among them, SQLite has rolled back by itself and the rollback that follows fails as
    well: the first error of such a chain is the one that counts.
    """
    found: int | None = None
    cause: BaseException | None = exc
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(code, int) and (found is None or code != sqlite3.SQLITE_ERROR):
            found = code & 0xFF
        cause = cause.__context__
    return found
