"""A PostgreSQL of the tests' own: its folder, its socket, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import quote

_OWNER = "postgres"  # the server refuses to run as root; Debian's package makes this user


class PostgresMissingError(Exception):
    """There is no PostgreSQL to start; the text says what to install."""


class OwnPostgres:
    """One server that listens on a Unix socket alone; use it as a context manager.

    Attributes:
        url: For ``open_store``.
    """

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise PostgresMissingError("needs the package postgresql (scripts/services.sh up installs it)")
        self._programs = found[-1].parent
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._as_owner: list[str] = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_OWNER)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._as_owner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        self.url = f"postgresql://{_OWNER}@/{_OWNER}?host={quote(str(self._folder))}"

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [*self._as_owner, *map(str, command)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}")

    def __enter__(self) -> Self:
        data, log = self._folder / "data", self._folder / "log"
        self._run(self._programs / "initdb", "-D", data, "-U", _OWNER, "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run(self._programs / "pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start")
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._programs / "pg_ctl", "-D", self._folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)
