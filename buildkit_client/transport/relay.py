"""A private socket between the gRPC library and a way to the daemon that the library does not know.

The library connects to sockets only and cannot be given an open one. So for commands and upgraded connections we
listen on a Unix socket in a folder that only we may enter, let nobody but this process connect, and give each accepted
connection to a :class:`Carrier`. The library connects again by itself when a connection ends; each time the carrier
starts anew.

A connection ends for the library only after its failure is recorded: whoever then asks :attr:`Relay.failure` why
finds the answer.

Reference: client/connhelper, ConnectionHelper.ContextDialer.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from buildkit_client.errors import ConnectError

_CLOSE_TIMEOUT_S = 5.0  # how long close() waits for carriers to end; they need less
_SOCKET_NAME = "grpc.sock"
_BACKLOG = 8
_PATH_BYTES = 107  # sockaddr_un, without the zero at its end
_AGAIN_S = 0.1  # after a connection could not be accepted, for example for want of descriptors


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection did not come about or ended.

    Attributes:
        phase: As in :class:`~buildkit_client.errors.ConnectError`.
        why: One line.
        hint: What to try.
    """

    phase: str
    why: str
    hint: str = ""


class CarrierError(Exception):
    """A carrier failed; :attr:`failure` says why."""

    def __init__(self, phase: str, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.failure = Failure(phase, why, hint)


class Carrier(Protocol):
    """Carries bytes between an accepted connection and a daemon."""

    def carry(self, stream: socket.socket) -> None:
        """Join a connection with the daemon until one of them ends; runs in a thread of its own.

        Args:
            stream: The connection; the caller closes it. It is shut down when the carrier is to stop.

        Raises:
            CarrierError: The daemon cannot be reached, or the way to it broke.
        """

    def unanswered(self) -> Failure:
        """Return what to say when the way works as far as can be seen, and no daemon answers on it."""


class Relay:
    """Listens for the gRPC library, and for nobody else, until :meth:`close`.

    Args:
        carrier: What an accepted connection is given to.

    Attributes:
        path: The socket's path.

    Raises:
        ConnectError: The socket cannot be made.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._lock = threading.Lock()
        self._streams: dict[threading.Thread, socket.socket] = {}
        self._failure: Failure | None = None
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            folder = _private_folder()
            # A program may end without close().
            self._remove_folder = weakref.finalize(self, _remove, folder, os.getpid())
            self.path = f"{folder}/{_SOCKET_NAME}"
            self._listener.bind(self.path)
            self._listener.listen(_BACKLOG)
        except OSError as exc:
            self._listener.close()
            raise ConnectError("cannot make a private socket for the connection", why=exc.strerror or str(exc)) from exc
        self._thread = threading.Thread(target=self._accept, name="build-relay", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> Failure | None:
        """Why the last connection failed, or None when it did not."""
        return self._failure

    def explain(self) -> Failure:
        """Say why no daemon answers."""
        return self._failure or self._carrier.unanswered()

    def close(self) -> None:
        """Stop listening and end every connection; waits some seconds at most for commands to end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = [self._thread, *self._streams]
            for stream in self._streams.values():
                _shut_down(stream)
        _shut_down(self._listener)  # wakes accept(), which close() alone does not
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waker:
            waker.connect(self.path)  # and so does this, where shutting down a listener is refused
        for thread in threads:
            thread.join(_CLOSE_TIMEOUT_S)
        self._listener.close()
        self._remove_folder()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                time.sleep(_AGAIN_S)
                continue
            with self._lock:
                if self._closed or not _is_ours(stream):
                    stream.close()
                    continue
                self._failure = None
                thread = threading.Thread(target=self._carry, args=(stream,), name="build-carrier", daemon=True)
                self._streams[thread] = stream
                thread.start()  # close() joins what it finds here

    def _carry(self, stream: socket.socket) -> None:
        try:
            self._carrier.carry(stream)
        except CarrierError as exc:
            if not self._closed:
                self._failure = exc.failure
        except OSError as exc:
            if not self._closed:
                self._failure = Failure("connect", exc.strerror or str(exc))
        finally:
            with self._lock:
                self._streams.pop(threading.current_thread(), None)
            _shut_down(stream)
            stream.close()


def _private_folder() -> str:
    """Make a folder that only we may enter, with room for a socket's name behind its path."""
    folder = tempfile.mkdtemp(prefix="buildkit-")
    if len(os.fsencode(folder)) + 1 + len(_SOCKET_NAME) <= _PATH_BYTES:
        return folder
    os.rmdir(folder)  # noqa: PTH106 - made a line above
    return tempfile.mkdtemp(prefix="buildkit-", dir="/tmp")


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # and not a child that was forked later
        shutil.rmtree(folder, ignore_errors=True)


def _is_ours(stream: socket.socket) -> bool:
    """Whether it was this process that connected; elsewhere than on Linux the folder's mode alone guards the socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    layout = struct.Struct("3i")  # struct ucred: process, user, group
    process, _, _ = layout.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size))
    return bool(process == os.getpid())


def _shut_down(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
