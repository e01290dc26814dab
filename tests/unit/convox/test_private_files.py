"""Files for their owner only, whatever the umask, never through a symlink, never by half."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from convox.private_files import locked_folder, make_private_folder, read_private_file, write_private_file


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    if umask == 0o277:
        folder = tmp_path
    else:
        folder = tmp_path / "a" / "b" / "c"
        make_private_folder(folder)
        assert [mode(path) for path in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3
    write_private_file(folder / "file", b"x")
    assert mode(folder / "file") == 0o600


def test_a_folder_that_others_could_enter_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    make_private_folder(folder)
    assert mode(folder) == 0o700


def test_a_symlink_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError):
        make_private_folder(tmp_path / "link")
    with pytest.raises(OSError), locked_folder(tmp_path / "link"):
        pass
    assert mode(tmp_path / "target") == 0o755


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_private_folder(tmp_path / "file")


def test_a_symlink_in_the_place_of_a_file_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "file").symlink_to("target")
    write_private_file(tmp_path / "file", b"new")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_file_open_to_others_is_closed_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o666)
    write_private_file(tmp_path / "file", b"new")
    assert mode(tmp_path / "file") == 0o600


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private_file(tmp_path / "file", b"old")

    def fail(fd: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_reading(tmp_path: Path) -> None:
    assert read_private_file(tmp_path / "none", limit_bytes=3) is None
    (tmp_path / "file").write_bytes(b"abc")
    assert read_private_file(tmp_path / "file", limit_bytes=3) == b"abc"
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_private_file(tmp_path / "file", limit_bytes=2)
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError):
        read_private_file(tmp_path / "link", limit_bytes=3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_private_file(tmp_path / "pipe", limit_bytes=3)
    with pytest.raises(OSError, match="it is a folder"):
        read_private_file(tmp_path, limit_bytes=3)


def test_a_refused_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    def is_open() -> bool:
        return any(os.path.realpath(one) == os.path.realpath(tmp_path) for one in Path("/proc/self/fd").iterdir())

    with pytest.raises(OSError):
        read_private_file(tmp_path, limit_bytes=1)
    assert not is_open()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert is_open()  # it would have been seen
    os.close(descriptor)


def test_a_held_folder_keeps_other_processes_waiting(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from convox.private_files import locked_folder
        folder = Path(sys.argv[1])
        for _ in range(50):
            with locked_folder(folder):
                number = int((folder / "n").read_text())
                (folder / "n").write_text(str(number + 1))
        """)
    (tmp_path / "n").write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    assert [worker.wait(timeout=30) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "150"
