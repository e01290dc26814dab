"""Reading an export without trust: what it holds goes into temporary places until all of it is known to be right.

No name in the file is ever made into a path. The record and the log are kept aside, images are staged (see
:mod:`buildkit_client.oci.staging`), and nothing is stored or sent before the last byte was read. Order does not matter,
and neither does the packing, which is told from the first bytes.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from convox.archive_record import MAX_RECORD_BYTES, ExportedRecord, parse_record
from convox.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from buildkit_client.oci import Descriptor, StagedArchive, TarMember, TarReader
    from convox.archive_images import ByteReader, ImageTarget

RECORD_NAME = "build.json"
LOG_NAME = "build.log"

MAX_MEMBERS = 10_000
"""The most files in an export; one has as many as its build has services, and three more."""
MAX_RATIO = 250
RATIO_FROM_BYTES = 64 << 20
"""From here on, more than :data:`MAX_RATIO` bytes out of one are taken for a bomb."""

_BUFFER_BYTES = 256 << 10
_ARCHIVE_NAME = re.compile(r"([a-z][a-z0-9-]*)\.(?:[^/]*\.)?tar")


@dataclass(frozen=True, slots=True)
class ReadImage:
    """One service's image.

    Attributes:
        descriptor: Its index or image manifest.
        staged: Has its blobs.
    """

    descriptor: Descriptor
    staged: StagedArchive


@dataclass(frozen=True, slots=True)
class ReadExport:
    """What an export holds.

    Attributes:
        record: What it says about the build.
        images: By service, in name order; at least one.
        log: The build's log, from its start; empty where the file has none.
    """

    record: ExportedRecord
    images: Mapping[str, ReadImage]
    log: BinaryIO


@contextlib.contextmanager
def open_export(path: Path) -> Iterator[InputFile]:
    """Open a file that is to be imported.

    Args:
        path: The file; may be a pipe.

    Yields:
        Its bytes; a read that fails raises :class:`~convox.errors.ArchiveError`.

    Raises:
        ArchiveError: It cannot be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as exc:
        raise ArchiveError(f"cannot read {path}", why=exc.strerror or str(exc)) from exc
    with stream:
        yield InputFile(stream, str(path))


class InputFile:
    """A stream whose failures say which file it is.

    Args:
        stream: Read from where it stands; not closed.
        name: What errors call it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, and none only at the end.

        Raises:
            ArchiveError: It cannot be read.
        """
        try:
            return self._stream.read(size)
        except OSError as exc:
            raise ArchiveError(f"cannot read {self._name}", why=exc.strerror or str(exc)) from exc


@contextlib.contextmanager
def read_export(stream: ByteReader, target: ImageTarget) -> Iterator[ReadExport]:
    """Read an export to its end.

    Args:
        stream: The file, packed or not.
        target: Takes the images, which wait there until they are published; what is not is dropped with the block.

    Raises:
        ArchiveError: The file is damaged, incomplete, too large, or no export.
        BuildKitError: The target cannot be used.
    """
    with contextlib.ExitStack() as stack, tempfile.TemporaryFile() as log:
        reader = _Reader(target, stack, log)
        reader.read(stream)
        yield reader.finish()


class _Reader:
    """Collects what an export's members hold."""

    def __init__(self, target: ImageTarget, stack: contextlib.ExitStack, log: BinaryIO) -> None:
        self._target = target
        self._stack = stack
        self._seen: set[str] = set()
        self._record: ExportedRecord | None = None
        self._images: dict[str, ReadImage] = {}
        self._log = log

    def read(self, stream: ByteReader) -> None:
        from buildkit_client.errors import LayoutError  # noqa: PLC0415 (not needed by every command)
        from buildkit_client.oci import (  # noqa: PLC0415 (not needed by every command)
            DecompressedReader,
            DecompressLimits,
            TarReader,
            checked_member_name,
        )

        name = ""
        try:
            limits = DecompressLimits(ratio=MAX_RATIO, ratio_from_bytes=RATIO_FROM_BYTES)
            tar = TarReader(
                io.BufferedReader(DecompressedReader(stream, limits), _BUFFER_BYTES), max_entries=MAX_MEMBERS
            )
            for member in tar:
                name = checked_member_name(member)
                self._take(name, member, tar)
                name = ""
        except LayoutError as exc:
            # Who reads this has one file, and takes "the archive" for it: say which one inside it is meant.
            raise ArchiveError(f"{name}: {exc}" if name else str(exc), why=exc.why, hint=exc.hint) from exc

    def finish(self) -> ReadExport:
        if self._record is None:
            raise ArchiveError("the file is no export of a build", why=f"it has no {RECORD_NAME}")
        if not self._images:
            raise ArchiveError("the file has no images", why="no file in it is called <service>.<build>.tar")
        self._log.seek(0)
        return ReadExport(self._record, dict(sorted(self._images.items())), self._log)

    def _take(self, name: str, member: TarMember, tar: TarReader) -> None:
        from buildkit_client.oci import TarKind  # noqa: PLC0415 (not needed by every command)

        if member.kind is TarKind.DIRECTORY:
            return
        if member.kind is not TarKind.FILE:
            raise ArchiveError("the file is damaged", why=f"{name!a} in it is a {member.kind.value}")
        if name in self._seen:
            raise ArchiveError("the file is damaged", why=f"it has two files called {name!a}")
        self._seen.add(name)
        if name == RECORD_NAME:
            self._record = parse_record(tar.read_content(MAX_RECORD_BYTES))
        elif name == LOG_NAME:
            self._take_log(tar)
        elif name.endswith(".tar"):
            self._take_image(name, tar)

    def _take_log(self, tar: TarReader) -> None:
        try:
            for chunk in tar.chunks():
                self._log.write(chunk)
            self._log.flush()
        except OSError as exc:
            raise ArchiveError(f"{LOG_NAME}: cannot keep it aside", why=exc.strerror or str(exc)) from exc

    def _take_image(self, name: str, tar: TarReader) -> None:
        match = _ARCHIVE_NAME.fullmatch(name)
        if match is None:
            raise ArchiveError(
                f"the file has an image for no service: {name[:200]!a}",
                why="an image is called <service>.<build>.tar, a service has lower-case letters, digits and dashes",
            )
        service = match[1]
        if service in self._images:
            raise ArchiveError(f"the file has two images for service {service}")
        staged = self._stack.enter_context(self._target.stage(tar))
        if len(staged.images) != 1:
            raise ArchiveError(f"{name}: the archive holds {len(staged.images)} images", why="one is expected")
        self._images[service] = ReadImage(staged.images[0].descriptor, staged)
