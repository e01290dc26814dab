"""Reads a tar stream from start to end without trusting it; writes the headers of one.

The standard library's reader is made for files that are to be unpacked: it reads a header of any size into memory and
follows links. Here a member is a name, a kind, a size and bytes that pass by; what a name may mean is the caller's
question. Sparse files are refused, and so is a stream without its end mark or with something behind it.

Reference: POSIX pax, "ustar Interchange Format", "pax Header Block"; GNU tar manual, "Standard Format".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from buildkit_client.errors import LayoutError
from buildkit_client.oci.digest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_client.oci.decompress import ByteReader

BLOCK_BYTES = 512
END_MARK = bytes(2 * BLOCK_BYTES)

MAX_NAME_BYTES = 4096
"""PATH_MAX: the longest name or link target that is taken."""
MAX_EXTENDED_HEADER_BYTES = 1 << 20
MAX_ENTRIES = 100_000
MAX_TOTAL_BYTES = 256 << 30


class TarKind(Enum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    SPECIAL = "device or pipe"


_KINDS = {
    b"0": TarKind.FILE,
    b"\0": TarKind.FILE,
    b"7": TarKind.FILE,  # "contiguous", which no system has any more
    b"1": TarKind.HARDLINK,
    b"2": TarKind.SYMLINK,
    b"3": TarKind.SPECIAL,
    b"4": TarKind.SPECIAL,
    b"5": TarKind.DIRECTORY,
    b"6": TarKind.SPECIAL,
}


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member's header.

    Attributes:
        name: As the stream has it: may be absolute, hold ``..``, or be empty.
        kind: What it is.
        size_bytes: Bytes of content that follow; 0 for all but files.
        link_target: Where a link points to, as the stream has it; empty for others.
    """

    name: str
    kind: TarKind
    size_bytes: int
    link_target: str = ""


