"""A slow link: TCP connections that are delayed and limited in both directions, by a proxy in a process of its own.

    link_proxy.py RTT_MS MBIT LISTEN=TARGET ...

Each direction is one lane that all connections share, as on a real line: bytes leave one after the other at the
line's rate and arrive half a round trip after they left. A sender is held back as soon as a little more waits than the
line carries. A new connection waits for one round trip before its first byte, as a handshake would. Two things of a
real line are missing: slow start, and loss.

Besides what it passes on, the proxy has a server at the far end, for checking the link and for uploads: it takes as
many bytes as it is told, and then sends as many as it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHUNK = 16 << 10
_QUEUE_S = 0.02  # what waits in front of the line: at 100 Mbit/s that is 250 kB, a small router
_HEADER = struct.Struct(">QQ")


class Lane:
    """One direction of the line; knows nothing of clocks and sockets.

    Args:
        bytes_per_s: What it carries.
        delay_s: From the last bit's departure to its arrival.

    Attributes:
        carried_bytes: All that was put on it.
    """

    def __init__(self, bytes_per_s: float, delay_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._delay_s = delay_s
        self._free_at = 0.0
        self.carried_bytes = 0

    def arrival(self, now: float, size: int) -> float:
        """Put bytes on the line; return when the last of them arrives."""
        self.carried_bytes += size
        self._free_at = max(now, self._free_at) + size / self._bytes_per_s
        return self._free_at + self._delay_s

    def hold_s(self, now: float) -> float:
        """Return how long a sender has to wait until there is place again in front of the line."""
        return max(0.0, self._free_at - now - _QUEUE_S)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Lane) -> None:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(4096)

    async def deliver() -> None:
        while True:
            at, data = await queue.get()
            await asyncio.sleep(max(0.0, at - loop.time()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver())
        while True:
            data = await reader.read(CHUNK)
            await queue.put((lane.arrival(loop.time(), len(data)), data))
            if not data:
                return
            await asyncio.sleep(lane.hold_s(loop.time()))


async def _open(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("/"):
        return await asyncio.open_unix_connection(target)
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _far_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            take, give = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            while take:
                data = await reader.read(min(take, 1 << 16))
                if not data:
                    return
                take -= len(data)
            for start in range(0, give, 1 << 16):
                writer.write(bytes(min(1 << 16, give - start)))
                await writer.drain()


async def _serve(rtt_s: float, bytes_per_s: float, forwards: Sequence[tuple[str, str]]) -> None:
    up, down = Lane(bytes_per_s, rtt_s / 2), Lane(bytes_per_s, rtt_s / 2)

    connections: set[asyncio.Task[None] | None] = set()

    async def pass_on(target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer = None
        connections.add(asyncio.current_task())  # the loop alone does not keep a task alive
        try:
            await asyncio.sleep(rtt_s)
            far_reader, far_writer = await _open(target)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer, up))
                group.create_task(_pump(far_reader, writer, down))
        except* OSError:
            pass  # one side is gone: so is the connection
        finally:
            connections.discard(asyncio.current_task())
            for one in (writer, far_writer):
                if one is not None:
                    one.close()

    far_end = await asyncio.start_server(_far_end, "127.0.0.1", 0)
    far_address = f"127.0.0.1:{far_end.sockets[0].getsockname()[1]}"
    ports = []
    servers = []
    for listen, target in [*forwards, ("127.0.0.1:0", far_address)]:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(functools.partial(pass_on, target), host, int(port))
        ports.append(server.sockets[0].getsockname()[1])
        servers.append(server)
    print(json.dumps(ports), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(json.dumps([up.carried_bytes, down.carried_bytes]), flush=True)
    os._exit(0)  # whatever connections are left have nothing to say


@dataclass(frozen=True)
class LinkCheck:
    """What the link measured like before anything else went over it.

    Attributes:
        rtt_ms: Median round trip of one byte.
        up_mbit: Rate of a transfer to the far end.
        down_mbit: Rate of a transfer from it.
    """

    rtt_ms: float
    up_mbit: float
    down_mbit: float

    def __str__(self) -> str:
        """Return the line that the benchmark prints."""
        return f"{self.rtt_ms:.1f} ms round trip, {self.up_mbit:.1f} Mbit/s up, {self.down_mbit:.1f} Mbit/s down"


class SlowLink:
    """The link, running; use it as a context manager.

    Args:
        rtt_ms: Round trip.
        mbit: Rate of each direction.
        forwards: Address or socket path at the far end, by the address that clients connect to; port 0 takes any.

    Attributes:
        ports: That clients connect to, in the order of ``forwards``.
        sent_bytes: What clients sent, once it ended.
        received_bytes: What they received.
    """

    def __init__(self, rtt_ms: float, mbit: float, forwards: dict[str, str]) -> None:
        words = [sys.executable, str(Path(__file__).resolve()), str(rtt_ms), str(mbit)]
        words += [f"{listen}={target}" for listen, target in forwards.items()]
        self.sent_bytes = self.received_bytes = 0
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        *self.ports, self._far_port = json.loads(self._process.stdout.readline() or "[0]")

    def transfer(self, up: Iterable[bytes], up_bytes: int, down_bytes: int = 1) -> None:
        """Send bytes to the far end and wait for its answer, over a new connection."""
        with socket.create_connection(("127.0.0.1", self._far_port)) as connection:
            _exchange(connection, up, up_bytes, down_bytes)

    def upload(self, path: Path) -> None:
        """Send a file to the far end and wait until it has all of it."""
        with path.open("rb") as file:
            self.transfer(iter(lambda: file.read(1 << 18), b""), os.fstat(file.fileno()).st_size)

    def check(self, size: int = 5_000_000) -> LinkCheck:
        """Measure the link with raw transfers."""
        with socket.create_connection(("127.0.0.1", self._far_port)) as connection:
            _exchange(connection, [b"x"], 1, 1)
            trips = [_exchange(connection, [b"x"], 1, 1) for _ in range(10)]
            rtt_s = statistics.median(trips)
            up_s = _exchange(connection, [bytes(size)], size, 1) - rtt_s
            down_s = _exchange(connection, [b"x"], 1, size) - rtt_s
        return LinkCheck(rtt_s * 1000, size * 8 / up_s / 1e6, size * 8 / down_s / 1e6)

    def __enter__(self) -> Self:
        """Return the link."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the proxy and learn what it carried."""
        assert self._process.stdout is not None
        self._process.terminate()
        with self._process.stdout as report:
            self.sent_bytes, self.received_bytes = json.loads(report.readline() or "[0, 0]")
        self._process.wait(10)


def _exchange(connection: socket.socket, up: Iterable[bytes], up_bytes: int, down_bytes: int) -> float:
    """Send and receive; return the seconds that it took."""
    began = time.perf_counter()
    connection.sendall(_HEADER.pack(up_bytes, down_bytes))
    for data in up:
        connection.sendall(data)
    while down_bytes:
        received = len(connection.recv(min(down_bytes, 1 << 18)))
        if not received:
            raise ConnectionError("the far end of the link closed the connection")
        down_bytes -= received
    return time.perf_counter() - began


if __name__ == "__main__":
    given_rtt_ms, given_mbit, *pairs = sys.argv[1:]
    given = [(listen, target) for listen, _, target in (pair.partition("=") for pair in pairs)]
    asyncio.run(_serve(float(given_rtt_ms) / 1000, float(given_mbit) * 1e6 / 8, given))
