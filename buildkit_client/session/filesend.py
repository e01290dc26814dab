"""The ``FileSend`` service: the daemon sends us what its ``tar``, ``oci``, ``docker`` and ``local`` exporters made.

One method carries two protocols: ``local`` speaks packets in both directions, the others send a plain byte stream. The
exporter's index, in the call's metadata, says which exporter of the solve is meant.

Reference: session/filesync/filesync.go, SyncTarget and fsSyncTarget.DiffCopy.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from buildkit_client._proto import filesync_pb2
from buildkit_client.errors import BuildKitError, ExportError, OptionError
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import CallCancelledError, Metadata, RpcError, ServerCall, StreamHandler

DIFF_COPY = "/moby.filesync.v1.FileSend/DiffCopy"
EXPORTER_ID = "buildkit-attachable-exporter-id"  # session/filesync/filesync.go, keyExporterID

Receiver = Callable[[ServerCall], None]
"""Takes one exporter's stream to its end."""


class FileSendService:
    """Gives each exporter's stream to its receiver.

    Args:
        receivers: Receiver by index of the exporter in the solve; more may be added while the session runs.
    """

    def __init__(self, receivers: Mapping[int, Receiver]) -> None:
        self._receivers = receivers

    def methods(self) -> Mapping[str, StreamHandler]:
        """Return the handler of ``DiffCopy``."""
        return {DIFF_COPY: self._serve}

    def _serve(self, call: ServerCall) -> None:
        index = _exporter_index(call.metadata)
        receiver = self._receivers.get(index)
        if receiver is None:
            raise RpcError(StatusCode.NOT_FOUND, f"exporter {index} not found")
        receiver(call)


def _exporter_index(metadata: Metadata) -> int:
    text = metadata.get(EXPORTER_ID, ("0",))[0]
    try:
        return int(text)
    except ValueError:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"exporter id {text!r} is not a number") from None


class StreamReceiver:
    """Writes an exporter's bytes to a stream the caller opened.

    Args:
        stream: Gets the bytes; it is flushed, not closed.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: BuildKitError | None = None

    def __call__(self, call: ServerCall) -> None:
        """Take the stream to its end."""
        try:
            _copy(call, self._stream)
            self._stream.flush()
        except CallCancelledError:
            raise
        except Exception as exc:  # the stream is the caller's: closed, for text, or what else its class may raise
            self.error = ExportError(
                "cannot write the build's result to the given stream",
                why=getattr(exc, "strerror", None) or str(exc) or type(exc).__name__,
            )
            self.error.__cause__ = exc
            raise RpcError(StatusCode.ABORTED, str(self.error)) from exc


class FileReceiver:
    """Writes an exporter's bytes to a file, which appears whole or not at all.

    A path that is no regular file (a pipe, ``/dev/stdout``) is written to directly.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: BuildKitError | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Find out, before the build runs, whether the file can be written.

        Raises:
            OptionError: The folder is missing or read-only, or the path is a folder.
        """
        if self.path.is_dir():
            raise OptionError(f"cannot write to {self.path}", why="it is a folder", hint="name a file in it")
        folder = self.path.parent
        if not folder.is_dir():
            raise OptionError(
                f"cannot write {self.path}", why=f"there is no folder {folder}", hint="make the folder first"
            )
        if not self._is_special() and (why := why_not_writable(folder)):
            raise OptionError(f"cannot write {self.path}", why=why)

    def _is_special(self) -> bool:
        try:
            return not stat.S_ISREG(self.path.stat().st_mode)
        except OSError:
            return False

    def __call__(self, call: ServerCall) -> None:
        """Take the stream to its end."""
        with self._lock:
            try:
                if self._is_special():
                    with self.path.open("wb") as special:
                        _copy(call, special)
                else:
                    self._receive_whole(call)
            except OSError as exc:
                self.error = ExportError(f"cannot write {self.path}", why=exc.strerror or str(exc))
                raise RpcError(StatusCode.ABORTED, f"{self.error}: {self.error.why}") from exc

    def _receive_whole(self, call: ServerCall) -> None:
        target = self.path.resolve()
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as part:
                _copy(call, part)
                os.fchmod(part.fileno(), _mode_for(target))
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def why_not_writable(folder: Path) -> str:
    """Say why nothing can be made in a folder, or nothing when it can."""
    if os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return ""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is on a read-only file system"
    return f"no permission to write in {folder}"


def _mode_for(target: Path) -> int:
    """Return the permission bits that a file keeps when it is written anew; of a new one, what ``open`` would give."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _copy(call: ServerCall, out: BinaryIO) -> None:
    """Write the data of every message to a stream."""
    pending: list[bytes] = []
    size = 0
    while (message := call.receive()) is not None:
        data = filesync_pb2.BytesMessage.FromString(message).data
        pending.append(data)
        size += len(data)
        if size >= 1 << 20:
            _write_all(out, b"".join(pending))
            pending.clear()
            size = 0
    _write_all(out, b"".join(pending))


def _write_all(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = out.write(view)
        view = view[written:]
