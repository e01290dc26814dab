"""From a manifest to the images that have to be built.

Everything that can be checked without a builder is checked here, before anything is sent. Services that would be built
from the same context, Dockerfile, arguments and target share one build and get a tag each. An ``image:`` service is a
build too, of a one-line Dockerfile, so that its image is pulled, cached and tagged like the others; that Dockerfile is
bytes in the plan, and the app's folder is never written to.

Reference: convox/convox pkg/build/buildkit.go, Build and build; pkg/build/docker.go builds identical services once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convox.build_args import looks_secret, select_build_args
from convox.dockerfile import DockerfileFacts, scan_dockerfile
from convox.plan_files import AppFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from convox.manifest import Manifest, Service

DEVELOPMENT_STAGE = "development"
MAX_TAG = 128
"""Characters of a tag, by the OCI distribution specification."""

# Close enough to a reference that nothing else can hide in it: no second word, no scheme, no account.
_IMAGE = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\](?::[0-9]+)?/|[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+/)?"
    r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,})?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedImage:
    """One image to build, for one service or several.

    Attributes:
        services: Names of the services that use it, in file order, at least one.
        context_path: Folder of the build context: absolute, symlinks resolved, inside the app's folder.
        dockerfile: The Dockerfile's path relative to ``context_path``, with slashes; for an inline one just its name.
        inline_dockerfile: Content of a Dockerfile that is no file, None for one that is.
        image: Reference of an ``image:`` service, else empty.
        target: Stage to build, empty for the last one.
        build_args: Values by name, sorted.
        tags: Full references ``<repository>:<service>.<build id>``, one for each service, in the order of ``services``.
        cache_refs: Registry cache references ``<repository>:<service>.buildcache``, in that order too.
        line: Line of the manifest that asks for it.
    """

    services: tuple[str, ...]
    context_path: Path
    dockerfile: str
    inline_dockerfile: bytes | None = None
    image: str = ""
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict, repr=False)
    tags: tuple[str, ...] = ()
    cache_refs: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a build has to do.

    Attributes:
        images: Each image once, in the order of the first service that uses it.
        app_path: The app's folder, absolute, symlinks resolved.
        dockerignore_path: The ``.dockerignore`` of that folder, None when there is none. Convox applies it to the whole
            folder before it looks at any service; one in a service's build path comes on top.
        warnings: For people to read, one line each; never a value.
    """

    images: tuple[PlannedImage, ...]
    app_path: Path
    dockerignore_path: Path | None = None
    warnings: tuple[str, ...] = ()

    def image_for(self, service: str) -> PlannedImage:
        """Return the image of a service.

        Raises:
            KeyError: The plan has no such service.
        """
        for image in self.images:
            if service in image.services:
                return image
        raise KeyError(service)


def image_tag(repository: str, service: str, build_id: str) -> str:
    """Return the reference that a service's image is pushed as.

    Args:
        repository: Host, port and path, without a tag: ``registry.example.com:5000/app``.
        service: The service's name.
        build_id: Id of the build.

    Reference: convox/convox pkg/build/buildkit.go, Build.
    """
    return f"{repository}:{service}.{build_id}"


def cache_ref(repository: str, service: str) -> str:
    """Return the reference of a service's registry cache.

    It is made from its parts, never by cutting a tag, so that the port of a registry host does no harm.

    Args:
        repository: As for :func:`image_tag`.
        service: The service's name.
    """
    return f"{repository}:{service}.buildcache"


