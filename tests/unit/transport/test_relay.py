"""The private socket: who may connect, what is left behind, and when an end is told."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildkit_client.errors import ConnectError
from buildkit_client.transport import relay as relay_module
from buildkit_client.transport.relay import CarrierError, Failure, Relay


class Echo:
    """Sends back what comes, until the connection ends."""

    def __init__(self):
        self.carried = 0
        self.over = threading.Event()

    def carry(self, stream):
        self.carried += 1
        while data := stream.recv(1024):
            stream.sendall(data)
        self.over.set()

    def unanswered(self):
        return Failure("handshake", "silence")


class Broken:
    """Fails at once."""

    def carry(self, stream):
        raise CarrierError("connect", "no way", "build one")

    def unanswered(self):
        return Failure("handshake", "silence")


@contextmanager
def relaying(carrier):
    relay = Relay(carrier)
    try:
        yield relay
    finally:
        relay.close()


def connect(relay):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(5)
    stream.connect(relay.path)
    return stream


def test_bytes_go_both_ways_and_each_connection_is_carried():
    with relaying(Echo()) as relay:
        for _ in range(3):
            with connect(relay) as stream:
                stream.sendall(b"hello")
                assert stream.recv(5) == b"hello"
        assert relay._carrier.carried == 3
        assert relay.failure is None
        assert relay.explain().why == "silence"


def test_the_folder_is_ours_alone_and_goes_away():
    with relaying(Echo()) as relay:
        folder = Path(relay.path).parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    relay.close()  # again does no harm


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux tells who connects")
def test_no_other_process_is_served_even_of_the_same_user():
    code = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(9))"
    with relaying(Echo()) as relay:
        other = subprocess.run([sys.executable, "-c", code, relay.path], capture_output=True, text=True, check=False)
        assert other.stdout == "b''\n" or "reset" in other.stderr
        assert relay._carrier.carried == 0


def test_a_failure_is_known_before_the_connection_ends():
    with relaying(Broken()) as relay:
        for _ in range(50):
            with connect(relay) as stream:
                assert stream.recv(1) == b""
                assert relay.failure == Failure("connect", "no way", "build one")


def test_close_ends_what_is_carried():
    carrier = Echo()
    relay = Relay(carrier)
    with connect(relay) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        relay.close()
        assert carrier.over.is_set()
        assert stream.recv(1) == b""
        assert relay.failure is None
    assert not [thread for thread in threading.enumerate() if thread.name in ("build-relay", "build-carrier")]
    assert not Path(relay.path).exists()


def test_a_program_that_forgets_to_close_leaves_no_folder(tmp_path):
    code = (
        "from buildkit_client import Client\n"
        "client = Client('podman-container://x')\n"
        "import os; print(os.listdir(os.environ['TMPDIR']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert "buildkit-" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_leaves_the_folder_alone(tmp_path):
    code = (
        "import os, sys\n"
        "from buildkit_client import Client\n"
        "with Client('podman-container://x'):\n"
        "    if not (child := os.fork()):\n"
        "        sys.exit(7)\n"
        "    print(os.waitpid(child, 0)[1] >> 8, len(os.listdir(os.environ['TMPDIR'])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "7 1\n"


def test_a_long_temporary_folder_is_no_obstacle(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with relaying(Echo()) as relay, connect(relay):
        assert len(relay.path) < 100
    assert list(long.iterdir()) == []


def test_no_room_for_a_socket_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(ConnectError, match="private socket") as caught:
        Relay(Echo())
    assert caught.value.why == "No such file or directory"
    gc.collect()


def test_it_goes_on_after_a_connection_that_could_not_be_accepted(monkeypatch):
    monkeypatch.setattr(relay_module, "_AGAIN_S", 0.01)
    with relaying(Echo()) as relay:
        left = [OSError(24, "Too many open files")] * 3
        accept = relay._listener.accept

        class Listener:
            shutdown, close = relay._listener.shutdown, relay._listener.close

            def accept(self):
                if left:
                    raise left.pop()
                return accept()

        relay._listener = Listener()
        for _ in range(2):  # the first one is taken by the accept() that waits already
            with connect(relay) as stream:
                stream.sendall(b"x")
                assert stream.recv(1) == b"x"
        assert left == []


class Torn:
    """Its connection to the daemon breaks where nobody expected that."""

    def carry(self, stream):
        raise ConnectionResetError(104, "Connection reset by peer")

    def unanswered(self):
        return Failure("handshake", "silence")


def test_an_error_of_the_system_is_a_failure_too():
    with relaying(Torn()) as relay, connect(relay) as stream:
        assert stream.recv(1) == b""
        assert relay.explain() == Failure("connect", "Connection reset by peer")
