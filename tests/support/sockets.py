"""Sockets of programs that a test starts."""

from __future__ import annotations

import socket
import time
from pathlib import Path


def wait_until_served(path: Path, *, within_s: float = 20) -> None:
    """Wait until a program accepts connections on a unix socket; its path is there a moment earlier."""
    end = time.monotonic() + within_s
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                assert time.monotonic() < end, f"nothing listens on {path}"
            else:
                return
        time.sleep(0.02)
