"""Where a rack's images and caches go: an OCI image layout on disk, or a registry.

Both are one role, :class:`ImageStore`, so that a build does not know which one it has.
"""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from convox.errors import RackError
from convox.rack import LOCAL_REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from buildkit_client.oci import CredentialsProvider, HttpOptions
    from buildkit_client.options import Cache, Compression, Exporter
    from convox.archive_images import ImageSource, ImageTarget
    from convox.image_facts import ImageFacts
    from convox.models import Build
    from convox.plan import PlannedImage
    from convox.rack import Rack

_IMAGE_NAME = "io.containerd.image.name"  # what an image layout's index calls the full name, as containerd has it


class ImageStore(Protocol):
    """Where images go.

    Attributes:
        repository: What tags of the app's images begin with, before the colon.
        layout_path: Folder of the OCI image layout, None for a registry.
    """

    @property
    def repository(self) -> str:
        """What tags of the app's images begin with."""

    @property
    def layout_path(self) -> Path | None:
        """Folder of the OCI image layout, None for a registry."""

    def exporters(self, image: PlannedImage) -> Sequence[Exporter]:
        """Return where a built image goes."""

    def caches(self, image: PlannedImage) -> tuple[Sequence[Cache], Sequence[Cache]]:
        """Return the caches to import from and to export to."""

    def entrypoint(self, image: PlannedImage, digest: str, credentials: CredentialsProvider) -> str:
        """Return the image's ENTRYPOINT, quoted for a shell; empty when it has none.

        Raises:
            BuildKitError: The image's config cannot be read.
        """

    def facts(self, name: str, digest: str, credentials: CredentialsProvider) -> ImageFacts:
        """Return what an image is made of.

        Args:
            name: Its full name.
            digest: The digest that it must have.
            credentials: For a registry.

        Raises:
            BuildKitError: It is gone, is another one by now, or cannot be read.
        """

    def remove(self, build_id: str) -> bool:
        """Take away the images of a build, as far as that can be done here.

        Returns:
            Whether none is left; False for a registry, most of which let nobody delete.

        Raises:
            BuildKitError: They cannot be removed.
        """

    def prune(self, min_age_s: float | None) -> None:
        """Delete what no image needs any more, where that is on this machine.

        Args:
            min_age_s: Only what was not used for so long; None takes an age that no build in progress exceeds.

        Raises:
            BuildKitError: It cannot be deleted.
        """

    def open_source(self, credentials: CredentialsProvider) -> AbstractContextManager[ImageSource]:
        """Return where exports read images.

        Raises:
            BuildKitError: It cannot be used.
        """

    def open_target(self, credentials: CredentialsProvider) -> AbstractContextManager[ImageTarget]:
        """Return where imports put images.

        Raises:
            BuildKitError: It cannot be used.
        """


