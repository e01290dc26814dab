"""A daemon's end of a session in memory: an h2 client behind the outer stream, driven by a test."""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Callable, Iterator

import h2.config
import h2.connection
import h2.events

from buildkit_client._proto import control_pb2
from buildkit_client.protocol.grpc_framing import MessageDecoder


class PeerCall:
    """One call the daemon makes; collects messages and the status."""

    def __init__(self) -> None:
        self.decoder = MessageDecoder()
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.done = threading.Event()
        self.status: int | None = None
        self.message = ""


class FakeDaemon:
    """Stands for ``Control.Session``: give :meth:`open_stream` to a Session.

    Args:
        chunk: How many bytes each outer message to the client carries.
    """

    def __init__(self, *, chunk: int = 32_768) -> None:
        self.metadata: list[tuple[str, str]] = []
        self.half_closed = threading.Event()
        self.outer_sizes: list[int] = []
        self._chunk = chunk
        self._to_client: queue.Queue[bytes | BaseException | None] = queue.Queue()
        self._from_client: queue.Queue[bytes | None] = queue.Queue()
        self._lock = threading.RLock()
        self._reading = threading.Event()
        self._reading.set()
        self._calls: dict[int, PeerCall] = {}
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.cancelled = False

    # -- the outer call, as the session sees it

    def open_stream(self, metadata: list[tuple[str, str]], on_sent: Callable[[], None]) -> FakeDaemon:
        self.metadata = metadata
        self._h2.initiate_connection()
        self._flush()
        threading.Thread(target=self._consume, args=(on_sent,), daemon=True).start()
        return self

    def send(self, message: bytes) -> None:
        self._from_client.put(message)

    def half_close(self) -> None:
        self._from_client.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            item = self._to_client.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def cancel(self) -> None:
        self.cancelled = True
        self._to_client.put(None)

    def _consume(self, on_sent: Callable[[], None]) -> None:
        while (message := self._from_client.get()) is not None:
            self._reading.wait()
            self.outer_sizes.append(len(message))
            data = control_pb2.BytesMessage.FromString(message).data
            with self._lock:
                for event in self._h2.receive_data(data):
                    self._take(event)
                self._flush()
            on_sent()
        self.half_closed.set()
        self._to_client.put(None)

    def _take(self, event: h2.events.Event) -> None:
        call = self._calls.get(getattr(event, "stream_id", 0) or 0)
        match event:
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                for message in call.decoder.feed(event.data):
                    call.messages.put(message)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                headers = dict(event.headers)
                if "grpc-status" in headers:
                    call.status = int(headers["grpc-status"])
                    call.message = headers.get("grpc-message", "")
            case h2.events.StreamEnded() | h2.events.StreamReset():
                call.done.set()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        for start in range(0, len(data), self._chunk):
            piece = data[start : start + self._chunk]
            self._to_client.put(control_pb2.BytesMessage(data=piece).SerializeToString())

    # -- what a test does

    def stop_reading(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    def fail(self, error: BaseException) -> None:
        self._to_client.put(error)

    def send_raw(self, data: bytes) -> None:
        self._to_client.put(control_pb2.BytesMessage(data=data).SerializeToString())

    def go_away(self) -> None:
        with self._lock:
            self._h2.close_connection(additional_data=b"client transport shutdown")
            self._flush()

    def start_call(self, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> int:
        with self._lock:
            stream_id = self._h2.get_next_available_stream_id()
            self._calls[stream_id] = PeerCall()
            headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
            self._h2.send_headers(
                stream_id, [*headers, ("content-type", "application/grpc"), ("te", "trailers"), *metadata]
            )
            self._flush()
            return stream_id

    def send_message(self, stream_id: int, message: bytes, *, end: bool = False) -> None:
        framed = struct.pack(">BI", 0, len(message)) + message
        while framed:
            with self._lock:
                room = min(self._h2.local_flow_control_window(stream_id), 16_384)
                if room:
                    self._h2.send_data(stream_id, framed[:room])
                    framed = framed[room:]
                    self._flush()
                    continue
            threading.Event().wait(0.005)
        if end:
            self.end(stream_id)

    def end(self, stream_id: int) -> None:
        with self._lock:
            self._h2.end_stream(stream_id)
            self._flush()

    def reset(self, stream_id: int) -> None:
        with self._lock:
            self._h2.reset_stream(stream_id, 8)
            self._flush()

    def call_of(self, stream_id: int) -> PeerCall:
        return self._calls[stream_id]

    def unary(self, path: str, message: bytes = b"", metadata: tuple[tuple[str, str], ...] = ()) -> PeerCall:
        stream_id = self.start_call(path, metadata)
        self.send_message(stream_id, message, end=True)
        call = self._calls[stream_id]
        assert call.done.wait(10), f"{path} was not answered"
        return call
