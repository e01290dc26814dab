"""Our side of a file transfer when the daemon reads a directory (``FileSync/DiffCopy``).

The core numbers what is listed, knows what may be asked for, and says what each packet of the daemon means. It reads
no files and waits for nothing: the caller sends the bytes it returns and acts on its events.

Reference: tonistiigi/fsutil, send.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.errors import LocalProtocolError, RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import (
    END_OF_LISTING,
    PacketType,
    StatEncoder,
    data_header,
    decode_packet,
    encode_fin,
    whole_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_client.protocol.fsutil_stat import Stat


_REQ = int(PacketType.REQ)


class FileRequested(NamedTuple):
    """The daemon wants a file's content.

    Attributes:
        file_id: Its id in this transfer.
        path: Its path, as it was listed.
    """

    file_id: int
    path: bytes


class TransferDone(NamedTuple):
    """The daemon has all it wanted.

    Attributes:
        reply: Bytes to send before the call ends.
    """

    reply: bytes


class FsutilSender:
    """State of one transfer. All bytes returned are gRPC-framed packets."""

    __slots__ = ("_encoder", "_has_ended", "_offered", "_open")

    def __init__(self) -> None:
        self._encoder = StatEncoder()
        self._offered: list[bytes | None] = []  # by id: the path of a file that may still be asked for
        self._open: set[int] = set()
        self._has_ended = False

    @property
    def entries(self) -> int:
        """How many entries were listed so far."""
        return len(self._offered)

    def offer(self, entries: Iterable[Stat]) -> bytes:
        """List the next entries; many at once make one buffer.

        Args:
            entries: In the order of :func:`~buildkit_client.protocol.fsutil_stat.walk_key`, parents first.

        Raises:
            LocalProtocolError: The listing has ended.
        """
        if self._has_ended:
            raise LocalProtocolError("an entry was listed after the end of the listing")
        encode = self._encoder.encode
        offered = self._offered
        frames = []
        for entry in entries:
            frames.append(encode(entry))
            offered.append(entry.path if entry.has_content else None)
        return b"".join(frames)

    def end_listing(self) -> bytes:
        """Say that everything is listed."""
        self._has_ended = True
        return END_OF_LISTING

    def receive(self, message: bytes) -> FileRequested | TransferDone:
        """Take a message of the daemon.

        Raises:
            RemoteProtocolError: It asks for what was not offered or was already asked for, ends the transfer before
                it is complete, reports an error, or is no packet of a receiver.
        """
        packet = decode_packet(message)
        if packet.type == _REQ:
            return self._request(packet.ID)
        match packet.type:
            case PacketType.FIN:
                if not self._has_ended or self._open:
                    raise RemoteProtocolError("the daemon ended a file transfer before it was complete")
                return TransferDone(encode_fin())
            case PacketType.ERR:
                text = packet.data.decode("utf-8", "backslashreplace")
                raise RemoteProtocolError(f"error from receiver: {text}", why="the daemon stopped the file transfer")
        raise RemoteProtocolError(f"the daemon sent a {PacketType(packet.type).name} packet while it was receiving")

    def content_header(self, file_id: int, size_bytes: int) -> bytes:
        """Return what stands before a piece of a requested file's content.

        Args:
            file_id: From :class:`FileRequested`.
            size_bytes: Length of the piece, at least 1; stay below 3 MiB.

        Raises:
            LocalProtocolError: The file was not requested, or its content has ended.
        """
        if file_id not in self._open:
            raise LocalProtocolError(f"content for file id {file_id}, which was not requested or has ended")
        return data_header(file_id, size_bytes)

    def end_content(self, file_id: int) -> bytes:
        """Say that a requested file's content is complete, or that there is none.

        Raises:
            LocalProtocolError: The file was not requested, or its content has ended.
        """
        self._end(file_id)
        return data_header(file_id, 0)

    def whole_file(self, file_id: int, size_bytes: int) -> tuple[bytes, bytes]:
        """Return what stands before all of a requested file's content, and what ends it.

        Args:
            file_id: From :class:`FileRequested`.
            size_bytes: Length of the content; may be 0.

        Raises:
            LocalProtocolError: The file was not requested, or its content has ended.
        """
        self._end(file_id)
        return whole_file(file_id, size_bytes)

    def _end(self, file_id: int) -> None:
        if file_id not in self._open:
            raise LocalProtocolError(f"end of content for file id {file_id}, which was not requested or has ended")
        self._open.remove(file_id)

    def _request(self, file_id: int) -> FileRequested:
        path = self._offered[file_id] if file_id < len(self._offered) else None
        if path is None:
            raise RemoteProtocolError(f"invalid file id {file_id}", why="it was not offered, or was already asked for")
        self._offered[file_id] = None
        self._open.add(file_id)
        return FileRequested(file_id, path)
