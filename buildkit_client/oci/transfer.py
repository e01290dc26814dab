"""Images between registries and image layouts, several blobs at once; what the target has is not sent again.

Blobs go first, then manifests, parts before what names them: whoever sees an image under its tag can have all of it.

Reference: OCI distribution-spec, "Pushing Manifests".
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_client.errors import BlobNotFoundError, ImageFormatError, RegistryError
from buildkit_client.oci import media_types
from buildkit_client.oci.image import ImageIndex, ImageManifest, parse_manifest, select_image, walk_image
from buildkit_client.oci.repository import fetch_part

if TYPE_CHECKING:
    from buildkit_client.oci.archive import BlobSource
    from buildkit_client.oci.descriptor import Descriptor, Platform
    from buildkit_client.oci.digest import Digest
    from buildkit_client.oci.layout import ImageLayout
    from buildkit_client.oci.reference import Reference
    from buildkit_client.oci.registry import RegistryClient

WORKERS = 4


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
    client: RegistryClient,
    reference: Reference,
    layout: ImageLayout,
    *,
    platform: Platform | None = None,
    on_progress: ProgressCallback | None = None,
    workers: int = WORKERS,
) -> Descriptor:
    """Copy an image from a registry into a layout; the layout's index is left to the caller.

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
        with layout.begin_blob(part.digest, part.size_bytes) as writer:
            try:
                for chunk in _until(stop, client.read_blob(reference, part)):
                    writer.write(chunk)
                    report(TransferProgress(part.digest, writer.size_bytes, part.size_bytes))
            except BlobNotFoundError:
                if media_types.may_be_absent(part.media_type):
                    return
                raise
            writer.commit()

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
    parts = _unique(source.walk(descriptor))
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

        if not client.push_blob(reference, part, chunks, mount_from=mount_from):
            report(TransferProgress(part.digest, part.size_bytes, part.size_bytes, is_skipped=True))

    _run_parallel([part for part in parts if part.media_type not in media_types.MANIFESTS], send, workers)
    stored = descriptor
    for part in reversed([part for part in parts if part.media_type in media_types.MANIFESTS]):
        data = b"".join(source.read_blob(part.digest, part.size_bytes))
        is_root = part.digest == descriptor.digest
        targets = [reference, *map(reference.with_tag, tags)] if is_root else [reference.with_digest(part.digest)]
        for target in targets:
            stored = client.push_manifest(target, data, part.media_type)
    return stored


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
            else:
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
