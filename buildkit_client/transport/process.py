"""A command that carries a connection with its standard input and output.

The accepted connection itself becomes the command's standard input and output, so its bytes never pass through this
process. What is left to do here: read standard error for messages, notice the end, and end the command when the
connection has.

Reference: github.com/docker/cli/cli/connhelper/commandconn, as the reference client uses it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_client.transport.relay import CarrierError, Failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

STDERR_BYTES = 4096
"""How much of what a command says is kept: the end of it."""

FIRST_BYTE = b"\0"
"""A daemon's HTTP/2 begins with it: the length of a short SETTINGS frame; no text does."""

_LOOK_AGAIN_MS = 250  # a process's end shows at once when it closes stderr, and else after this time
_GOODBYE_S = 1.0  # how long a command may take to end after its input has
_TERMINATE_S = 2.0  # and after it was asked to
_NOTICE_S = 0.3  # how long after the gRPC library we may notice that it gave a connection up
_PROBE_S = 5.0  # how long it may take to find out what a command prints

_INSTALL = "install it, or put it on PATH"


class CommandCarrier:
    """Runs one command for each connection.

    Args:
        command: Program and arguments.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._said = b""
        self._left = threading.Event()  # the connection has ended
        self._left.set()

    def carry(self, stream: socket.socket) -> None:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        self._said = b""
        self._left.clear()
        try:
            self._carry(stream)
        finally:
            self._left.set()

    def _carry(self, stream: socket.socket) -> None:
        program = self._command[0]
        try:
            # In a session of its own, Ctrl-C of a terminal does not end it before we are done with it.
            process = subprocess.Popen(
                self._command,
                stdin=stream.fileno(),
                stdout=stream.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as exc:
            raise CarrierError("connect", f"there is no program {program!r} on PATH", _INSTALL) from exc
        except OSError as exc:
            raise CarrierError("connect", f"cannot run {program!r}: {exc.strerror}", "check that program") from exc
        with process:
            try:
                is_hung_up = self._watch(process, stream)
            finally:
                self._left.set()
                _end(process)
        if not is_hung_up:
            hint = "run that command by hand; buildctl must be where the daemon runs"
            raise CarrierError("connect", self._reason(process.returncode), hint)

    def unanswered(self) -> Failure:
        """See :class:`~buildkit_client.transport.relay.Carrier`."""
        if self._left.wait(_NOTICE_S) and (printed := self._printed()):
            why = f"{self._line()} printed something else than HTTP/2: {printed}"
            hint = "run that command by hand: a login script must print nothing, and buildctl must be there"
            return Failure("handshake", why, hint)
        said = one_line(self._said)
        why = f"no daemon answers behind {self._line()}" + (f": {said}" if said else "")
        return Failure("handshake", why, "run that command by hand; a slow one needs a higher --timeout")

    def _printed(self) -> str:
        """Run the command again, without input, for what it prints first; empty when that is HTTP/2."""
        printed = b""
        deadline = time.monotonic() + _PROBE_S
        try:
            with subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,
            ) as process:  # fmt: skip
                assert process.stdout is not None
                output = process.stdout.fileno()
                # Not communicate(): that keeps all that a command prints which never stops.
                while len(printed) < STDERR_BYTES and not printed.startswith(FIRST_BYTE):
                    wait_s = max(0.0, deadline - time.monotonic())
                    if not select.select([output], [], [], wait_s)[0] or not (data := os.read(output, STDERR_BYTES)):
                        break
                    printed += data
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            return ""
        return "" if printed.startswith(FIRST_BYTE) else one_line(printed)

    def _watch(self, process: subprocess.Popen[bytes], stream: socket.socket) -> bool:
        """Keep what the command says until it ends, or its connection does; say whether it was the connection."""
        assert process.stderr is not None
        errors = process.stderr.fileno()
        poll = select.poll()
        poll.register(errors, select.POLLIN)
        poll.register(stream, 0)  # a hang-up is told all the same
        while process.poll() is None:
            for descriptor, _ in poll.poll(_LOOK_AGAIN_MS):
                if descriptor != errors:
                    return True
                if not self._read(errors):
                    poll.unregister(errors)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_LOOK_AGAIN_MS / 1000)
        os.set_blocking(errors, False)  # a process that it left behind may hold the other end
        with suppress(BlockingIOError):
            while self._read(errors):
                pass
        return False

    def _read(self, errors: int) -> bool:
        data = os.read(errors, STDERR_BYTES)
        self._said = (self._said + data)[-STDERR_BYTES:]
        return bool(data)

    def _line(self) -> str:
        return f"`{' '.join(self._command)}`"

    def _reason(self, code: int) -> str:
        ended = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        said = one_line(self._said)
        return f"{self._line()} {ended}" + (f": {said}" if said else "")


def one_line(said: bytes) -> str:
    """Return what a command said as one line that is safe to show."""
    lines = said.decode("utf-8", "replace").splitlines()
    text = "; ".join(" ".join(line.split()) for line in lines if line.strip())
    return "".join(character if character.isprintable() else "?" for character in text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a command end that has lost its connection, then ask, then force it."""
    if process.poll() is not None:
        return
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GOODBYE_S)
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_TERMINATE_S)
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads the group that start_new_session made
