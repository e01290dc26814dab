"""HTTP/1.1 by hand, as far as a Docker Engine's API needs it.

After the status 101 the connection belongs to another protocol, from the byte behind the header on. Libraries read
ahead into buffers of their own, so the few lines that are needed are here.

Reference: RFC 9110, 7.8; RFC 9112.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from buildkit_client.transport.relay import CarrierError

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK = 256 * 1024
"""How many bytes are read at once at most."""

_ANSWER_TIMEOUT_S = 20.0
_HEAD_BYTES = 64 * 1024
_ANSWER_BYTES = 1 << 20
_MAX_DIGITS = 20


class ByteStream(Protocol):
    """A connection; one thread may read while another writes."""

    def recv(self, size: int, /) -> bytes:
        """Read some bytes, empty at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Write all bytes."""

    def shutdown(self, how: int, /) -> None:
        """End reading and writing, of other threads too."""

    def settimeout(self, timeout_s: float | None, /) -> None:
        """Limit how long reading and writing may take."""

    def close(self) -> None:
        """Close the connection."""


def send_post(stream: ByteStream, path: str, body: object, headers: tuple[tuple[str, str], ...]) -> None:
    """Send a POST; a body that is not None becomes JSON. Sets how long the answer may take."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: docker", f"Content-Length: {len(data)}"]
    if data:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    stream.settimeout(_ANSWER_TIMEOUT_S)
    stream.sendall("\r\n".join((*lines, "", "")).encode("latin-1") + data)


def receive_head(stream: ByteStream) -> tuple[int, dict[str, str], bytes]:
    """Read status, headers by lower-case name, and what came behind them.

    Raises:
        CarrierError: What came is not HTTP.
        OSError: The connection ended or did not answer in time.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        data = stream.recv(CHUNK)
        if not data:
            raise ConnectionResetError("it closed the connection")
        received += data
        if not received.startswith(b"HTTP/"[: len(received)]) or len(received) > _HEAD_BYTES + CHUNK:
            raise CarrierError(
                "handshake",
                f"no Docker Engine answers there: {received[:40]!r}",
                "check that the socket is an engine's",
            )
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    code = first.split(" ")[1:2]
    return _number(code[0]) or 0 if code else 0, fields, rest


def receive_body(stream: ByteStream, fields: Mapping[str, str], rest: bytes) -> bytes:
    """Read an answer's body, or as much of it as an error message needs."""
    chunked = fields.get("transfer-encoding", "").lower() == "chunked"
    length = _number(fields.get("content-length", ""))
    wanted = _ANSWER_BYTES if length is None else min(length, _ANSWER_BYTES)
    while len(rest) < wanted and not (chunked and rest.endswith(b"0\r\n\r\n")):
        data = stream.recv(CHUNK)
        if not data:
            break
        rest += data
    return _without_chunks(rest) if chunked else rest[:wanted]


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < _MAX_DIGITS else None


def _without_chunks(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        try:
            count = int(size.split(b";")[0], 16)
        except ValueError:
            break
        body, data = body + data[:count], data[count + 2 :]
        if not count:
            break
    return body
