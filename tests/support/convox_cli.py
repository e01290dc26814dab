"""Running convox in this process: piped, or on a terminal, in a config folder of its own."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convox.cli.app import main
from convox.models import Build, BuildStatus, Release
from convox.output import times
from convox.store import Store, open_store, sqlite_url

NOW = datetime(2026, 3, 10, 12, 0, 0, tzinfo=UTC)
"""What time it is for commands; see :func:`freeze`."""

STARTED = NOW - timedelta(days=2, hours=1)


@dataclass(frozen=True)
class Result:
    """What a command wrote, and its exit code; on a terminal stdout holds both streams."""

    code: int
    stdout: bytes
    stderr: bytes = b""


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock that relative times are counted from."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return NOW

    monkeypatch.setattr(times, "datetime", Frozen)


def run(*words: str, stdin: bytes = b"") -> Result:
    """Run convox with its output going into files."""
    stdout, stderr = io.BytesIO(), io.BytesIO()
    with _streams(io.TextIOWrapper(stdout), io.TextIOWrapper(stderr), stdin):
        code = main(words)
        return Result(code, stdout.getvalue(), stderr.getvalue())


def run_on_terminal(*words: str) -> Result:
    """Run convox with both streams on one terminal."""
    master, slave = pty.openpty()
    chunks: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # a terminal without writers gives EIO
            while chunk := os.read(master, 65536):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with (
            os.fdopen(slave, "w") as stdout,
            os.fdopen(os.dup(slave), "w") as stderr,
            _streams(stdout, stderr, b""),
        ):
            code = main(words)
    finally:
        reader.join()
        os.close(master)
    return Result(code, b"".join(chunks).replace(b"\r\n", b"\n"))


@contextlib.contextmanager
def _streams(stdout: io.TextIOWrapper, stderr: io.TextIOWrapper, stdin: bytes) -> Iterator[None]:
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin)), stdout, stderr
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def open_local_store(config_path: Path) -> Store:
    """Open the records of the rack ``local``."""
    rack = config_path / "racks" / "local"
    return open_store(sqlite_url(rack / "store.db"), logs_dir=rack / "logs")


def add_records(config_path: Path) -> None:
    """Make an app ``web`` with builds and releases of every kind."""
    manifest = "\nservices:\n  web:\n    build: .\n\n"
    store = open_local_store(config_path)
    store.create_build(
        Build(
            id="BAAAAAAAAAA",
            app="web",
            status=BuildStatus.COMPLETE,
            description="build 0a1b2c3d4e first",
            git_sha="0a1b2c3d4e" * 4,
            manifest=manifest,
            release="RAAAAAAAAAA",
            repository="registry.example.com/web",
            started=STARTED,
            ended=STARTED + timedelta(minutes=2),
            images={"web": "sha256:" + "0" * 64},
        )
    )
    store.create_build(
        Build(
            id="BBBBBBBBBBB",
            app="web",
            status=BuildStatus.FAILED,
            reason="RUN npm test ended with exit code 1",
            started=STARTED + timedelta(hours=3),
            ended=STARTED + timedelta(hours=3, seconds=25),
        )
    )
    store.create_build(
        Build(
            id="BCCCCCCCCCC",
            app="web",
            status=BuildStatus.RUNNING,
            description="two\nlines \x1b[2J",
            started=STARTED + timedelta(days=2),
            process="another-host:1:2",
        )
    )
    store.create_build(Build(id="BDDDDDDDDDD", app="web"))
    store.append_log("web", "BAAAAAAAAAA", b"web | <h1>kept</h1> \x1b[31mred\x1b[0m\n")
    store.create_release(
        Release(
            id="RAAAAAAAAAA",
            app="web",
            build="BAAAAAAAAAA",
            env="FOO=bar\nTOKEN=CANARY=1\nKEY=line one\nline two",
            description="build 0a1b2c3d4e first",
            created=STARTED + timedelta(minutes=2, microseconds=5),
        )
    )
    store.create_release(
        Release(
            id="RBBBBBBBBBB", app="web", env="FOO=bar", description="env add:FOO", created=STARTED + timedelta(days=1)
        )
    )
    store.update_app("web", release="RAAAAAAAAAA")
    store.close()
