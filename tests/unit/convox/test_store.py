"""The store in SQLite: what all stores do, and what is special to a file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from convox.errors import StoreError
from convox.models import BuildStatus
from convox.store import database as database_module
from convox.store import open_store, sqlite_url
from tests.support.store_cases import StoreCases, a_build


class TestSqlite(StoreCases):
    @pytest.fixture
    def store_url(self, tmp_path: Path) -> str:
        return sqlite_url(tmp_path / "rack dir%" / "store.db")


def open_at(path: Path) -> database_module.DatabaseStore:
    store = open_store(sqlite_url(path), logs_dir=path.parent / "logs")
    assert isinstance(store, database_module.DatabaseStore)
    return store


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:secretpw@h/x", "'mysql' is not a kind of store"),
        ("store.db", "'no scheme' is not a kind of store"),
        ("sqlite://relative.db", "three slashes and an absolute path"),
        ("sqlite:///a?mode=ro", "three slashes and an absolute path"),
        ("sqlite:", "three slashes and an absolute path"),
    ],
)
def test_urls_that_name_no_store(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url, logs_dir=tmp_path)
    assert why in caught.value.why
    assert "secretpw" not in str(caught.value)


def test_postgresql_without_a_server_is_one_error_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql://me:secretpw@127.0.0.1:1/db?connect_timeout=2", logs_dir=tmp_path)
    assert "postgresql://127.0.0.1/db" in str(caught.value)
    assert caught.value.why
    assert "secretpw" not in f"{caught.value}{caught.value.why}{caught.value.hint}"


def test_file_and_folders_are_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = open_at(tmp_path / "config" / "racks" / "local" / "store.db")
        store.create_build(a_build("BMODEMODEMO"))
        store.append_log("web", "BMODEMODEMO", b"x")
        modes = {
            str(path.relative_to(tmp_path)): stat.S_IMODE(path.lstat().st_mode)
            for path in (tmp_path / "config", *(tmp_path / "config").rglob("*"))
        }
        store.close()
    finally:
        os.umask(before)
    folders = {name: mode for name, mode in modes.items() if (tmp_path / name).is_dir()}
    files = {name: mode for name, mode in modes.items() if name not in folders}
    assert set(folders.values()) == {0o700}
    assert set(files.values()) == {0o600}
    assert "config/racks/local/store.db-wal" in files
    assert "config/racks/local/logs/web/BMODEMODEMO.log" in files


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.db"
    (tmp_path / "store.db").symlink_to(target)
    with pytest.raises(StoreError) as caught:
        open_at(tmp_path / "store.db")
    assert caught.value.why == "it is a symbolic link"
    assert not target.exists()


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "store.db").mkdir()
    with pytest.raises(StoreError, match=r"store\.db"):
        open_at(tmp_path / "store.db")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "rack").write_text("")
    with pytest.raises(StoreError, match="cannot make the folder"):
        open_at(tmp_path / "rack" / "store.db")


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to have a header" * 40, b"SQLite format 3\0junk" * 90]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        open_at(path)
    assert str(path) in str(caught.value)
    assert caught.value.why == "the file is damaged, or not a database"
    assert "move it away" in caught.value.hint
    assert path.read_bytes() == content


def test_a_database_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_at(path)
    for number in range(60):
        store.create_build(a_build(manifest=f"{number} " * 500))
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = b"\xff" * (len(data) - 4096 * 3)
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        open_at(path).list_builds("web", limit=100)
    assert caught.value.why == "the file is damaged, or not a database"


def test_a_record_that_was_edited_by_hand_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_at(path)
    store.create_build(a_build("BHANDHANDHA"))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE builds SET started = 'yesterday'")
    db.close()
    with pytest.raises(StoreError, match="cannot read build BHANDHANDHA") as caught:
        store.list_builds("web")
    store.close()
    assert "yesterday" in caught.value.why


def test_a_lock_that_is_held_too_long_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "store.db"
    store = open_at(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match="cannot add build BLOCKLOCKLO") as caught:
            store.create_build(a_build("BLOCKLOCKLO"))
        assert "another process kept it locked" in caught.value.why
        assert store.list_builds("web") == []  # reading never waits for a writer
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    store.create_build(a_build("BLOCKLOCKLO"))
    store.close()


def test_a_lock_that_is_let_go_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_at(path)
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, holder.execute, ["ROLLBACK"])
    timer.start()
    store.create_build(a_build("BWAITWAITWA"))
    timer.join()
    holder.close()
    assert store.get_build("web", "BWAITWAITWA").id == "BWAITWAITWA"
    store.close()


def test_a_store_that_may_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_at(path)
    store.execute("PRAGMA query_only = ON")  # what a read-only file gives, also for root
    with pytest.raises(StoreError) as caught:
        store.create_build(a_build())
    assert caught.value.why == "it may only be read"
    assert str(path) in caught.value.hint
    store.close()


def test_a_full_disk(tmp_path: Path) -> None:
    store = open_at(tmp_path / "store.db")
    pages = int(str(store.execute("PRAGMA page_count")[0][0]))
    store.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError) as caught:
        store.create_build(a_build("BFULLFULLFU", manifest="x" * 100_000))
    assert caught.value.why == "no space is left on its disk"
    assert store.list_builds("web") == []
    store.execute(f"PRAGMA max_page_count = {pages + 100}")
    store.create_build(a_build("BFULLFULLFU", manifest="x" * 100_000))
    store.close()


def test_a_closed_store_says_so_and_is_not_opened_again(tmp_path: Path) -> None:
    store = open_at(tmp_path / "store.db")
    store.close()
    with pytest.raises(StoreError):
        store.list_builds("web")


_BUILDER = """
import sys
from pathlib import Path
from convox.models import BuildStatus
from convox.store import open_store
from convox.store.new_records import add_build
from tests.support.store_cases import a_build
store = open_store(sys.argv[1], logs_dir=Path(sys.argv[2]))
for _ in range(6):
    build = add_build(store, a_build())
    store.update_build("web", build.id, status=BuildStatus.RUNNING)
    store.append_log("web", build.id, b"log\\n")
    store.update_build("web", build.id, status=BuildStatus.COMPLETE)
