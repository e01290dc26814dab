"""One build against a channel in memory: what ends it, in which order, and how far it says it had come."""

import threading
import time
from contextlib import contextmanager

import pytest

from buildkit_client import solve as solve_module
from buildkit_client._proto import control_pb2
from buildkit_client.errors import BuildCancelledError, ConnectionLostError, SolveError, StatusDetails
from buildkit_client.options import DockerfileFrontend
from buildkit_client.progress import BuildGraph, StatusUpdate, Vertex, VertexLog
from buildkit_client.solve import Solve, SolveSpec, _joined, phase_of
from buildkit_client.transport import liveness
from tests.support.threads import no_thread_stays


class Future:
    """The Solve call."""

    def __init__(self):
        self._over = threading.Event()
        self._callbacks = []
        self._outcome = None

    def finish(self, outcome):
        if not self._over.is_set():
            self._outcome = outcome
            self._over.set()
            for callback in self._callbacks:
                callback(self)

    def result(self):
        assert self._over.is_set(), "this would block"
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def cancel(self):
        self.finish(BuildCancelledError("the build was cancelled"))

    def done(self):
        return self._over.is_set()

    def add_done_callback(self, callback):
        self._callbacks.append(callback)


class Status:
    """The Status stream: gives what it has, then ends, fails, or stays silent."""

    def __init__(self, messages, *, end=None):
        self.read = 0
        self.cancelled = threading.Event()
        self._messages = messages
        self._end = end

    def __iter__(self):
        for message in self._messages:
            self.read += 1
            yield message
        if isinstance(self._end, Exception):
            raise self._end
        if self._end == "silence":
            self.cancelled.wait(10)

    def cancel(self):
        self.cancelled.set()


class Channel:
    """Only what a Solve uses."""

    address = "unix:///none"

    def __init__(self, status, *, answers=True):
        self.future = Future()
        self.status = status
        self._answers = answers

    def unary_future(self, path, request, response):
        return self.future

    def server_stream(self, path, request, response, *, is_watched):
        return self.status

    @contextmanager
    def translated(self):
        yield

    def question(self, timeout_s):
        question = Future()
        question.is_answered = lambda: self._answers
        threading.Timer(0.05, question.finish, [None]).start()
        return question


class Session:
    id = "session"
    error = None
    last_heard_s = 0.0

    def abort(self, error):
        self.error = error


def message(name="step", **times):
    vertex = control_pb2.Vertex(digest=f"sha256:{name}", name=name)
    for field, value in times.items():
        getattr(vertex, field).FromNanoseconds(value)
    return control_pb2.StatusResponse(vertexes=[vertex])


@contextmanager
def running(channel):
    with no_thread_stays():
        solve = Solve(channel, Session(), SolveSpec(build=DockerfileFrontend()).to_request("ref", "session"))
        try:
            yield solve
        finally:
            solve.close()


def done(**response):
    return control_pb2.SolveResponse(ExporterResponse=response)


def test_every_message_is_handled_before_the_result_comes_in_the_waiting_thread():
    channel = Channel(Status([message(f"s{number}") for number in range(300)]))
    seen = []
    with running(channel) as solve:
        channel.future.finish(done(**{"containerimage.digest": "sha256:abc"}))
        result = solve.wait(lambda update: seen.append((update.vertexes[0].name, threading.get_ident())))
    assert result.digest == "sha256:abc"
    assert [name for name, _ in seen] == [f"s{number}" for number in range(300)]
    assert {ident for _, ident in seen} == {threading.get_ident()}


def test_messages_are_not_read_far_ahead_of_a_slow_caller():
    channel = Channel(Status([message(f"s{number}") for number in range(5000)]))
    with running(channel) as solve:

        def slow(update):
            if update.vertexes[0].name == "s0":
                time.sleep(0.3)
                assert channel.status.read < 200
                channel.future.finish(done())

        solve.wait(slow)
    assert channel.status.read == 5000


@pytest.mark.parametrize("messages", [[], [message()]], ids=["never spoke", "spoke once"])
def test_a_status_stream_that_stays_silent_afterwards_does_not_hold_the_result_up(monkeypatch, messages):
    monkeypatch.setattr(solve_module, "_SILENCE_AFTER_SOLVE_S", 0.3)
    monkeypatch.setattr(solve_module, "_NO_STATUS_S", 0.1)
    channel = Channel(Status(messages, end="silence"))
    started = time.monotonic()
    with running(channel) as solve:
        channel.future.finish(done())
        assert solve.wait().exporter_response == {}
        assert time.monotonic() - started < 3
    assert channel.status.cancelled.is_set()