class TarReader:
    """Iterates over a tar stream's members; :meth:`chunks` and :meth:`read` give the content of the current one.

    Args:
        stream: Read to its end; not closed by us. Reads may return fewer bytes than asked for.
        max_entries: The most members.
        max_total_bytes: The most bytes of content, all members together.

    Raises:
        LayoutError: While iterating: the stream is damaged, cut short, followed by something else, or past a limit.
    """

    def __init__(
        self, stream: ByteReader, *, max_entries: int = MAX_ENTRIES, max_total_bytes: int = MAX_TOTAL_BYTES
    ) -> None:
        self._stream = stream
        self._max_entries = max_entries
        self._max_total = max_total_bytes
        self._entries = 0
        self._total = 0
        self._left = 0  # content of the current member not read yet
        self._padding = 0

    def __iter__(self) -> Iterator[TarMember]:
        """Yield members in stream order; content that was not read is skipped."""
        while (member := self._next()) is not None:
            yield member

    def chunks(self) -> Iterator[bytes]:
        """Yield the rest of the current member's content in chunks of at most 1 MiB.

        Raises:
            LayoutError: The stream is cut short.
        """
        while chunk := self.read(CHUNK_BYTES):
            yield chunk

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes of the current member's content, none at its end; -1 stands for the rest.

        This makes the reader itself a stream of that content, for archives in archives.

        Raises:
            LayoutError: The stream is cut short.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted) if wanted else b""
        if wanted and not data:
            raise _cut_short()
        self._left -= len(data)
        return data

    def read_content(self, limit: int) -> bytes:
        """Return the rest of the current member's content.

        Raises:
            LayoutError: It is longer than the limit, or the stream is cut short.
        """
        if self._left > limit:
            raise LayoutError("a file in the archive is too large", why=f"{self._left} bytes; the limit is {limit}")
        return b"".join(self.chunks())

    def _next(self) -> TarMember | None:
        extended: dict[bytes, bytes] = {}
        while True:
            self._finish_member()
            block = self._read_exactly(BLOCK_BYTES)
            if not any(block):
                if extended:
                    raise _damaged("an extended header stands before no file")
                self._check_end()
                return None
            self._count_entry()
            _check_sum(block)
            kind, size = block[156:157], _number(block[124:136], "size")
            if kind in (b"L", b"K", b"x", b"g"):
                data = self._extended_header(size)
                if kind == b"L":
                    extended[b"path"] = data.rstrip(b"\0")
                elif kind == b"K":
                    extended[b"linkpath"] = data.rstrip(b"\0")
                elif kind == b"x":
                    extended.update(_pax_records(data))
                elif _pax_records(data).keys() & {b"path", b"linkpath", b"size"}:
                    raise _damaged("a global header names every file the same")
                continue
            return self._start_member(block, size, extended)

    def _start_member(self, block: bytes, size: int, pax: dict[bytes, bytes]) -> TarMember:
        kind_flag = block[156:157]
        kind = _KINDS.get(kind_flag)
        if kind is None or any(key.startswith(b"GNU.sparse") for key in pax):
            raise LayoutError("the archive has a kind of file that is not taken", why=f"type {kind_flag!r} or sparse")
        name, target = block[:100].split(b"\0")[0], block[157:257].split(b"\0")[0]
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0")[0]):
            name = prefix + b"/" + name
        name = pax.get(b"path", name)
        target = pax.get(b"linkpath", target)
        if b"size" in pax:
            size = _decimal(pax[b"size"])
        if kind is TarKind.FILE and kind_flag == b"\0" and name.endswith(b"/"):
            kind = TarKind.DIRECTORY  # how tar wrote them before ustar
        if kind is not TarKind.FILE:
            size = 0
        self._total += size
        if self._total > self._max_total:
            raise LayoutError("the archive is too large", why=f"its files have more than {self._max_total} bytes")
        self._left, self._padding = size, -size % BLOCK_BYTES
        is_link = kind in (TarKind.SYMLINK, TarKind.HARDLINK)
        return TarMember(_text(name), kind, size, _text(target) if is_link else "")

    def _extended_header(self, size: int) -> bytes:
        if size > MAX_EXTENDED_HEADER_BYTES:
            raise _damaged(f"an extended header has {size} bytes; the limit is {MAX_EXTENDED_HEADER_BYTES}")
        self._padding = -size % BLOCK_BYTES
        return self._read_exactly(size)

    def _finish_member(self) -> None:
        for _ in self.chunks():
            pass
        self._read_exactly(self._padding)
        self._padding = 0

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._max_entries:
            raise LayoutError("the archive has too many files", why=f"the limit is {self._max_entries}")

    def _check_end(self) -> None:
        if any(self._read_exactly(BLOCK_BYTES)):
            raise _damaged("its end mark is incomplete")
        read = 0
        while chunk := self._stream.read(CHUNK_BYTES):
            read += len(chunk)
            if chunk.count(0) != len(chunk) or read > self._max_total:
                raise _damaged("something follows its end")

    def _read_exactly(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise _cut_short()
            data += more
        return data


def tar_header(
    name: str, size_bytes: int, *, is_directory: bool = False, mode: int | None = None, mod_time_s: int = 0
) -> bytes:
    """Return the header of a member that looks the same whoever writes it: owner 0, no names.

    Args:
        name: ASCII, without a slash at the end; may be empty.
        size_bytes: Length of the content; of any size, and 0 for a directory.
        is_directory: Whether it is a folder.
        mode: Permission bits; None means 0755 for a folder, 0644 for a file.
        mod_time_s: Seconds since 1970.

    Returns:
        One block, or three where the name is longer than 100 bytes.
    """
    import tarfile  # noqa: PLC0415  # only writers need it

    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mtime = mod_time_s
    info.type = tarfile.DIRTYPE if is_directory else tarfile.REGTYPE
    info.mode = mode if mode is not None else (0o755 if is_directory else 0o644)
    data = info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    if name or not is_directory:
        return data
    nameless = b"\0" + data[1:]  # there would be a slash, which is another folder than the one without a name
    return nameless[:148] + b"%06o\0 " % (sum(nameless) - sum(nameless[148:156]) + 8 * 0x20) + nameless[156:]


def _check_sum(block: bytes) -> None:
    stored = _number(block[148:156], "checksum")
    plain = sum(block) - sum(block[148:156]) + 8 * 0x20
    if stored == plain:
        return
    high = sum(1 for byte in block[:148] + block[156:] if byte > 0x7F)
    if stored != plain - 256 * high:  # some old writers summed signed bytes
        raise _damaged("a header's checksum is wrong; perhaps it is no tar archive")


def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise _damaged(f"a header's {what} is negative")
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    text = field.split(b"\0")[0].strip(b" ")
    if text.strip(b"01234567"):
        raise _damaged(f"a header's {what} is no number")
    return int(text or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise _damaged("a header has a size that is no number")
    return int(text)


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        end = position + _decimal(data[position : max(space, position)])
        key, equals, value = data[space + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise _damaged("an extended header is malformed")
        records[key] = value[:-1]
        position = end
    return records


def _text(name: bytes) -> str:
    if len(name) > MAX_NAME_BYTES:
        raise _damaged(f"it has a name of {len(name)} bytes")
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _damaged(f"it has a name that is not UTF-8: {name[:80]!r}") from exc


def _damaged(why: str) -> LayoutError:
    return LayoutError("the archive is damaged", why=why)


def _cut_short() -> LayoutError:
    return LayoutError("the archive is cut short", why="it ends inside a file or without its end mark")