@dataclass(frozen=True, slots=True)
class LayoutImages:
    """Images in an OCI image layout on disk; needs no registry, and services share layers.

    Attributes:
        repository: What tags of the app's images begin with, before the colon.
        path: Folder of the layout; made on first use.
    """

    repository: str
    path: Path

    @property
    def layout_path(self) -> Path | None:
        """The layout's folder."""
        return self.path

    def exporters(self, image: PlannedImage) -> Sequence[Exporter]:
        """Return an exporter that writes into the layout."""
        from buildkit_client.options import OciExporter, OutputLayout  # noqa: PLC0415 (not needed by every command)

        return [OciExporter(dest=OutputLayout(self.path), name=image.tags)]

    def caches(self, image: PlannedImage) -> tuple[Sequence[Cache], Sequence[Cache]]:  # noqa: ARG002 - of the role
        """Return none: the builder's own cache serves a rack without a registry."""
        return (), ()

    def entrypoint(self, image: PlannedImage, digest: str, credentials: CredentialsProvider) -> str:  # noqa: ARG002
        """Read the image's config from the layout."""
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        layout = ImageLayout(self.path)
        descriptor = layout.find(image.tags[0])
        return "" if descriptor is None else shlex.join(layout.read_config(descriptor).entrypoint)

    def facts(self, name: str, digest: str, credentials: CredentialsProvider) -> ImageFacts:  # noqa: ARG002
        """Read the image's documents in the layout."""
        from buildkit_client.errors import LayoutError  # noqa: PLC0415 (not needed by every command)
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)
        from convox.image_facts import read_image_facts  # noqa: PLC0415 (not needed by every command)

        layout = ImageLayout(self.path)
        descriptor = layout.find(name)
        if descriptor is None or descriptor.digest != digest:
            raise LayoutError("the image is gone" if descriptor is None else "the image is another one by now")
        return read_image_facts(layout, descriptor)

    def remove(self, build_id: str) -> bool:
        """Take the images of a build out of the layout's index."""
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        if not self.path.is_dir():
            return True
        layout = ImageLayout(self.path)
        for name in [entry.annotations.get(_IMAGE_NAME, "") for entry in layout.read_index().manifests]:
            repository, _, tag = name.rpartition(":")
            if repository == self.repository and tag.rpartition(".")[2] == build_id:
                layout.remove(name)
        return True

    def prune(self, min_age_s: float | None) -> None:
        """Delete blobs that no image of the layout needs."""
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)

        if self.path.is_dir():
            layout = ImageLayout(self.path)
            layout.prune() if min_age_s is None else layout.prune(min_age_s)

    @contextmanager
    def open_source(self, credentials: CredentialsProvider) -> Iterator[ImageSource]:  # noqa: ARG002 - of the role
        """Open the layout."""
        from convox.archive_images import LayoutSource  # noqa: PLC0415 (not needed by every command)

        yield LayoutSource(self.path)

    @contextmanager
    def open_target(self, credentials: CredentialsProvider) -> Iterator[ImageTarget]:  # noqa: ARG002 - of the role
        """Open the layout, made where it is missing."""
        from buildkit_client.oci import ImageLayout  # noqa: PLC0415 (not needed by every command)
        from convox.archive_images import LayoutTarget, scratch_folder  # noqa: PLC0415 (not needed by every command)

        layout = ImageLayout.create(self.path)
        with scratch_folder(layout.ingest_path) as folder:
            yield LayoutTarget(layout, folder)


