import socket
import threading
import time
from pathlib import Path

import pytest

from benchmarks.link_proxy import Lane, SlowLink

RATE, DELAY = 1_000.0, 0.5


def test_bytes_arrive_when_the_last_one_is_through() -> None:
    lane = Lane(RATE, DELAY)
    assert lane.arrival(10.0, 200) == pytest.approx(10.0 + 0.2 + DELAY)


def test_bytes_queue_behind_each_other() -> None:
    lane = Lane(RATE, DELAY)
    arrivals = [lane.arrival(0.0, 100) for _ in range(3)]
    assert arrivals == pytest.approx([0.1 + DELAY, 0.2 + DELAY, 0.3 + DELAY])
    assert lane.carried_bytes == 300


def test_an_idle_line_saves_nothing_up() -> None:
    lane = Lane(RATE, DELAY)
    lane.arrival(0.0, 100)
    assert lane.arrival(100.0, 100) == pytest.approx(100.1 + DELAY)


def test_a_sender_is_held_until_little_waits() -> None:
    lane = Lane(RATE, DELAY)
    assert lane.hold_s(0.0) == 0
    lane.arrival(0.0, 1_000)
    held = lane.hold_s(0.0)
    assert 0.9 < held < 1.0
    assert lane.hold_s(held) == pytest.approx(0)


def test_throughput_of_a_lane_is_its_rate() -> None:
    lane = Lane(RATE, DELAY)
    now = 0.0
    for _ in range(1_000):
        last = lane.arrival(now, 50)
        now += lane.hold_s(now)
    assert last - DELAY == pytest.approx(50 * 1_000 / RATE)


@pytest.fixture
def echo_address() -> str:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_link_measures_as_it_is_meant_to(echo_address: str) -> None:
    with SlowLink(20, 80, {"127.0.0.1:0": echo_address}) as link:
        check = link.check(200_000)
        assert check.rtt_ms >= 20
        assert "ms round trip" in str(check)
        with socket.create_connection(("127.0.0.1", link.ports[0]), timeout=10) as connection:
            began = time.perf_counter()
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            assert time.perf_counter() - began >= 0.04  # the handshake's round trip and that of the bytes
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
    assert link.sent_bytes > 200_000
    assert link.received_bytes > 200_000


def test_upload_ends_when_the_far_end_has_it_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(500_000))
    with SlowLink(10, 40, {}) as link:
        began = time.perf_counter()
        link.upload(file)
        assert time.perf_counter() - began >= 0.1  # 500 kB at 5 MB/s
    assert link.sent_bytes >= 500_000
