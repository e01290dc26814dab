"""Images on their way into an export and out of one, for each kind of place that a rack keeps images in.

An :class:`ImageSource` finds images and gives their blobs; an :class:`ImageTarget` takes archives, and gives the images
in them their names when all of them are where they belong. Blobs that the target has are hashed as they pass and then
dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from convox.archive_part import DamagedPartError
from convox.errors import ArchiveError
from convox.private_files import make_private_folder
from convox.transfer_tally import TransferTally

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from buildkit_client.oci import (
        BlobSource,
        Descriptor,
        Digest,
        ImageLayout,
        Reference,
        RegistryClient,
        RegistryReader,
        StagedArchive,
    )
    from convox.archive_frames import BlobPlace
    from convox.archive_part import EarlierPart

_CHUNK_BYTES = 1 << 20
_RESUME_FROM_BYTES = 1 << 20
_MAX_MEMBERS = 2_000
"""The most files in an image's archive; there is one for each layer, and a few more."""


class ByteReader(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, and none only at the end."""


class ImageSource(Protocol):
    """Where exported images come from."""

    @property
    def blobs(self) -> BlobSource:
        """All that the images are made of."""

    def find(self, name: str, digest: str) -> Descriptor:
        """Return an image's index or image manifest.

        Args:
            name: Its full name.
            digest: The digest that it must have.

        Raises:
            ArchiveError: It is gone, or is another one by now.
            BuildKitError: It cannot be read.
        """

    def read_blobs(self, blobs: Sequence[BlobPlace], earlier: EarlierPart | None = None) -> Generator[Iterator[bytes]]:
        """Yield the bytes of many blobs, in order; see :func:`buildkit_client.oci.read_ahead`.

        Args:
            blobs: The blobs; one may come several times.
            earlier: What an earlier export has left, for a source that is slower than that. A blob that turns out to
                be another one there raises :class:`~convox.archive_part.DamagedPartError`.
        """


class ImageTarget(Protocol):
    """Where imported images go."""

    @property
    def tally(self) -> TransferTally:
        """What was sent so far, and what was there."""

    def stage(self, stream: ByteReader, repository: str) -> StagedArchive:
        """Read an archive to a place where nobody looks for images.

        Args:
            stream: The archive.
            repository: Where its image was before, so that blobs may be shared with that place; may be empty or
                nonsense.

        Raises:
            LayoutError: The archive is damaged.
            BuildKitError: The target cannot be used.
        """

    def begin(self, repository: str) -> StagedArchive:
        """Return the same for an archive whose members the caller hands over."""

    def send(self, images: Sequence[Descriptor], staged: Sequence[StagedArchive], repository: str) -> None:
        """Put staged images where they belong, without names; blobs that are there are not sent.

        Args:
            images: Index or image manifest of each.
            staged: What has their blobs.
            repository: See :meth:`stage`.

        Raises:
            BuildKitError: The target cannot be used.
        """

    def relay(self, client: RegistryReader, reference: Reference) -> Descriptor:
        """Copy an image from a registry, without a name.

        Args:
            client: The registry.
            reference: The image, by digest.

        Raises:
            BuildKitError: The registry or the target cannot be used.
        """

    def name(self, images: Mapping[str, Descriptor]) -> None:
        """Give images that are there their names.

        Args:
            images: Index or image manifest by full name.

        Raises:
            BuildKitError: The target cannot be used.
        """

    def withdraw(self, names: Iterable[str]) -> None:
        """Take names back, as far as the target can."""

    def stop(self) -> None:
        """End what is still under way, when nobody is going to send the images."""


class LayoutSource:
    """Images in an OCI image layout.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        self._layout = ImageLayout(path)

    @property
    def blobs(self) -> BlobSource:
        """The layout."""
        return self._layout

    def find(self, name: str, digest: str) -> Descriptor:
        """Return what the layout has under a name."""
        descriptor = self._layout.find(name)
        if descriptor is None:
            raise ArchiveError(f"image {name} is gone", why=f"{self._layout.path} has none of that name")
        if descriptor.digest != digest:
            raise ArchiveError(
                f"image {name} is not the one that was built",
                why=f"it has the digest {descriptor.digest}, the build's had {digest}",
            )
        return descriptor.without_context()

    def read_blobs(
        self,
        blobs: Sequence[BlobPlace],
        earlier: EarlierPart | None = None,  # noqa: ARG002 - a file like the blobs
    ) -> Generator[Iterator[bytes]]:
        """Yield the bytes of many blobs, in order."""
        from buildkit_client.oci import read_ahead  # noqa: PLC0415 (not needed by every command)

        return read_ahead([partial(self._layout.read_blob, blob.digest, blob.size_bytes) for blob in blobs])


class RegistrySource:
    """Images in one repository of a registry; nothing is stored here but blobs that several services share.

    Args:
        client: The registry.
        reference: Any image of the repository.
        scratch_path: A folder for a temporary file, made when missing; None for the system's.
    """

    def __init__(self, client: RegistryReader, reference: Reference, scratch_path: Path | None = None) -> None:
        from buildkit_client.oci import RepositoryBlobs  # noqa: PLC0415 (not needed by every command)

        self._blobs = RepositoryBlobs(client, reference)
        self._client = client
        self._reference = reference
        self._scratch_path = scratch_path

    @property
    def blobs(self) -> BlobSource:
        """The repository."""
        return self._blobs

    def find(self, name: str, digest: str) -> Descriptor:  # noqa: ARG002 - the digest says it all
        """Ask the registry for an image."""
        from buildkit_client.oci import Digest  # noqa: PLC0415 (not needed by every command)

        return self._blobs.resolve(Digest(digest))

    def read_blobs(self, blobs: Sequence[BlobPlace], earlier: EarlierPart | None = None) -> Generator[Iterator[bytes]]:
        """Yield the bytes of many blobs, in order; each is fetched once, and only what was not there earlier."""
        from buildkit_client.oci import read_ahead  # noqa: PLC0415 (not needed by every command)

        uses = Counter(blob.digest for blob in blobs)
        once = {blob.digest: blob for blob in reversed(blobs)}  # at its first place, the likeliest to be there
        first = sorted(once.values(), key=lambda blob: blob.offset)
        fetched = read_ahead([partial(self._read_blob, blob, earlier) for blob in first])
        kept_at: dict[Digest, int] = {}
        with contextlib.closing(fetched), _temporary_file(self._scratch_path) as kept:
            for digest, size, _ in blobs:
                if digest in kept_at:
                    yield _read_back(kept, kept_at[digest], size)
                elif uses[digest] > 1:
                    kept_at[digest] = kept.seek(0, os.SEEK_END)
                    yield _copied(next(fetched), kept)
                else:
                    yield next(fetched)

    def _read_blob(self, blob: BlobPlace, earlier: EarlierPart | None) -> Iterator[bytes]:
        from buildkit_client.oci import Descriptor, Digest  # noqa: PLC0415 (not needed by every command)

        found = 0 if earlier is None else earlier.length(blob)
        if earlier is None or found < min(blob.size_bytes, _RESUME_FROM_BYTES):
            yield from self._blobs.read_blob(blob.digest, blob.size_bytes)
            return
        rest = Descriptor("", blob.digest, blob.size_bytes)
        hasher = blob.digest.new_hash()
        for chunk in chain(
            earlier.read(blob.offset, found), self._client.read_blob(self._reference, rest, offset=found)
        ):
            hasher.update(chunk)
            yield chunk
        if Digest.from_hash(hasher) != blob.digest:
            raise DamagedPartError


def _temporary_file(folder: Path | None) -> BinaryIO:
    if folder is not None:
        make_private_folder(folder)
    return tempfile.TemporaryFile(dir=folder)


def _copied(chunks: Iterator[bytes], out: BinaryIO) -> Iterator[bytes]:
    for chunk in chunks:
        out.write(chunk)
        yield chunk


def _read_back(stream: BinaryIO, offset: int, size_bytes: int) -> Iterator[bytes]:
    stream.seek(offset)
    left = size_bytes
    while left:
        chunk = stream.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise ArchiveError("a temporary file got shorter while it was read", why="another program changed it")
        left -= len(chunk)
        yield chunk


class LayoutTarget:
    """An OCI image layout.

    Args:
        layout: The layout.
        scratch_path: A folder in it for what is not checked yet, of this target alone.
    """

    def __init__(self, layout: ImageLayout, scratch_path: Path) -> None:
        self._layout = layout
        self._layout.ingest_path = scratch_path
        self.tally = TransferTally()

    def stage(self, stream: ByteReader, repository: str) -> StagedArchive:  # noqa: ARG002 - of the role
        """Read an archive into the layout's temporary files."""
        from buildkit_client.oci import ArchiveLimits, stage_oci_archive  # noqa: PLC0415 (not needed by every command)

        limits = ArchiveLimits(entries=_MAX_MEMBERS)
        return stage_oci_archive(stream, self._layout, limits, has_blob=self._layout.keep_blob)

    def begin(self, repository: str) -> StagedArchive:  # noqa: ARG002 - of the role
        """Return what takes an archive's members into the layout's temporary files."""
        from buildkit_client.oci import StagedArchive  # noqa: PLC0415 (not needed by every command)

        return StagedArchive(self._layout, self._layout.keep_blob)

    def send(self, images: Sequence[Descriptor], staged: Sequence[StagedArchive], repository: str) -> None:  # noqa: ARG002
        """Give the images' blobs their names in the layout."""
        for archive in staged:
            archive.commit(self.tally.add)

    def relay(self, client: RegistryReader, reference: Reference) -> Descriptor:
        """Pull an image into the layout."""
        from buildkit_client.oci import pull_image  # noqa: PLC0415 (not needed by every command)

        return pull_image(client, reference, self._layout, on_progress=self.tally.add)

    def name(self, images: Mapping[str, Descriptor]) -> None:
        """Put images into the layout's index, all at once."""
        self._layout.add_images(images)

    def withdraw(self, names: Iterable[str]) -> None:
        """Take names from the layout's index."""
        for name in names:
            self._layout.remove(name)

    def stop(self) -> None:
        """Do nothing: nothing is ever under way."""


class RegistryTarget:
    """A repository of a registry.

    Args:
        client: The registry.
        reference: Any image of the repository.
        scratch_path: A folder for what waits to be sent, of this target alone.
    """

    def __init__(self, client: RegistryClient, reference: Reference, scratch_path: Path) -> None:
        from buildkit_client.oci import ImageLayout, PushAhead  # noqa: PLC0415 (not needed by every command)

        self._client = client
        self._reference = reference
        self._layout = ImageLayout.create(scratch_path)
        self.tally = TransferTally()
        self._ahead = PushAhead(client, reference, on_progress=self.tally.add)

    def stage(self, stream: ByteReader, repository: str) -> StagedArchive:
        """Read an archive into temporary files; its large blobs are on their way to the registry meanwhile."""
        from buildkit_client.oci import ArchiveLimits, stage_oci_archive  # noqa: PLC0415 (not needed by every command)

        limits = ArchiveLimits(entries=_MAX_MEMBERS)
        on_blob = self._sender(repository)
        return stage_oci_archive(stream, self._layout, limits, has_blob=self._has_blob, on_blob=on_blob)

    def begin(self, repository: str) -> StagedArchive:
        """Return what takes an archive's members in the same way."""
        from buildkit_client.oci import StagedArchive  # noqa: PLC0415 (not needed by every command)

        return StagedArchive(self._layout, self._has_blob, self._sender(repository))

    def send(self, images: Sequence[Descriptor], staged: Sequence[StagedArchive], repository: str) -> None:
        """Push images by their digests, several blobs at once; blobs that the registry has are not sent."""
        from buildkit_client.oci import push_untagged  # noqa: PLC0415 (not needed by every command)

        self._ahead.finish()
        for archive in staged:
            archive.commit()
        push_untagged(
            self._client,
            self._layout,
            images,
            self._reference,
            mount_from=self._same_registry(repository),
            on_progress=self.tally.add,
        )

    def relay(self, client: RegistryReader, reference: Reference) -> Descriptor:
        """Copy an image from registry to registry, without a copy here."""
        from buildkit_client.oci import RepositoryBlobs, push_untagged  # noqa: PLC0415 (not needed by every command)

        blobs = RepositoryBlobs(client, reference)
        image = blobs.resolve()
        is_same_host = client.host == self._client.host
        push_untagged(
            self._client,
            blobs,
            [image],
            self._reference,
            mount_from=reference if is_same_host else None,
            on_progress=self.tally.add,
        )
        return image

    def name(self, images: Mapping[str, Descriptor]) -> None:
        """Tag images."""
        from buildkit_client.oci import Reference, tag_image  # noqa: PLC0415 (not needed by every command)

        tags: dict[Digest, list[str]] = {}
        for name, image in images.items():
            tags.setdefault(image.digest, []).append(Reference.parse(name).tag)
        for digest, own in tags.items():
            tag_image(self._client, self._reference.with_digest(digest), own)

    def _sender(self, repository: str) -> Callable[[Descriptor, Callable[[], Iterator[bytes]]], None]:
        return partial(self._ahead.push, mount_from=self._same_registry(repository))

    def _same_registry(self, repository: str) -> Reference | None:
        """Return a repository if it is one of this registry, so that blobs can be shared with it."""
        from buildkit_client.errors import OptionError  # noqa: PLC0415 (not needed by every command)
        from buildkit_client.oci import Reference  # noqa: PLC0415 (not needed by every command)

        with contextlib.suppress(OptionError):
            reference = Reference.parse(repository)
            if reference.registry_host == self._client.host:
                return reference
        return None

    def _has_blob(self, digest: Digest, size_bytes: int) -> bool:  # noqa: ARG002 - the digest says it all
        return self._client.has_blob(self._reference, digest)

    def withdraw(self, names: Iterable[str]) -> None:
        """Do nothing: many registries let nobody delete, and a tag of a failed build is in nobody's way."""

    def stop(self) -> None:
        """End the threads that send blobs ahead."""
        self._ahead.stop()


@contextlib.contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """Make a folder that is deleted with the block; what a killed process left there before is deleted too.

    Args:
        parent: Where to make it; made when missing. None for the system's folder for temporary files.

    Raises:
        ArchiveError: It cannot be made.
    """
    if parent is None:
        with tempfile.TemporaryDirectory(prefix="convox-") as folder:
            yield Path(folder)
        return
    try:
        make_private_folder(parent)
        for entry in parent.iterdir():
            _remove_if_left(entry)
        path, descriptor = _locked_folder(parent)
    except OSError as exc:
        raise ArchiveError(f"cannot make a folder in {parent}", why=exc.strerror or str(exc)) from exc
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        path = parent / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # taken for a leftover before it was locked, as below
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def _remove_if_left(path: Path) -> None:
    """Delete a folder whose owner is gone: nobody holds its lock."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)