"""


def test_processes_that_make_and_use_one_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "racks" / "local" / "store.db"
    command = [sys.executable, "-c", _BUILDER, sqlite_url(path), str(tmp_path / "logs")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert errors == [""] * 4
    store = open_at(path)
    builds = store.list_builds("web", limit=100)
    assert len({build.id for build in builds}) == 24
    assert {build.status for build in builds} == {BuildStatus.COMPLETE}
    assert store.execute("PRAGMA integrity_check") == [("ok",)]
    assert store.execute("PRAGMA journal_mode") == [("wal",)]
    store.close()


_KILLED = """
import os, signal, sys
from pathlib import Path
from convox.models import BuildStatus
from convox.store import open_store
from convox.store.process import current_process_id
from convox.store.logs import LogWriter
from tests.support.store_cases import a_build
store = open_store(sys.argv[1], logs_dir=Path(sys.argv[2]))
store.create_build(a_build("BKILLKILLKI", process=current_process_id()))
store.update_build("web", "BKILLKILLKI", status=BuildStatus.RUNNING)
LogWriter(store.logs_dir, "web", "BKILLKILLKI").write(b"half a li")
os.kill(os.getpid(), signal.SIGKILL)
"""


_KILLED_AT_THE_END = """
import os, signal, sys
from pathlib import Path
from convox.models import BuildStatus
from convox.store import open_store
from convox.store.database import DatabaseStore
from convox.store.new_records import complete_build
from convox.store.process import current_process_id
from tests.support.store_cases import a_build
store = open_store(sys.argv[1], logs_dir=Path(sys.argv[2]))
store.create_build(a_build("BKILLKILLKI", process=current_process_id()))
build = store.update_build("web", "BKILLKILLKI", status=BuildStatus.RUNNING)
def change(*_):
    assert store.latest_release("web") is not None, "the release is there, and not yet for others"
    os.kill(os.getpid(), signal.SIGKILL)
DatabaseStore._change_build = change
complete_build(store, build, images={"web": "sha256:1"}, entrypoint="")
"""


def test_a_process_killed_while_it_completes_a_build_leaves_no_release(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", _KILLED_AT_THE_END, sqlite_url(path), str(tmp_path / "logs")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    store = open_at(path)
    assert store.get_build("web", "BKILLKILLKI").status == BuildStatus.RUNNING
    assert store.list_releases("web") == []
    store.close()


def test_a_killed_process_leaves_a_whole_record_and_its_log(tmp_path: Path) -> None:
    from convox.store.abandoned import ABANDONED_REASON, fail_abandoned_builds
    from convox.store.logs import read_log

    path = tmp_path / "store.db"
    command = [sys.executable, "-c", _KILLED, sqlite_url(path), str(tmp_path / "logs")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    store = open_at(path)
    assert store.get_build("web", "BKILLKILLKI").status == BuildStatus.RUNNING
    [failed] = fail_abandoned_builds(store)
    assert (failed.status, failed.reason) == (BuildStatus.FAILED, ABANDONED_REASON)
    assert failed.ended is not None
    assert failed.started is not None
    assert failed.ended > failed.started  # the last write to the log, which is the last sign of life
    assert b"".join(read_log(tmp_path / "logs", "web", "BKILLKILLKI")) == b"half a li"
    store.close()
