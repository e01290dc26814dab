"""When silence means that a connection is dead, and when it does not."""

import threading
import time

import pytest

from buildkit_client.errors import LocalProtocolError
from buildkit_client.transport import liveness
from buildkit_client.transport.liveness import Liveness


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    monkeypatch.setattr(liveness, "SILENCE_S", 0.1)
    monkeypatch.setattr(liveness, "ANSWER_S", 0.2)
    monkeypatch.setattr(liveness, "_STALL_S", 0.5)


class Question:
    """A call whose end a test decides."""

    def __init__(self, outcome, *, takes_s=0.0):
        self._answered = outcome
        self._takes_s = takes_s
        self.cancelled = threading.Event()

    def add_done_callback(self, fn):
        timer = threading.Timer(self._takes_s, fn, [self])
        timer.daemon = True
        timer.start()

    def is_answered(self):
        return self._answered

    def cancel(self):
        self.cancelled.set()


class Watched:
    """A liveness with questions that have the given outcomes, the last for ever."""

    def __init__(self, *questions, heard=lambda: 0.0):
        self.asked = []
        self.lost = threading.Event()
        self.lost_count = 0
        self._left = list(questions)
        self.liveness = Liveness(heard, self._ask, self._on_lost)

    def _ask(self, timeout_s):
        self.asked.append(timeout_s)
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def _on_lost(self, silence_s):
        self.lost_count += 1
        self.silence_s = silence_s
        self.lost.set()

    def wait_until_asked(self, count=1):
        deadline = time.monotonic() + 10
        while len(self.asked) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def __enter__(self):
        self.liveness.start()
        return self

    def __exit__(self, *_):
        self.liveness.stop()


def test_a_daemon_that_speaks_is_never_asked():
    with Watched(Question(False), heard=time.monotonic) as watched:
        assert not watched.lost.wait(0.4)
        assert watched.asked == []


def test_a_silent_daemon_that_answers_is_there():
    began = time.monotonic()
    with Watched(Question(True)) as watched:
        watched.wait_until_asked(3)
        assert time.monotonic() - began >= 0.3, "it asks again only after another silence"
        assert watched.asked[:3] == [0.2] * 3
        assert not watched.lost.is_set()


def test_a_silent_daemon_that_does_not_answer_is_lost_once():
    with Watched(Question(False, takes_s=0.2)) as watched:
        assert watched.lost.wait(10)
        assert watched.silence_s >= 0.3
        time.sleep(0.3)
        assert (watched.lost_count, len(watched.asked)) == (1, 1)


def test_a_sign_of_life_while_we_wait_for_the_answer_is_enough():
    began = time.monotonic()
    question = Question(False, takes_s=10)
    heard = []
    with Watched(question, heard=lambda: heard[-1] if heard else began) as watched:
        watched.wait_until_asked()
        heard.append(time.monotonic())
        assert question.cancelled.wait(5)
        assert not watched.lost.is_set()


def test_no_answer_counts_only_when_we_did_not_stand_still_ourselves():
    """The question ends far later than its own limit: the process was suspended, so it is asked again."""
    with Watched(Question(False, takes_s=1.0), Question(True)) as watched:
        watched.wait_until_asked(2)
        assert not watched.lost.wait(0.5)


def test_stop_is_quick_and_nothing_is_called_afterwards():
    question = Question(False, takes_s=10)
    watched = Watched(question)
    with watched:
        watched.wait_until_asked()
        started = time.monotonic()
    assert time.monotonic() - started < 1
    assert question.cancelled.is_set()
    assert not watched.lost.wait(0.5)
    assert not watched.liveness._thread.is_alive()
    Watched(question).liveness.stop()  # never started


def test_a_connection_that_we_closed_ends_the_watch_without_a_word():
    def ask(timeout_s):
        raise LocalProtocolError("the connection is closed")

    lost = []
    watch = Liveness(lambda: 0.0, ask, lost.append)
    watch.start()
    watch._thread.join(5)
    assert not watch._thread.is_alive()
    assert lost == []
