"""Images between registries and image layouts, several blobs at once; what the target has is not sent again.

Blobs go first, then manifests, parts before what names them, tags last of all: whoever sees an image under its tag can
have all of it, and a transfer that fails leaves no tag. What a broken transfer brought over is not sent again: whole
blobs are found by their digest, and a pull goes on inside a blob that was cut.

Reference: OCI distribution-spec, "Pushing Manifests".
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from buildkit_client.errors import BlobNotFoundError, ImageFormatError, RegistryError
from buildkit_client.oci import media_types
from buildkit_client.oci.image import ImageIndex, ImageManifest, parse_manifest, select_image, walk_image
from buildkit_client.oci.repository import fetch_part

if TYPE_CHECKING:
    from buildkit_client.oci.archive import BlobSource
    from buildkit_client.oci.blob_store import BlobWriter
    from buildkit_client.oci.descriptor import Descriptor, Platform
    from buildkit_client.oci.digest import Digest
    from buildkit_client.oci.layout import ImageLayout
    from buildkit_client.oci.reference import Reference
    from buildkit_client.oci.registry import RegistryClient
    from buildkit_client.oci.repository import RegistryReader

WORKERS = 4
RESUME_FROM_BYTES = 1 << 20
"""A smaller blob is fetched from its start again, which costs less than to keep its beginning."""


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far one blob is.

    Attributes:
        digest: The blob.
        current: Bytes that are there, sent now or before.
        total: Bytes it has.
        is_skipped: Whether the target had it, or could share it, so that nothing was sent.
    """

    digest: Digest
    current: int
    total: int
    is_skipped: bool = False


ProgressCallback = Callable[[TransferProgress], None]
"""Called from the worker threads, after each chunk."""


def pull_image(
    client: RegistryReader,
    reference: Reference,
    layout: ImageLayout,
    *,
    platform: Platform | None = None,
    on_progress: ProgressCallback | None = None,
    workers: int = WORKERS,
) -> Descriptor:
    """Copy an image from a registry into a layout; the layout's index is left to the caller.

    A blob of which an earlier transfer, here or in a process that is gone, brought over the beginning is not fetched
    again from its start.

    Args:
        client: The registry.
        reference: The image.
        layout: Takes the blobs.
        platform: Which image to take from an index; None takes the index and everything in it.
        on_progress: See :data:`ProgressCallback`.
        workers: How many blobs are fetched at once.

    Returns:
        The descriptor of what was copied: the image that the reference means, or the one for the platform.

    Raises:
        RegistryError: The registry cannot be reached, refuses, or has no (such) image.
        BlobNotFoundError: It has an image of which a part is missing.
        DigestMismatchError: It sends other bytes than it should.
        LayoutError: The layout cannot be written.
    """
    root, data = client.get_manifest(reference)
    documents = {root.digest: data}

    def fetch_document(descriptor: Descriptor) -> bytes:
        data = documents.get(descriptor.digest)
        return fetch_part(client, reference, descriptor) if data is None else data

    try:
        if platform is not None:
            root, _ = select_image(
                root, platform, lambda one: parse_manifest(fetch_document(one), one.media_type, str(one.digest))
            )

        def read_manifest(descriptor: Descriptor) -> ImageManifest | ImageIndex:
            if layout.keep_blob(descriptor.digest, descriptor.size_bytes):
                return layout.read_manifest(descriptor)
            data = fetch_document(descriptor)
            layout.put_blob(data, descriptor.digest.algorithm)
            return parse_manifest(data, descriptor.media_type, f"manifest {descriptor.digest} of {reference}")

        parts = list(walk_image(root, read_manifest))
    except ImageFormatError as exc:
        why = f"{exc}: {exc.why}" if exc.why else str(exc)
        raise RegistryError(f"cannot pull {reference}", host=client.host, why=why, hint=exc.hint) from exc
    report = on_progress or _ignore_progress

    def fetch(part: Descriptor, stop: threading.Event) -> None:
        if layout.keep_blob(part.digest, part.size_bytes):
            report(TransferProgress(part.digest, part.size_bytes, part.size_bytes, is_skipped=True))
            return
        is_large = part.size_bytes >= RESUME_FROM_BYTES
        with layout.begin_blob(part.digest, part.size_bytes, resume=is_large) as writer:
            is_resumed = writer.size_bytes > 0
            try:
                copy(part, writer, stop)
            except BlobNotFoundError:
                if media_types.may_be_absent(part.media_type):
                    return
                raise
            if is_resumed and writer.digest != part.digest:
                writer.truncate()  # what an earlier transfer had left was no part of this blob
                copy(part, writer, stop)
            writer.commit()

    def copy(part: Descriptor, writer: BlobWriter, stop: threading.Event) -> None:
        for chunk in _until(stop, client.read_blob(reference, part, offset=writer.size_bytes)):
            writer.write(chunk)
            report(TransferProgress(part.digest, writer.size_bytes, part.size_bytes))

    _run_parallel([part for part in _unique(parts) if part.media_type not in media_types.MANIFESTS], fetch, workers)
    return root.without_context() if platform is None else root


