"""Our server core against h2 as a bare peer."""

import struct

import h2.settings
import pytest

from buildkit_client.errors import LocalProtocolError, RemoteProtocolError
from buildkit_client.protocol.grpc_framing import encode_message
from buildkit_client.protocol.grpc_server import (
    OUR_STREAM_WINDOW,
    PREFACE,
    CallHalfClosed,
    CallReset,
    CallStarted,
    GoingAway,
    GrpcServerConnection,
    MessagesReceived,
)
from buildkit_client.protocol.grpc_status import StatusCode
from tests.support.h2_peer import H2Peer


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream_id) + payload


def connected() -> GrpcServerConnection:
    server = GrpcServerConnection()
    server.receive_data(PREFACE + raw_frame(4, 0, 0, b""))
    return server


def test_a_unary_call_goes_both_ways():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/pkg.Service/Method", b"question", metadata=(("key", "a"), ("key", "b")))
    started, message, end = peer.server_events
    assert isinstance(started, CallStarted)
    assert started.path == "/pkg.Service/Method"
    assert started.metadata["key"] == ("a", "b")
    assert message == MessagesReceived(sid, [b"question"])
    assert end == CallHalfClosed(sid)
    peer.server.write(sid, encode_message(b"answer"))
    peer.server.end_call(sid)
    peer.exchange()
    assert peer.headers[sid] == [(":status", "200"), ("content-type", "application/grpc")]
    assert peer.data[sid] == encode_message(b"answer")
    assert peer.trailers[sid] == [("grpc-status", "0")]
    assert sid in peer.ended
    assert not peer.server.is_open(sid)


def test_an_error_before_any_message_is_trailers_only():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/pkg.Service/Method", b"")
    peer.server.end_call(sid, StatusCode.NOT_FOUND, 'no access allowed to dir "ü%"')
    peer.exchange()
    assert peer.headers[sid] == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "5"),
        ("grpc-message", 'no access allowed to dir "%C3%BC%25"'),
    ]
    assert sid in peer.ended


def test_a_long_status_message_stays_within_one_frame():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/pkg.Service/Method", b"")
    peer.server.end_call(sid, StatusCode.UNKNOWN, "\n" * 50_000)
    peer.exchange()
    assert 4000 < len(dict(peer.headers[sid])["grpc-message"]) < 16_000


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_384, 65_535, 65_536, 1_000_003])
def test_messages_of_any_size_arrive_whole_in_frames_of_16_kib(size):
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/pkg.Service/Method", b"", end=False)
    body = bytes(range(251)) * (size // 251 + 1)
    peer.server.write(sid, [encode_message(body[:size])[:5], memoryview(body)[:size]])
    peer.server.end_call(sid)
    peer.exchange()
    assert peer.data[sid] == encode_message(body[:size])
    assert peer.largest_frame <= 16_384


def test_data_waits_for_the_peers_window_and_goes_on_when_it_opens():
    peer = H2Peer(GrpcServerConnection())
    peer.auto_window = False
    sid = peer.call("/pkg.Service/Method", b"")
    peer.server.write(sid, bytes(100_000))
    peer.server.end_call(sid)
    peer.exchange()
    assert len(peer.data[sid]) == 65_535
    assert not peer.server.has_data_to_send()
    assert peer.server.waiting_bytes(sid) == 100_000 - 65_535
    assert sid not in peer.ended
    peer.h2.increment_flow_control_window(50_000, sid)
    peer.h2.increment_flow_control_window(50_000)
    peer.exchange()
    assert len(peer.data[sid]) == 100_000
    assert sid in peer.ended


def test_a_changed_initial_window_applies_to_open_calls():
    peer = H2Peer(GrpcServerConnection())
    peer.auto_window = False
    sid = peer.call("/pkg.Service/Method", b"")
    peer.h2.increment_flow_control_window(1 << 20)
    peer.server.write(sid, bytes(200_000))
    peer.exchange()
    assert len(peer.data[sid]) == 65_535
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 130_000})
    peer.exchange()
    assert len(peer.data[sid]) == 130_000
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})  # negative window: nothing moves
    peer.exchange()
    assert len(peer.data[sid]) == 130_000
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 300_000})
    peer.exchange()
    assert len(peer.data[sid]) == 200_000


def test_one_stuck_call_does_not_hold_up_another():
    peer = H2Peer(GrpcServerConnection())
    peer.auto_window = False
    stuck, free = peer.call("/a/b", b""), peer.call("/a/b", b"")
    peer.h2.increment_flow_control_window(1 << 20)
    peer.server.write(stuck, bytes(500_000))
    peer.server.write(free, bytes(10))
    peer.server.end_call(free)
    peer.exchange()
    assert len(peer.data[stuck]) == 65_535
    assert free in peer.ended


def test_big_calls_take_turns():
    peer = H2Peer(GrpcServerConnection())
    first, second = peer.call("/a/b", b""), peer.call("/a/b", b"")
    for sid in (first, second):
        peer.h2.increment_flow_control_window(1 << 24, sid)
    peer.h2.increment_flow_control_window(1 << 25)
    peer.exchange()
    for sid in (first, second):
        peer.server.write(sid, bytes(1 << 20))
    for event in peer.h2.receive_data(b"".join(peer.server.data_to_send(1 << 19))):
        peer._take(event)
    assert abs(len(peer.data[first]) - len(peer.data[second])) <= 16_384
    assert len(peer.data[first]) > 200_000


