"""Our side of a file transfer when the daemon sends one (the ``local`` exporter).

The core checks what is listed, knows which content is due, and says what each packet of the daemon means. It writes no
files and waits for nothing: the caller sends the bytes it returns and acts on its events.

Reference: tonistiigi/fsutil, receive.go.
"""

from __future__ import annotations

from typing import NamedTuple

from buildkit_client.errors import LocalProtocolError, RemoteProtocolError
from buildkit_client.protocol.fsutil_packet import PacketType, decode_packet, encode_fin, encode_request
from buildkit_client.protocol.fsutil_stat import ListingValidator, Stat


class EntryListed(NamedTuple):
    """The daemon lists an entry.

    Attributes:
        file_id: Its id in this transfer.
        entry: Checked to be inside the root, in order, below listed directories.
    """

    file_id: int
    entry: Stat


class ListingEnded(NamedTuple):
    """Everything is listed."""


class ContentReceived(NamedTuple):
    """A piece of a requested file.

    Attributes:
        file_id: The file.
        data: Never empty.
    """

    file_id: int
    data: bytes


class ContentEnded(NamedTuple):
    """A requested file is complete.

    Attributes:
        file_id: The file.
    """

    file_id: int


class SenderDone(NamedTuple):
    """The daemon has confirmed the end of the transfer."""


_STAT, _DATA, _FIN, _ERR = map(int, (PacketType.STAT, PacketType.DATA, PacketType.FIN, PacketType.ERR))

ReceiverEvent = EntryListed | ListingEnded | ContentReceived | ContentEnded | SenderDone


class FsutilReceiver:
    """State of one transfer. All bytes returned are gRPC-framed packets."""

    __slots__ = ("_entries", "_has_ended", "_is_finished", "_open", "_requestable", "_validator")

    def __init__(self) -> None:
        self._validator = ListingValidator()
        self._entries = 0
        self._requestable: set[int] = set()
        self._open: set[int] = set()
        self._has_ended = False
        self._is_finished = False

    @property
    def open_files(self) -> int:
        """How many files were requested and are not complete."""
        return len(self._open)

    def receive(self, message: bytes) -> ReceiverEvent:
        """Take a message of the daemon.

        Raises:
            RemoteProtocolError: The listing is not one of a tree, content arrives that was not requested, the
                transfer ends before we said so, the daemon reports an error, or it is no packet of a sender.
        """
        packet = decode_packet(message)
        kind = packet.type
        if kind == _DATA:
            file_id, data = packet.ID, packet.data
            if file_id not in self._open:
                raise RemoteProtocolError(f"invalid file request {file_id}", why="its content was not asked for")
            if data:
                return ContentReceived(file_id, data)
            self._open.remove(file_id)
            return ContentEnded(file_id)
        if kind == _STAT:
            if self._has_ended:
                raise RemoteProtocolError("the daemon listed an entry after the end of its listing")
            if packet.HasField("stat"):
                return self._list(Stat.from_proto(packet.stat))
            self._has_ended = True
            return ListingEnded()
        if kind == _FIN:
            if not self._is_finished:
                raise RemoteProtocolError("the daemon ended a file transfer before it was complete")
            return SenderDone()
        if kind == _ERR:
            text = packet.data.decode("utf-8", "backslashreplace")
            raise RemoteProtocolError(f"error from sender: {text}", why="the daemon stopped the file transfer")
        raise RemoteProtocolError(f"the daemon sent a {PacketType(kind).name} packet while it was sending files")

    def request(self, file_id: int) -> bytes:
        """Ask for a file's content.

        Args:
            file_id: From an :class:`EntryListed` whose entry has content; each may be asked for once.

        Raises:
            LocalProtocolError: There is no such file, or it was asked for already.
        """
        if file_id not in self._requestable:
            raise LocalProtocolError(f"file id {file_id} has no content to ask for, or was asked for already")
        self._requestable.remove(file_id)
        self._open.add(file_id)
        return encode_request(file_id)

    def finish(self) -> bytes:
        """Say that we have all we want.

        Raises:
            LocalProtocolError: The listing has not ended, or requested content is missing.
        """
        if not self._has_ended or self._open:
            raise LocalProtocolError("a file transfer was to be finished before it was complete")
        self._is_finished = True
        return encode_fin()

    def _list(self, entry: Stat) -> EntryListed:
        self._validator.add(entry)
        file_id = self._entries
        self._entries += 1
        if entry.has_content:
            self._requestable.add(file_id)
        return EntryListed(file_id, entry)
