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
from convox.errors import UsageError
from convox.plan_files import AppFolder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from convox.manifest import BuildSpec, Manifest, Service

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
        ignore: Patterns of that folder's ``.dockerignore``. They hold for the whole folder, whatever path a service is
            built from; an ignore file in the build path comes on top.
        warnings: For people to read, one line each; never a value.
    """

    images: tuple[PlannedImage, ...]
    app_path: Path
    ignore: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def ignore_prefix(self, image: PlannedImage) -> str:
        """Return where the context of an image lies in the app's folder, with slashes; empty for the folder itself."""
        relative = image.context_path.relative_to(self.app_path).as_posix()
        return "" if relative == "." else relative

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
    target: str = "",
    only: Collection[str] = (),
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
        target: Stage to build of every Dockerfile, empty for the last one.
        only: Services to build; empty for all.

    Returns:
        The plan; it has at least one image.

    Raises:
        ManifestError: A folder or Dockerfile is missing, cannot be read, is excluded, or lies outside; an ``image`` is
            no image reference; a service's name is too long for a tag; a Dockerfile has no stage of the target's name.
        UsageError: The manifest has no such service; both a target and the development stages are asked for.
    """
    services = _chosen_services(manifest, only)
    if target and is_development:
        raise UsageError(f"--target {target} and --development name different stages", hint="leave one of them out")
    folder = AppFolder(app_path, manifest.name)
    planner = _Planner(folder, manifest.text, app_env, build_args, is_development=is_development, target=target)
    images: dict[object, PlannedImage] = {}
    members: dict[object, list[str]] = {}
    for service in services:
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
    plan = Plan(images=planned, app_path=folder.path, ignore=folder.ignore_patterns())
    for image in planned:
        if image.inline_dockerfile is None and _is_excluded(plan.ignore_prefix(image), plan.ignore):
            path = plan.ignore_prefix(image)
            raise folder.error(
                image.line,
                f"service {image.services[0]}: build path {path} is excluded by the app's .dockerignore",
                why="that file holds for every service, as on a Convox rack",
                hint=f"write !{path} at its end, or take the pattern out",
            )
    warnings = (*manifest.warnings, *_secret_warnings(planned), *_unused_warnings(manifest, planned, build_args))
    return replace(plan, warnings=warnings)


def _is_excluded(path: str, patterns: Iterable[str]) -> bool:
    """Say whether patterns plainly exclude a folder with all that is in it.

    Only names without wildcards are looked at, and an exception makes it doubtful: what is missed here shows when the
    Dockerfile copies something that is not there.
    """
    is_excluded = False
    for pattern in patterns:
        if pattern.startswith("!"):
            is_excluded = False
        elif path and f"{path}/".startswith(f"{pattern}/"):
            is_excluded = True
    return is_excluded


def _chosen_services(manifest: Manifest, only: Collection[str]) -> list[Service]:
    known = [service.name for service in manifest.services]
    for name in only:
        if name not in known:
            raise UsageError(
                f"there is no service {name} in {manifest.name}", hint=f"its services are {', '.join(known)}"
            )
    return [service for service in manifest.services if not only or service.name in only]


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
        target: str,
    ) -> None:
        self._folder = folder
        self._manifest_text = manifest_text
        self._app_env = app_env
        self._build_args = build_args
        self._is_development = is_development
        self._target = target
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
            target=self._stage(service.name, build, facts),
            build_args=select_build_args(
                facts, app_env=self._app_env, manifest_args=build.args, given=self._build_args
            ),
            line=build.line,
        )

    def _stage(self, service: str, build: BuildSpec, facts: DockerfileFacts) -> str:
        """Return the stage to build, empty for the last one."""
        if self._is_development:
            return DEVELOPMENT_STAGE if DEVELOPMENT_STAGE in facts.stages else ""
        is_known = self._target.lower() in facts.stages or self._target.isdecimal() or not facts.is_dockerfile_language
        if self._target and not is_known:
            stages = f"its stages are {', '.join(facts.stages)}" if facts.stages else "its stages have no names"
            raise self._folder.error(
                build.line,
                f"service {service}: {build.manifest} has no stage {self._target}",
                why=stages,
                hint="name another with --target, or other services with --service",
            )
        return self._target

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