def test_pings_are_answered_at_once_and_before_data():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/a/b", b"")
    peer.server.write(sid, bytes(30_000))
    peer.server.receive_data(raw_frame(6, 0, 0, b"12345678"))
    first = bytes(peer.server.data_to_send()[0])
    assert first == raw_frame(6, 1, 0, b"12345678")


def test_request_bodies_larger_than_the_window_pass_once_they_are_consumed():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/a/b", b"", end=False)
    total = 0
    for _ in range(6):
        message = bytes(1 << 20)
        peer.send(sid, message)
        total += len(message)
        peer.server.consumed(sid, len(message))
        peer.exchange()
    received = sum(len(m) for e in peer.server_events if isinstance(e, MessagesReceived) for m in e.messages)
    assert received == total > OUR_STREAM_WINDOW


def test_without_consumption_the_window_stays_shut():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/a/b", end=False)
    for _ in range(3):
        peer.send(sid, bytes(1 << 20))
    assert peer.h2.local_flow_control_window(sid) < 1 << 20


def test_long_headers_come_in_continuation_frames():
    peer = H2Peer(GrpcServerConnection())
    patterns = tuple(("exclude-patterns", f"folder-{n}/**/*.log") for n in range(5000))
    peer.call("/a/b", b"", metadata=patterns)
    started = peer.server_events[0]
    assert isinstance(started, CallStarted)
    assert started.metadata["exclude-patterns"][4999] == "folder-4999/**/*.log"
    assert len(started.metadata["exclude-patterns"]) == 5000


def test_any_chunking_of_the_bytes_gives_the_same_events():
    def events(chunk: int) -> list[object]:
        peer = H2Peer(GrpcServerConnection(), chunk=chunk)
        peer.call("/a/b", b"one", b"two" * 10_000)
        return peer.server_events

    assert events(1) == events(7) == events(1 << 20)


def test_reset_ends_the_call_and_late_frames_are_ignored():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/a/b", b"x", end=False)
    peer.h2.reset_stream(sid, 8)
    peer.exchange()
    assert peer.server_events[-1] == CallReset(sid, 8)
    peer.server.write(sid, b"late")
    peer.server.end_call(sid)
    assert peer.server.receive_data(raw_frame(0, 0, sid, b"late")) == []
    assert peer.server.receive_data(raw_frame(8, 0, sid, struct.pack(">I", 5))) == []
    assert not peer.server.has_data_to_send()


def test_goaway_is_told():
    server = connected()
    assert server.receive_data(raw_frame(7, 0, 0, struct.pack(">II", 0, 0) + b"client transport shutdown")) == [
        GoingAway(0, "client transport shutdown")
    ]


def test_padded_frames_lose_their_padding():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/a/b", end=False)
    framed = encode_message(b"padded")
    peer.h2.send_data(sid, framed, pad_length=40)
    peer.exchange()
    assert peer.server_events[-1] == MessagesReceived(sid, [b"padded"])


def test_messages_that_arrive_together_are_one_event_for_each_call():
    peer = H2Peer(GrpcServerConnection())
    first, second = peer.call("/a/b", end=False), peer.call("/a/b", end=False)
    peer.exchange()
    for sid, text in ((first, b"1"), (first, b"2"), (second, b"3"), (first, b"4")):
        peer.h2.send_data(sid, encode_message(text))
    peer.exchange()
    assert peer.server_events[-3:] == [
        MessagesReceived(first, [b"1", b"2"]), MessagesReceived(second, [b"3"]), MessagesReceived(first, [b"4"]),
    ]  # fmt: skip


def test_writing_after_the_status_is_our_bug():
    peer = H2Peer(GrpcServerConnection())
    peer.auto_window = False
    sid = peer.call("/a/b", b"")
    peer.server.write(sid, bytes(100_000))
    peer.server.end_call(sid)
    with pytest.raises(LocalProtocolError):
        peer.server.write(sid, b"more")


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "preface"),
        (PREFACE + raw_frame(0, 0, 1, b"x"), "never opened"),
        (PREFACE + raw_frame(8, 0, 0, b"123"), "WINDOW_UPDATE"),
        (PREFACE + raw_frame(3, 0, 0, b"1234"), "never opened"),
        (PREFACE + b"\x00\x40\x01\x00\x00\0\0\0\1", "limit"),
        (PREFACE + raw_frame(9, 4, 1, b""), "CONTINUATION"),
        (PREFACE + raw_frame(1, 0, 1, b"\x88") + raw_frame(6, 0, 0, bytes(8)), "middle of a header block"),
        (PREFACE + raw_frame(1, 4, 2, b"\x88"), "out of turn"),
        (PREFACE + raw_frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), "cannot be decoded"),
        (PREFACE + raw_frame(5, 4, 1, b""), "PUSH_PROMISE"),
        (PREFACE + raw_frame(4, 0, 0, struct.pack(">HI", 4, 1 << 31)), "window"),
        (PREFACE + raw_frame(1, 12, 1, b"\x09\x88"), "padding"),
    ],
)
def test_what_is_no_grpc_client_is_refused(wire, text):
    with pytest.raises(RemoteProtocolError, match=text):
        GrpcServerConnection().receive_data(wire)


def test_a_request_cut_in_the_middle_of_a_message_is_refused():
    peer = H2Peer(GrpcServerConnection())
    sid = peer.call("/a/b", end=False)
    peer.h2.send_data(sid, b"\0\0\0\0\5ab", end_stream=True)
    with pytest.raises(RemoteProtocolError, match="middle of a message"):
        peer.exchange()
