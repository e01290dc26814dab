"""A receiver as bare as can be: it asks for what it is told to, and keeps what comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from buildkit_client._proto import fsutil_pb2
from tests.support.calls import MemoryCall


class BareReceiver:
    """Plays the daemon of one ``FileSync`` call; give :attr:`call` to the service.

    Args:
        metadata: The call's.
        wants: Says which entries' content to ask for; by default all files'.
        asks_early: Whether to ask as soon as an entry is seen, or when everything is listed.
        before_asking: Runs once, before the first request.

    Attributes:
        stats: What was listed.
        contents: Content by path, as far as it is complete.
        kinds: Type of each packet that came.
        chunks: Sizes of the pieces it came in.
        errors: Texts of ERR packets.
    """

    def __init__(
        self,
        metadata: Mapping[str, tuple[str, ...]],
        *,
        wants: Callable[[fsutil_pb2.Stat], bool] | None = None,
        asks_early: bool = True,
        before_asking: Callable[[], None] | None = None,
    ) -> None:
        self.call = MemoryCall(metadata, on_message=self._take)
        self.stats: list[fsutil_pb2.Stat] = []
        self.contents: dict[bytes, bytes] = {}
        self.kinds: list[int] = []
        self.chunks: list[int] = []
        self.errors: list[str] = []
        self.is_listed = False
        self.got_fin = False
        self._wants = wants or (lambda stat: not stat.mode & 0x8F280000 and not stat.linkname)
        self._asks_early = asks_early
        self._before_asking = before_asking
        self._due: list[int] = []
        self._open: dict[int, bytearray] = {}

    def _take(self, message: bytes) -> None:
        packet = fsutil_pb2.Packet.FromString(message)
        self.kinds.append(packet.type)
        match packet.type:
            case fsutil_pb2.Packet.PACKET_STAT:
                if packet.HasField("stat"):
                    self._list(packet.stat)
                else:
                    self.is_listed = True
                    self._ask()
                    self._finish()
            case fsutil_pb2.Packet.PACKET_DATA:
                if packet.data:
                    self.chunks.append(len(packet.data))
                    self._open[packet.ID] += packet.data
                else:
                    self.contents[self.stats[packet.ID].path] = bytes(self._open.pop(packet.ID))
                    self._finish()
            case fsutil_pb2.Packet.PACKET_FIN:
                self.got_fin = True
            case fsutil_pb2.Packet.PACKET_ERR:
                self.errors.append(packet.data.decode())

    def _list(self, stat: fsutil_pb2.Stat) -> None:
        copy = fsutil_pb2.Stat()
        copy.CopyFrom(stat)
        if self._wants(copy):
            self._due.append(len(self.stats))
        self.stats.append(copy)
        if self._asks_early:
            self._ask()

    def _ask(self) -> None:
        if self._before_asking is not None:
            self._before_asking()
            self._before_asking = None
        for file_id in self._due:
            self._open[file_id] = bytearray()
            request = fsutil_pb2.Packet(type=fsutil_pb2.Packet.PACKET_REQ, ID=file_id)
            self.call.deliver(request.SerializeToString())
        self._due.clear()

    def _finish(self) -> None:
        if self.is_listed and not self._open and not self._due:
            self.call.deliver(fsutil_pb2.Packet(type=fsutil_pb2.Packet.PACKET_FIN).SerializeToString())
