"""The ``FileSync`` service: the daemon reads our directories (build contexts, Dockerfiles, ignore files).

One thread serves one transfer: it lists, and between two batches it sends a piece of what was asked for so far, so the
daemon can write files while we still walk. The daemon's requests are small and wait in the call's inbox meanwhile.

Reference: session/filesync/filesync.go, fsSyncProvider; tonistiigi/fsutil, send.go.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from buildkit_client.errors import BuildKitError, ContextError, PatternError, RemoteProtocolError
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.protocol.fsutil_packet import encode_error
from buildkit_client.protocol.fsutil_sender import FileRequested, FsutilSender, TransferDone
from buildkit_client.protocol.fsutil_stat import show_path
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.beneath import Beneath
from buildkit_client.session.call import CallCancelledError, RpcError
from buildkit_client.session.walk import Selection, ignore_matcher, open_context, unreadable, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from buildkit_client.session.call import Metadata, ServerCall, StreamHandler

DIFF_COPY = "/moby.filesync.v1.FileSync/DiffCopy"
KEY_DIR_NAME = "dir-name"  # session/filesync/filesync.go
KEY_INCLUDE_PATTERNS = "include-patterns"
KEY_EXCLUDE_PATTERNS = "exclude-patterns"
KEY_FOLLOW_PATHS = "followpaths"
ENCODED_SUFFIX = "-encoded"
GO_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
"""What Go's ``strconv.ParseBool`` takes for true."""

_STATS_PER_WRITE = 256
_READ_BYTES = 256 << 10
_BUFFER_BYTES = 256 << 10
_LARGE_BYTES = 32 << 10  # from here on, content is handed on as it is and not joined with its neighbours
_SHOWN_NAMES = 10
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # a pipe put in a file's place must not hold us up

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class TransferStats:
    """What one transfer has moved; it grows while the transfer runs.

    Attributes:
        name: The directory's name, as the daemon asked for it.
        entries: Entries listed.
        files: Files whose content was sent.
        content_bytes: Bytes of their content.
        missing: Files that were listed and gone afterwards; the daemon gets them empty.
        missing_names: The first ten of them, ready to show.
        duration_s: Seconds from the daemon's call to the transfer's end; 0 while it runs.
        is_complete: Whether the daemon has confirmed the end.
    """

    name: str
    entries: int = 0
    files: int = 0
    content_bytes: int = 0
    missing: int = 0
    missing_names: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    is_complete: bool = False


