"""Receiving the ``local`` exporter: the daemon lists a tree and sends the files we ask for.

Reference: session/filesync/diffcopy.go, syncTargetDiffCopy; session/filesync/filesync.go, SyncTarget.DiffCopy.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from buildkit_client.errors import BuildKitError, ExportError, OptionError, RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import encode_error
from buildkit_client.protocol.fsutil_receiver import (
    ContentEnded,
    ContentReceived,
    EntryListed,
    FsutilReceiver,
    ListingEnded,
)
from buildkit_client.protocol.fsutil_stat import show_path
from buildkit_client.session.beneath import OPEN_DIRECTORY, Beneath
from buildkit_client.session.call import CallCancelledError
from buildkit_client.session.filesend import why_not_writable
from buildkit_client.session.tree_writer import PartFile, TreeWriter

if TYPE_CHECKING:
    from pathlib import Path

    from buildkit_client.protocol.fsutil_stat import Stat
    from buildkit_client.session.call import ServerCall

KEY_MULTI_PLATFORM = "buildkit-exporter-multi-platform"  # session/filesync/filesync.go

LocalMode = Literal["copy", "delete"]

_MAX_REQUESTED = 4096  # a daemon that always has more to send sends much at once, which costs less
_MAX_OPEN_FILES = 256  # daemons send four at a time

_log = logging.getLogger(__name__)


class DirectoryReceiver:
    """Writes what the ``local`` exporter sends into a directory.

    Several streams may come at once, one per platform.

    Args:
        path: The directory; made, with mode 0700, when it is missing.
        mode: ``copy`` adds and replaces; ``delete`` also removes what the export does not have.
    """

    def __init__(self, path: Path, *, mode: str = "copy") -> None:
        if mode not in ("copy", "delete"):
            raise OptionError(f'invalid local exporter mode "{mode}"', hint="use copy or delete")
        self.path = path
        self._delete = mode == "delete"
        self._lock = threading.Lock()
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Why streams failed, in order; cancelled ones are not among them."""
        with self._lock:
            return tuple(self._errors)

    def check(self) -> None:
        """Find out, before the build runs, whether the directory can be written or made.

        Raises:
            OptionError: It is no directory, or it or the folder to make it in is not writable.
        """
        nearest = self.path
        while not os.path.lexists(nearest) and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise OptionError(f"cannot export to {self.path}", why=f"{nearest} is no folder", hint="name a folder")
        if why := why_not_writable(nearest):
            raise OptionError(f"cannot export to {self.path}", why=why)

    def __call__(self, call: ServerCall) -> None:
        """Take one stream to its end.

        Raises:
            ExportError: Something cannot be written, or this daemon cannot be trusted with ``delete``; kept in
                :attr:`errors` too.
            RemoteProtocolError: The daemon broke the protocol or reports an error; kept as well.
            CallCancelledError: The call was over before the transfer was.
        """
        try:
            if self._delete and "1" not in call.metadata.get(KEY_MULTI_PLATFORM, ()):
                raise ExportError(
                    f"cannot export to {self.path} with mode=delete",
                    why="this buildkitd may send each platform by itself, so one would delete the other",
                    hint="use mode=copy, or a newer buildkitd",
                )
            with Beneath(self._open()) as beneath:
                _Reception(call, self.path, TreeWriter(beneath, delete=self._delete)).run()
        except BuildKitError as exc:
            with self._lock:
                self._errors.append(exc)
            raise

    def _open(self) -> int:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path.resolve(), OPEN_DIRECTORY)
        except OSError as exc:
            raise ExportError(f"cannot export to {self.path}", why=exc.strerror or str(exc)) from exc


class _Reception:
    """One stream, from the first STAT to FIN."""

    def __init__(self, call: ServerCall, path: Path, writer: TreeWriter) -> None:
        self._call = call
        self._path = path
        self._writer = writer
        self._receiver = FsutilReceiver()
        self._waiting: deque[tuple[int, Stat]] = deque()  # listed and not asked for yet
        self._requested: dict[int, Stat] = {}  # asked for; nothing of it has come yet
        self._parts: dict[int, PartFile] = {}
        self._arrived: deque[bytes] = deque()
        self._outgoing: list[bytes] = []
        self._is_listed = False
        self._is_complete = False
        self._current = b""

    def run(self) -> None:
        """Take the stream to its end."""
        try:
            while not self._is_complete:
                self._take(self._next_message())
        except OSError as exc:
            where = f"{self._path}/{show_path(self._current)}" if self._current else str(self._path)
            error = ExportError(f"cannot write {where}", why=exc.strerror or str(exc))
            with suppress(CallCancelledError):
                self._call.write(encode_error(f"{error}: {error.why}"))
            raise error from exc
        finally:
            for part in self._parts.values():
                part.discard()

    def _next_message(self) -> bytes:
        """Return the next message; what we have to say is sent together before we wait."""
        if not self._arrived:
            self._arrived.extend(self._call.receive_ready())
        if self._arrived:
            return self._arrived.popleft()
        if self._outgoing:
            self._call.write(b"".join(self._outgoing))
            self._outgoing.clear()
        message = self._call.receive()
        if message is None:
            raise RemoteProtocolError("the daemon ended a file transfer before it was complete")
        return message

    def _take(self, message: bytes) -> None:
        """Act on one message."""
        event = self._receiver.receive(message)  # three for each file: class patterns cost more
        if isinstance(event, ContentReceived):
            self._part(event.file_id).write(event.data)
        elif isinstance(event, ContentEnded):
            self._part(event.file_id).finish()
            del self._parts[event.file_id]
            self._request_some()
            self._finish_if_complete()
        elif isinstance(event, EntryListed):
            entry = event.entry
            self._current = entry.path
            self._writer.add(entry)
            if entry.has_content:
                self._waiting.append((event.file_id, entry))
                self._request_some()
        elif isinstance(event, ListingEnded):
            self._is_listed = True
            self._finish_if_complete()
        else:
            self._is_complete = True

    def _part(self, file_id: int) -> PartFile:
        """Return the file that content belongs to; it is begun when the first of it comes."""
        part = self._parts.get(file_id)
        if part is None:
            if len(self._parts) == _MAX_OPEN_FILES:
                raise RemoteProtocolError(f"the daemon sends more than {_MAX_OPEN_FILES} files at the same time")
            entry = self._requested.pop(file_id)
            self._current = entry.path
            part = self._parts[file_id] = self._writer.start_file(entry)
        self._current = part.entry.path
        return part

    def _request_some(self) -> None:
        """Ask for files."""
        while self._waiting and len(self._requested) + len(self._parts) < _MAX_REQUESTED:
            file_id, entry = self._waiting.popleft()
            self._requested[file_id] = entry
            self._outgoing.append(self._receiver.request(file_id))

    def _finish_if_complete(self) -> None:
        """Finish the tree and say so, once everything is listed and written."""
        if self._is_listed and not (self._waiting or self._requested or self._parts):
            self._current = b""
            self._writer.finish()
            self._outgoing.append(self._receiver.finish())
            _log.debug("received a tree into %s", self._path)
