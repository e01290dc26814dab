"""A bare HTTP/2 client on the h2 library: the daemon's role, for tests of our server core."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import h2.settings

from buildkit_client.protocol.grpc_server import GrpcServerConnection


class H2Peer:
    """Speaks to a :class:`GrpcServerConnection` in memory and collects what comes back."""

    def __init__(self, server: GrpcServerConnection, *, window: int | None = None, chunk: int = 1 << 20) -> None:
        self.server = server
        self.chunk = chunk
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_inbound_headers=True)
        )
        if window is not None:
            self.h2.local_settings = h2.settings.Settings(
                client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.h2.initiate_connection()
        self.server_events: list[object] = []
        self.headers: dict[int, list[tuple[str, str]]] = {}
        self.trailers: dict[int, list[tuple[str, str]]] = {}
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.largest_frame = 0
        self.auto_window = True
        self.exchange()

    def exchange(self) -> None:
        """Pass bytes both ways until both sides are silent."""
        while True:
            out = self.h2.data_to_send()
            for start in range(0, len(out), self.chunk):
                self.server_events += self.server.receive_data(out[start : start + self.chunk])
            back = b"".join(self.server.data_to_send())
            if not out and not back:
                return
            for event in self.h2.receive_data(back):
                self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.headers[event.stream_id] = list(event.headers)
            case h2.events.TrailersReceived():
                self.trailers[event.stream_id] = list(event.headers)
            case h2.events.DataReceived():
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                self.largest_frame = max(self.largest_frame, len(event.data))
                if self.auto_window:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)

    def call(self, path: str, *messages: bytes, end: bool = True, metadata: tuple[tuple[str, str], ...] = ()) -> int:
        """Open a call and send messages; return its stream id."""
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream_id,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "localhost"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                *metadata,
            ],
        )
        for message in messages:
            self.send(stream_id, message)
        if end:
            self.h2.end_stream(stream_id)
        self.exchange()
        return stream_id

    def send(self, stream_id: int, message: bytes) -> None:
        """Send one message, as windows allow."""
        framed = struct.pack(">BI", 0, len(message)) + message
        while framed:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if room == 0:
                self.exchange()
                room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                assert room, "the server gives no window"
            self.h2.send_data(stream_id, framed[:room])
            framed = framed[room:]
        self.exchange()
