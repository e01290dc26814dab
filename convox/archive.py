"""Builds as files: ``convox builds export`` and ``convox builds import``.

The format is Convox's, so that files travel both ways with its racks: a tar, packed in gzip, with ``build.json``, a
folder entry without a name, and one OCI archive ``<service>.<build id>.tar`` for each service. Releases and log of the
build follow as ``releases.json`` and ``build.log``, which Convox passes over. The archives carry no names, so a build
that travels keeps their bytes. Another form has one image layout for all services in place of the archives, in which a
blob that they share is once; other tools read it as an OCI archive.

Everything is streamed. Lengths are known from the images' manifests, so nothing is written twice to be measured.

Reference: convox/convox provider/k8s/build.go, BuildExport and BuildImport.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from convox.archive_file import Compression, ExportFormat, packing_sink
from convox.archive_frames import END_OF_TAR, PRIVATE_MODE, TarFormat, blob_places, image_frames, padding
from convox.archive_kept import Kept, keep, read_kept
from convox.archive_part import DamagedPartError, EarlierPart
from convox.archive_reader import LOG_NAME, ReadExport, read_export
from convox.archive_record import MAX_RELEASES, RECORD_NAME, RELEASES_NAME, record_bytes, releases_bytes
from convox.build_args import looks_secret
from convox.errors import ArchiveError, ManifestError, UsageError
from convox.import_record import ImportSite, import_record
from convox.masking import secret_values
from convox.models import Build, BuildStatus, Release

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from buildkit_client.oci import Descriptor, Digest, OciArchive
    from convox.archive_images import ByteReader, ImageSource
    from convox.store import Store

_REF_NAME = "org.opencontainers.image.ref.name"  # image-spec, annotations.md
_CONTAINERD_NAME = "io.containerd.image.name"  # containerd images/annotations.go, AnnotationImageName


def export_build(
    store: Store,
    build: Build,
    source: ImageSource,
    out: BinaryIO,
    *,
    file_format: ExportFormat = "convox",
    compression: Compression = "gzip",
    epoch: int | None = None,
    resume_in: Path | None = None,
) -> None:
    """Write a build as a file.

    Equal builds give equal bytes: the times in it are the build's own.

    Args:
        store: Has the build's releases and log.
        build: The build; it must be complete.
        source: Has its images.
        out: Where the file goes; not closed. After an error it holds the beginning of a file.
        file_format: An archive for each service, or one image layout.
        compression: How the file is packed.
        epoch: Seconds since 1970; the file's time, and the latest time that the record may have in it. None takes the
            time at which the build ended.
        resume_in: The folder of ``out``, where that is a file, open for reading too, that may hold what an earlier
            export has left: blobs that are in it are not asked for again. None writes without looking.

    Raises:
        ArchiveError: The build has no images, or one of them is gone.
        BuildKitError: An image cannot be read.
        StoreError: Releases or log cannot be read.
        OSError: ``out`` cannot be written.
    """
    from convox.store.logs import read_log  # noqa: PLC0415 (not needed by every command)

    images = _images(build, source)
    archives = _archives(build, images, source) if file_format == "convox" else {"": _layout(build, images, source)}
    kept = read_kept(store, build)
    record = record_bytes(_clamped(build, epoch), kept.fields)
    own = [one for one in store.list_releases(build.app, limit=MAX_RELEASES) if one.build == build.id]
    releases = releases_bytes([replace(one, created=_not_after(one.created, epoch)) for one in own], kept.releases)
    log_bytes = sum(map(len, read_log(store.logs_dir, build.app, build.id)))
    tar = TarFormat(_end_of(build) if epoch is None else epoch)
    frames = [*tar.file(RECORD_NAME, record), *image_frames(tar, archives)]
    sizes = {digest: size for archive in archives.values() for digest, size in archive.blobs.items()}
    places = blob_places(frames, sizes)

    def write(earlier: EarlierPart | None) -> None:
        sink = packing_sink(out, compression)
        with contextlib.closing(source.read_blobs(places, earlier)) as blobs:
            for chunk in _chunks(frames, blobs):
                sink.write(chunk)
        for chunk in tar.file(RELEASES_NAME, releases) if releases else ():
            sink.write(chunk)
        if log_bytes:
            sink.write(tar.header(LOG_NAME, log_bytes, mode=PRIVATE_MODE))
            for chunk in _log_chunks(store, build, log_bytes):
                sink.write(chunk)
            sink.write(padding(log_bytes))
        sink.write(END_OF_TAR)
        sink.finish()

    if resume_in is None:
        write(None)
        return
    try:
        with _earlier(out, compression, resume_in, frames) as earlier:
            write(earlier)
    except DamagedPartError:
        _empty(out)
        write(None)


@contextlib.contextmanager
def _earlier(
    out: BinaryIO, compression: Compression, folder: Path, frames: Iterable[bytes | Digest]
) -> Iterator[EarlierPart | None]:
    """Open what an earlier export of the same build has left; what another one left is deleted."""
    if not os.fstat(out.fileno()).st_size:  # as of pipes and devices too
        yield None
        return
    head = bytearray()
    for frame in frames:
        if not isinstance(frame, bytes):
            break
        head += frame
    with contextlib.closing(EarlierPart(out, compression, folder)) as earlier:
        if earlier.begins_with(head):
            yield earlier
            return
    _empty(out)
    yield None


def _empty(out: BinaryIO) -> None:
    out.seek(0)
    out.truncate()


def import_build(stream: ByteReader, site: ImportSite) -> tuple[Build, Release]:
    """Read a build from a file and add it to an app, under a new id and with a release of its own.

    The record keeps description, commit, entrypoint and manifest; the release has the environment of the app's newest
    one. What else the file tells is kept for a later export. There is no record before the file was read to its end;
    from then on, whatever goes wrong leaves it ``failed`` with a reason. Names come last: a failure leaves no new tag.

    Args:
        stream: The file, in gzip, zstd or plain.
        site: Where it goes.

    Raises:
        ArchiveError: The file is damaged, incomplete, too large, or no export.
        BuildKitError: The images cannot be stored or sent.
        StoreError: The records cannot be written.
    """
    from convox.store.new_records import complete_build  # noqa: PLC0415 (not needed by every command)

    with read_export(stream, site.target) as export:
        latest = site.store.latest_release(site.app)
        env = {} if latest is None else latest.environment
        site.secrets.extend(secret_values(env, is_secret=looks_secret))  # errors quote the manifest with its values
        _check_services(export, env)
        record = export.record
        with import_record(
            site,
            export.images,
            description=record.description,
            entrypoint=record.entrypoint,
            git_sha=record.git_sha,
            manifest=record.manifest,
        ) as (build, names):
            _keep_texts(export, site.store, build)
            site.target.send(list(export.images.values()), export.staged, record.repository)
            site.target.name({names[service]: image for service, image in export.images.items()})
            images = {service: str(image.digest) for service, image in export.images.items()}
            return complete_build(site.store, build, images=images, entrypoint=build.entrypoint)


def _check_services(export: ReadExport, env: Mapping[str, str]) -> None:
    """Compare the images that came with those that the record and its manifest tell of."""
    from convox.manifest import service_names  # noqa: PLC0415 (not needed by every command)

    found = set(export.images)
    record = export.record
    if record.manifest:
        try:
            declared = service_names(record.manifest, env)
        except ManifestError as exc:
            raise ArchiveError(f"{RECORD_NAME} is damaged", why=f"its manifest: {exc}", hint=exc.hint) from exc
        if unknown := found.difference(declared):
            raise ArchiveError(
                f"the file has an image for service {min(unknown)}",
                why=f"the services in its manifest are {', '.join(sorted(declared))}",
            )
        if record.images is None and (missing := set(declared) - found):
            raise ArchiveError(f"the file has no image for service {min(missing)}", why="its manifest has that service")
    for service, digest in (record.images or {}).items():
        image = export.images.get(service)
        if image is None:
            raise ArchiveError(f"the file has no image for service {service}", why=f"{RECORD_NAME} tells of one")
        if image.digest != digest:
            raise ArchiveError(
                f"the file has another image for service {service} than {RECORD_NAME} tells of",
                why=f"it has the digest {image.digest}; expected {digest}",
            )


def _keep_texts(export: ReadExport, store: Store, build: Build) -> None:
    """Keep the log, and what has no place in a record."""
    from convox.store.logs import LogWriter  # noqa: PLC0415 (not needed by every command)

    keep(store, build, Kept(export.record.others, export.releases))
    with LogWriter(store.logs_dir, build.app, build.id) as log:
        while chunk := export.log.read(1 << 16):
            log.write(chunk)


def parse_epoch(text: str) -> int | None:
    """Return what ``SOURCE_DATE_EPOCH`` says, None where it is empty.

    Raises:
        UsageError: It is no number of seconds since 1970.
    """
    if not text:
        return None
    try:
        epoch = int(text) if text.isascii() and text.isdigit() else -1
        datetime.fromtimestamp(epoch, UTC)
    except (ValueError, OverflowError, OSError):
        epoch = -1
    if epoch < 0:
        raise UsageError(f"SOURCE_DATE_EPOCH is not a time: {text[:40]}", why="it is the number of seconds since 1970")
    return epoch


def _images(build: Build, source: ImageSource) -> dict[str, Descriptor]:
    """Return index or image manifest of each service, in name order."""
    if build.status is not BuildStatus.COMPLETE:
        is_over = build.status is BuildStatus.FAILED
        raise ArchiveError(
            f"build {build.id} cannot be exported",
            why=f"it failed: {build.reason}" if is_over else f"it is {build.status}",
            hint="only a complete build has images",
        )
    if not build.images:
        raise ArchiveError(f"build {build.id} cannot be exported", why="its record names no images")
    return {
        service: source.find(_full_name(build, service), digest) for service, digest in sorted(build.images.items())
    }


def _full_name(build: Build, service: str) -> str:
    return f"{build.repository}:{service}.{build.id}"


def _archives(build: Build, images: Mapping[str, Descriptor], source: ImageSource) -> dict[str, OciArchive]:
    """Return the archive of each service by the name it gets, in the order in which Convox writes them."""
    from buildkit_client.oci import OciArchive  # noqa: PLC0415 (not needed by every command)

    return {f"{service}.{build.id}.tar": OciArchive(source.blobs, image) for service, image in images.items()}


def _layout(build: Build, images: Mapping[str, Descriptor], source: ImageSource) -> OciArchive:
    """Return one archive of all services; tools call an image by its service, containerd by its full name."""
    from buildkit_client.oci import OciArchive  # noqa: PLC0415 (not needed by every command)

    first, *others = (
        image.with_annotations({_CONTAINERD_NAME: _full_name(build, service), _REF_NAME: service})
        for service, image in images.items()
    )
    return OciArchive(source.blobs, first, others=others)


def _end_of(build: Build) -> int:
    return 0 if build.ended is None else max(0, int(build.ended.timestamp()))


def _clamped(build: Build, epoch: int | None) -> Build:
    """Return a build without a time that is later than ``epoch``, and without the process that is long gone."""
    started, ended = (_not_after(time, epoch) for time in (build.started, build.ended))
    return replace(build, process="", started=started, ended=ended)


def _not_after(time: datetime | None, epoch: int | None) -> datetime | None:
    return time if time is None or epoch is None else min(time, datetime.fromtimestamp(epoch, UTC))


def _chunks(frames: Iterable[bytes | Digest], blobs: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    """Yield the bytes of an archive's frames; its blobs are the next ones of ``blobs``."""
    for frame in frames:
        if isinstance(frame, bytes):
            yield frame
        else:
            yield from next(blobs)


def _log_chunks(store: Store, build: Build, size_bytes: int) -> Iterator[bytes]:
    """Yield the first bytes of a build's log, as many as were announced."""
    from convox.store.logs import read_log  # noqa: PLC0415 (not needed by every command)

    left = size_bytes
    for chunk in read_log(store.logs_dir, build.app, build.id):
        yield chunk[:left]
        left -= len(chunk[:left])
    if left:
        raise ArchiveError(f"the log of build {build.id} got shorter while it was read")
