"""Images in a registry that only the builder can reach: they come and go through it, for ``--through-builder``.

An export reads blob after blob from the builder. An import collects the images in a folder of its own first, since the
builder fetches from there what the registry lacks. Whatever would not keep its digest is refused, see
:mod:`buildkit_client.image_relay`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convox.archive_images import LayoutTarget, RegistrySource, scratch_folder
from convox.errors import UsageError
from convox.images import ImageStore, RegistryImages
from convox.transfer_tally import TransferTally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from buildkit_client import Client
    from buildkit_client.oci import CredentialsProvider, Descriptor, Digest, Reference, RegistryReader, StagedArchive
    from convox.archive_images import ImageSource, ImageTarget


@dataclass(frozen=True, slots=True)
class BuilderImages:
    """Images in a registry, by way of a builder.

    Attributes:
        images: Where they are.
        client: The builder.
    """

    images: RegistryImages
    client: Client

    @classmethod
    def of(cls, images: ImageStore, client: Client) -> BuilderImages:
        """Return the way through a builder to where images are.

        Raises:
            UsageError: They are in no registry.
        """
        if not isinstance(images, RegistryImages):
            raise UsageError(
                "--through-builder is of no use here",
                why="the images are on this machine, not in a registry",
                hint="leave it out, or give the rack a registry: convox rack params set registry=…",
            )
        return cls(images, client)

    @property
    def repository(self) -> str:
        """What tags of the app's images begin with."""
        return self.images.repository

    @contextmanager
    def open_source(self, credentials: CredentialsProvider) -> Iterator[ImageSource]:
        """Open a way to read, which lasts as long as the block."""
        from buildkit_client.image_relay import open_registry  # noqa: PLC0415 (imports gRPC)
        from buildkit_client.oci import Reference  # noqa: PLC0415 (not needed by every command)

        reference = Reference.parse(self.repository)
        with open_registry(self.client, reference, credentials=credentials) as registry:
            yield RegistrySource(registry, reference, self.images.scratch_path)

    @contextmanager
    def open_target(self, credentials: CredentialsProvider) -> Iterator[ImageTarget]:
        """Make a folder that images wait in to be pushed."""
        with scratch_folder(self.images.scratch_path) as folder:
            yield BuilderTarget(self, credentials, folder)


class BuilderTarget(LayoutTarget):
    """A repository of a registry, by way of a builder.

    Args:
        site: The registry and the builder.
        credentials: Finds the registry's login.
        scratch_path: A folder for what waits to be pushed, of this target alone.
    """

    tally: PushTally

    def __init__(self, site: BuilderImages, credentials: CredentialsProvider, scratch_path: Path) -> None:
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        super().__init__(ImageLayout.create(scratch_path), scratch_path / "ingest")
        self._site = site
        self._credentials = credentials
        self._pushed: set[Digest] = set()
        self.tally = PushTally()

    def send(self, images: Sequence[Descriptor], staged: Sequence[StagedArchive], repository: str) -> None:
        """Push images by their digests; the builder takes from here what the registry lacks."""
        super().send(images, staged, repository)
        for image in images:
            self._push(image)

    def relay(self, client: RegistryReader, reference: Reference) -> Descriptor:
        """Pull an image, and push it by its digest."""
        image = super().relay(client, reference)
        self._push(image)
        return image

    def name(self, images: Mapping[str, Descriptor]) -> None:
        """Push images that are there under their tags, which sends no blobs."""
        tags: dict[Digest, list[str]] = {}
        for name, image in images.items():
            tags.setdefault(image.digest, []).append(name)
        for image in {image.digest: image for image in images.values()}.values():
            self._push_to(image, tags[image.digest])

    def withdraw(self, names: Iterable[str]) -> None:
        """Do nothing: a builder deletes nothing in a registry."""

    def _push(self, image: Descriptor) -> None:
        if image.digest not in self._pushed:
            self._push_to(image, [self._site.repository], by_digest=True)
            self._pushed.add(image.digest)
            self.tally.images = len(self._pushed)

    def _push_to(self, image: Descriptor, names: Sequence[str], *, by_digest: bool = False) -> None:
        from buildkit_client.image_relay import push_image  # noqa: PLC0415 (imports gRPC)

        push_image(
            self._site.client,
            self._layout,
            image,
            names,
            by_digest=by_digest,
            insecure=self._site.images.is_insecure,
            credentials=self._credentials,
        )


class PushTally(TransferTally):
    """Counts images: a builder does not tell which blobs it sent.

    Attributes:
        images: How many were pushed.
    """

    images: int = 0

    def __str__(self) -> str:
        """Return a sentence for people."""
        return f"{self.images} image{'' if self.images == 1 else 's'} pushed through the builder"