def make_plan(
    manifest: Manifest,
    app_path: Path,
    *,
    repository: str,
    build_id: str,
    app_env: Mapping[str, str],
    build_args: Mapping[str, str],
    is_development: bool = False,
) -> Plan:
    """Find out which images a build needs.

    Args:
        manifest: The app's manifest.
        app_path: The app's folder; nothing outside it is used.
        repository: Where the images go, without a tag.
        build_id: Id of the build.
        app_env: The app's environment, from its latest release.
        build_args: What :func:`convox.build_args.parse_build_args` returned.
        is_development: Build the stage named ``development`` of those Dockerfiles that have one.

    Returns:
        The plan; it has at least one image.

    Raises:
        ManifestError: A folder or Dockerfile is missing, cannot be read, or lies outside; an ``image`` is no image
            reference; a service's name is too long for a tag.
    """
    folder = AppFolder(app_path, manifest.name)
    planner = _Planner(folder, manifest.text, app_env, build_args, is_development=is_development)
    images: dict[object, PlannedImage] = {}
    members: dict[object, list[str]] = {}
    for service in manifest.services:
        if len(service.name) + 1 + max(len(build_id), len("buildcache")) > MAX_TAG:
            raise folder.error(service.line, f"service name {service.name} is too long to be part of a tag")
        image = planner.image(service)
        # The target follows from the Dockerfile, so it is part of the key already.
        key = (image.context_path, image.dockerfile, image.inline_dockerfile, tuple(image.build_args.items()))
        images.setdefault(key, image)
        members.setdefault(key, []).append(service.name)
    planned = tuple(
        replace(
            images[key],
            services=tuple(names),
            tags=tuple(image_tag(repository, name, build_id) for name in names),
            cache_refs=tuple(cache_ref(repository, name) for name in names),
        )
        for key, names in members.items()
    )
    warnings = (*manifest.warnings, *_secret_warnings(planned), *_unused_warnings(manifest, planned, build_args))
    return Plan(images=planned, app_path=folder.path, dockerignore_path=folder.dockerignore_path, warnings=warnings)


def _secret_warnings(images: Iterable[PlannedImage]) -> Iterator[str]:
    users: dict[str, list[str]] = {}
    for image in images:
        for name in image.build_args:
            if looks_secret(name):
                users.setdefault(name, []).extend(image.services)
    for name, services in sorted(users.items()):
        yield (
            f"build argument {name} looks like a secret, and build arguments can be read from the image's history "
            f"({_list_services(services)})"
        )


def _unused_warnings(
    manifest: Manifest, images: Iterable[PlannedImage], build_args: Mapping[str, str]
) -> Iterator[str]:
    used = {name for image in images for name in image.build_args}
    for name in build_args:
        if name not in used and not manifest.declares(name):
            yield f"build argument {name} is not used: no Dockerfile declares it and {manifest.name} does not name it"


def _list_services(names: Iterable[str]) -> str:
    names = list(names)
    return f"{'service' if len(names) == 1 else 'services'} {', '.join(names)}"


class _Planner:
    """Plans single services; keeps what was found out about each Dockerfile."""

    def __init__(
        self,
        folder: AppFolder,
        manifest_text: str,
        app_env: Mapping[str, str],
        build_args: Mapping[str, str],
        *,
        is_development: bool,
    ) -> None:
        self._folder = folder
        self._manifest_text = manifest_text
        self._app_env = app_env
        self._build_args = build_args
        self._is_development = is_development
        self._facts: dict[Path, DockerfileFacts] = {}

    def image(self, service: Service) -> PlannedImage:
        """Return the image of one service, not yet tagged."""
        build = service.build
        if build is None:
            return self._pulled(service)
        context_path = self._folder.context(service.name, build)
        dockerfile, data = self._folder.dockerfile(service.name, build, context_path)
        path = context_path / dockerfile
        if path not in self._facts:
            self._facts[path] = scan_dockerfile(data)
        facts = self._facts[path]
        return PlannedImage(
            services=(service.name,),
            context_path=context_path,
            dockerfile=dockerfile,
            target=DEVELOPMENT_STAGE if self._is_development and DEVELOPMENT_STAGE in facts.stages else "",
            build_args=select_build_args(
                facts, app_env=self._app_env, manifest_args=build.args, given=self._build_args
            ),
            line=build.line,
        )

    def _pulled(self, service: Service) -> PlannedImage:
        if not _IMAGE.fullmatch(service.image):
            # What came in through ${NAME} may be a secret, so only what the file itself says is shown.
            shown = repr(service.image[:100]) if service.image in self._manifest_text else "the value"
            raise self._folder.error(
                service.image_line,
                f"service {service.name}: image: {shown} is not an image reference",
                hint="write it as NAME:TAG or HOST/NAME@DIGEST, without spaces or https://",
            )
        return PlannedImage(
            services=(service.name,),
            context_path=self._folder.path,
            dockerfile="Dockerfile",
            inline_dockerfile=f"FROM {service.image}\n".encode(),
            image=service.image,
            line=service.image_line,
        )
