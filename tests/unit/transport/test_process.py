"""Commands that carry a connection: their bytes, their words, their end."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import pytest

from buildkit_client.transport import process as process_module
from buildkit_client.transport.process import STDERR_BYTES, CommandCarrier
from buildkit_client.transport.relay import CarrierError


class Carried:
    """A command on one end of a connection, the test on the other."""

    def __init__(self, *command):
        self.carrier = CommandCarrier(command)
        self.near, self._far = socket.socketpair()
        self.near.settimeout(10)
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.carrier.carry(self._far)
        except CarrierError as exc:
            self.error = exc.failure
        finally:
            self._far.close()

    def line(self):
        received = b""
        while not received.endswith(b"\n"):
            received += self.near.recv(1)
        return received.decode().strip()

    def ended(self):
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.near.close()
        return self.error


def python(code):
    return Carried(sys.executable, "-c", code)


def shell(code):
    return Carried("sh", "-c", code)


def test_the_connection_is_the_commands_input_and_output():
    carried = shell("cat; echo bye")
    carried.near.sendall(b"x" * 300_000)
    received = b""
    while len(received) < 300_000:
        received += carried.near.recv(65536)
    carried.near.shutdown(socket.SHUT_WR)
    assert carried.near.recv(4) == b"bye\n"
    assert carried.near.recv(1) == b""
    assert "ended with exit code 0" in carried.ended().why


def test_what_a_command_says_is_in_the_error_as_one_safe_line():
    carried = shell("echo 'no such   pod' >&2; printf 'second\\033[31m line\\n\\n' >&2; exit 7")
    assert carried.near.recv(1) == b""
    failure = carried.ended()
    assert failure.phase == "connect"
    assert failure.why.endswith("ended with exit code 7: no such pod; second?[31m line")
    assert failure.why.startswith("`sh -c ")
    assert failure.hint


def test_only_the_end_of_much_output_is_kept():
    carried = python("import sys; sys.stderr.write('x' * 1_000_000 + 'the end'); sys.exit(1)")
    failure = carried.ended()
    assert failure.why.endswith("the end")
    assert len(failure.why) < STDERR_BYTES + 200


def test_a_killed_command_names_the_signal():
    assert "was ended by signal 9" in shell("kill -9 $$").ended().why


def test_a_program_that_is_not_there():
    failure = Carried("no-such-program-anywhere").ended()
    assert failure.why == "there is no program 'no-such-program-anywhere' on PATH"
    assert "install it" in failure.hint


def test_a_program_that_cannot_be_run(tmp_path):
    script = tmp_path / "docker"
    script.write_text("not a program")
    script.chmod(0o700)
    assert "cannot run" in Carried(str(script)).ended().why
    script.chmod(0o600)
    assert "Permission denied" in Carried(str(script)).ended().why


def test_a_child_that_keeps_stderr_does_not_hide_the_end():
    """As ssh does that leaves a shared connection behind."""
    started = time.monotonic()
    carried = shell("sleep 5 <&- >&- & echo gone >&2; exit 3")
    assert "exit code 3: gone" in carried.ended().why
    assert time.monotonic() - started < 3


def test_a_command_that_closes_stderr_is_still_watched():
    carried = shell("exec 2>&-; cat")
    time.sleep(0.4)
    carried.near.sendall(b"x")
    assert carried.near.recv(1) == b"x"
    carried.near.close()
    assert carried.ended() is None


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(process_module, "_GOODBYE_S", 0.2)
    monkeypatch.setattr(process_module, "_TERMINATE_S", 0.2)


def pid_of(carried):
    return int(carried.line())


def is_gone(pid):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_command_ends_by_itself_with_its_connection(monkeypatch):
    monkeypatch.setattr(process_module, "_GOODBYE_S", 60.0)
    carried = python("import os,sys; print(os.getpid(), flush=True); sys.stdin.read(); os._exit(0)")
    pid = pid_of(carried)
    carried.near.close()
    assert carried.ended() is None  # within less than a minute
    assert is_gone(pid)


@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN"])
def test_a_command_that_does_not_end_is_ended(impatient, handler):
    code = f"import os,signal,time; signal.signal(15, signal.{handler}); print(os.getpid(), flush=True); time.sleep(60)"
    carried = python(code)
    pid = pid_of(carried)
    carried.near.close()
    assert carried.ended() is None
    assert is_gone(pid), "no zombie either"


def test_what_a_stubborn_command_started_ends_too(impatient):
    carried = shell("trap '' TERM; sleep 60 & echo $!; wait; wait; wait")
    child = pid_of(carried)
    carried.near.close()
    assert carried.ended() is None
    assert is_gone(child)


def test_ctrl_c_of_a_terminal_does_not_reach_it():
    carried = python("import os; print(os.getsid(0) == os.getpid(), flush=True)")
    assert carried.line() == "True"
    carried.ended()


def test_an_unanswered_command_tells_what_it_said_so_far():
    carried = shell("echo 'connecting...' >&2; cat")
    carried.near.sendall(b"x")
    assert carried.near.recv(1) == b"x"
    failure = carried.carrier.unanswered()
    assert failure.phase == "handshake"
    assert failure.why.endswith(": connecting...")
    carried.near.close()
    assert carried.ended() is None


def test_what_a_command_prints_instead_of_http2_is_found_out():
    """A login script that greets is the usual reason."""
    carried = shell("echo 'Welcome to the builder!'; cat >&2; sleep 1")
    assert carried.line() == "Welcome to the builder!"
    carried.near.close()
    assert carried.ended() is None
    failure = carried.carrier.unanswered()
    assert "printed something else than HTTP/2: Welcome to the builder!" in failure.why
    assert "login script" in failure.hint


def test_a_command_that_never_stops_printing_is_not_read_to_the_end(tmp_path, monkeypatch):
    """It is run once more to see what it prints; a machine that is not ours could fill our memory with that."""
    count = tmp_path / "count"
    code = f"""
import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
total = 0
while True:
    total += os.write(1, b"Welcome! " * 4096)
    with open({str(count)!r}, "w") as file:
        file.write(str(total))
"""
    carrier = CommandCarrier((sys.executable, "-c", code))
    monkeypatch.setattr(process_module, "_PROBE_S", 60.0)
    started = time.monotonic()
    failure = carrier.unanswered()
    assert "printed something else than HTTP/2: Welcome! Welcome!" in failure.why
    assert len(failure.why) < 2 * STDERR_BYTES + len(code)
    assert time.monotonic() - started < 30
    assert int(count.read_text() or "0" if count.exists() else "0") < 1 << 20


def test_what_a_command_prints_before_it_hangs_is_told(monkeypatch):
    monkeypatch.setattr(process_module, "_PROBE_S", 0.5)
    carrier = CommandCarrier(("sh", "-c", "echo Welcome; sleep 60"))
    assert carrier.unanswered().why.endswith("printed something else than HTTP/2: Welcome")
