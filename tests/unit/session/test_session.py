"""The session against a daemon in memory that speaks h2."""

import threading
import time

import pytest

from buildkit_client._proto import control_pb2, health_pb2
from buildkit_client.errors import ConnectionLostError, ContextError, RemoteProtocolError
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.protocol.grpc_framing import encode_message
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session import session as session_module
from buildkit_client.session.call import CallCancelledError, RpcError
from buildkit_client.session.session import Session, new_id, shared_key_for
from buildkit_client.session.tunnel import pack_bytes_message, unpack_bytes_message
from tests.support.session_peer import FakeDaemon
from tests.support.threads import no_thread_stays

HEALTH = "/grpc.health.v1.Health/Check"


def served(daemon, **handlers):
    return Session(daemon.open_stream, shared_key="key", **handlers).start()


@pytest.fixture
def patient(monkeypatch):
    """A session that would wait long, so that a short end shows that it did not wait."""
    monkeypatch.setattr(session_module, "_GOODBYE_TIMEOUT_S", 30.0)
    monkeypatch.setattr(session_module, "_HANDLERS_TIMEOUT_S", 30.0)


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ids_have_buildkits_form_and_differ():
    ids = {new_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(one) == 25 and one.isalnum() and one == one.lower() for one in ids)


def test_shared_key_depends_on_directories_and_is_stable(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = shared_key_for({"context": tmp_path / "a"})
    assert one == shared_key_for({"context": tmp_path / "b" / ".." / "a"})
    assert one != shared_key_for({"context": tmp_path / "b"})
    assert one != shared_key_for({"dockerfile": tmp_path / "a"})
    assert len(shared_key_for({})) == 64


def test_shared_key_depends_on_what_is_kept_back(tmp_path):
    """Two services of one folder, of which one keeps files back, must not share the daemon's copy."""
    plain = shared_key_for({"context": tmp_path})
    keys = [
        plain,
        shared_key_for({"context": LocalDirectory(tmp_path, ["a", "b"])}),
        shared_key_for({"context": LocalDirectory(tmp_path, ["a\0b"])}),
        shared_key_for({"context": LocalDirectory(tmp_path, ["b", "a"])}),
        shared_key_for({"context": LocalDirectory(tmp_path, ["a", "b"], "web")}),
        shared_key_for({"context": LocalDirectory(tmp_path, ["a", "b"], "api")}),
    ]
    assert len(set(keys)) == len(keys)
    assert shared_key_for({"context": LocalDirectory(tmp_path)}) == plain
    assert shared_key_for({"context": LocalDirectory(tmp_path, ("a", "b"), "web/")}) == keys[4]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000, 1 << 20])
