"""What git says of the folder that is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from convox.source import MAX_DESCRIPTION, GitSource, describe_source

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], env=ENVIRON, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    (folder / "file").write_text("1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "Add the file\n\nMore words.")
    return folder


def test_a_clean_tree(repository: Path) -> None:
    sha = git(repository, "rev-parse", "HEAD")
    assert describe_source(repository, ENVIRON) == GitSource(f"build {sha[:10]} Add the file", sha)


def test_a_changed_file_leaves_the_description_empty(repository: Path) -> None:
    (repository / "file").write_text("changed\n")
    assert describe_source(repository, ENVIRON) == GitSource("", git(repository, "rev-parse", "HEAD"))


def test_untracked_files_do_not_count(repository: Path) -> None:
    (repository / "new").touch()
    assert describe_source(repository, ENVIRON).description.endswith("Add the file")


def test_the_folder_counts_and_not_the_current_one(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert describe_source(Path("../repository"), ENVIRON).description.endswith("Add the file")
    monkeypatch.chdir(repository)
    assert describe_source(tmp_path / "elsewhere", ENVIRON) == GitSource()


def test_a_subfolder(repository: Path) -> None:
    (repository / "sub").mkdir()
    assert describe_source(repository / "sub", ENVIRON).sha == git(repository, "rev-parse", "HEAD")


def test_variables_of_another_repository_do_not_count(repository: Path, tmp_path: Path) -> None:
    other = {"GIT_DIR": str(tmp_path / "x"), "GIT_WORK_TREE": "/", "GIT_INDEX_FILE": "/x", "GIT_TRACE": "1"}
    assert describe_source(repository, ENVIRON | other).description.endswith("Add the file")


def test_no_repository_no_commit_no_folder(tmp_path: Path) -> None:
    assert describe_source(tmp_path, ENVIRON) == GitSource()
    git(tmp_path, "init")
    assert describe_source(tmp_path, ENVIRON) == GitSource()
    assert describe_source(tmp_path / "nowhere", ENVIRON) == GitSource()


def test_no_git(repository: Path, tmp_path: Path) -> None:
    assert describe_source(repository, {"PATH": str(tmp_path)}) == GitSource()


def test_a_git_that_hangs_is_not_waited_for(repository: Path, tmp_path: Path) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nexec sleep 30\n")
    (slow / "git").chmod(0o755)
    started = time.monotonic()
    path = f"{slow}:{os.environ['PATH']}"
    assert describe_source(repository, {"PATH": path}, timeout_s=0.2) == GitSource()
    assert time.monotonic() - started < 5


def test_a_subject_is_one_printable_line_of_bounded_length(repository: Path) -> None:
    git(repository, "commit", "--allow-empty", "-m", "red \x1b[31m " + "x" * 3000 + "é")
    description = describe_source(repository, ENVIRON).description
    assert "\x1b" not in description
    assert "red  [31m xxx" in description
    assert len(description) == MAX_DESCRIPTION


def test_programs_named_by_the_repository_do_not_run(repository: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\nexit 1\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "gpg.program", "core.pager"):
        git(repository, "config", key, str(program))
    git(repository, "config", "log.showSignature", "true")
    commit = git(repository, "cat-file", "commit", "HEAD")
    signed = commit.replace("\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----\n\n", 1)
    (tmp_path / "commit").write_text(signed + "\n")
    sha = git(repository, "hash-object", "-t", "commit", "-w", str(tmp_path / "commit"))
    git(repository, "update-ref", "HEAD", sha)
    (repository / "file").write_text("changed\n")
    assert describe_source(repository, ENVIRON) == GitSource("", sha)
    assert not marker.exists()
