"""``dial-stdio``: joins standard input and output with the daemon's socket, for a way to it through a remote shell.

Reference: cmd/buildctl/dialstdio.go.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_client.cli.console import EXIT_OK, output
from buildkit_client.errors import BuildKitError, OptionError

if TYPE_CHECKING:
    from buildkit_client.cli.flags import Invocation

_CHUNK = 64 * 1024


def run(invocation: Invocation) -> int:
    """Copy both ways until the daemon ends the connection."""
    address = invocation.text("addr")
    scheme, separator, path = address.partition("://")
    if not separator:
        raise OptionError(f"invalid address {address}")
    if scheme != "unix":
        raise OptionError(f"invalid address {address} (expected unix://, got {scheme}://)")
    if not path:
        raise BuildKitError("dial unix: missing address")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(invocation.number("timeout") or None)
        try:
            connection.connect(path)
        except OSError as exc:
            reason = (exc.strerror or str(exc)).lower()
            raise BuildKitError(f"dial unix {path}: connect: {reason}") from exc
        connection.settimeout(None)
        join(sys.stdin.fileno(), output().fileno(), connection)
    return EXIT_OK


def join(source: int, sink: int, connection: socket.socket) -> None:
    """Copy from a descriptor to a connection and from the connection to another descriptor.

    The end of ``source`` is passed on and the answer waited for; the end of the connection ends it all, since a
    terminal never reaches its end.
    """
    threading.Thread(target=_send, args=(source, connection), name="dial-stdio", daemon=True).start()
    while True:
        try:
            data = connection.recv(_CHUNK)
        except ConnectionResetError:
            return
        if not data:
            return
        view = memoryview(data)
        while view:
            view = view[os.write(sink, view) :]


def _send(source: int, connection: socket.socket) -> None:
    # A connection that broke shows at its other end, where it is read.
    with suppress(OSError):
        while data := os.read(source, _CHUNK):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
