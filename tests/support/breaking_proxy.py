"""A link to a registry that breaks in the middle of a blob, or stands still."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Self


class BreakingProxy:
    """Passes connections on; the next few break after so many bytes.

    A connection that breaks is reset. Closed in good order, a sender that waits for room would go on waiting: it is not
    told that nobody reads any more.

    Args:
        target: ``host:port`` of the registry.

    Attributes:
        up: For each connection that is to break while its client sends: after how many bytes.
        down: The same for what the registry sends.
        stall_after: Pass nothing more of what the registry sends after so many bytes in all; None passes everything.
        passed: Bytes from the registry that were passed on.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.up: list[int] = []
        self.down: list[int] = []
        self.stall_after: int | None = None
        self.passed = 0
        self._is_closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut everything off."""
        self._is_closed.set()
        self.cut()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in (self._server, *self._sockets):
            one.close()

    def cut(self) -> None:
        """End all connections that there are."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                registry = socket.create_connection(self._target)
                self._sockets += [client, registry]
                self._start(partial(self._pass, client, registry, self.up))
                self._start(partial(self._pass, registry, client, self.down))

    def _pass(self, source: socket.socket, target: socket.socket, breaks: list[int]) -> None:
        passed = 0
        is_broken = False
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if breaks and passed > breaks[0]:
                    breaks.pop(0)
                    is_broken = True
                    break
                while breaks is self.down and self.stall_after is not None and self.passed >= self.stall_after:
                    if self._is_closed.wait(0.05):
                        return
                target.sendall(data)
                if breaks is self.down:
                    self.passed += len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the other thread
            if is_broken:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()
