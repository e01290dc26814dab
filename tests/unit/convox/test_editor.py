"""Editing a text that nobody else may see."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from convox.editor import edit_text
from convox.errors import ConvoxError, UsageError
from convox.settings import Settings


def edit(tmp_path: Path, script: str, text: str = "A=1\n", *, editor: str = "") -> str:
    """Edit with a Python script that finds the file's name in ``sys.argv[1]``."""
    path = tmp_path / "my editor.py"
    path.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[-1])\n{script}\n")
    environ = {"EDITOR": editor or f"{sys.executable} '{path}' --wait", "HOME": str(tmp_path)}
    (tmp_path / "run").mkdir(exist_ok=True)
    settings = Settings.load({**environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")}, tmp_path)
    return edit_text(text, name="web.env", settings=settings)


def test_what_the_editor_leaves_is_returned_and_nothing_stays(tmp_path: Path) -> None:
    script = (
        "import os, shutil\n"
        f"pathlib.Path({str(tmp_path / 'seen')!r}).write_text("
        "f'{path.name} {path.stat().st_mode:o} {path.parent.stat().st_mode:o} {path.read_text()}')\n"
        "shutil.copy(path, f'{path}~')\n"
        "path.write_text('A=2\\nB=ü\\n')"
    )
    assert edit(tmp_path, script) == "A=2\nB=ü\n"
    name, file_mode, folder_mode, text = (tmp_path / "seen").read_text().split(" ")
    assert (name, text) == ("web.env", "A=1\n")
    assert (stat.S_IMODE(int(file_mode, 8)), stat.S_IMODE(int(folder_mode, 8))) == (0o600, 0o700)
    assert list((tmp_path / "run").iterdir()) == []


def test_an_editor_that_replaces_the_file(tmp_path: Path) -> None:
    assert edit(tmp_path, "path.unlink(); path.write_text('A=3')") == "A=3"


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        ("sys.exit(3)", ConvoxError, "failed with exit code 3"),
        ("path.unlink()", ConvoxError, "the text cannot be edited"),
        ("path.unlink(); path.symlink_to('/etc/hostname')", ConvoxError, "the text cannot be edited"),
        ("path.write_bytes(b'\\xff')", UsageError, "not UTF-8"),
    ],
)
def test_what_can_go_wrong(tmp_path: Path, script: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        edit(tmp_path, script)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("editor", "text"),
    [("/nowhere/vi", "cannot start the editor /nowhere/vi"), ("vi 'x", "EDITOR is no command")],
)
def test_no_editor(tmp_path: Path, editor: str, text: str) -> None:
    with pytest.raises(ConvoxError, match=text):
        edit(tmp_path, "", editor=editor)