@dataclass(frozen=True, slots=True)
class RegistryImages:
    """Images pushed to a registry, with a registry cache for each service.

    Attributes:
        repository: What tags of the app's images begin with, before the colon.
        is_insecure: It speaks plain HTTP, or has a certificate that cannot be verified.
        cache: ``registry`` keeps a cache for each service, ``inline`` one inside the images, ``none`` nothing.
        compression: Of layers and cache; empty takes the builder's default.
        scratch_path: Folder for what an import or export keeps for a while, made when missing; None for the system's.
        http: How the registry is reached from here; None without a proxy.
    """

    repository: str
    is_insecure: bool = False
    cache: str = "registry"
    compression: str = ""
    scratch_path: Path | None = None
    http: HttpOptions | None = None

    @property
    def layout_path(self) -> Path | None:
        """None."""
        return None

    def exporters(self, image: PlannedImage) -> Sequence[Exporter]:
        """Return an exporter that pushes every tag."""
        from buildkit_client.options import ImageExporter  # noqa: PLC0415 (not needed by every command)

        compression = self._checked_compression()
        return [
            ImageExporter(
                name=(*image.tags, self._latest(image)) if self.cache == "inline" else image.tags,
                push=True,
                insecure=self.is_insecure,
                compression=compression,
                # An older builder writes Docker's media types, where zstd has a name that few tools know.
                oci_media_types=True if compression in ("zstd", "estargz") else None,
            )
        ]

    def caches(self, image: PlannedImage) -> tuple[Sequence[Cache], Sequence[Cache]]:
        """Return the registry caches of the image's services.

        An image that several services share is exported to the cache of each, so that a service finds its own the
        day it is no longer the same as the others.
        """
        from buildkit_client.options import InlineCache, RegistryCache  # noqa: PLC0415 (not needed by every command)

        if self.cache == "none":
            return (), ()
        if self.cache == "inline":
            latest = RegistryCache(ref=self._latest(image), insecure=self.is_insecure)
            return [latest], [InlineCache()]
        imports = [RegistryCache(ref=ref, insecure=self.is_insecure) for ref in image.cache_refs]
        exports = [
            RegistryCache(
                ref=ref,
                mode="max",
                image_manifest=True,
                oci_media_types=True,
                ignore_error=True,
                insecure=self.is_insecure,
                compression=self._checked_compression(),
            )
            for ref in image.cache_refs
        ]
        return imports, exports

    def _latest(self, image: PlannedImage) -> str:
        """Return the tag that always names the newest image of a service, where an inline cache is found again."""
        return f"{self.repository}:{image.services[0]}.latest"

    def _checked_compression(self) -> Compression | Literal[""]:
        match self.compression:
            case "" | "gzip" | "zstd" | "estargz" | "uncompressed" as known:
                return known
        raise RackError(
            f"invalid value for param 'compression': {self.compression}", hint="use gzip, zstd, estargz or uncompressed"
        )

    def entrypoint(self, image: PlannedImage, digest: str, credentials: CredentialsProvider) -> str:
        """Read the image's config from the registry."""
        from buildkit_client.oci import RegistryClient  # noqa: PLC0415 (not needed by every command)

        with RegistryClient(image.tags[0], credentials, insecure=self.is_insecure, http=self.http) as registry:
            return shlex.join(registry.read_config(digest).entrypoint)

    def facts(self, name: str, digest: str, credentials: CredentialsProvider) -> ImageFacts:
        """Read the image's documents in the registry."""
        from buildkit_client.oci import (  # noqa: PLC0415 (not needed by every command)
            Digest,
            Reference,
            RegistryClient,
            RepositoryBlobs,
        )
        from convox.image_facts import read_image_facts  # noqa: PLC0415 (not needed by every command)

        with RegistryClient(self.repository, credentials, insecure=self.is_insecure, http=self.http) as registry:
            blobs = RepositoryBlobs(registry, Reference.parse(name))
            return read_image_facts(blobs, blobs.resolve(Digest(digest)))

    def remove(self, build_id: str) -> bool:  # noqa: ARG002 - of the role
        """Leave the images where they are."""
        return False

    def prune(self, min_age_s: float | None) -> None:
        """Do nothing: a registry collects its own garbage."""

    @contextmanager
    def open_source(self, credentials: CredentialsProvider) -> Iterator[ImageSource]:
        """Open a connection to the registry."""
        from buildkit_client.oci import Reference, RegistryClient  # noqa: PLC0415 (not needed by every command)
        from convox.archive_images import RegistrySource  # noqa: PLC0415 (not needed by every command)

        with RegistryClient(self.repository, credentials, insecure=self.is_insecure, http=self.http) as registry:
            yield RegistrySource(registry, Reference.parse(self.repository), self.scratch_path)

    @contextmanager
    def open_target(self, credentials: CredentialsProvider) -> Iterator[ImageTarget]:
        """Open a connection to the registry, and a folder for what waits to be sent."""
        from buildkit_client.oci import Reference, RegistryClient  # noqa: PLC0415 (not needed by every command)
        from convox.archive_images import RegistryTarget, scratch_folder  # noqa: PLC0415 (not needed by every command)

        with (
            RegistryClient(self.repository, credentials, insecure=self.is_insecure, http=self.http) as registry,
            scratch_folder(self.scratch_path) as folder,
        ):
            yield RegistryTarget(registry, Reference.parse(self.repository), folder)


def image_store(rack: Rack, app: str) -> ImageStore:
    """Return where a rack keeps the images of an app."""
    if not rack.param("registry"):
        return local_images(rack, app)
    return RegistryImages(
        rack.repository(app),
        is_insecure=rack.param("registry_insecure") == "true",
        cache=rack.param("cache"),
        compression=rack.param("compression"),
        scratch_path=rack.transfers_path,
        http=rack.registry_http(),
    )


def local_images(rack: Rack, app: str) -> ImageStore:
    """Return where a rack keeps images of an app that are not pushed."""
    return LayoutImages(f"{LOCAL_REGISTRY}/{app}", rack.images_path)


def stored_images(rack: Rack, build: Build) -> ImageStore:
    """Return where the images of an earlier build are, also when the rack's registry is another one by now."""
    images = image_store(rack, build.app)
    if build.repository in ("", images.repository):
        return images
    if build.repository.startswith(f"{LOCAL_REGISTRY}/"):
        return LayoutImages(build.repository, rack.images_path)
    return RegistryImages(
        build.repository,
        is_insecure=rack.param("registry_insecure") == "true",
        scratch_path=rack.transfers_path,
        http=rack.registry_http(),
    )
