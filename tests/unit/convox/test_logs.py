"""Build logs: kept byte for byte, private, and followed from elsewhere."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from convox.errors import NotFoundError, StoreError
from convox.models import BuildStatus
from convox.store import Store, open_store, sqlite_url
from convox.store.abandoned import ABANDONED_REASON
from convox.store.logs import LogWriter, follow_log, log_path, read_log
from convox.store.process import current_process_id
from tests.support.store_cases import a_build

RAW = b"\x1b[31m<h1>tags stay</h1>\x1b[0m \xff\xfe\x00\r\nno line end"


@pytest.fixture
def store(tmp_path: Path):
    store = open_store(sqlite_url(tmp_path / "store.db"), logs_dir=tmp_path / "logs")
    yield store
    store.close()


def test_bytes_are_in_the_file_as_soon_as_they_are_written(tmp_path: Path) -> None:
    with LogWriter(tmp_path, "web", "BLOG") as log:
        for byte in RAW:
            log.write(bytes([byte]))
        assert log.path.read_bytes() == RAW
        assert b"".join(read_log(tmp_path, "web", "BLOG")) == RAW
        assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_a_second_writer_appends(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        with LogWriter(tmp_path, "web", "BLOG") as log:
            log.write(text)
    assert b"".join(read_log(tmp_path, "web", "BLOG")) == b"one\ntwo\n"


def test_threads_never_mix_within_a_write(tmp_path: Path) -> None:
    with LogWriter(tmp_path, "web", "BLOG") as log:
        threads = [
            threading.Thread(target=lambda c=c: [log.write(c * 5000 + b"\n") for _ in range(20)]) for c in (b"a", b"b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = log.path.read_bytes().splitlines()
    assert sorted(lines) == [b"a" * 5000] * 20 + [b"b" * 5000] * 20


def test_there_may_be_no_log(tmp_path: Path) -> None:
    assert list(read_log(tmp_path, "web", "BNONE")) == []


def test_a_large_log_comes_in_chunks(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    with LogWriter(tmp_path, "web", "BLOG") as log:
        log.write(data)
    chunks = list(read_log(tmp_path, "web", "BLOG"))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 64 * 1024


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\0b", "-x" * 200, ".hidden", "a\nb"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    for app, build_id in ((name, "BLOG"), ("web", name)):
        with pytest.raises(StoreError):
            LogWriter(tmp_path / "logs", app, build_id)
        with pytest.raises(StoreError):
            list(read_log(tmp_path / "logs", app, build_id))
    assert not (tmp_path / "logs").exists()


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    logs = tmp_path / "logs"
    (logs / "web").mkdir(parents=True)
    log_path(logs, "web", "BLINK").symlink_to(outside / "secret")
    (logs / "api").symlink_to(outside)
    with pytest.raises(StoreError) as caught:
        LogWriter(logs, "web", "BLINK")
    assert caught.value.why == "it is a symbolic link"
    with pytest.raises(StoreError):
        list(read_log(logs, "web", "BLINK"))
    with pytest.raises(StoreError):
        LogWriter(logs, "api", "BNEW")
    assert (outside / "secret").read_text() == "secret"
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, "web", "BLOG")
    log.close()
    log.close()
    with pytest.raises(StoreError) as caught:
        log.write(b"x")
    assert caught.value.why == "the log was closed"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    log = LogWriter(tmp_path, "web", "BLOG")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._descriptor)
    os.close(full)
    with pytest.raises(StoreError) as caught:
        log.write(b"x")
    assert "No space left" in caught.value.why
    log.close()


def test_a_log_of_a_build_that_has_ended_is_read_once(store: Store) -> None:
    store.create_build(a_build("BDONE", status=BuildStatus.FAILED))
    store.append_log("web", "BDONE", RAW)
    assert b"".join(follow_log(store, "web", "BDONE")) == RAW


def test_an_unknown_build_cannot_be_followed(store: Store) -> None:
    for build_id in ("BNONE", "../../etc/passwd", ""):
        with pytest.raises(NotFoundError):
            list(follow_log(store, "web", build_id))


def test_a_running_build_is_followed_to_its_end(store: Store) -> None:
    store.create_build(a_build("BRUN", process=current_process_id()))
    following = follow_log(store, "web", "BRUN", poll_s=0.01)
    log = LogWriter(store.logs_dir, "web", "BRUN")
    seen: list[bytes] = []
    log.write(b"first\n")
    seen.append(next(following))
    store.update_build("web", "BRUN", status=BuildStatus.RUNNING)
    log.write(b"second\n")
    seen.append(next(following))
    log.write(b"last")
    store.update_build("web", "BRUN", status=BuildStatus.COMPLETE)
    log.close()
    seen.extend(following)
    assert seen == [b"first\n", b"second\n", b"last"]


_BUILDER = """
import sys, time
from pathlib import Path
from convox.models import BuildStatus
from convox.store import open_store
from convox.store.process import current_process_id
from convox.store.logs import LogWriter
from tests.support.store_cases import a_build
store = open_store(sys.argv[1], logs_dir=Path(sys.argv[2]))
store.create_build(a_build("BFAR", process=current_process_id()))
store.update_build("web", "BFAR", status=BuildStatus.RUNNING)
print("running", flush=True)
log = LogWriter(store.logs_dir, "web", "BFAR")
for number in range(20):
    log.write(f"line {number}\\n".encode())
    time.sleep(0.005)
if sys.argv[3] == "ends":
    store.update_build("web", "BFAR", status=BuildStatus.COMPLETE)
"""


@pytest.mark.parametrize(("how", "status"), [("ends", BuildStatus.COMPLETE), ("dies", BuildStatus.FAILED)])
def test_another_process_is_followed_until_it_ends_or_dies(
    how: str, status: BuildStatus, store: Store, tmp_path: Path
) -> None:
    arguments = [sqlite_url(tmp_path / "store.db"), str(store.logs_dir), how]
    with subprocess.Popen([sys.executable, "-c", _BUILDER, *arguments], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"running\n"
        # It stays a zombie until it is waited for, which must count as gone.
        data = b"".join(follow_log(store, "web", "BFAR", poll_s=0.01))
    assert data == b"".join(b"line %d\n" % number for number in range(20))
    build = store.get_build("web", "BFAR")
    assert build.status == status
    assert build.reason == ("" if how == "ends" else ABANDONED_REASON)
