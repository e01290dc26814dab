"""The schema: made once, brought forward, never backward."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from convox.errors import StoreError
from convox.store import migrations, open_store, sqlite_url
from convox.store.database import DatabaseStore
from convox.store.migrations import MIGRATIONS, SqlConnection, migrate
from tests.support.store_cases import a_build


def open_at(path: Path) -> DatabaseStore:
    store = open_store(sqlite_url(path), logs_dir=path.parent / "logs")
    assert isinstance(store, DatabaseStore)
    return store


def m9001_add_note(db: SqlConnection) -> None:
    db.execute("ALTER TABLE builds ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")


def m9002_fails(db: SqlConnection) -> None:
    db.execute("ALTER TABLE builds ADD COLUMN half TEXT NOT NULL DEFAULT ''")
    raise StoreError("step failed")


def columns(store: DatabaseStore) -> set[str]:
    return {str(row[1]) for row in store.execute("PRAGMA table_info(builds)")}


def test_each_step_is_recorded(tmp_path: Path) -> None:
    store = open_at(tmp_path / "store.db")
    rows = store.execute("SELECT version, name FROM schema_migrations ORDER BY version")
    assert rows == [(number, step.__name__) for number, step in enumerate(MIGRATIONS, start=1)]
    assert all(step.__name__.startswith(f"m{number:04}_") for number, step in enumerate(MIGRATIONS, start=1))
    assert migrate(store, name="x") == len(MIGRATIONS)
    assert store.execute("SELECT COUNT(*) FROM schema_migrations") == [(len(MIGRATIONS),)]
    store.close()


def test_an_older_store_is_brought_forward_with_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_at(tmp_path / "store.db")
    store.create_build(a_build("BOLDOLDOLDO"))
    store.close()
    store = open_at(tmp_path / "store.db")
    assert migrate(store, name="x", migrations=(*MIGRATIONS, m9001_add_note)) == len(MIGRATIONS) + 1
    assert store.execute("SELECT note FROM builds WHERE id = 'BOLDOLDOLDO'") == [("none",)]
    store.close()


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_at(tmp_path / "store.db")
    with pytest.raises(StoreError, match="step failed"):
        migrate(store, name="x", migrations=(*MIGRATIONS, m9001_add_note, m9002_fails))
    assert "note" in columns(store)
    assert "half" not in columns(store)
    assert store.execute("SELECT MAX(version) FROM schema_migrations") == [(len(MIGRATIONS) + 1,)]
    store.close()


def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_at(path)
    migrate(store, name="x", migrations=(*MIGRATIONS, m9001_add_note))
    store.close()
    with pytest.raises(StoreError, match="was written by a newer version") as caught:
        open_at(path)
    assert (
        caught.value.why == f"its schema has version {len(MIGRATIONS) + 1}, this program knows up to {len(MIGRATIONS)}"
    )
    assert "update convox" in caught.value.hint


def test_tables_of_another_program_are_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE builds (whatever TEXT)")
    db.close()
    with pytest.raises(StoreError, match="is not a store of convox"):
        open_at(path)


def test_a_process_that_finds_the_work_done_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    first, second = open_at(path), open_at(path)
    seen: list[str] = []
    versions = migrations._version
    barrier = threading.Barrier(2, timeout=10)

    def both_look_first(db: SqlConnection, name: str, newest: int) -> int:
        version = versions(db, name, newest)
        if threading.current_thread().name not in seen:
            seen.append(threading.current_thread().name)
            barrier.wait()
        return version

    monkeypatch.setattr(migrations, "_version", both_look_first)
    results: list[int] = []
    threads = [
        threading.Thread(
            target=lambda db=db: results.append(migrate(db, name="x", migrations=(*MIGRATIONS, m9001_add_note)))
        )
        for db in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [len(MIGRATIONS) + 1] * 2
    assert first.execute("SELECT COUNT(*) FROM schema_migrations") == [(len(MIGRATIONS) + 1,)]
    first.close()
    second.close()
