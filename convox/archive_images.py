"""Images on their way into an export and out of one, for each kind of place that a rack keeps images in.

An :class:`ImageSource` gives archives whose length is known before their first byte, and the blobs in them; an
:class:`ImageTarget` takes archives and gives the images in them their names. Blobs that the target has are hashed as
they pass and then dropped.
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
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from convox.errors import ArchiveError
from convox.private_files import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from buildkit_client.oci import (
        Descriptor,
        Digest,
        ImageLayout,
        OciArchive,
        Reference,
        RegistryClient,
        StagedArchive,
    )

_CHUNK_BYTES = 1 << 20
_MAX_MEMBERS = 2_000
"""The most files in an image's archive; there is one for each layer, and a few more."""


class ByteReader(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, and none only at the end."""


class ImageSource(Protocol):
    """Where exported images come from."""

    def archive(self, name: str, digest: str) -> OciArchive:
        """Return an image, ready to be written.

        Args:
            name: Its full name.
            digest: The digest that it must have.

        Raises:
            ArchiveError: It is gone, or is another one by now.
            BuildKitError: It cannot be read.
        """

    def read_blobs(self, blobs: Sequence[tuple[Digest, int]]) -> Generator[Iterator[bytes]]:
        """Yield the bytes of many blobs, in order; see :func:`buildkit_client.oci.read_ahead`.

        Args:
            blobs: Digest and length of each; one may come several times.
        """


class ImageTarget(Protocol):
    """Where imported images go."""

    def stage(self, stream: ByteReader) -> StagedArchive:
        """Read an archive to a place where nobody looks for images.

        Raises:
            LayoutError: The archive is damaged.
            BuildKitError: The target cannot be used.
        """

    def publish(self, image: Descriptor, staged: StagedArchive, name: str, repository: str) -> None:
        """Put a staged image where it belongs and give it a name.

        Args:
            image: Its index or image manifest.
            staged: Has its blobs.
            name: The full name.
            repository: Where it was before, so that blobs may be shared with that place; may be empty or nonsense.

        Raises:
            BuildKitError: The target cannot be used.
        """

    def relay(self, client: RegistryClient, reference: Reference, names: Sequence[str]) -> None:
        """Copy an image from a registry and give it names.

        Args:
            client: The registry.
            reference: The image, by digest.
            names: Full names, at least one.

        Raises:
            BuildKitError: The registry or the target cannot be used.
        """

    def withdraw(self, names: Iterable[str]) -> None:
        """Take names back, as far as the target can."""


class LayoutSource:
    """Images in an OCI image layout.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        self._layout = ImageLayout(path)

    def archive(self, name: str, digest: str) -> OciArchive:
        """Return an image, ready to be written."""
        from buildkit_client.oci import OciArchive  # noqa: PLC0415 (not needed by every command)

        descriptor = self._layout.find(name)
        if descriptor is None:
            raise ArchiveError(f"image {name} is gone", why=f"{self._layout.path} has none of that name")
        if descriptor.digest != digest:
            raise ArchiveError(
                f"image {name} is not the one that was built",
                why=f"it has the digest {descriptor.digest}, the build's had {digest}",
            )
        return OciArchive(self._layout, descriptor.without_context())

    def read_blobs(self, blobs: Sequence[tuple[Digest, int]]) -> Generator[Iterator[bytes]]:
        """Yield the bytes of many blobs, in order."""
        from buildkit_client.oci import read_ahead  # noqa: PLC0415 (not needed by every command)

        return read_ahead([partial(self._layout.read_blob, digest, size) for digest, size in blobs])


class RegistrySource:
    """Images in one repository of a registry; nothing is stored here but blobs that several services share.

    Args:
        client: The registry.
        reference: Any image of the repository.
        scratch_path: A folder for a temporary file, made when missing; None for the system's.
    """

    def __init__(self, client: RegistryClient, reference: Reference, scratch_path: Path | None = None) -> None:
        from buildkit_client.oci import RepositoryBlobs  # noqa: PLC0415 (not needed by every command)

        self._blobs = RepositoryBlobs(client, reference)
        self._scratch_path = scratch_path

    def archive(self, name: str, digest: str) -> OciArchive:  # noqa: ARG002 - the digest says it all
        """Return an image, ready to be written."""
        from buildkit_client.oci import Digest, OciArchive  # noqa: PLC0415 (not needed by every command)

        return OciArchive(self._blobs, self._blobs.resolve(Digest(digest)))

    def read_blobs(self, blobs: Sequence[tuple[Digest, int]]) -> Generator[Iterator[bytes]]:
        """Yield the bytes of many blobs, in order; each is fetched once."""
        from buildkit_client.oci import read_ahead  # noqa: PLC0415 (not needed by every command)

        uses = Counter(digest for digest, _ in blobs)
        once = dict(blobs)
        fetched = read_ahead([partial(self._blobs.read_blob, digest, size) for digest, size in once.items()])
        kept_at: dict[Digest, int] = {}
        with contextlib.closing(fetched), _temporary_file(self._scratch_path) as kept:
            for digest, size in blobs:
                if digest in kept_at:
                    yield _read_back(kept, kept_at[digest], size)
                elif uses[digest] > 1:
                    kept_at[digest] = kept.seek(0, os.SEEK_END)
                    yield _copied(next(fetched), kept)
                else:
                    yield next(fetched)


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

    def stage(self, stream: ByteReader) -> StagedArchive:
        """Read an archive into the layout's temporary files."""
        from buildkit_client.oci import ArchiveLimits, stage_oci_archive  # noqa: PLC0415 (not needed by every command)

        limits = ArchiveLimits(entries=_MAX_MEMBERS)
        return stage_oci_archive(stream, self._layout, limits, has_blob=self._layout.keep_blob)

    def publish(self, image: Descriptor, staged: StagedArchive, name: str, repository: str) -> None:  # noqa: ARG002
        """Put an image into the layout's index."""
        staged.commit()
        self._layout.add_image(image, [name])

    def relay(self, client: RegistryClient, reference: Reference, names: Sequence[str]) -> None:
        """Pull an image into the layout."""
        from buildkit_client.oci import pull_image  # noqa: PLC0415 (not needed by every command)

        self._layout.add_image(pull_image(client, reference, self._layout), names)

    def withdraw(self, names: Iterable[str]) -> None:
        """Take names from the layout's index."""
        for name in names:
            self._layout.remove(name)


class RegistryTarget:
    """A repository of a registry.

    Args:
        client: The registry.
        reference: Any image of the repository.
        scratch_path: A folder for what waits to be sent, of this target alone.
    """

    def __init__(self, client: RegistryClient, reference: Reference, scratch_path: Path) -> None:
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        self._client = client
        self._reference = reference
        self._layout = ImageLayout.create(scratch_path)

    def stage(self, stream: ByteReader) -> StagedArchive:
        """Read an archive into temporary files, large blobs that the registry has left out."""
        from buildkit_client.oci import ArchiveLimits, stage_oci_archive  # noqa: PLC0415 (not needed by every command)

        limits = ArchiveLimits(entries=_MAX_MEMBERS)
        return stage_oci_archive(
            stream, self._layout, limits, has_blob=lambda digest, _: self._client.has_blob(self._reference, digest)
        )

    def publish(self, image: Descriptor, staged: StagedArchive, name: str, repository: str) -> None:
        """Push an image; blobs that the registry has are not sent."""
        from buildkit_client.errors import OptionError  # noqa: PLC0415 (not needed by every command)
        from buildkit_client.oci import Reference, push_image  # noqa: PLC0415 (not needed by every command)

        staged.commit()
        before = None
        with contextlib.suppress(OptionError):
            before = Reference.parse(repository)
        if before is not None and before.registry_host != self._client.host:
            before = None
        push_image(self._client, self._layout, image, Reference.parse(name), mount_from=before)

    def relay(self, client: RegistryClient, reference: Reference, names: Sequence[str]) -> None:
        """Copy an image from registry to registry, without a copy here."""
        from buildkit_client.oci import Reference, RepositoryBlobs, push_image  # noqa: PLC0415 (not by every command)

        blobs = RepositoryBlobs(client, reference)
        first, *others = (Reference.parse(name) for name in names)
        push_image(
            self._client,
            blobs,
            blobs.resolve(),
            first,
            tags=[other.tag for other in others],
            mount_from=reference if client.host == self._client.host else None,
        )

    def withdraw(self, names: Iterable[str]) -> None:
        """Do nothing: many registries let nobody delete, and a tag of a failed build is in nobody's way."""


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
