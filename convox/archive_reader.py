"""Reading an export without trust: what it holds goes into temporary places until all of it is known to be right.

No name in the file is ever made into a path. The records and the log are kept aside, images are staged (see
:mod:`buildkit_client.oci.staging`), and before the last byte was read nothing is there that anybody could find: a
registry may get large blobs before, each under the digest that it has, but no manifest and no tag. Order does not
matter, and neither do the packing and the form, an archive for each service or one image layout for all, which are
told from the file itself.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from convox.archive_record import (
    MAX_RECORD_BYTES,
    RECORD_NAME,
    RELEASES_NAME,
    ExportedRecord,
    parse_record,
    parse_releases,
)
from convox.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from buildkit_client.oci import Descriptor, StagedArchive, TarMember, TarReader
    from convox.archive_images import ByteReader, ImageTarget

LOG_NAME = "build.log"

LAYOUT_NAME = "oci-layout"
INDEX_NAME = "index.json"
BLOBS_NAME = "blobs/"
"""What the names of an image layout's blobs begin with."""

MAX_MEMBERS = 10_000
"""The most files in an export; one has as many as its build has services or blobs, and a few more."""
MAX_RATIO = 250
RATIO_FROM_BYTES = 64 << 20
"""From here on, more than :data:`MAX_RATIO` bytes out of one are taken for a bomb."""

_BUFFER_BYTES = 256 << 10
_ARCHIVE_NAME = re.compile(r"([a-z][a-z0-9-]*)\.(?:[^/]*\.)?tar")
_IMAGE_TAG = re.compile(r"([a-z][a-z0-9-]*)(?:\.[^/:@]*)?")


@dataclass(frozen=True, slots=True)
class ReadExport:
    """What an export holds.

    Attributes:
        record: What it says about the build.
        releases: Releases made of it, as :func:`~convox.archive_record.parse_releases` gives them.
        images: Index or image manifest by service, in name order; at least one.
        staged: What has their blobs.
        log: The build's log, from its start; empty where the file has none.
    """

    record: ExportedRecord
    releases: Sequence[Mapping[str, object]]
    images: Mapping[str, Descriptor]
    staged: Sequence[StagedArchive]
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
        stack.callback(target.stop)
        reader = _Reader(target, stack, log)
        reader.read(stream)
        yield reader.finish()


def read_header(stream: ByteReader) -> ExportedRecord:
    """Read what an export says about its build, and nothing behind that; exports begin with it.

    Args:
        stream: The file, packed or not.

    Raises:
        ArchiveError: The file is damaged up to there, or no export.
    """
    tar = _open_tar(stream)
    with _layout_errors_as_archive_errors() as at:
        for member in tar:
            at.is_begun, at.name = True, checked_name(member)
            if at.name == RECORD_NAME and member.kind.value == "file":
                return parse_record(tar.read_content(MAX_RECORD_BYTES))
            at.name = ""
    raise _no_export()


def _open_tar(stream: ByteReader) -> TarReader:
    from buildkit_client.oci import (  # noqa: PLC0415 (not needed by every command)
        DecompressedReader,
        DecompressLimits,
        TarReader,
    )

    with _layout_errors_as_archive_errors():
        limits = DecompressLimits(ratio=MAX_RATIO, ratio_from_bytes=RATIO_FROM_BYTES)
        return TarReader(io.BufferedReader(DecompressedReader(stream, limits), _BUFFER_BYTES), max_entries=MAX_MEMBERS)


def checked_name(member: TarMember) -> str:
    """Return a member's name; see :func:`buildkit_client.oci.checked_member_name`."""
    from buildkit_client.oci import checked_member_name  # noqa: PLC0415 (not needed by every command)

    return checked_member_name(member)


@dataclass(slots=True)
class _Position:
    """How far an export was read.

    Attributes:
        name: Which file of it is being read, empty between two.
        is_begun: Whether it has shown that it is an archive.
    """

    name: str = ""
    is_begun: bool = False


@contextlib.contextmanager
def _layout_errors_as_archive_errors() -> Iterator[_Position]:
    from buildkit_client.errors import LayoutError  # noqa: PLC0415 (not needed by every command)

    at = _Position()
    try:
        yield at
    except LayoutError as exc:
        # Who reads this has one file, and takes "the archive" for it: say which one inside it is meant.
        hint = exc.hint or ("" if at.is_begun else "name a file that convox builds export wrote")
        raise ArchiveError(f"{at.name}: {exc}" if at.name else str(exc), why=exc.why, hint=hint) from exc


def _no_export() -> ArchiveError:
    return ArchiveError("the file is no export of a build", why=f"it has no {RECORD_NAME}")


class _Reader:
    """Collects what an export's members hold."""

    def __init__(self, target: ImageTarget, stack: contextlib.ExitStack, log: BinaryIO) -> None:
        self._target = target
        self._stack = stack
        self._seen: set[str] = set()
        self._record: ExportedRecord | None = None
        self._releases: Sequence[Mapping[str, object]] = ()
        self._images: dict[str, Descriptor] = {}
        self._staged: list[StagedArchive] = []
        self._layout: StagedArchive | None = None
        self._log = log

    def read(self, stream: ByteReader) -> None:
        tar = _open_tar(stream)
        with _layout_errors_as_archive_errors() as at:
            for member in tar:
                at.is_begun, at.name = True, checked_name(member)
                self._take(at.name, member, tar)
                at.name = ""
            if self._layout is not None:
                self._layout.finish()

    def finish(self) -> ReadExport:
        if self._record is None:
            raise _no_export()
        if self._layout is not None:
            self._name_images(self._layout)
        if not self._images:
            raise ArchiveError("the file has no images", why="no file in it is called <service>.<build>.tar")
        self._log.seek(0)
        return ReadExport(self._record, self._releases, dict(sorted(self._images.items())), self._staged, self._log)

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
        elif name == RELEASES_NAME:
            self._releases = parse_releases(tar.read_content(MAX_RECORD_BYTES))
        elif name == LOG_NAME:
            self._take_log(tar)
        elif name in (LAYOUT_NAME, INDEX_NAME) or name.startswith(BLOBS_NAME):
            if self._layout is None:
                self._layout = self._stack.enter_context(self._target.begin(self._repository))
                self._staged.append(self._layout)
            self._layout.take(member, tar)
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
        self._check_new(match[1])
        staged = self._stack.enter_context(self._target.stage(tar, self._repository))
        if len(staged.images) != 1:
            raise ArchiveError(f"{name}: the archive holds {len(staged.images)} images", why="one is expected")
        self._images[match[1]] = staged.images[0].descriptor
        self._staged.append(staged)

    def _name_images(self, layout: StagedArchive) -> None:
        """Find the service of each image of a layout: the tag of its name, up to the first dot."""
        for image in layout.images:
            if not image.names:
                raise ArchiveError("the file has an image for no service", why=f"{image.descriptor.digest} has no name")
            for name in image.names:
                match = _IMAGE_TAG.fullmatch(name.rpartition(":")[2])
                if match is None:
                    raise ArchiveError(
                        f"the file has an image for no service: {name[:200]!a}",
                        why="the tag of an image is its service, which has lower-case letters, digits and dashes",
                    )
                self._check_new(match[1])
                self._images[match[1]] = image.descriptor

    @property
    def _repository(self) -> str:
        """Where the images were before, as far as the file has said by now."""
        return "" if self._record is None else self._record.repository

    def _check_new(self, service: str) -> None:
        if service in self._images:
            raise ArchiveError(f"the file has two images for service {service}")
