"""Runs a display beside a build: one message at a time, and a tick while nothing arrives.

Status messages come in whatever thread reads them, several of those when several solves run. A live display must also
move on its own while a step is silent. The driver gives a display both, and keeps a broken output, such as a closed
pipe, from ending the build.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from buildkit_client.progress.plain import TICK_INTERVAL_S
from buildkit_client.progress.quiet import Progress, QuietProgress

if TYPE_CHECKING:
    from types import TracebackType

    from buildkit_client.progress.model import StatusUpdate


class ProgressDriver:
    """Feeds a display from any thread and ticks it from one of its own.

    Use it as a context manager, or call :meth:`close` when the build is over.

    Args:
        display: What to feed.
        tick_interval_s: Time between ticks.
    """

    def __init__(self, display: Progress, *, tick_interval_s: float = TICK_INTERVAL_S) -> None:
        self._display = display
        self._tick_interval_s = tick_interval_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="buildkit-progress", daemon=True)
        self._thread.start()

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:
        """Show a message; after :meth:`close`, and after the output broke, do nothing."""
        with self._lock:
            if not self._closed.is_set():
                try:
                    self._display.update(update, solve=solve)
                except OSError:
                    self._give_up()

    def close(self) -> None:
        """Show what is pending and the recap, and stop; a second call does nothing."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            try:
                self._display.finish()
            except OSError:
                self._give_up()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _tick(self) -> None:
        while not self._closed.wait(self._tick_interval_s):
            with self._lock:
                if self._closed.is_set():
                    return
                try:
                    self._display.tick()
                except OSError:
                    self._give_up()

    def _give_up(self) -> None:
        """Go on without a display: nobody reads the output any more, but the build still matters."""
        self._display = QuietProgress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