def push_image(
    client: RegistryClient,
    source: BlobSource,
    descriptor: Descriptor,
    reference: Reference,
    *,
    tags: Sequence[str] = (),
    mount_from: Reference | None = None,
    on_progress: ProgressCallback | None = None,
    workers: int = WORKERS,
) -> Descriptor:
    """Copy an image from a layout, or from a repository of this or another registry, to a registry.

    Args:
        client: The registry.
        source: Has the image.
        descriptor: Its index or image manifest.
        reference: Where to store it: a tag, or its own digest.
        tags: More tags for it in the same repository.
        mount_from: A repository of the same registry that may have some of the blobs.
        on_progress: See :data:`ProgressCallback`.
        workers: How many blobs are sent at once.

    Returns:
        The descriptor of what was stored under the reference.

    Raises:
        BlobNotFoundError: The source lacks a part of the image.
        LayoutError: A part of it is damaged.
        DigestMismatchError: The source's registry sends other bytes than it should.
        RegistryError: A registry cannot be reached or refuses.
    """
    parts = _send_blobs(
        client, source, [descriptor], reference, mount_from=mount_from, on_progress=on_progress, workers=workers
    )
    stored = descriptor
    for part in _manifests(parts):
        data = b"".join(source.read_blob(part.digest, part.size_bytes))
        is_root = part.digest == descriptor.digest
        targets = [reference, *map(reference.with_tag, tags)] if is_root else [reference.with_digest(part.digest)]
        for target in targets:
            stored = client.push_manifest(target, data, part.media_type)
    return stored


def push_untagged(
    client: RegistryClient,
    source: BlobSource,
    images: Sequence[Descriptor],
    repository: Reference,
    *,
    mount_from: Reference | None = None,
    on_progress: ProgressCallback | None = None,
    workers: int = WORKERS,
) -> None:
    """Copy several images to one repository, by their digests alone; blobs that they share are sent once.

    :func:`tag_image` gives them names, when all of them are there.

    Args:
        client: The registry.
        source: Has the images.
        images: Their indexes or image manifests.
        repository: Any reference into the repository.
        mount_from: See :func:`push_image`, as for the following.
        on_progress: See :data:`ProgressCallback`.
        workers: How many blobs are sent at once.

    Raises:
        BlobNotFoundError: The source lacks a part of an image.
        LayoutError: A part of one is damaged.
        DigestMismatchError: The source's registry sends other bytes than it should.
        RegistryError: A registry cannot be reached or refuses.
    """
    parts = _send_blobs(
        client, source, images, repository, mount_from=mount_from, on_progress=on_progress, workers=workers
    )
    for part in _manifests(parts):
        data = b"".join(source.read_blob(part.digest, part.size_bytes))
        client.push_manifest(repository.with_digest(part.digest), data, part.media_type)


