"""The server side of one gRPC connection over HTTP/2, without any IO.

The daemon is the HTTP/2 and gRPC *client* inside a session, so we play the server: bytes of the tunnel go in through
:meth:`GrpcServerConnection.receive_data`, events come out, and what is to be sent is collected until
:meth:`GrpcServerConnection.data_to_send` takes it. Flow control is kept here: bytes of a call wait until both its
window and the connection's are open, and :meth:`GrpcServerConnection.consumed` opens ours again.

Why our own: a general HTTP/2 library costs about 28 µs a frame, which at 16 KiB a frame is more than the daemon needs
to take the bytes; packing the frame by hand costs 1-2 µs. Header blocks are decoded by hpack. What we send needs no
compression state (a handful of fixed literals), so blocks can be queued behind data in any order.

Left out, because gRPC never uses it: server push, priorities, and trailers from the client.

Reference: RFC 9113; gRPC over HTTP2; google.golang.org/grpc/internal/transport, http2_client.go (the peer).
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from hpack import Decoder
from hpack.exceptions import HPACKError

from buildkit_client.errors import LocalProtocolError, RemoteProtocolError
from buildkit_client.protocol.grpc_framing import MAX_MESSAGE_BYTES, PREFIX, PREFIX_BYTES, MessageDecoder
from buildkit_client.protocol.grpc_status import StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4
MAX_FRAME_BYTES = 16_384  # grpc-go never announces more; a larger frame kills the connection without a word
DEFAULT_WINDOW = 65_535  # RFC 9113, 6.9.2
MAX_WINDOW = (1 << 31) - 1

OUR_STREAM_WINDOW = 4 << 20
OUR_CONNECTION_WINDOW = 64 << 20
_ACKNOWLEDGED_BYTES = OUR_STREAM_WINDOW // 4  # as many at once
OUR_MAX_STREAMS = 1000
OUR_HEADER_LIST_BYTES = 16 << 20  # exclude patterns travel as headers; long ignore files need room

_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_HAS_PRIORITY = 0x20

_SET_HEADER_TABLE_SIZE, _SET_MAX_STREAMS, _SET_INITIAL_WINDOW, _SET_MAX_FRAME, _SET_HEADER_LIST = 1, 3, 4, 5, 6

_ERR_NO_ERROR, _ERR_PROTOCOL, _ERR_FLOW_CONTROL = 0, 1, 3

_FRAME = struct.Struct(">BHBBI")  # 24 bits of length in two parts, type, flags, stream id
_U32 = struct.Struct(">I")
_SETTING = struct.Struct(">HI")

_SHARE_BYTES = 8 * MAX_FRAME_BYTES  # what one call may send before the next one has its turn


class CallStarted(NamedTuple):
    """The daemon opened a call.

    Attributes:
        stream_id: Names the call from now on.
        path: For example ``/grpc.health.v1.Health/Check``, as the daemon spells it.
        metadata: Lower-case keys without the pseudo headers, values in wire order.
    """

    stream_id: int
    path: str
    metadata: Mapping[str, tuple[str, ...]]


class MessagesReceived(NamedTuple):
    """Whole request messages of one call arrived; their bytes count against our window until :meth:`consumed`.

    Attributes:
        stream_id: The call.
        messages: At least one, in order; what arrives together makes one event.
    """

    stream_id: int
    messages: list[bytes]


class CallHalfClosed(NamedTuple):
    """The daemon will send no more messages in this call."""

    stream_id: int


class CallReset(NamedTuple):
    """The call is over without an answer of ours."""

    stream_id: int
    error_code: int


class GoingAway(NamedTuple):
    """The daemon ends the connection; it answers to nothing from here on."""

    error_code: int
    debug: str


Event = CallStarted | MessagesReceived | CallHalfClosed | CallReset | GoingAway


@dataclass(slots=True)
class _Stream:
    """State of one call."""

    send_window: int
    decoder: MessageDecoder
    outbox: deque[bytes | memoryview] = field(default_factory=deque)
    outbox_bytes: int = 0
    headers_sent: bool = False
    trailers: bytes | None = None
    half_closed: bool = False
    unacknowledged: int = 0


class GrpcServerConnection:
    """One inner connection of a session, seen from the serving side.

    Args:
        max_message_bytes: A longer request message ends the connection with an error.

    Not safe for threads: whoever drives it holds a lock.
    """

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message = max_message_bytes
        self._buffer = b""
        self._preface_left = PREFACE
        self._headers = Decoder(max_header_list_size=OUR_HEADER_LIST_BYTES)
        self._streams: dict[int, _Stream] = {}
        self._ready: deque[int] = deque()  # calls with something to send, each at most once
        self._control: list[bytes] = []
        self._initial_window = DEFAULT_WINDOW
        self._send_window = DEFAULT_WINDOW
        self._received_unacknowledged = 0
        self._block: tuple[int, int, bytearray] | None = None  # stream id, flags, header block so far
        self._highest = 0
        self._goaway = False
        self._control.append(
            _frame(
                _SETTINGS,
                0,
                0,
                b"".join(
                    _SETTING.pack(key, value)
                    for key, value in (
                        (_SET_MAX_STREAMS, OUR_MAX_STREAMS),
                        (_SET_INITIAL_WINDOW, OUR_STREAM_WINDOW),
                        (_SET_HEADER_LIST, OUR_HEADER_LIST_BYTES),
                    )
                ),
            )
        )
        self._control.append(_frame(_WINDOW, 0, 0, _U32.pack(OUR_CONNECTION_WINDOW - DEFAULT_WINDOW)))

    # -- what the daemon sends ---------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes of the tunnel, in any chunking, and return what they mean.

        Raises:
            RemoteProtocolError: The bytes are not the HTTP/2 of a gRPC client; the connection is of no more use.
        """
        if self._preface_left:
            data = self._check_preface(data)
        buffer = self._buffer + data if self._buffer else data
        events: list[Event] = []
        position, end = 0, len(buffer)
        unpack, unpack_prefix = _FRAME.unpack_from, PREFIX.unpack_from
        streams = self._streams
        run_id = received = 0  # the call that the last event's messages are of, and how many bytes took the short way
        run: list[bytes] = []
        while end - position >= 9:
            high, low, kind, flags, stream_id = unpack(buffer, position)
            length = high << 16 | low
            if length > MAX_FRAME_BYTES:
                raise RemoteProtocolError(
                    f"the daemon sent an HTTP/2 frame of {length} bytes; {MAX_FRAME_BYTES} is the limit"
                )
            start = position + 9
            if end - start < length:
                break
            position = start + length
            stream_id &= MAX_WINDOW
            if kind == _DATA and not flags and length >= PREFIX_BYTES and self._block is None:
                # Most frames are one whole small message: a short way for these.
                compressed, size = unpack_prefix(buffer, start)
                is_whole = size == length - PREFIX_BYTES and not compressed and size <= self._max_message
                stream = streams.get(stream_id) if is_whole else None
                if stream is not None and not stream.half_closed and not stream.decoder.is_mid_message:
                    if stream_id != run_id:
                        run_id, run = stream_id, []
                        events.append(MessagesReceived(stream_id, run))
                    run.append(buffer[start + PREFIX_BYTES : position])
                    received += length
                    stream.unacknowledged += PREFIX_BYTES
                    if stream.unacknowledged >= _ACKNOWLEDGED_BYTES:
                        self._acknowledge(stream_id, stream, 0)
                    continue
            run_id = 0
            payload = buffer[start:position]
            if self._block is not None and kind != _CONTINUATION:
                raise RemoteProtocolError("the daemon sent another frame in the middle of a header block")
            if kind == _DATA:
                self._on_data(stream_id, flags, payload, events)
            elif kind == _HEADERS:
                self._on_headers(stream_id, flags, payload, events)
            elif kind == _CONTINUATION:
                self._on_continuation(stream_id, flags, payload, events)
            elif kind == _SETTINGS:
                self._on_settings(flags, payload)
            elif kind == _PING:
                if not flags & _ACK:
                    self._control.append(_frame(_PING, _ACK, 0, payload))
            elif kind == _WINDOW:
                self._on_window_update(stream_id, payload)
            elif kind == _RST:
                self._on_reset(stream_id, payload, events)
            elif kind == _GOAWAY:
                self._goaway = True
                events.append(GoingAway(_U32.unpack_from(payload, 4)[0], payload[8:].decode("utf-8", "replace")))
            elif kind == _PUSH:
                raise RemoteProtocolError("the daemon sent PUSH_PROMISE, which a client never may")
            # PRIORITY and frames of unknown types carry nothing for us (RFC 9113, 4.1)
        self._buffer = buffer[position:]
        if received:
            self._received(received)
        return events

    def _check_preface(self, data: bytes) -> bytes:
        """Consume the client preface and return what follows it."""
        expected = self._preface_left
        got = data[: len(expected)]
        if got != expected[: len(got)]:
            raise RemoteProtocolError(
                "the session's bytes do not begin with the HTTP/2 preface", why=f"they begin with {got[:24]!r}"
            )
        self._preface_left = expected[len(got) :]
        return data[len(got) :]

    def _received(self, size: int) -> None:
        """Open the connection's window again at once: what bounds memory is each call's own window."""
        self._received_unacknowledged += size
        if self._received_unacknowledged >= OUR_CONNECTION_WINDOW // 4:
            self._control.append(_frame(_WINDOW, 0, 0, _U32.pack(self._received_unacknowledged)))
            self._received_unacknowledged = 0

    def _on_data(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        self._received(size)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id)
            return
        if stream.half_closed:
            raise RemoteProtocolError(f"the daemon sent data on stream {stream_id} after its end")
        if flags & _PADDED:
            payload = _without_padding(payload)
            self._acknowledge(stream_id, stream, size - len(payload))
        messages = stream.decoder.feed(payload)
        # The prefixes are nobody's to consume, so they are acknowledged here.
        self._acknowledge(stream_id, stream, 5 * len(messages))
        if messages:
            last = events[-1] if events else None
            if isinstance(last, MessagesReceived) and last.stream_id == stream_id:
                last.messages.extend(messages)
            else:
                events.append(MessagesReceived(stream_id, messages))
        if flags & _END_STREAM:
            self._end_of_requests(stream_id, stream, events)

    def _end_of_requests(self, stream_id: int, stream: _Stream, events: list[Event]) -> None:
        if stream.decoder.is_mid_message:
            raise RemoteProtocolError(f"the daemon ended stream {stream_id} in the middle of a message")
        stream.half_closed = True
        events.append(CallHalfClosed(stream_id))

    def _on_headers(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if flags & _PADDED:
            payload = _without_padding(payload)
        if flags & _HAS_PRIORITY:
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._on_header_block(stream_id, flags, payload, events)
        else:
            self._block = (stream_id, flags, bytearray(payload))

    def _on_continuation(self, stream_id: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise RemoteProtocolError("the daemon sent CONTINUATION without a header block before it")
        _, first_flags, block = self._block
        block += payload
        if len(block) > OUR_HEADER_LIST_BYTES:
            raise RemoteProtocolError(f"the daemon sent request headers of more than {OUR_HEADER_LIST_BYTES} bytes")
        if flags & _END_HEADERS:
            self._block = None
            self._on_header_block(stream_id, first_flags, bytes(block), events)

    def _on_header_block(self, stream_id: int, flags: int, block: bytes, events: list[Event]) -> None:
        try:
            fields = self._headers.decode(block, raw=True)
        except HPACKError as exc:
            raise RemoteProtocolError("the daemon's request headers cannot be decoded", why=str(exc)) from exc
        known = self._streams.get(stream_id)
        if known is not None:  # trailers of a request: gRPC clients do not send them, HTTP/2 allows them
            if flags & _END_STREAM and not known.half_closed:
                self._end_of_requests(stream_id, known, events)
            return
        if stream_id % 2 == 0 or stream_id <= self._highest:
            raise RemoteProtocolError(f"the daemon opened stream {stream_id} out of turn")
        self._highest = stream_id
        stream = _Stream(self._initial_window, MessageDecoder(self._max_message))
        self._streams[stream_id] = stream
        path, metadata = _request_metadata(fields)
        events.append(CallStarted(stream_id, path, metadata))
        if flags & _END_STREAM:
            self._end_of_requests(stream_id, stream, events)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        for position in range(0, len(payload) - 5, 6):
            key, value = _SETTING.unpack_from(payload, position)
            if key == _SET_INITIAL_WINDOW:
                if value > MAX_WINDOW:
                    raise RemoteProtocolError(f"the daemon announced a window of {value} bytes")
                # RFC 9113, 6.9.2: the difference applies to every open stream, and may make its window negative.
                change = value - self._initial_window
                self._initial_window = value
                for stream_id, stream in self._streams.items():
                    stream.send_window += change
                    if change > 0:
                        self._make_ready(stream_id, stream)
        self._control.append(_frame(_SETTINGS, _ACK, 0, b""))

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise RemoteProtocolError(f"the daemon sent WINDOW_UPDATE with {len(payload)} bytes")
        increment = _U32.unpack(payload)[0] & MAX_WINDOW
        if stream_id == 0:
            self._send_window += increment
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.send_window += increment
            self._make_ready(stream_id, stream)
        else:
            self._check_known(stream_id)

    def _on_reset(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise RemoteProtocolError(f"the daemon sent RST_STREAM with {len(payload)} bytes")
        if self._streams.pop(stream_id, None) is not None:
            events.append(CallReset(stream_id, _U32.unpack(payload)[0]))
        else:
            self._check_known(stream_id)

    def _check_known(self, stream_id: int) -> None:
        """Accept frames for calls that are over; refuse frames for calls that never were."""
        if stream_id == 0 or stream_id % 2 == 0 or stream_id > self._highest:
            raise RemoteProtocolError(f"the daemon sent a frame for stream {stream_id}, which was never opened")

    # -- what we answer ----------------------------------------------------------------------------------------

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """Tell that a message of that size was taken by its handler, so the daemon may send as much again."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._acknowledge(stream_id, stream, size_bytes)

    def _acknowledge(self, stream_id: int, stream: _Stream, size_bytes: int) -> None:
        stream.unacknowledged += size_bytes
        if stream.unacknowledged >= _ACKNOWLEDGED_BYTES:
            if not stream.half_closed:
                self._control.append(_frame(_WINDOW, 0, stream_id, _U32.pack(stream.unacknowledged)))
            stream.unacknowledged = 0

    def write(self, stream_id: int, framed: bytes | Sequence[bytes | memoryview]) -> None:
        """Queue response messages, each already with its five-byte prefix; a call that is over takes none.

        Args:
            stream_id: The call.
            framed: Bytes or parts of them, in order; must not change afterwards.

        Raises:
            LocalProtocolError: The call was already ended by us.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.trailers is not None:
            raise LocalProtocolError(f"a message was written to stream {stream_id} after its status")
        parts = (framed,) if isinstance(framed, bytes) else framed
        for part in parts:
            size = len(part)
            if size:
                stream.outbox.append(part)
                stream.outbox_bytes += size
        self._make_ready(stream_id, stream)

    def end_call(self, stream_id: int, code: StatusCode = StatusCode.OK, message: str = "") -> None:
        """End a call with a status, after everything written before it."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.trailers is not None:
            return
        fields = _literal(b"grpc-status", str(int(code)).encode())
        if message:
            fields += _literal(b"grpc-message", _percent_encoded(message))
        stream.trailers = fields
        self._make_ready(stream_id, stream)

    def reset_call(self, stream_id: int, error_code: int = 8) -> None:
        """Drop a call at once, with RST_STREAM (8 is CANCEL)."""
        if self._streams.pop(stream_id, None) is not None:
            self._control.append(_frame(_RST, 0, stream_id, _U32.pack(error_code)))

    def go_away(self, error_code: int = _ERR_NO_ERROR) -> None:
        """Announce that we end the connection."""
        self._control.append(_frame(_GOAWAY, 0, 0, _U32.pack(self._highest) + _U32.pack(error_code)))

    def waiting_bytes(self, stream_id: int) -> int:
        """Return how many bytes of a call are queued; 0 for a call that is over."""
        stream = self._streams.get(stream_id)
        return stream.outbox_bytes if stream is not None else 0

    def is_open(self, stream_id: int) -> bool:
        """Whether a call is known and not over."""
        return stream_id in self._streams

    def _make_ready(self, stream_id: int, stream: _Stream) -> None:
        if (stream.outbox or stream.trailers is not None) and stream_id not in self._ready:
            self._ready.append(stream_id)

    def has_data_to_send(self) -> bool:
        """Whether :meth:`data_to_send` would give bytes now."""
        if self._control:
            return True
        for stream_id in self._ready:
            stream = self._streams.get(stream_id)
            if stream is None:
                continue
            if not stream.outbox:
                return True
            if not stream.headers_sent or (stream.send_window > 0 and self._send_window > 0):
                return True
        return False

    def data_to_send(self, limit_bytes: int = 1 << 20) -> list[bytes | memoryview]:
        """Return what may be sent now, as parts to be joined; empty when nothing may.

        Control frames come first, so acknowledgements never wait behind data.

        Args:
            limit_bytes: About how much to give at once.
        """
        out: list[bytes | memoryview] = list(self._control)
        self._control.clear()
        budget = limit_bytes
        blocked = 0
        while self._ready and budget > 0 and blocked < len(self._ready):
            stream_id = self._ready.popleft()
            stream = self._streams.get(stream_id)
            if stream is None:
                continue
            taken = self._take(stream_id, stream, min(budget, _SHARE_BYTES), out)
            budget -= taken
            if stream_id in self._streams and (stream.outbox or stream.trailers is not None):
                self._ready.append(stream_id)
                blocked = blocked + 1 if taken == 0 else 0
        return out

    def _take(self, stream_id: int, stream: _Stream, share: int, out: list[bytes | memoryview]) -> int:
        """Move up to ``share`` bytes of one call into ``out`` as frames; return how many were moved."""
        taken = 0
        if not stream.headers_sent:
            stream.headers_sent = True
            if not stream.outbox and stream.trailers is not None:  # gRPC's "Trailers-Only"
                out.append(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream_id, _RESPONSE_HEADERS + stream.trailers))
                del self._streams[stream_id]
                return 1
            out.append(_frame(_HEADERS, _END_HEADERS, stream_id, _RESPONSE_HEADERS))
            taken = 1
        window = min(share, stream.send_window, self._send_window)
        outbox = stream.outbox
        sent = 0
        pack = _FRAME.pack
        while outbox and sent < window:
            room = min(MAX_FRAME_BYTES, window - sent)
            header_at = len(out)
            out.append(b"")
            size = 0
            while outbox and size < room:
                part = outbox[0]
                length = len(part)
                if length <= room - size:
                    out.append(part)
                    outbox.popleft()
                    size += length
                else:
                    view = memoryview(part)
                    cut = room - size
                    out.append(view[:cut])
                    outbox[0] = view[cut:]
                    size = room
            out[header_at] = pack(0, size, _DATA, 0, stream_id)
            sent += size
        stream.outbox_bytes -= sent
        stream.send_window -= sent
        self._send_window -= sent
        taken += sent
        if not outbox and stream.trailers is not None:
            out.append(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream_id, stream.trailers))
            del self._streams[stream_id]
            taken += 1
        return taken

    def open_calls(self) -> Iterator[int]:
        """Yield the ids of the calls that are not over."""
        return iter(tuple(self._streams))


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return one whole frame."""
    size = len(payload)
    return _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def _without_padding(payload: bytes) -> bytes:
    """Return a padded frame's payload without its padding."""
    if not payload or payload[0] >= len(payload):
        raise RemoteProtocolError("the daemon sent a frame with more padding than bytes")
    return payload[1 : len(payload) - payload[0]]


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header field as a literal that touches no compression state (RFC 7541, 6.2.2)."""
    return b"\x00" + _hpack_string(name) + _hpack_string(value)


def _hpack_string(text: bytes) -> bytes:
    """Return a string literal without Huffman coding (RFC 7541, 5.2)."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    out = bytearray((127,))
    size -= 127
    while size >= 128:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + text


_RESPONSE_HEADERS = b"\x88" + _literal(b"content-type", b"application/grpc")  # 0x88 is ":status: 200"

_MESSAGE_LIMIT = 8192  # keeps the trailers within one frame


def _percent_encoded(message: str) -> bytes:
    """Return a status message as gRPC wants it: printable ASCII, everything else as ``%XX``."""
    out = bytearray()
    for byte in message.encode("utf-8", "replace"):
        out += bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        if len(out) >= _MESSAGE_LIMIT:
            break
    return bytes(out)


def _request_metadata(fields: Iterable[tuple[bytes | str, bytes | str]]) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return the path and the metadata of a request's decoded header fields."""
    path = ""
    collected: dict[str, list[str]] = {}
    for name, value in fields:
        key = _text(name, "latin-1")
        text = _text(value, "utf-8")
        if key == ":path":
            path = text
        if not key.startswith(":"):
            collected.setdefault(key, []).append(text)
    return path, {key: tuple(values) for key, values in collected.items()}


def _text(value: bytes | str, encoding: str) -> str:
    """Return a header's bytes as text that can be turned back into the same bytes."""
    return value if isinstance(value, str) else value.decode(encoding, "surrogateescape")
