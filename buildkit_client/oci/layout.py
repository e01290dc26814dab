"""An OCI image layout: a folder of blobs, and an index that gives some of them names.

It is what the ``oci`` exporter with ``tar=false``, the ``local`` cache and the local image store write and read. The
index is replaced as a whole, under the lock that buildctl takes too, so several builds may add images at once.

Reference: OCI image-spec, image-layout.md; moby/buildkit client/ociindex, StoreIndex.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from buildkit_client.errors import BlobNotFoundError, ImageFormatError, LayoutError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.blob_store import BlobStore, os_errors_as_layout_errors, sync_directory
from buildkit_client.oci.image import (
    MAX_DOCUMENT_BYTES,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    parse_index,
    parse_manifest,
    select_image,
    walk_image,
)
from buildkit_client.oci.json_document import dump_object, get_string, parse_object
from buildkit_client.oci.reference import DEFAULT_TAG, Reference, is_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from buildkit_client.oci.descriptor import Descriptor, Platform
    from buildkit_client.oci.digest import Digest

LAYOUT_FILE: Final = "oci-layout"
LAYOUT_VERSION: Final = "1.0.0"
INDEX_FILE: Final = "index.json"
LOCK_FILE: Final = "index.json.lock"  # the name buildctl locks

LOCK_TIMEOUT_S = 30.0
PRUNE_MIN_AGE_S = 3600.0
"""A blob younger than this may belong to an image whose index entry is still to come."""

MAX_INDEX_BYTES = 16 << 20
_LOCK_POLL_S = 0.02
_FILE_MODE = 0o644


class ImageLayout(BlobStore):
    """An image layout folder.

    Opening it also deletes temporary files of writers that were killed more than a day ago.

    Args:
        path: The folder.
        create: Whether to make the folder, ``oci-layout`` and ``index.json`` where they are missing.
        durable: Whether blobs are on the disk itself before they get their names (fsync).

    Raises:
        LayoutError: There is no image layout, its version is unknown, or it cannot be made.
    """

    def __init__(self, path: Path | str, *, create: bool = False, durable: bool = False) -> None:
        super().__init__(Path(path), durable=durable)
        if create:
            self._create()
        self._check_version()
        self.remove_leftovers()

    @classmethod
    def create(cls, path: Path | str, *, durable: bool = False) -> Self:
        """Open a layout, and make it first where there is none.

        Raises:
            LayoutError: See the class.
        """
        return cls(path, create=True, durable=durable)

    # --- the index ---

    def has_index(self) -> bool:
        """Whether there is an ``index.json``."""
        return (self.path / INDEX_FILE).exists()

    def read_index(self) -> ImageIndex:
        """Return ``index.json``; a layout without one has an empty index.

        Raises:
            LayoutError: It cannot be read or is damaged.
        """
        path = self.path / INDEX_FILE
        with os_errors_as_layout_errors(f"cannot read {path}"), _format_errors_as_layout_errors():
            try:
                if path.stat().st_size > MAX_INDEX_BYTES:
                    raise LayoutError(f"{path} is too large", why=f"the limit is {MAX_INDEX_BYTES} bytes")
                data = path.read_bytes()
            except FileNotFoundError:
                return ImageIndex(())
            return parse_index(data, media_types.OCI_INDEX, str(path))

    def update_index(self, change: Callable[[ImageIndex], ImageIndex]) -> None:
        """Replace ``index.json`` by what a function makes of it, with all other writers kept out.

        Args:
            change: Gets the current index, returns the new one; the same object means that nothing changes.

        Raises:
            LayoutError: The index cannot be read or written, or its lock is held for too long.
        """
        with self._locked():
            before = self.read_index()
            after = change(before)
            if after is not before:
                self._replace_file(INDEX_FILE, after.to_bytes())

    def add_image(self, descriptor: Descriptor, names: Sequence[str] = (), *, tag: str = DEFAULT_TAG) -> None:
        """Give an image names; an entry that has one of them already is replaced.

        Args:
            descriptor: Its index or image manifest; the blobs should be there.
            names: Image references such as ``registry/app:1``; one entry is made for each.
            tag: The bare name to use when there are no names.

        Raises:
            OptionError: A name is no image reference, or the tag is no tag.
            LayoutError: The index cannot be changed.
        """
        if not names and not is_tag(tag):
            raise OptionError(f"not a tag: {tag[:200]!a}", why="a tag has up to 128 letters, digits and _ . -")
        labels = [name_annotations(name) for name in names] or [{media_types.ANNOTATION_REF_NAME: tag}]

        def change(index: ImageIndex) -> ImageIndex:
            kept = [entry for entry in index.manifests if not any(_has_name(entry, label) for label in labels)]
            added = [descriptor.with_annotations(label) for label in labels]
            return replace(index, manifests=(*kept, *added))

        self.update_index(change)

    def add_images(self, images: Mapping[str, Descriptor]) -> None:
        """Give several images a name each, all of them at once; see :meth:`add_image`.

        Args:
            images: Index or image manifest by full name.

        Raises:
            OptionError: A name is no image reference.
            LayoutError: The index cannot be changed.
        """
        labels = {name: name_annotations(name) for name in images}

        def change(index: ImageIndex) -> ImageIndex:
            kept = [entry for entry in index.manifests if not any(_has_name(entry, one) for one in labels.values())]
            added = [descriptor.with_annotations(labels[name]) for name, descriptor in images.items()]
            return replace(index, manifests=(*kept, *added))

        self.update_index(change)

    def find(self, name: str) -> Descriptor | None:
        """Return the image of that name, or None.

        Full names are compared first (as given, then in normal form), bare tags after that.

        Raises:
            LayoutError: The index cannot be read.
        """
        found = _matching(self.read_index(), name)
        return found[0] if found else None

    def remove(self, name: str) -> bool:
        """Take a name from the index; return whether it was there. Blobs stay until :meth:`prune`.

        Raises:
            LayoutError: The index cannot be changed.
        """
        removed = False

        def change(index: ImageIndex) -> ImageIndex:
            nonlocal removed
            gone = _matching(index, name)
            removed = bool(gone)
            if not gone:
                return index
            # by identity: two entries may be equal in everything but their annotations
            return replace(index, manifests=tuple(e for e in index.manifests if not any(e is g for g in gone)))

        self.update_index(change)
        return removed

    # --- images ---

    def read_manifest(self, descriptor: Descriptor) -> ImageManifest | ImageIndex:
        """Return an image manifest or index, its digest checked.

        Raises:
            BlobNotFoundError: It is not there.
            LayoutError: It is damaged, too large, or no manifest.
        """
        data = self.read_small_blob(descriptor.digest, descriptor.size_bytes, limit=MAX_DOCUMENT_BYTES)
        with _format_errors_as_layout_errors():
            return parse_manifest(data, descriptor.media_type, f"manifest {descriptor.digest} in {self.path}")

    def select_manifest(
        self, descriptor: Descriptor, platform: Platform | None = None
    ) -> tuple[Descriptor, ImageManifest]:
        """Return the image manifest to run: the descriptor's own, or that of the fitting entry of the index it names.

        Args:
            descriptor: An index or image manifest.
            platform: What to choose from an index; None takes the first image that is no attestation.

        Returns:
            The manifest's descriptor and the manifest.

        Raises:
            BlobNotFoundError: A manifest on the way is not there.
            LayoutError: One is damaged, or no entry fits.
        """
        with _format_errors_as_layout_errors():
            return select_image(descriptor, platform, self.read_manifest)

    def read_config(self, descriptor: Descriptor, platform: Platform | None = None) -> ImageConfig:
        """Return an image's config.

        Args:
            descriptor: Index or image manifest.
            platform: See :meth:`select_manifest`.

        Raises:
            BlobNotFoundError: A blob on the way is not there.
            LayoutError: A blob on the way is damaged, or no entry fits.
        """
        config = self.select_manifest(descriptor, platform)[1].config
        data = self.read_small_blob(config.digest, config.size_bytes, limit=MAX_DOCUMENT_BYTES)
        with _format_errors_as_layout_errors():
            return ImageConfig.from_bytes(data, f"config {config.digest} in {self.path}")

    def walk(self, descriptor: Descriptor) -> Iterator[Descriptor]:
        """Yield everything an image is made of, the image first; blobs without parts are not looked at.

        Raises:
            BlobNotFoundError: A manifest on the way is not there.
            LayoutError: One is damaged, or they are nested too deep or too many.
        """
        with _format_errors_as_layout_errors():
            yield from walk_image(descriptor, self.read_manifest)

    def verify(self, descriptor: Descriptor) -> None:
        """Read and hash every blob of an image.

        Raises:
            BlobNotFoundError: A blob is not there; foreign layers may be absent.
            LayoutError: One is damaged.
        """
        checked: set[tuple[Digest, int]] = set()
        for part in self.walk(descriptor):
            key = (part.digest, part.size_bytes)
            if key in checked or (media_types.may_be_absent(part.media_type) and not self.has_blob(part.digest)):
                continue
            checked.add(key)
            for _ in self.read_blob(part.digest, part.size_bytes):
                pass

    def prune(self, min_age_s: float = PRUNE_MIN_AGE_S) -> list[Digest]:
        """Delete blobs that no index entry leads to.

        Args:
            min_age_s: Only blobs not written or kept for so many seconds; 0 only where no writer can be at work.

        Returns:
            What was deleted, sorted.

        Raises:
            LayoutError: A manifest is damaged, so that nobody can tell what it needs; or nothing can be deleted.
        """
        limit_ns = time.time_ns() - int(min_age_s * 1e9) if min_age_s > 0 else 1 << 63
        with self._locked():
            needed: set[Digest] = set()
            for entry in self.read_index().manifests:
                with _format_errors_as_layout_errors():
                    needed.update(part.digest for part in walk_image(entry, self._read_manifest_if_there))
            unused = [info for info in self.blobs() if info.digest not in needed and info.mod_time_ns <= limit_ns]
            return sorted(i.digest for i in unused if self.delete_blob_unused_since(i.digest, limit_ns))

    def _read_manifest_if_there(self, descriptor: Descriptor) -> ImageManifest | ImageIndex | None:
        try:
            return self.read_manifest(descriptor)
        except BlobNotFoundError:
            return None  # an image for several platforms of which not all were fetched

    # --- files ---

    def _create(self) -> None:
        with os_errors_as_layout_errors(f"cannot make an image layout in {self.path}"):
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not (self.path / LAYOUT_FILE).exists():
                self._replace_file(LAYOUT_FILE, dump_object({"imageLayoutVersion": LAYOUT_VERSION}))
        if not (self.path / INDEX_FILE).exists():
            with self._locked():
                if not (self.path / INDEX_FILE).exists():
                    self._replace_file(INDEX_FILE, ImageIndex(()).to_bytes())

    def _check_version(self) -> None:
        path = self.path / LAYOUT_FILE
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_DOCUMENT_BYTES)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise LayoutError(
                f"{self.path} is no image layout", why=f"it has no file {LAYOUT_FILE}", hint="check the path"
            ) from exc
        except OSError as exc:
            raise LayoutError(f"cannot read {path}", why=exc.strerror or "") from exc
        with _format_errors_as_layout_errors():
            version = get_string(parse_object(data, str(path)), "imageLayoutVersion", str(path))
        if version != LAYOUT_VERSION:
            raise LayoutError(
                f"{self.path} has image layout version {version[:50]!a}", why=f"only {LAYOUT_VERSION} is known"
            )

    def _replace_file(self, name: str, data: bytes) -> None:
        part = self.new_part_path()
        with os_errors_as_layout_errors(f"cannot write {self.path / name}"):
            try:
                with os.fdopen(
                    os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE), "wb"
                ) as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(self.path / name)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            sync_directory(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path / LOCK_FILE
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        with os_errors_as_layout_errors(f"cannot lock {path}"):
            descriptor = _try_lock(path)
            while descriptor is None:
                if time.monotonic() > deadline:
                    raise LayoutError(
                        f"cannot lock {path}", why=f"another process has held it for {LOCK_TIMEOUT_S:g} s"
                    )
                time.sleep(_LOCK_POLL_S)
                descriptor = _try_lock(path)
        try:
            yield
        finally:
            # Deleted while still locked: whoever waits for this file sees that it is gone and takes a new one.
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, current = os.fstat(descriptor), path.stat()
        if (held.st_dev, held.st_ino) == (current.st_dev, current.st_ino):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextmanager
def _format_errors_as_layout_errors() -> Iterator[None]:
    try:
        yield
    except ImageFormatError as exc:
        raise LayoutError(str(exc), why=exc.why, hint=exc.hint) from exc


def name_annotations(name: str) -> dict[str, str]:
    """Return the annotations that give an index entry a name: the full name, and its tag for tools that know no more.

    Raises:
        OptionError: The name is no image reference.
    """
    reference = Reference.parse(name)
    ref_name = "@".join(part for part in (reference.tag, reference.digest) if part)
    return {media_types.ANNOTATION_IMAGE_NAME: name, media_types.ANNOTATION_REF_NAME: ref_name}


def _has_name(entry: Descriptor, label: dict[str, str]) -> bool:
    keys = (media_types.ANNOTATION_IMAGE_NAME, media_types.ANNOTATION_REF_NAME)
    return all(entry.annotations.get(key) == label.get(key) for key in keys)


def _matching(index: ImageIndex, name: str) -> list[Descriptor]:
    """Return the index's entries of the first kind of name that fits."""
    try:
        normal = str(Reference.parse(name))
    except OptionError:
        normal = name
    for key, text in (
        (media_types.ANNOTATION_IMAGE_NAME, name),
        (media_types.ANNOTATION_IMAGE_NAME, normal),
        (media_types.ANNOTATION_REF_NAME, name),
    ):
        found = [entry for entry in index.manifests if entry.annotations.get(key) == text]
        if found:
            return found
    return []
