"""Lets a person edit a text that is nobody else's business: a file of mode 0600 in a folder of mode 0700.

Both are gone when the editor has ended, whatever it left behind beside the file.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from convox.errors import ConvoxError, UsageError
from convox.private_files import write_private_file
from convox.regular_files import read_regular_file

if TYPE_CHECKING:
    from convox.settings import Settings

MAX_BYTES = 4 << 20


def edit_text(text: str, *, name: str, settings: Settings) -> str:
    """Return a text as a person left it.

    Args:
        text: What the editor begins with.
        name: The file's name, which tells the editor what kind of text it is.
        settings: Has ``EDITOR``, which may have arguments, and the folder for files that live as long as a login.

    Raises:
        UsageError: ``EDITOR`` is no command, or the text is not UTF-8.
        ConvoxError: The editor cannot be started or fails, or the file cannot be written or read.
    """
    editor = settings.environ.get("EDITOR", "").strip() or "vi"
    try:
        command = shlex.split(editor)
    except ValueError as exc:
        raise UsageError("EDITOR is no command", why=str(exc)) from None
    folder = settings.runtime_path if settings.runtime_path is not None and settings.runtime_path.is_dir() else None
    try:
        with tempfile.TemporaryDirectory(prefix="convox-", dir=folder) as scratch:
            path = Path(scratch) / name
            write_private_file(path, text.encode("utf-8", "surrogateescape"))
            _run([*command, str(path)], command[0])
            data = read_regular_file(path, limit_bytes=MAX_BYTES, follow_symlinks=False)
    except OSError as exc:
        raise ConvoxError("the text cannot be edited", why=exc.strerror or str(exc)) from exc
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError("the edited text is not UTF-8") from None


def _run(command: list[str], program: str) -> None:
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as exc:
        raise ConvoxError(
            f"cannot start the editor {program}", why=exc.strerror or str(exc), hint="name another with EDITOR"
        ) from exc
    if code:
        raise ConvoxError(f"the editor {program} failed with exit code {code}", why="nothing was changed")