def test_a_status_stream_that_breaks_says_less_than_solve():
    channel = Channel(Status([message()], end=ConnectionLostError("status broke")))
    with running(channel) as solve:
        channel.future.finish(done(key="value"))
        assert solve.wait().exporter_response == {"key": "value"}


def test_a_message_that_cannot_be_read_is_told_to_the_waiting_thread():
    channel = Channel(Status([], end=ZeroDivisionError("bug")))
    with running(channel) as solve, pytest.raises(ZeroDivisionError):
        solve.wait()


def test_a_failed_step_has_its_name_and_last_output():
    status = message("RUN make", started=1)
    status.logs.add(vertex="sha256:RUN make", msg=b"one\ntwo\n")
    channel = Channel(Status([status]))
    details = StatusDetails(message="boom", vertex="sha256:RUN make", exit_code=2)
    with running(channel) as solve:
        channel.future.finish(SolveError("boom", details=details))
        with pytest.raises(SolveError) as caught:
            solve.wait()
    assert (caught.value.vertex_name, caught.value.last_output) == ("RUN make", ("one", "two"))
    assert caught.value.__cause__ is not caught.value


def test_cancelling_wins_over_every_other_error():
    channel = Channel(Status([]))
    with running(channel) as solve:
        solve.cancel()
        with pytest.raises(BuildCancelledError):
            solve.wait()


def test_a_daemon_that_does_not_answer_any_more_loses_the_build(monkeypatch):
    monkeypatch.setattr(liveness, "SILENCE_S", 0.1)
    channel = Channel(Status([message("[2/2] RUN make", started=1)], end="silence"), answers=False)
    with running(channel) as solve:
        with pytest.raises(ConnectionLostError, match=r"lost during \[2/2\] RUN make") as caught:
            solve.wait()
        assert solve._session.error is not None
    assert caught.value.phase == "solve"
    assert "nothing was heard" in caught.value.why


def test_a_silent_daemon_that_answers_keeps_the_build(monkeypatch):
    monkeypatch.setattr(liveness, "SILENCE_S", 0.1)
    channel = Channel(Status([message()], end="silence"))
    with running(channel) as solve:
        threading.Timer(0.8, lambda: (channel.future.finish(done(key="value")), channel.status.cancel())).start()
        assert solve.wait().exporter_response == {"key": "value"}


@pytest.mark.parametrize(
    ("names", "phase", "doing"),
    [
        ((), "start", "before the first step"),
        (("[internal] load build definition from Dockerfile",), "context", "during [internal] load build definition"),
        (("[context lib] load from client",), "context", "during [context lib] load from client"),
        (("[internal] load metadata for example.com/x",), "solve", "during [internal] load metadata"),
        (("[1/2] RUN a", "[internal] load build context"), "context", "during [internal] load build context"),
        (("[1/2] RUN a", "[2/2] RUN b"), "solve", "during [1/2] RUN a and 1 more"),
        (("[1/2] RUN a", "exporting to image"), "export", "during exporting to image"),
    ],
)
def test_how_far_a_build_had_come(names, phase, doing):
    graph = BuildGraph()
    graph.apply(StatusUpdate(vertexes=tuple(Vertex(name, name=name, started_ns=1) for name in names)))
    found, text = phase_of(graph)
    assert found == phase
    assert text.startswith(doing)


def test_between_two_steps():
    graph = BuildGraph()
    graph.apply(StatusUpdate(vertexes=(Vertex("a", name="a", started_ns=1, completed_ns=2),)))
    assert phase_of(graph) == ("solve", "between two steps")


def test_messages_with_output_alone_are_joined_and_others_keep_their_place() -> None:
    logs = [StatusUpdate(logs=(VertexLog("v", 1, bytes([65 + n]), n),)) for n in range(4)]
    vertex = StatusUpdate(vertexes=(Vertex("v", name="RUN"),))
    joined = list(_joined([logs[0], logs[1], vertex, logs[2], logs[3]]))
    assert [len(one.logs) for one in joined] == [2, 0, 2]
    assert joined[1] is vertex
    assert [log.data for one in joined for log in one.logs] == [b"A", b"B", b"C", b"D"]
    assert list(_joined([])) == []


def test_a_single_entitlement_is_no_sequence_of_letters():
    for given in ("network.host", ["network.host"]):
        request = SolveSpec(build=DockerfileFrontend(), entitlements=given).to_request("ref", "session")
        assert list(request.Entitlements) == ["network.host"]
