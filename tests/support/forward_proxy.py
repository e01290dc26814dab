"""An HTTP proxy, for plain requests and for tunnels, behind which every name leads to one server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Self
from urllib.parse import urlsplit


class ForwardProxy:
    """Listens on this machine while its ``with`` block is open.

    Args:
        target: ``host:port`` that every request goes to.

    Attributes:
        url: What clients put into ``HTTPS_PROXY``.
        asked: For each connection, its method and the ``host:port`` that it is for.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.asked: list[tuple[str, str]] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in (self._server, *self._sockets):
            one.close()

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._sockets.append(client)
                self._start(partial(self._connect, client))

    def _connect(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(1 << 16)
            if not data:
                return
            head += data
        method, where = head.split(b" ", 2)[:2]
        server = socket.create_connection(self._target)
        self._sockets.append(server)
        if method == b"CONNECT":
            self.asked.append(("CONNECT", where.decode()))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:  # a server takes a request line with a whole URL as well
            self.asked.append((method.decode(), urlsplit(where.decode()).netloc))
            server.sendall(head)
        self._start(partial(self._pass, server, client))
        self._pass(client, server)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