class PushAhead:
    """Sends blobs in a few threads, while their image is not complete yet.

    They get to the repository without anything that names them; :func:`push_untagged` finds them there.

    Args:
        client: The registry.
        repository: Any reference into the repository.
        on_progress: See :data:`ProgressCallback`.
        workers: How many blobs are sent at once.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: Reference,
        *,
        on_progress: ProgressCallback | None = None,
        workers: int = WORKERS,
    ) -> None:
        self._client = client
        self._repository = repository
        self._report = on_progress or _ignore_progress
        self._todo: queue.SimpleQueue[tuple[Descriptor, Callable[[], Iterable[bytes]], Reference | None] | None] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"push-ahead-{number}", daemon=True) for number in range(workers)
        ]

    def push(
        self, blob: Descriptor, open_chunks: Callable[[], Iterable[bytes]], mount_from: Reference | None = None
    ) -> None:
        """Send a blob as soon as a thread is free.

        Args:
            blob: The blob.
            open_chunks: Gives its bytes from the start each time it is called, and all of them only if they are right.
            mount_from: See :func:`push_image`.

        Raises:
            BuildKitError: An earlier blob could not be sent.
        """
        if self._error is not None:
            raise self._error
        if self._threads and self._threads[0].ident is None:
            for thread in self._threads:
                thread.start()
        self._todo.put((blob, open_chunks, mount_from))

    def finish(self) -> None:
        """Wait until all of them are there.

        Raises:
            BuildKitError: One could not be sent.
        """
        started = [thread for thread in self._threads if thread.ident is not None]
        for _ in started:
            self._todo.put(None)
        for thread in started:
            thread.join()
        self._threads = []
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Begin no more, and end those that are under way; nobody waits for them."""
        self._stop.set()
        for _ in self._threads:
            self._todo.put(None)

    def _run(self) -> None:
        while (work := self._todo.get()) is not None:
            if self._stop.is_set():
                return
            blob, open_chunks, mount_from = work
            try:
                chunks = partial(self._chunks, open_chunks)
                is_sent = self._client.push_blob(self._repository, blob, chunks, mount_from=mount_from)
                self._report(TransferProgress(blob.digest, blob.size_bytes, blob.size_bytes, is_skipped=not is_sent))
            except BaseException as exc:  # raised again by the thread that hands over blobs
                self._error = self._error or exc
                self._stop.set()
                return

    def _chunks(self, open_chunks: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
        return _until(self._stop, open_chunks())


def tag_image(client: RegistryClient, image: Reference, tags: Sequence[str]) -> None:
    """Give an image that is in a repository more tags.

    Args:
        client: The registry.
        image: The image, by tag or digest.
        tags: The tags, in the same repository.

    Raises:
        RegistryError: The registry cannot be reached, refuses, or has no such image.
        DigestMismatchError: It sends something else.
    """
    descriptor, data = client.get_manifest(image)
    for tag in tags:
        client.push_manifest(image.with_tag(tag), data, descriptor.media_type)


def _send_blobs(
    client: RegistryClient,
    source: BlobSource,
    images: Sequence[Descriptor],
    repository: Reference,
    *,
    mount_from: Reference | None,
    on_progress: ProgressCallback | None,
    workers: int,
) -> list[Descriptor]:
    """Send everything but manifests; return all parts of the images, each once, what names a part before the part."""
    parts = _unique(part for image in images for part in source.walk(image))
    report = on_progress or _ignore_progress

    def send(part: Descriptor, stop: threading.Event) -> None:
        if media_types.may_be_absent(part.media_type) and not source.has_blob(part.digest):
            return

        def chunks() -> Iterator[bytes]:
            current = 0
            for chunk in _until(stop, source.read_blob(part.digest, part.size_bytes)):
                yield chunk
                current += len(chunk)
                report(TransferProgress(part.digest, current, part.size_bytes))

        if not client.push_blob(repository, part, chunks, mount_from=mount_from):
            report(TransferProgress(part.digest, part.size_bytes, part.size_bytes, is_skipped=True))

    _run_parallel([part for part in parts if part.media_type not in media_types.MANIFESTS], send, workers)
    return parts


def _manifests(parts: Sequence[Descriptor]) -> list[Descriptor]:
    """Return the manifests among an image's parts, parts before what names them."""
    return [part for part in reversed(parts) if part.media_type in media_types.MANIFESTS]


def _unique(parts: Iterable[Descriptor]) -> list[Descriptor]:
    """Return each blob once, at its last place, so that in reverse order parts come before what names them."""
    found: dict[Digest, Descriptor] = {}
    for part in parts:
        found.pop(part.digest, None)
        found[part.digest] = part
    return list(found.values())


def _ignore_progress(progress: TransferProgress) -> None:
    """Take a report that nobody wants."""


class _StoppedError(Exception):
    """Another transfer failed, so this one need not go on."""


def _until(stop: threading.Event, chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if stop.is_set():
            raise _StoppedError
        yield chunk


def _run_parallel(
    parts: Sequence[Descriptor], work: Callable[[Descriptor, threading.Event], None], workers: int
) -> None:
    """Do a piece of work for each blob in a few threads; the first error stops the others and is raised.

    The threads are daemons and nobody waits for them after an error or Ctrl-C: one that hangs in the network until its
    timeout must not keep the process.
    """
    todo: queue.SimpleQueue[Descriptor] = queue.SimpleQueue()
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    for part in sorted(parts, key=lambda part: part.size_bytes, reverse=True):  # long ones first
        todo.put(part)

    def run() -> None:
        while not stop.is_set():
            try:
                part = todo.get_nowait()
            except queue.Empty:
                return
            try:
                work(part, stop)
            except BaseException as exc:  # raised again by the thread that waits
                done.put(exc)
                return
            done.put(None)

    for number in range(min(workers, len(parts))):
        threading.Thread(target=run, name=f"transfer-{number}", daemon=True).start()
    try:
        for _ in parts:
            error = done.get()
            if error is not None:
                raise error
    finally:
        stop.set()
