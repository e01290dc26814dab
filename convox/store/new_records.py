"""Adding records under a fresh id, drawn at random and drawn again where it is taken; and ending a build well."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convox.models import Build, Release, new_build_id, new_release_id, now
from convox.store import IdTakenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convox.store import Store

_ATTEMPTS = 10  # 26**10 ids: a second collision in a row is a broken random source, not bad luck


def add_build(store: Store, build: Build) -> Build:
    """Add a build and return it with the id it got; the id it came with is used only when it is free.

    Raises:
        IdTakenError: No free id was found in ten draws.
        StoreError: The store cannot be used.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            store.create_build(build)
        except IdTakenError:
            build = replace(build, id=new_build_id())
        else:
            return build
    store.create_build(build)
    return build


def add_release(store: Store, release: Release) -> Release:
    """Add a release and return it with the id it got; the id it came with is used only when it is free.

    Raises:
        IdTakenError: No free id was found in ten draws.
        StoreError: The store cannot be used.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            store.create_release(release)
        except IdTakenError:
            release = replace(release, id=new_release_id())
        else:
            return release
    store.create_release(release)
    return release


def complete_build(
    store: Store, build: Build, *, images: Mapping[str, str], entrypoint: str, env: str | None = None
) -> tuple[Build, Release]:
    """End a build well: give it a release and mark it as complete, in one step.

    Args:
        store: Has the build.
        build: The build; it is running.
        images: Image digest by service name.
        entrypoint: Shell-quoted ENTRYPOINT of the last service.
        env: The release's environment; None takes that of the app's newest release.

    Returns:
        The build and the release as they are now.

    Raises:
        TransitionError: Another process ended the build.
        StoreError: The store cannot be used.
    """

    def make_release(newest: Release | None) -> Release:
        # Made from the newest release now, and not from that of the build's begin: it may have changed meanwhile.
        inherited = newest.env if newest is not None else ""
        return Release(
            id=new_release_id(),
            app=build.app,
            build=build.id,
            env=inherited if env is None else env,
            manifest=build.manifest,
            description=build.description,
            created=now(),
        )

    return store.complete_build(build.app, build.id, make_release, entrypoint=entrypoint, images=images, ended=now())
