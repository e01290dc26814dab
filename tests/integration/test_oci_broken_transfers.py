"""Transfers with a real registry over connections that break in the middle of a blob."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from buildkit_client.oci import ImageLayout, Reference, RegistryClient, pull_image, push_image
from tests.support.images import add_image
from tests.support.services import Services

pytestmark = pytest.mark.services

LAYER_BYTES = 12 << 20


class BreakingProxy:
    """Passes connections on; the next few break after so many bytes.

    Attributes:
        up: For each connection that is to break while its client sends: after how many bytes.
        down: The same for what the registry sends.
        passed: Bytes from the registry that were passed on.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.up: list[int] = []
        self.down: list[int] = []
        self.passed = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def close(self) -> None:
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
                registry = socket.create_connection(self._target)
                self._sockets += [client, registry]
                self._start(partial(self._pass, client, registry, self.up))
                self._start(partial(self._pass, registry, client, self.down))

    def _pass(self, source: socket.socket, target: socket.socket, breaks: list[int]) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if breaks and passed > breaks[0]:
                    breaks.pop(0)
                    break
                target.sendall(data)
                if breaks is self.down:
                    self.passed += len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(services: Services) -> Iterator[BreakingProxy]:
    proxy = BreakingProxy(services.registry)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("chunk_bytes", [None, 4 << 20])
def test_uploads_and_downloads_that_break(proxy: BreakingProxy, tmp_path: Path, chunk_bytes: int | None) -> None:
    source, target = (ImageLayout.create(tmp_path / name) for name in ("source", "target"))
    image = add_image(source, [os.urandom(LAYER_BYTES)])
    name = Reference.parse(f"{proxy.host}/broken-{uuid.uuid4().hex[:12]}:1")
    proxy.up += [5 << 20, 7 << 20]
    with RegistryClient(proxy.host, chunk_bytes=chunk_bytes) as client:
        push_image(client, source, image, name)
        assert proxy.up == []
    proxy.passed = 0
    proxy.down += [3 << 20, 2 << 20]
    with RegistryClient(proxy.host) as client:
        target.verify(pull_image(client, name, target))
    assert proxy.down == []
    assert LAYER_BYTES < proxy.passed < 1.2 * LAYER_BYTES  # no part of it came twice
