"""The driver: threads, ticks, broken outputs."""

from __future__ import annotations

import threading

from buildkit_client.progress import ProgressDriver, StatusUpdate, Vertex


class Recorder:
    """Notes what it is asked to do, and whether two threads ever were inside at once."""

    def __init__(self, broken: bool = False) -> None:
        self.updates = 0
        self.finished = 0
        self.ticked = threading.Event()
        self.overlaps = 0
        self._inside = threading.Lock()
        self._broken = broken

    def _enter(self) -> None:
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return
        self._inside.release()

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:
        self._enter()
        self.updates += 1
        if self._broken:
            raise BrokenPipeError

    def tick(self) -> None:
        self._enter()
        self.ticked.set()

    def finish(self) -> None:
        self._enter()
        self.finished += 1


UPDATE = StatusUpdate(vertexes=(Vertex("a"),))


def test_many_threads_feed_one_display() -> None:
    recorder = Recorder()
    with ProgressDriver(recorder, tick_interval_s=0.001) as driver:
        threads = [
            threading.Thread(target=lambda: [driver.update(UPDATE, solve="x") for _ in range(200)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (recorder.updates, recorder.finished, recorder.overlaps) == (800, 1, 0)


def test_it_ticks_while_nothing_arrives() -> None:
    recorder = Recorder()
    with ProgressDriver(recorder, tick_interval_s=0.001):
        assert recorder.ticked.wait(5)


def test_after_the_end_nothing_is_shown() -> None:
    recorder = Recorder()
    driver = ProgressDriver(recorder)
    driver.close()
    driver.close()
    driver.update(UPDATE)
    assert (recorder.updates, recorder.finished) == (0, 1)


def test_a_closed_pipe_does_not_end_the_build() -> None:
    recorder = Recorder(broken=True)
    with ProgressDriver(recorder) as driver:
        driver.update(UPDATE)
        driver.update(UPDATE)
    assert (recorder.updates, recorder.finished) == (1, 0)
