"""``convox builds import-image``: a build whose images are taken from a registry as they are.

Every service gets the image that was named, but for services with an ``image`` of their own, which get that. Nothing
is built: each image is copied to where the rack keeps images, digest by digest.

Reference: convox/convox pkg/cli/builds.go, BuildsImportImage; provider/k8s/build.go, BuildImportImage.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from convox.build_args import looks_secret
from convox.import_record import ImportSite, import_record
from convox.masking import secret_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from buildkit_client import Client
    from buildkit_client.oci import CredentialsProvider, Descriptor, HttpOptions, Platform, Reference, RegistryReader
    from convox.manifest import Manifest
    from convox.models import Build, Release


class Step(Protocol):
    """A step that is under way."""

    def done(self, record_id: str) -> None:
        """Say which record the step made."""


class Reporter(Protocol):
    """Where an import says what it does."""

    def step(self, text: str) -> AbstractContextManager[Step]:
        """Show a step: ``text... `` and, when the block ends well, ``OK`` or ``OK, <id>``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """How images are taken from their registries.

    Attributes:
        credentials: Logins.
        insecure_host: A registry that may speak plain HTTP, or empty.
        http: How registries are reached; None without a proxy.
        platform: What to take of an image for several platforms; None takes all of it.
        builder: What reaches the registries for us; None reaches them from here.
    """

    credentials: CredentialsProvider
    insecure_host: str = ""
    http: HttpOptions | None = None
    platform: Platform | None = None
    builder: Client | None = None

    def open(self, reference: Reference) -> AbstractContextManager[RegistryReader]:
        """Return a client of an image's registry."""
        from buildkit_client.oci import RegistryClient  # noqa: PLC0415 (not needed by every command)

        if self.builder is not None:
            from buildkit_client.image_relay import open_registry  # noqa: PLC0415 (imports gRPC)

            return open_registry(self.builder, reference, credentials=self.credentials)
        is_insecure = reference.registry_host == self.insecure_host
        return RegistryClient(reference, self.credentials, insecure=is_insecure, http=self.http)


def import_image(
    source: str, manifest_path: Path, origin: ImageOrigin, site: ImportSite, reporter: Reporter
) -> tuple[Build, Release]:
    """Make a build of an image that is in a registry.

    Args:
        source: The image.
        manifest_path: The app's manifest.
        origin: How it is taken from its registry.
        site: Where it goes.
        reporter: Told of the steps.

    Raises:
        OptionError: ``source``, or the image of a service, is no image reference; nothing was recorded.
        ManifestError: The manifest cannot be read; nothing was recorded.
        BuildKitError: An image cannot be fetched or stored; the record is ``failed`` with the reason.
        StoreError: The records cannot be written.
    """
    from buildkit_client.oci import Reference  # noqa: PLC0415 (not needed by every command)
    from convox.manifest import load_manifest  # noqa: PLC0415 (not needed by every command)
    from convox.store.new_records import complete_build  # noqa: PLC0415 (not needed by every command)

    Reference.parse(source)  # what was typed comes before what lies in files
    latest = site.store.latest_release(site.app)
    env = {} if latest is None else latest.environment
    site.secrets.extend(secret_values(env, is_secret=looks_secret))  # errors quote the manifest with its values
    manifest = load_manifest(manifest_path, env)
    services = _services_by_image(manifest, source)
    references = {image: Reference.parse(image) for image in services}
    with ExitStack() as stack:
        with reporter.step("Creating build") as step:
            every_service = [service.name for service in manifest.services]
            build, names = stack.enter_context(import_record(site, every_service, manifest=manifest.text))
            step.done(build.id)
        with reporter.step(f"Relaying image {source}"):
            found = {image: _resolve(reference, origin) for image, reference in references.items()}
        with reporter.step("Waiting for import to complete"):
            images: dict[str, Descriptor] = {}
            for image, reference in found.items():
                with origin.open(reference) as client:
                    copied = site.target.relay(client, reference)
                images |= {names[service]: copied for service in services[image]}
                lines = "".join(f"{service} | {reference}\n" for service in services[image])
                site.store.append_log(build.app, build.id, lines.encode())
            site.target.name(images)
        with reporter.step("Creating release") as step:
            digests = {service: str(found[image].digest) for image in services for service in services[image]}
            build, release = complete_build(site.store, build, images=digests, entrypoint="")
            step.done(release.id)
    return build, release


def only_platform(text: str) -> Platform | None:
    """Return the platform that a rack builds for, None when it is none in particular or several.

    Args:
        text: Value of the rack's parameter: platforms with commas between them, or empty.

    Raises:
        OptionError: It is no platform.
    """
    from buildkit_client.oci import Platform  # noqa: PLC0415 (not needed by every command)

    names = [name for name in text.split(",") if name]
    return Platform.parse(names[0]) if len(names) == 1 else None


def _services_by_image(manifest: Manifest, source: str) -> Mapping[str, Sequence[str]]:
    """Return the services that get each image, in the manifest's order."""
    found: dict[str, list[str]] = {}
    for service in manifest.services:
        found.setdefault(service.image or source, []).append(service.name)
    return found


def _resolve(reference: Reference, origin: ImageOrigin) -> Reference:
    """Return an image by its digest, so that everything that follows is about one image."""
    from buildkit_client.oci import RepositoryBlobs  # noqa: PLC0415 (not needed by every command)

    with origin.open(reference) as client:
        return reference.with_digest(RepositoryBlobs(client, reference).resolve(platform=origin.platform).digest)
