"""The session's call on gRPC's core, and by its public names: the same for who uses it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import grpc
import pytest

from buildkit_client.transport import session_call as module
from buildkit_client.transport.session_call import CallEndedError, CoreCall, PublicCall, session_call
from tests.support.threads import no_thread_stays

PATH = "/test.Service/Talk"
KINDS = [CoreCall, PublicCall]


class Server:
    """A gRPC server with one method; ``talk`` is what it does with the requests."""

    def __init__(self, address: str) -> None:
        self.talk = lambda requests, context: requests
        self.metadata: dict[str, str] = {}
        self.ended = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", {"Talk": handler})])
        self._server.add_insecure_port(address)
        self._server.start()

    def _serve(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.ended.set)
        self.metadata = dict(context.invocation_metadata())
        yield from self.talk(requests, context)

    def stop(self) -> None:
        self._server.stop(None).wait(5)


class Sender:
    """Sends messages one after the other, as a session does."""

    def __init__(self, messages: list[bytes]) -> None:
        self._left = iter(messages)
        self.sent = 0
        self.call: CoreCall | PublicCall | None = None

    def start(self, call: CoreCall | PublicCall) -> CoreCall | PublicCall:
        self.call = call
        self._next()
        return call

    def on_sent(self) -> None:
        self.sent += 1
        self._next()

    def _next(self) -> None:
        message = next(self._left, None)
        if message is None:
            self.call.half_close()
        else:
            self.call.send(message)


def nothing() -> None:
    """Nobody waits for what was sent."""


@pytest.fixture
def server(tmp_path):
    server = Server(f"unix:{tmp_path}/s")
    yield server
    server.stop()


@pytest.fixture
def channel(tmp_path, server):
    limits = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
    with grpc.insecure_channel(f"unix:{tmp_path}/s", options=limits) as channel:
        yield channel


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 40_000, 3 << 20])
def test_messages_come_back_whole_and_in_order(server, channel, kind, size):
    messages = [bytes([number]) * size for number in range(10)]
    sender = Sender(messages)
    call = sender.start(kind(channel, PATH, (("who", "us"),), sender.on_sent))
    assert list(call) == messages
    assert sender.sent == 10
    assert server.metadata["who"] == "us"


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_talk_at_once(server, channel, kind):
    heard = []

    def talk(requests, context):
        reader = threading.Thread(target=lambda: heard.extend(requests))
        reader.start()
        for number in range(3000):
            yield b"%d" % number
        reader.join()

    server.talk = talk
    messages = [b"%d" % number for number in range(3000)]
    sender = Sender(messages)
    assert list(sender.start(kind(channel, PATH, (), sender.on_sent))) == messages
    assert heard == messages


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_is_raised_with_its_text_and_trailers_after_what_came_before(server, channel, kind):
    def talk(requests, context):
        yield b"first"
        context.set_trailing_metadata((("why-bin", b"\0\1"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    server.talk = talk
    got = []
    with pytest.raises(CallEndedError, match="not you") as caught:
        for message in kind(channel, PATH, (), nothing):
            got.append(message)
    assert got == [b"first"]
    assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert ("why-bin", b"\0\1") in caught.value.trailers


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_from_another_thread_ends_the_reader_and_the_servers_call(server, channel, kind):
    with no_thread_stays("test-"):
        call = kind(channel, PATH, (), nothing)
        timer = threading.Timer(0.1, call.cancel)
        timer.name = "test-timer"
        timer.start()
        with pytest.raises(CallEndedError) as caught:
            list(call)
    assert caught.value.code == grpc.StatusCode.CANCELLED.value[0]
    assert server.ended.wait(5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_channel_ends_the_reader(tmp_path, server, kind):
    channel = grpc.insecure_channel(f"unix:{tmp_path}/s")
    call = kind(channel, PATH, (), nothing)
    threading.Timer(0.1, channel.close).start()
    with pytest.raises(CallEndedError) as caught:
        list(call)
    assert caught.value.code == grpc.StatusCode.CANCELLED.value[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_gone_ends_the_reader(server, channel, kind):
    call = kind(channel, PATH, (), nothing)
    threading.Timer(0.1, server.stop).start()
    with pytest.raises(CallEndedError) as caught:
        list(call)
    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.CANCELLED.value[0])


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_at_the_address_is_unavailable(tmp_path, kind):
    with (
        grpc.insecure_channel(f"unix:{tmp_path}/nobody") as channel,
        pytest.raises(CallEndedError) as caught,
    ):
        list(kind(channel, PATH, (), nothing))
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE.value[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_is_over_takes_messages_and_throws_them_away(server, channel, kind):
    server.talk = lambda requests, context: iter([b"bye"])
    call = kind(channel, PATH, (), nothing)
    assert list(call) == [b"bye"]
    call.send(b"late")
    call.half_close()
    call.cancel()


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_may_want_to_send_while_the_call_ends(server, channel, kind):
    """The end of the call can come between any two instructions of who sends."""
    server.talk = lambda requests, context: iter([next(requests)])
    for _ in range(30):
        free = threading.Semaphore(1)
        call = kind(channel, PATH, (), free.release)
        stop = threading.Event()

        def send(call=call, free=free, stop=stop) -> None:
            while not stop.is_set():
                if free.acquire(timeout=0.01):
                    call.send(b"x" * 1000)

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert list(call) == [b"x" * 1000]
        stop.set()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()


def test_the_core_is_used_with_the_release_installed(server, channel):
    call = session_call(channel, PATH, (), nothing)
    assert isinstance(call, CoreCall)
    call.half_close()
    assert list(call) == []


@pytest.mark.parametrize("error", [AttributeError, ImportError, TypeError])
def test_a_release_with_other_parts_is_served_by_its_public_names(server, channel, monkeypatch, error):
    def lacks(*args):
        raise error("segregated_call")

    monkeypatch.setattr(module, "CoreCall", lacks)
    call = session_call(channel, PATH, (), nothing)
    assert isinstance(call, PublicCall)
    call.send(b"one")
    call.half_close()
    assert list(call) == [b"one"]


@pytest.mark.parametrize(("kind", "threads"), [(CoreCall, 0), (PublicCall, 2)])
def test_the_core_needs_no_threads_of_grpcs_python_part(server, channel, kind, threads):
    def ours() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if not thread.name.startswith("ThreadPoolExecutor")}

    before = ours()
    call = kind(channel, PATH, (), nothing)
    call.send(b"one")
    messages = iter(call)
    assert next(messages) == b"one"
    assert len(ours() - before) == threads
    call.half_close()
    assert list(messages) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_gives_up_holds_up_nobody(tmp_path, server, kind):
    channel = grpc.insecure_channel(f"unix:{tmp_path}/s")
    server.talk = lambda requests, context: chain([b"garbage"], requests)
    call = kind(channel, PATH, (), nothing)
    messages = iter(call)
    assert next(messages) == b"garbage"
    messages.close()
    call.cancel()
    closing = threading.Thread(target=channel.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert server.ended.wait(5)
