"""Whether a daemon that says nothing is still there.

A connection can die without a word: a machine loses its power, a firewall forgets a connection, a laptop changes its
network. Writes still succeed then and reads wait forever. HTTP/2 has PING for this, but buildkitd hangs up on a client
that pings more often than every five minutes, and a build in a quiet step has nothing to tell for hours.

So a build looks for other signs of life. In its session the daemon asks for our health every five seconds. When neither
that nor progress came for a while, an ordinary call is made over the same connection; only when that is not answered
either, the connection counts as lost. A process of ours that stands still for a minute (swapped out, suspended, a C
extension that keeps the interpreter) cannot cause a false alarm that way: it has to ask and get no answer first.

Other calls that may last, such as emptying the cache, are watched alike.

Reference: session/grpc.go, monitorHealth; google.golang.org/grpc/keepalive, EnforcementPolicy.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from buildkit_client.errors import BuildKitError, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable

SILENCE_S = 20.0
"""How long nothing may be heard before we ask."""
ANSWER_S = 20.0
"""How long an answer may take; with :data:`SILENCE_S`, a build ends about 40 seconds after its connection died."""

_STALL_S = 2.0  # a wait that took this much longer than it should: we stood still, so the silence proves nothing


def lost(address: object, silence_s: float) -> ConnectionLostError:
    """Return the error for a connection that is dead.

    Args:
        address: Of the daemon.
        silence_s: How long nothing was heard from it.
    """
    return ConnectionLostError(
        f"the connection to buildkitd at {address} was lost",
        why=f"nothing was heard from it for {silence_s:.0f} seconds",
        hint="check the network, and whether the daemon still runs",
    )


class Question(Protocol):
    """A call that asks the daemon for a sign of life."""

    def add_done_callback(self, fn: Callable[[object], None]) -> None:
        """Call a function, in a thread of the library, once the call is over."""

    def is_answered(self) -> bool:
        """Whether the daemon answered, with whatever."""

    def cancel(self) -> object:
        """End the call."""


class Liveness:
    """Watches over one build, in a thread of its own, until :meth:`stop`.

    Args:
        last_heard: When, on the monotonic clock in seconds, the daemon last sent anything.
        ask: Starts a call that ends after the given seconds at the latest.
        on_lost: Called once, from the watching thread, when the connection is dead; gets the seconds of silence.
    """

    def __init__(
        self,
        last_heard: Callable[[], float],
        ask: Callable[[float], Question],
        on_lost: Callable[[float], None],
    ) -> None:
        self._last_heard = last_heard
        self._ask = ask
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._answered_s = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="build-liveness", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """End the watch.

        Args:
            wait: Come back when nothing is called any more.
        """
        self._stopped.set()
        if wait and self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _heard(self) -> float:
        return max(self._last_heard(), self._answered_s)

    def _watch(self) -> None:
        while not self._stopped.wait(max(0.0, self._heard() + SILENCE_S - time.monotonic())):
            if time.monotonic() - self._heard() < SILENCE_S:
                continue
            try:
                is_answering = self._is_answering()
            except BuildKitError:
                return  # we closed the connection ourselves: there is nothing to ask over, and nobody waits
            if not is_answering and not self._stopped.is_set():
                self._on_lost(time.monotonic() - self._heard())
                return

    def _is_answering(self) -> bool:
        """Ask until the outcome means something."""
        while (verdict := self._ask_once()) is None:
            pass
        return verdict

    def _ask_once(self) -> bool | None:
        """Ask, and wait for an answer or any other sign of life; None when we stood still meanwhile."""
        asked_s = time.monotonic()
        over = threading.Event()
        question = self._ask(ANSWER_S)
        question.add_done_callback(lambda _: over.set())
        while not over.wait(0.25):
            if self._stopped.is_set() or self._last_heard() > asked_s:
                question.cancel()
                return True
        ended_s = time.monotonic()
        if question.is_answered():
            self._answered_s = ended_s
            return True
        if self._last_heard() > asked_s:
            return True
        return None if ended_s - asked_s > ANSWER_S + _STALL_S else False
