"""Build logs: one file each, ``<logs dir>/<app>/<build id>.log``, kept byte for byte as it is produced.

Every write is in the file when it returns, so a build that is killed keeps the log it had, and any other process can
follow the log while the build runs. Files have mode 0600; the last two parts of the path are never symbolic links.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Self

from convox.errors import StoreError
from convox.store.abandoned import fail_if_abandoned
from convox.store.files import make_folder, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from convox.store import Store

CHUNK_BYTES = 64 * 1024
"""How much of a log is read at once."""

POLL_S = 0.2
"""How often a followed log is looked at."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def log_path(logs_dir: Path, app: str, build_id: str) -> Path:
    """Return where the log of a build is, whether or not it exists.

    Raises:
        StoreError: The name of the app or the build cannot be part of a path.
    """
    for name in (app, build_id):
        if not _SAFE_NAME.fullmatch(name):
            raise StoreError(
                f"no log can be kept for {name!r}",
                why="the name is used as a file name, so it may only hold letters, digits, '.', '_' and '-'",
                hint="give the app another name with -a",
            )
    return logs_dir / app / f"{build_id}.log"


class LogWriter:
    """Appends to the log of one build, from any thread; a context manager that closes it.

    Args:
        logs_dir: See :attr:`convox.store.Store.logs_dir`; folders are made with mode 0700 where missing.
        app: The app's name.
        build_id: The build's id.

    Raises:
        StoreError: The file cannot be opened or written.
    """

    def __init__(self, logs_dir: Path, app: str, build_id: str) -> None:
        self.path = log_path(logs_dir, app, build_id)
        if self.path.parent.is_symlink():
            raise StoreError(f"cannot open {self.path}", why=f"{self.path.parent} is a symbolic link")
        make_folder(self.path.parent)
        self._lock = threading.Lock()
        self._descriptor = -1
        self._descriptor = open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, data: bytes) -> None:
        """Append bytes; they are in the file when this returns."""
        view = memoryview(data)
        with self._lock:
            if self._descriptor < 0:
                raise StoreError(f"cannot write {self.path}", why="the log was closed")
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except OSError as exc:
                    raise StoreError(
                        f"cannot write {self.path}", why=exc.strerror or str(exc), hint="free some space on that disk"
                    ) from exc

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def read_log(logs_dir: Path, app: str, build_id: str) -> Iterator[bytes]:
    """Yield the log of a build as it is now.

    Yields:
        Chunks of at most 64 KiB, never empty; none at all where there is no log.

    Raises:
        StoreError: The file cannot be read.
    """
    reader = _LogReader(log_path(logs_dir, app, build_id))
    try:
        yield from reader.new_chunks()
    finally:
        reader.close()


def delete_log(logs_dir: Path, app: str, build_id: str) -> None:
    """Delete the log of a build; nothing where there is none.

    Raises:
        StoreError: The file cannot be deleted.
    """
    path = log_path(logs_dir, app, build_id)
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StoreError(f"cannot delete {path}", why=exc.strerror or str(exc)) from exc


def follow_log(store: Store, app: str, build_id: str, *, poll_s: float = POLL_S) -> Iterator[bytes]:
    """Yield the log of a build until the build has ended.

    Works from another process than the one that builds. A build whose process is gone is marked as failed on the way,
    so this ends in every case.

    Args:
        store: Where the build is.
        app: The app's name.
        build_id: The build's id.
        poll_s: Seconds between two looks.

    Yields:
        Chunks of at most 64 KiB, in order, never empty.

    Raises:
        NotFoundError: There is no such build.
        StoreError: The store or the log cannot be read.
    """
    known = store.get_build(app, build_id)
    reader = _LogReader(log_path(store.logs_dir, known.app, known.id))
    try:
        while True:
            # The status is read before the log: what a build writes, it writes before it ends.
            build = fail_if_abandoned(store, store.get_build(app, build_id))
            yield from reader.new_chunks()
            if build.status.is_final:
                return
            time.sleep(poll_s)
    finally:
        reader.close()


class _LogReader:
    """Reads what a file has more than last time; a file that does not exist yet has nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def new_chunks(self) -> Iterator[bytes]:
        if self._descriptor < 0:
            try:
                self._descriptor = open_file(self._path, os.O_RDONLY)
            except FileNotFoundError:
                return
        while True:
            try:
                chunk = os.read(self._descriptor, CHUNK_BYTES)
            except OSError as exc:
                raise StoreError(f"cannot read {self._path}", why=exc.strerror or str(exc)) from exc
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