class FileSyncService:
    """Gives the daemon the directories it may read, and nothing else.

    Args:
        directories: Directory by the name the daemon asks for: ``context``, ``dockerfile``, or a named context's.
        on_progress: Gets a transfer's statistics each time something was sent; called from the transfer's thread.
    """

    def __init__(
        self,
        directories: Mapping[str, Path | LocalDirectory],
        *,
        on_progress: Callable[[TransferStats], None] | None = None,
    ) -> None:
        self._directories = {
            name: directory if isinstance(directory, LocalDirectory) else LocalDirectory(directory)
            for name, directory in directories.items()
        }
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._transfers: list[TransferStats] = []
        self._errors: list[BuildKitError] = []

    @property
    def transfers(self) -> tuple[TransferStats, ...]:
        """The transfers so far, in the order they began."""
        with self._lock:
            return tuple(self._transfers)

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Why transfers failed, in order; cancelled ones are not among them."""
        with self._lock:
            return tuple(self._errors)

    def check(self) -> None:
        """Find out, before the build runs, whether every directory can be read.

        Raises:
            ContextError: One is missing, no directory, or not readable.
            PatternError: A pattern of one is not valid.
        """
        for directory in self._directories.values():
            os.close(open_context(directory.path)[1])
            ignore_matcher(directory.ignore)

    def methods(self) -> dict[str, StreamHandler]:
        """Return the handler by method path, for the session."""
        return {DIFF_COPY: self.serve}

    def serve(self, call: ServerCall) -> None:
        """Serve one transfer to its end.

        Raises:
            RpcError: There is no directory of that name.
            BuildKitError: The directory cannot be read, or the daemon broke the protocol; kept in :attr:`errors` too.
            CallCancelledError: The call is over.
        """
        request = _Request.of(call.metadata)
        directory = self._directories.get(request.name)
        if directory is None:
            raise RpcError(StatusCode.NOT_FOUND, f'no access allowed to dir "{request.name}"')
        stats = TransferStats(request.name)
        with self._lock:
            self._transfers.append(stats)
        began = time.monotonic()
        try:
            root, root_fd = open_context(directory.path)
            with Beneath(root_fd) as beneath:
                selection = Selection.of(
                    root,
                    include_patterns=request.include_patterns,
                    exclude_patterns=request.exclude_patterns,
                    followed_paths=request.followed_paths,
                    ignore_patterns=directory.ignore,
                    ignore_prefix=directory.ignore_prefix,
                )
                _Transfer(call, root, beneath, selection, stats=stats, on_progress=self._on_progress).run()
        except BuildKitError as exc:
            with self._lock:
                self._errors.append(exc)
            raise
        finally:
            stats.duration_s = time.monotonic() - began
            _log.debug("file sync of %s: %s", request.name, stats)


class _Request(NamedTuple):
    """What a call's metadata ask for."""

    name: str
    include_patterns: tuple[bytes, ...]
    exclude_patterns: tuple[bytes, ...]
    followed_paths: tuple[bytes, ...]

    @classmethod
    def of(cls, metadata: Metadata) -> _Request:
        name = next(iter(_values(metadata, KEY_DIR_NAME)), b"")
        return cls(
            name.decode("utf-8", "surrogateescape"),
            _values(metadata, KEY_INCLUDE_PATTERNS),
            _values(metadata, KEY_EXCLUDE_PATTERNS),
            _values(metadata, KEY_FOLLOW_PATHS),
        )


def _values(metadata: Metadata, key: str) -> tuple[bytes, ...]:
    """Return a key's values as the daemon meant them.

    Reference: session/filesync/filesync.go, encodeOpts and decodeOpts.
    """
    values = tuple(value.encode("utf-8", "surrogateescape") for value in metadata.get(key, ()))
    if metadata.get(key + ENCODED_SUFFIX, ("",))[0] in GO_TRUE:
        return tuple(unquote_to_bytes(value.replace(b"+", b" ")) for value in values)
    return values