def test_outer_messages_are_what_protobuf_makes(size):
    data = bytes(size)
    packed = pack_bytes_message([data[: size // 2], memoryview(data)[size // 2 :]])
    assert control_pb2.BytesMessage.FromString(packed).data == data
    assert unpack_bytes_message(control_pb2.BytesMessage(data=data).SerializeToString()) == data


def test_unknown_fields_of_outer_messages_are_skipped():
    assert unpack_bytes_message(b"\x12\x01x\x0a\x02ab\x12\x01y") == b"ab"


def test_the_daemon_learns_id_key_and_methods():
    daemon = FakeDaemon()
    with served(daemon, unary={"/a.B/C": lambda request, metadata: request}) as session:
        assert daemon.metadata[:2] == [
            ("x-docker-expose-session-uuid", session.id),
            ("x-docker-expose-session-sharedkey", "key"),
        ]
        methods = [value for key, value in daemon.metadata if key == "x-docker-expose-session-grpc-method"]
        assert methods == [HEALTH, "/a.B/C"]
    assert daemon.half_closed.wait(5)
    assert session.error is None


def test_the_shared_key_is_never_empty():
    assert Session(FakeDaemon().open_stream).shared_key


def test_health_is_answered_while_every_handler_is_busy():
    release = threading.Event()
    daemon = FakeDaemon()
    with served(daemon, streaming={"/a.B/C": lambda call: release.wait(20)}):
        for _ in range(20):
            daemon.start_call("/a.B/C")
        started = time.monotonic()
        answer = daemon.unary(HEALTH)
        assert time.monotonic() - started < 5
        assert health_pb2.HealthCheckResponse.FromString(answer.messages.get(timeout=1)).status == 1
        release.set()


def test_method_names_are_compared_without_case():
    daemon = FakeDaemon()
    seen = []

    def handler(request, metadata):
        seen.append(metadata["dir-name"])
        return request + b"!"

    with served(daemon, unary={"/moby.A.B/DiffCopy": handler}):
        call = daemon.unary("/moby.A.B/diffcopy", b"x", (("dir-name", "context"),))
        assert call.messages.get(timeout=1) == b"x!"
        assert (call.status, seen) == (0, [("context",)])


def test_unknown_methods_and_errors_have_their_status():
    daemon = FakeDaemon()

    def fails(request, metadata):
        raise RpcError(StatusCode.NOT_FOUND, "no such thing")

    def broken(request, metadata):
        raise ValueError("secret text")

    def local(request, metadata):
        raise ContextError("cannot read x", why="permission denied")

    with served(daemon, unary={"/a.B/Fails": fails, "/a.B/Broken": broken, "/a.B/Local": local}):
        assert daemon.unary("/a.B/Nothing").status == StatusCode.UNIMPLEMENTED
        call = daemon.unary("/a.B/Fails")
        assert (call.status, call.message) == (StatusCode.NOT_FOUND, "no such thing")
        call = daemon.unary("/a.B/Broken")
        assert call.status == StatusCode.INTERNAL
        assert "secret" not in call.message
        call = daemon.unary("/a.B/Local")
        assert (call.status, call.message) == (StatusCode.UNKNOWN, "cannot read x: permission denied")


def test_a_stream_of_megabytes_arrives_and_outer_messages_stay_small():
    body = bytes(range(256)) * 4096
    daemon = FakeDaemon()

    def handler(call):
        for _ in range(8):
            call.write(encode_message(body))

    with served(daemon, streaming={"/a.B/C": handler}):
        sid = daemon.start_call("/a.B/C")
        call = daemon.call_of(sid)
        assert call.done.wait(20)
        assert [call.messages.get_nowait() for _ in range(8)] == [body] * 8
        assert max(daemon.outer_sizes) <= (1 << 20) + (1 << 17)


def test_a_handler_stops_producing_while_the_daemon_does_not_read():
    daemon = FakeDaemon()
    written = []

    def handler(call):
        for _ in range(100):
            call.write(encode_message(bytes(1 << 18)))
            written.append(1)

    with served(daemon, streaming={"/a.B/C": handler}):
        daemon.stop_reading()
        sid = daemon.start_call("/a.B/C")
        wait_until(lambda: written)
        time.sleep(0.3)
        assert len(written) < 15
        daemon.resume()
        assert daemon.call_of(sid).done.wait(20)
        assert len(written) == 100


def test_requests_beyond_the_window_flow_while_the_handler_is_stuck_writing():
    """Both sides writing at once must not wait for each other: the daemon's requests keep coming in."""
    daemon = FakeDaemon()
    counted = []

    def handler(call):
        call.write(bytes(2 << 20))
        call.write(encode_message(b"") + bytes(0))
        while (message := call.receive()) is not None:
            counted.append(len(message))

    with served(daemon, streaming={"/a.B/C": handler}):
        daemon.stop_reading()
        sid = daemon.start_call("/a.B/C")
        time.sleep(0.1)
        sender = threading.Thread(target=lambda: [daemon.send_message(sid, bytes(1 << 20)) for _ in range(8)])
        sender.start()
        time.sleep(0.2)
        daemon.resume()
        sender.join(20)
        assert not sender.is_alive()
        daemon.end(sid)
        assert daemon.call_of(sid).done.wait(10)
        assert counted == [1 << 20] * 8


def test_reset_wakes_a_waiting_handler():
    daemon = FakeDaemon()
    outcome = []
    begun = threading.Event()
    ended = threading.Event()

    def handler(call):
        begun.set()
        try:
            call.receive()
        except CallCancelledError:
            outcome.append("cancelled")
            raise
        finally:
            ended.set()

    with served(daemon, streaming={"/a.B/C": handler}):
        sid = daemon.start_call("/a.B/C")
        assert begun.wait(5)
        daemon.reset(sid)
        assert ended.wait(5)
        assert outcome == ["cancelled"]


def test_goaway_ends_the_session_with_a_reason():
    daemon = FakeDaemon()
    session = served(daemon)
    daemon.unary(HEALTH)
    daemon.go_away()
    assert daemon.half_closed.wait(5)
    assert isinstance(session.error, ConnectionLostError)
    assert session.error.why == "client transport shutdown"
    assert not session.is_alive
    session.close()


def test_a_broken_stream_is_told_and_wakes_handlers():
    daemon = FakeDaemon()
    ended = threading.Event()

    def handler(call):
        try:
            call.receive()
        finally:
            ended.set()

    session = served(daemon, streaming={"/a.B/C": handler})
    daemon.start_call("/a.B/C")
    daemon.fail(OSError("reset by peer"))
    assert ended.wait(5)
    assert isinstance(session.error, ConnectionLostError)
    assert "reset by peer" in session.error.why
    session.close()


def test_garbage_ends_the_session_as_the_peers_fault():
    daemon = FakeDaemon()
    session = served(daemon)
    daemon.unary(HEALTH)
    daemon.send_raw(b"\xff" * 40)
    assert daemon.half_closed.wait(5)
    assert isinstance(session.error, RemoteProtocolError)
    session.close()
    assert daemon.cancelled


def test_close_is_quick_and_final(patient):
    daemon = FakeDaemon()
    session = served(daemon)
    started = time.monotonic()
    session.close()
    session.close()
    assert time.monotonic() - started < 15
    assert not session.is_alive


def test_begin_close_says_goodbye_and_waits_for_nobody():
    daemon = FakeDaemon()
    session = served(daemon)
    daemon.unary(HEALTH)
    daemon.stop_reading()
    started = time.monotonic()
    session.begin_close()
    assert time.monotonic() - started < 1.5
    assert not daemon.half_closed.is_set()
    daemon.resume()
    assert daemon.half_closed.wait(5)
    session.close()
    assert session.error is None
    assert not daemon.cancelled


def test_abort_ends_handlers_and_needs_no_goodbye(patient):
    daemon = FakeDaemon()
    ended = threading.Event()

    def handler(call):
        try:
            call.receive()
        finally:
            ended.set()

    session = served(daemon, streaming={"/a.B/C": handler})
    daemon.start_call("/a.B/C")
    daemon.unary(HEALTH)
    daemon.stop_reading()
    started = time.monotonic()
    session.abort(ConnectionLostError("gone"))
    assert ended.wait(5)
    session.close()
    assert time.monotonic() - started < 15
    assert str(session.error) == "gone"
    assert daemon.cancelled


def test_close_cancels_what_the_daemon_still_wants_and_waits_until_it_is_cleaned_up():
    daemon = FakeDaemon()
    begun = threading.Event()
    cleaned = []

    def handler(call):
        begun.set()
        try:
            while True:
                call.write(encode_message(bytes(1 << 18)))
        finally:
            time.sleep(0.3)
            cleaned.append(True)

    with no_thread_stays("session-"):
        with served(daemon, streaming={"/a.B/C": handler}):
            daemon.start_call("/a.B/C")
            assert begun.wait(5)
        assert cleaned == [True]


def test_close_does_not_wait_for_ever_for_a_handler_that_hangs(monkeypatch):
    monkeypatch.setattr(session_module, "_GOODBYE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(session_module, "_HANDLERS_TIMEOUT_S", 0.3)
    daemon = FakeDaemon()
    release = threading.Event()
    session = served(daemon, streaming={"/a.B/C": lambda call: release.wait(20)})
    daemon.start_call("/a.B/C")
    daemon.unary(HEALTH)
    started = time.monotonic()
    session.close()
    assert time.monotonic() - started < 10
    release.set()


def test_the_session_knows_when_it_last_heard_the_daemon():
    daemon = FakeDaemon()
    with served(daemon) as session:
        daemon.unary(HEALTH)
        time.sleep(0.2)  # acknowledgements may follow the answer
        first = session.last_heard_s
        time.sleep(0.1)
        assert session.last_heard_s == first
        assert 0.1 <= time.monotonic() - first < 5
        daemon.unary(HEALTH)
        assert session.last_heard_s > first
