"""Shells that complete: records to propose, a program to call, and a terminal to type into."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import sqlite3
import sys
import threading
from pathlib import Path

from tests.support.convox_cli import add_records, run

HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a b",
    "'",
    '"',
    "a\nb",
    "a\tb",
    "--rack",
    "=ls",
    "\x1b[2J",
)
"""Names that a shell must not take for anything but text."""


def add_completion_records(config_path: Path) -> None:
    """Add the records of the app web on the rack local, and a rack prod that has a login."""
    add_records(config_path)
    run("rack", "install", "aws", "prod")
    login = {"auth": base64.b64encode(b"robot:CANARY").decode()}
    path = config_path / "racks" / "prod" / "registries.json"
    path.write_text(json.dumps({"auths": {"harbor.example.com:5000": login}}))
    path.chmod(0o600)


def add_hostile_names(config_path: Path) -> None:
    """Put names into the records that no command of ours would write, and descriptions that anybody can write."""
    with sqlite3.connect(config_path / "racks" / "local" / "store.db") as database:
        for number, name in enumerate(HOSTILE):
            database.execute("INSERT INTO apps (name) VALUES (?)", (name,))
            database.execute(
                "INSERT INTO builds (id, app, status, description) VALUES (?, 'web', 'failed', ?)", (name, name)
            )
            database.execute("INSERT INTO releases (id, app, description) VALUES (?, 'web', ?)", (name, name * 99))
            (config_path / "racks" / f"x{number}").mkdir()
        database.execute("UPDATE builds SET description = 'x\n$(touch pwned)\t\x1b]0;x\x07' WHERE id = 'BBBBBBBBBBB'")
        newest = "\n".join(f"{name}=1" for name in ("FOO", *HOSTILE))
        database.execute("UPDATE releases SET env = ? WHERE id = 'RBBBBBBBBBB'", (newest,))
    database.close()
    path = config_path / "racks" / "prod" / "registries.json"
    auths = json.loads(path.read_text())["auths"]
    auths.update(dict.fromkeys(HOSTILE, next(iter(auths.values()))))
    path.write_text(json.dumps({"auths": auths}))


def install_program(folder: Path, name: str, entry: str) -> dict[str, str]:
    """Put a program into a folder, and return an environment in which shells find it.

    Args:
        folder: The folder; made here.
        name: What the program is called.
        entry: The module whose ``main`` it is.
    """
    folder.mkdir()
    program = folder / name
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        f"from {entry} import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "NO_COLOR": "1"}


def type_into(line: list[str], start: str, typed: str, env: dict[str, str], expected: str = "") -> str:
    """Type into a shell on a terminal, and return what it shows until it ends, or shows what is expected."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(line[0], line, env)
    shown = ""
    is_typed = False
    os.write(terminal, start.encode())
    killer = threading.Timer(60, os.kill, (pid, 9))
    killer.start()
    try:
        while select.select([terminal], [], [], 20)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            shown += data.decode(errors="replace").replace("\r", "")
            if not is_typed and "ready> " in shown:
                is_typed = True
                shown = ""
                os.write(terminal, typed.encode())
                if not expected:
                    os.write(terminal, b"exit\n")
            if is_typed and expected and expected in shown:
                break
    finally:
        killer.cancel()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown
