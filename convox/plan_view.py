"""A plan as a record: what a build would do, for ``--print``. Values that may be secrets are not in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.build_args import looks_secret
from convox.build_flags import caches_of
from convox.masking import mask, secret_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client.options import Cache
    from convox.builds import BuildRequest
    from convox.images import ImageStore
    from convox.plan import Plan, PlannedImage

MASK = "****"
"""What a value is shown as that is a secret by its name, or comes from the app's environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """One image that would be built.

    Attributes:
        services: Names of the services that use it.
        image: The image that it is pulled as; empty for one that is built.
        context: Folder of the context, relative to the app's; empty for an image that is pulled.
        dockerfile: Path relative to the context; empty for an image that is pulled.
        target: Stage, empty for the last one.
        platforms: Empty for the builder's own.
        args: Build arguments; secrets are masked.
        tags: Where it goes.
        is_pushed: Whether that is a registry.
        cache_from: Caches that would be used, each as ``type=…,ref=…``.
        cache_to: Caches that would be written.
    """

    services: Sequence[str]
    image: str
    context: str
    dockerfile: str
    target: str
    platforms: Sequence[str]
    args: Mapping[str, str]
    tags: Sequence[str]
    is_pushed: bool
    cache_from: Sequence[str]
    cache_to: Sequence[str]

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "services": list(self.services),
            "image": self.image,
            "context": self.context,
            "dockerfile": self.dockerfile,
            "target": self.target,
            "platforms": list(self.platforms),
            "args": dict(self.args),
            "tags": list(self.tags),
            "push": self.is_pushed,
            "cache-from": list(self.cache_from),
            "cache-to": list(self.cache_to),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What a build would do.

    Attributes:
        app: The app's name.
        rack: The rack's name.
        manifest: Path of the manifest in the app's folder.
        images: Each image once.
        ignore: Patterns of the app's ``.dockerignore``.
        secrets: Ids of the secrets that steps may ask for.
        ssh: Ids of the SSH agents and keys.
        is_cached: Whether steps may come from a cache.
        notes: Warnings and what is left out.
    """

    app: str
    rack: str
    manifest: str
    images: Sequence[ImageView]
    ignore: Sequence[str] = ()
    secrets: Sequence[str] = ()
    ssh: Sequence[str] = ()
    is_cached: bool = True
    notes: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "app": self.app,
            "rack": self.rack,
            "manifest": self.manifest,
            "images": [image.to_json() for image in self.images],
            "ignore": list(self.ignore),
            "secrets": list(self.secrets),
            "ssh": list(self.ssh),
            "cache": self.is_cached,
            "notes": list(self.notes),
        }


def view_plan(
    plan: Plan,
    request: BuildRequest,
    *,
    rack: str,
    images: ImageStore,
    platforms: Sequence[str],
    env: Mapping[str, str],
    notes: Sequence[str] = (),
) -> PlanView:
    """Return a plan as a record.

    Args:
        plan: What :func:`convox.builds.plan_build` returned.
        request: What was asked for.
        rack: The rack's name.
        images: Where the images would go.
        platforms: To build for.
        env: The app's environment, whose values are not shown.
        notes: What else to say.
    """
    return PlanView(
        app=request.app,
        rack=rack,
        manifest=request.manifest,
        images=[_view_image(plan, image, request, images, platforms=platforms, env=env) for image in plan.images],
        ignore=plan.ignore,
        secrets=sorted(request.secrets),
        ssh=sorted(request.ssh),
        is_cached=request.is_cached,
        notes=[*plan.warnings, *notes],
    )


def _view_image(
    plan: Plan,
    image: PlannedImage,
    request: BuildRequest,
    images: ImageStore,
    *,
    platforms: Sequence[str],
    env: Mapping[str, str],
) -> ImageView:
    is_built = image.inline_dockerfile is None
    imports, exports = images.caches(image)
    cache_from = [*caches_of(request.cache_from, image.services), *imports] if request.is_cached else []
    cache_to = [*caches_of(request.cache_to, image.services), *exports]
    secrets = secret_values(env) + secret_values(image.build_args, is_secret=looks_secret)
    return ImageView(
        services=image.services,
        image=image.image,
        context=plan.ignore_prefix(image) or "." if is_built else "",
        dockerfile=image.dockerfile if is_built else "",
        target=image.target,
        platforms=platforms,
        args={
            name: MASK if looks_secret(name) or env.get(name) == value else mask(value, secrets)
            for name, value in image.build_args.items()
        },
        tags=image.tags,
        is_pushed=images.layout_path is None,
        cache_from=[_show_cache(cache, cache.to_import_attrs()) for cache in cache_from],
        cache_to=[_show_cache(cache, cache.to_export_attrs()) for cache in cache_to],
    )


def _show_cache(cache: Cache, attrs: Mapping[str, str]) -> str:
    """Return a cache in buildctl's words; keys of clouds' stores are masked."""
    shown = (f"{name}={MASK if looks_secret(name) or 'token' in name else value}" for name, value in attrs.items())
    return ",".join((f"type={cache.type}", *shown))