class _Transfer:
    """One transfer, from the first STAT to FIN."""

    def __init__(
        self,
        call: ServerCall,
        root: bytes,
        beneath: Beneath,
        selection: Selection,
        *,
        stats: TransferStats,
        on_progress: Callable[[TransferStats], None] | None,
    ) -> None:
        self._call = call
        self._root = root
        self._beneath = beneath
        self._selection = selection
        self._stats = stats
        self._on_progress = on_progress
        self._sender = FsutilSender()
        self._wanted: deque[FileRequested] = deque()
        self._content: Generator[list[bytes], None, None] | None = None
        self._farewell: bytes | None = None

    def run(self) -> None:
        """Serve the transfer."""
        try:
            self._list()
            self._serve_requests()
        except (ContextError, PatternError) as exc:
            with suppress(CallCancelledError):
                self._call.write(encode_error(f"{exc}: {exc.why}" if exc.why else str(exc)))
            raise
        finally:
            if self._content is not None:
                self._content.close()
        self._stats.is_complete = True
        self._report()

    def _list(self) -> None:
        """Send the listing, and one buffer of content between two batches of it."""
        entries = walk(self._root, self._selection)
        while batch := list(islice(entries, _STATS_PER_WRITE)):
            self._call.write(self._sender.offer(batch))
            self._stats.entries = self._sender.entries
            self._take_requests()
            self._send_buffer()
            self._report()
        self._call.write(self._sender.end_listing())

    def _serve_requests(self) -> None:
        """Answer requests until the daemon has all it wanted, and say goodbye."""
        while self._farewell is None:
            if not self._send_buffer():
                message = self._call.receive()
                if message is None:
                    raise RemoteProtocolError("the daemon ended a file transfer before it was complete")
                self._take(message)
            self._take_requests()
        self._call.write(self._farewell)

    def _take_requests(self) -> None:
        """Take the messages that are already here."""
        if self._farewell is None:
            for message in self._call.receive_ready():
                self._take(message)

    def _take(self, message: bytes) -> None:
        match self._sender.receive(message):
            case FileRequested() as request:
                self._wanted.append(request)
            case TransferDone(reply):
                self._farewell = reply

    def _send_buffer(self) -> bool:
        """Send one buffer of wanted content; return False when nothing is wanted."""
        if self._content is None:
            self._content = self._buffers()
        buffer = next(self._content, None)
        if buffer is None:
            self._content = None
            return False
        self._call.write(buffer)
        self._report()
        return True

    def _buffers(self) -> Generator[list[bytes], None, None]:
        """Yield the packets of wanted files, several small ones in a buffer, until nothing is wanted any more."""
        pieces: list[bytes] = []
        size = 0
        while self._wanted:
            file_id, path = self._wanted.popleft()
            content, descriptor = self._open(path)
            if descriptor is None and len(content) < _LARGE_BYTES:
                header, end = self._sender.whole_file(file_id, len(content))
                pieces += (header, content, end)
                size += len(content) + len(header) + len(end)
                self._stats.content_bytes += len(content)
            else:
                with closing(self._read(path, content, descriptor)) as chunks:
                    for chunk in chunks:
                        pieces.append(self._sender.content_header(file_id, len(chunk)))
                        self._stats.content_bytes += len(chunk)
                        yield [b"".join(pieces), chunk]
                        pieces.clear()
                pieces.append(self._sender.end_content(file_id))
                size = len(pieces[-1])
            if size >= _BUFFER_BYTES or not self._wanted:
                yield [b"".join(pieces)]  # more may be wanted after this, so the loop must look again
                pieces.clear()
                size = 0

    def _open(self, path: bytes) -> tuple[bytes, int | None]:
        """Begin to read a file.

        Returns:
            The first piece of its content, empty when the file is gone or is no regular file any more; and a
            descriptor for the rest, to be closed, or None when there is no rest.

        Raises:
            ContextError: It is there and cannot be read. Sent empty, as the reference sends it, the daemon would keep
                the empty copy and take it for the file in every later build too.
        """
        try:
            descriptor = self._beneath.open(path, _OPEN_FLAGS)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return b"", None  # a socket: it is listed as a file and has no content
            if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise unreadable(path, exc) from exc
            self._miss(path, exc.strerror or str(exc))
            return b"", None
        is_whole = True
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                self._miss(path, "no regular file any more")
                return b"", None
            self._stats.files += 1
            content = os.read(descriptor, min(info.st_size + 1, _READ_BYTES))
            # Special file systems give less than wanted before the end, or more than they said.
            is_whole = len(content) == info.st_size < _READ_BYTES
        except OSError as exc:
            raise unreadable(path, exc) from exc
        finally:
            if is_whole:
                os.close(descriptor)
        return content, None if is_whole else descriptor

    def _read(self, path: bytes, first: bytes, descriptor: int | None) -> Generator[bytes, None, None]:
        """Yield a file's content in pieces, the first of which is here already, and close the descriptor.

        Raises:
            ContextError: It cannot be read.
        """
        try:
            chunk = first
            while chunk:
                yield chunk
                chunk = os.read(descriptor, _READ_BYTES) if descriptor is not None else b""
        except OSError as exc:
            raise unreadable(path, exc) from exc
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _miss(self, path: bytes, why: str) -> None:
        """Note a file that the daemon will get empty, as from the reference."""
        self._stats.missing += 1
        if len(self._stats.missing_names) < _SHOWN_NAMES:
            self._stats.missing_names.append(show_path(path))
        _log.info("%s of %s was listed and cannot be sent: %s", show_path(path), self._stats.name, why)

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._stats)
