"""The blobs of one repository, read as those of a layout are: for archives that are made without a copy on disk.

Reference: OCI distribution-spec, "Pull".
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from buildkit_client.errors import ImageFormatError, RegistryError
from buildkit_client.oci.image import ImageIndex, ImageManifest, parse_manifest, select_image, walk_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_client.oci.descriptor import Descriptor, Platform
    from buildkit_client.oci.digest import Digest
    from buildkit_client.oci.reference import Reference


class RegistryReader(Protocol):
    """What reads images: a :class:`~buildkit_client.oci.registry.RegistryClient`, or a builder that does it for us.

    Attributes:
        host: The registry.
    """

    @property
    def host(self) -> str:
        """The registry."""

    def get_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Fetch a manifest or index; see :meth:`buildkit_client.oci.registry.RegistryClient.get_manifest`."""

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether a repository has a blob."""

    def read_blob(self, reference: Reference, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """Yield a blob's bytes; see :meth:`buildkit_client.oci.registry.RegistryClient.read_blob`."""


class RepositoryBlobs:
    """Blobs of a repository; a :class:`~buildkit_client.oci.archive.BlobSource`.

    Manifests are fetched once and kept; every other blob is fetched each time it is read. May be used from several
    threads.

    Args:
        client: The registry.
        reference: Any image of the repository.
    """

    def __init__(self, client: RegistryReader, reference: Reference) -> None:
        self._client = client
        self._reference = reference
        self._manifests: dict[Digest, bytes] = {}
        self._descriptors: dict[Digest, Descriptor] = {}

    def resolve(self, digest: Digest | None = None, *, platform: Platform | None = None) -> Descriptor:
        """Return the descriptor of an image's index or manifest.

        Args:
            digest: Its digest; None for the image that the reference names.
            platform: Which image to take from an index; None takes the index.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or has no such image.
            DigestMismatchError: It sends something else.
        """
        reference = self._reference if digest is None else self._reference.with_digest(digest)
        root, data = self._client.get_manifest(reference)
        self._manifests[root.digest] = data
        if platform is None:
            return root
        with self._format_errors_as_registry_errors(reference):
            return select_image(root, platform, self._read_manifest)[0]

    def walk(self, descriptor: Descriptor) -> Iterator[Descriptor]:
        """Yield everything an image is made of, the image first.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or lacks a manifest; or one is malformed.
            DigestMismatchError: It sends another manifest than it should.
        """
        with self._format_errors_as_registry_errors(self._reference.with_digest(descriptor.digest)):
            for part in walk_image(descriptor, self._read_manifest):
                self._descriptors[part.digest] = part
                yield part

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        return self._client.has_blob(self._reference, digest)

    def check_size(self, descriptor: Descriptor) -> None:
        """Do nothing: sizes are compared as bytes come, and asking for each would cost a request a blob."""

    def read_blob(self, digest: Digest, size_bytes: int) -> Iterator[bytes]:  # noqa: ARG002 - the descriptor says the same
        """Yield a blob's bytes and check size and digest; the blob was met on a walk.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            RegistryError: The registry cannot be reached, refuses, or sends too few or too many bytes.
            DigestMismatchError: The bytes are others; raised after the last of them.
        """
        if digest in self._manifests:
            yield self._manifests[digest]
        else:
            yield from self._client.read_blob(self._reference, self._descriptors[digest])

    def _read_manifest(self, descriptor: Descriptor) -> ImageManifest | ImageIndex:
        if descriptor.digest not in self._manifests:
            self._manifests[descriptor.digest] = fetch_part(self._client, self._reference, descriptor)
        data = self._manifests[descriptor.digest]
        _check_size(data, descriptor)  # two descriptors may name one manifest
        return parse_manifest(data, descriptor.media_type, f"manifest {descriptor.digest} of {self._reference.name}")

    @contextmanager
    def _format_errors_as_registry_errors(self, reference: Reference) -> Iterator[None]:
        try:
            yield
        except ImageFormatError as exc:
            raise RegistryError(
                f"cannot pull {reference}",
                host=self._client.host,
                why=f"{exc}: {exc.why}" if exc.why else str(exc),
                hint=exc.hint,
            ) from exc


def fetch_part(client: RegistryReader, reference: Reference, descriptor: Descriptor) -> bytes:
    """Return a manifest that another one names; the client compares the digest, here the size is compared.

    Args:
        client: The registry.
        reference: Any image of the repository.
        descriptor: What the other manifest says.

    Raises:
        RegistryError: The registry cannot be reached, refuses, lacks it, or has one of another size.
        DigestMismatchError: It sends something else.
    """
    data = client.get_manifest(reference.with_digest(descriptor.digest))[1]
    try:
        _check_size(data, descriptor)
    except ImageFormatError as exc:
        raise RegistryError(f"cannot pull {reference}", host=client.host, why=str(exc)) from exc
    return data


def _check_size(data: bytes, descriptor: Descriptor) -> None:
    if len(data) != descriptor.size_bytes:
        raise ImageFormatError(
            f"manifest {descriptor.digest} has {len(data)} bytes; its descriptor says {descriptor.size_bytes}"
        )
