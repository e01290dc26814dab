"""The file around an export: written whole or not at all, in gzip, zstd or plain.

What is written depends on the bytes alone, never on how they were cut into pieces, so that equal exports are equal
files. Image layers are compressed already; gzip therefore stores them, which any gzip reads, several times as fast as
it would compress them for nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import zlib
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from convox.errors import ArchiveError, UsageError
from convox.interrupts import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Compression = Literal["gzip", "zstd", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("gzip", "zstd", "none")
ExportFormat = Literal["convox", "oci"]
FORMATS: tuple[ExportFormat, ...] = ("convox", "oci")

STORED_BYTES = 0xFFFF
"""The most bytes that a stored block of deflate holds."""
STORED_HEADER_BYTES = 5
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate, no time, no name, from an unknown system
_PART_SUFFIX = ".part"
_KEPT_FROM_BYTES = 1 << 20
_RESUME_HINT = "run the same command again: it goes on from where it stopped"


def choose_format(given: str | None) -> ExportFormat:
    """Return the form of an export; None takes Convox's.

    Raises:
        UsageError: No such form is known.
    """
    for file_format in FORMATS:
        if given in (None, file_format):
            return file_format
    raise UsageError(f"unknown format: {given}", why=f"--format is one of {', '.join(FORMATS)}")


def choose_compression(given: str | None, file_name: str | None, file_format: ExportFormat = "convox") -> Compression:
    """Return how an export is packed.

    Args:
        given: What was asked for; None leaves it to the name: one that ends in ``.zst`` is packed so. Others are
            packed in gzip, the only thing that Convox reads; image layouts only where they are called ``.tgz`` or
            ``.gz``, since most tools want them plain.
        file_name: The file's name, None for stdout.
        file_format: The form of the export.

    Raises:
        UsageError: No such compression is known.
    """
    name = file_name or ""
    if given is None and name.endswith(".zst"):
        return "zstd"
    if given is None:
        return "gzip" if file_format == "convox" or name.endswith((".tgz", ".gz")) else "none"
    for compression in COMPRESSIONS:
        if given == compression:
            return compression
    raise UsageError(f"unknown compression: {given}", why=f"--compression is one of {', '.join(COMPRESSIONS)}")


class ByteSink(Protocol):
    """Takes the bytes of an export."""

    def write(self, data: bytes) -> object:
        """Take all of the data."""


class PackingSink(ByteSink, Protocol):
    """Takes bytes and writes them, packed, to another one."""

    def finish(self) -> None:
        """Write what is left."""


def packing_sink(out: BinaryIO, compression: Compression) -> PackingSink:
    """Return what packs bytes on their way into a stream.

    Args:
        out: Where they go; not closed.
        compression: How.
    """
    match compression:
        case "gzip":
            return _StoredGzip(out)
        case "zstd":
            return _Zstd(out)
        case "none":
            return _Plain(out)


class _StoredGzip:
    """Gzip of stored blocks, each but the last as long as can be."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._pending = bytearray()
        self._crc = 0
        self._size = 0
        out.write(GZIP_HEADER)

    def write(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        parts: list[bytes | memoryview] = []
        rest = memoryview(data)
        if self._pending:
            missing = STORED_BYTES - len(self._pending)
            self._pending += rest[:missing]
            rest = rest[missing:]
            if len(self._pending) == STORED_BYTES:
                parts += (_stored_header(STORED_BYTES), bytes(self._pending))
                self._pending.clear()
        while len(rest) >= STORED_BYTES:
            parts += (_stored_header(STORED_BYTES), rest[:STORED_BYTES])
            rest = rest[STORED_BYTES:]
        self._pending += rest
        if parts:
            self._out.write(b"".join(parts))

    def finish(self) -> None:
        end = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        self._out.write(_stored_header(len(self._pending), is_last=True) + bytes(self._pending) + end)


def _stored_header(size: int, *, is_last: bool = False) -> bytes:
    """Return what stands before a stored block; Reference: RFC 1951, 3.2.4."""
    return bytes([is_last]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")


class _Zstd:
    def __init__(self, out: BinaryIO) -> None:
        import zstandard  # noqa: PLC0415 (only where it is asked for)

        self._out = out
        self._packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()

    def write(self, data: bytes) -> None:
        if packed := self._packer.compress(data):
            self._out.write(packed)

    def finish(self) -> None:
        self._out.write(self._packer.flush())


class _Plain:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def finish(self) -> None:
        """Write nothing more."""


@contextlib.contextmanager
def whole_file(path: Path, *, resumes: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name when the block ends well; else nothing is left of it.

    What lies under the name until then stays as it is. A symbolic link keeps leading to the file. A pipe or device is
    written to directly. What a killed process left of the same file is deleted.

    Args:
        path: The file; its folder must be there.
        resumes: Begin with what a killed process left of the same file, and leave as much when the block ends with an
            error of a registry or builder, or is interrupted; the error says so. Less than 1 MiB is not kept.

    Yields:
        The stream, at its start. The file ends where the stream is when the block ends.

    Raises:
        ArchiveError: The file cannot be written.
    """
    try:
        path = path.resolve()
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, RuntimeError) as exc:  # the latter for links that lead in a circle
        raise ArchiveError(f"cannot write {path}", why=getattr(exc, "strerror", "") or str(exc)) from exc
    if mode is not None and stat.S_ISDIR(mode):
        raise ArchiveError(f"cannot write {path}", why="it is a folder", hint="name a file in it")
    if mode is not None and not stat.S_ISREG(mode):
        with writing(path), path.open("wb") as special:
            yield special
        return
    with writing(path):
        part = stream = None
        try:
            with uninterrupted():  # else Ctrl-C could come when there is a file, and nobody yet who would delete it
                part, stream = _take_leftovers(path, keeps_one=resumes) or _open_part(path)
            with stream:
                if mode is not None:
                    os.fchmod(stream.fileno(), stat.S_IMODE(mode))
                yield stream
                stream.truncate()
                stream.flush()
                os.fsync(stream.fileno())
                part.rename(path)
        except BaseException as exc:
            if part is not None and stream is not None:
                if resumes and _is_kept(part, exc):
                    _add_hint(exc)
                else:
                    part.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a full disk fails the flush of bytes nobody wants
                    stream.close()
            raise
        _sync_folder(path.parent)


def _is_kept(part: Path, exc: BaseException) -> bool:
    """Whether a part is worth keeping after an error: another attempt may help, and there is enough of it."""
    from buildkit_client.errors import BuildKitError  # noqa: PLC0415 (only where something went wrong)

    with contextlib.suppress(OSError):
        return isinstance(exc, BuildKitError | KeyboardInterrupt) and part.stat().st_size >= _KEPT_FROM_BYTES
    return False


def _add_hint(exc: BaseException) -> None:
    from buildkit_client.errors import BuildKitError  # noqa: PLC0415 (only where something went wrong)

    if isinstance(exc, BuildKitError):
        exc.hint = "; ".join(filter(None, (exc.hint, _RESUME_HINT)))
    else:
        exc.add_note(_RESUME_HINT)


@contextlib.contextmanager
def writing(name: Path | str) -> Iterator[None]:
    """Turn an error of the file system into one that names the file; a pipe that nobody reads stays what it is.

    Args:
        name: What errors call the file.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise ArchiveError(f"cannot write {name}", why=exc.strerror or str(exc)) from exc


def _open_part(path: Path) -> tuple[Path, BinaryIO]:
    """Open a temporary file beside a file, locked as long as its writer lives."""
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_PART_SUFFIX}")
        stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return part, stream
        stream.close()  # another export took it for a leftover before it was locked


def _take_leftovers(path: Path, *, keeps_one: bool) -> tuple[Path, BinaryIO] | None:
    """Delete temporary files of this file whose writers are gone: nobody holds their lock.

    Args:
        path: The file.
        keeps_one: Open one of them, locked, in place of deleting it.
    """
    kept = None
    prefix = f".{path.name}."
    for entry in path.parent.iterdir():
        if not (entry.name.startswith(prefix) and entry.name.endswith(_PART_SUFFIX)):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(entry, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if keeps_one and kept is None and _is_own(os.fstat(descriptor)):
                    kept, descriptor = (entry, os.fdopen(descriptor, "wb")), -1
                else:
                    entry.unlink()
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
    return kept


def _is_own(file: os.stat_result) -> bool:
    """Whether nobody else can have a hand in a file: in a folder for all, anybody can make one of any name."""
    return stat.S_ISREG(file.st_mode) and file.st_uid == os.geteuid() and file.st_nlink == 1


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
