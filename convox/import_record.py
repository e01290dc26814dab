"""The record of a build that comes from elsewhere: it runs while its images arrive, and fails with them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.errors import ConvoxError
from convox.models import Build, BuildStatus, new_build_id, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from convox.archive_images import ImageTarget
    from convox.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSite:
    """Where a build is imported to.

    Attributes:
        app: The app's name.
        store: Takes the records.
        repository: What tags of the app's images begin with, before the colon.
        target: Takes the images.
        secrets: Values that must not be shown or kept; an import adds those that it finds.
    """

    app: str
    store: Store
    repository: str
    target: ImageTarget
    secrets: list[str] = field(default_factory=list, repr=False)


@contextlib.contextmanager
def import_record(
    site: ImportSite,
    services: Iterable[str],
    *,
    manifest: str,
    description: str = "",
    entrypoint: str = "",
    git_sha: str = "",
) -> Iterator[tuple[Build, Mapping[str, str]]]:
    """Add a running build under a new id; when the block raises, it ends ``failed``, with the reason and no images.

    Args:
        site: Where it is imported to.
        services: Whose images come.
        manifest: See :class:`~convox.models.Build`, as for the following.
        description: Free text.
        entrypoint: Of the last service.
        git_sha: Commit of the source.

    Yields:
        The build, and the full name that each service's image gets.

    Raises:
        StoreError: The record cannot be written.
    """
    from convox.store.new_records import add_build  # noqa: PLC0415 (not needed by every command)
    from convox.store.process import current_process_id  # noqa: PLC0415 (not needed by every command)

    build = Build(
        id=new_build_id(),
        app=site.app,
        process=current_process_id(),
        repository=site.repository,
        started=now(),
        manifest=manifest,
        description=description,
        entrypoint=entrypoint,
        git_sha=git_sha,
    )
    build = add_build(site.store, build)
    names = {service: f"{site.repository}:{service}.{build.id}" for service in services}
    try:
        logs = f"object://{build.app}/build/{build.id}/logs"
        yield site.store.update_build(build.app, build.id, status=BuildStatus.RUNNING, logs=logs), names
    except BaseException as exc:
        _end_failed(site, build, exc, names.values())
        raise


def _end_failed(site: ImportSite, build: Build, exc: BaseException, names: Iterable[str]) -> None:
    """Leave the record ``failed`` and no images under its names; the first error is what counts."""
    from buildkit_client.errors import BuildKitError  # noqa: PLC0415 (not needed by every command)
    from convox.masking import scrub  # noqa: PLC0415 (not needed by every command)

    why = getattr(exc, "why", "")
    reason = "cancelled" if isinstance(exc, KeyboardInterrupt) else str(exc) or type(exc).__name__
    reason = scrub(f"{reason}: {why}" if why else reason, site.secrets)
    with contextlib.suppress(ConvoxError, BuildKitError):
        if not site.store.get_build(build.app, build.id).status.is_final:
            with contextlib.suppress(ConvoxError):
                site.store.append_log(build.app, build.id, f"ERROR: {reason}\n".encode("utf-8", "surrogateescape"))
        # An interrupt may come when the build is complete: then this refuses, and the images keep their names.
        site.store.update_build(build.app, build.id, status=BuildStatus.FAILED, reason=reason, ended=now())
        site.target.withdraw(names)
