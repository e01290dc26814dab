"""Removing a build that has ended: its images where they can be removed, its record, its log.

The images go first and the record last but the log, so that a removal that was killed can be given again. Blobs that
other images share stay; those that nobody needs go when no build is at work that could be about to need them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from convox.store import BuildInUseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convox.images import ImageStore
    from convox.models import Build
    from convox.store import Store

_CLOCK_TICK_S = 0.1
"""By how much a file's time may lag behind the clock, and a bit."""


def check_removable(store: Store, build: Build) -> None:
    """Refuse a build that runs, or that the active release is made of.

    Raises:
        BuildInUseError: It is one.
        StoreError: The store cannot be read.
    """
    if not build.status.is_final:
        raise BuildInUseError(
            f"build {build.id} cannot be removed",
            why=f"it is {build.status}",
            hint=f"convox builds cancel {build.id} -a {build.app}",
        )
    active = store.get_app(build.app).release
    if active and store.get_release(build.app, active).build == build.id:
        raise BuildInUseError(
            f"build {build.id} cannot be removed",
            why=f"the active release {active} is made of it",
            hint=f"promote another release first: convox releases -a {build.app}",
        )


def remove_build(store: Store, build: Build, images: ImageStore) -> bool:
    """Remove a build.

    Args:
        store: Has it.
        build: The build, as it is now.
        images: Where its images are.

    Returns:
        Whether its images are removed; False when it has some in a registry, which keeps them.

    Raises:
        BuildInUseError: See :func:`check_removable`.
        NotFoundError: Somebody else removed it meanwhile.
        StoreError: The store cannot be changed, or the log not be deleted.
        BuildKitError: The images cannot be removed.
    """
    from convox.archive_kept import forget  # noqa: PLC0415 (not needed by every command)
    from convox.store.logs import delete_log  # noqa: PLC0415 (not needed by every command)

    check_removable(store, build)
    is_removed = images.remove(build.id)
    store.delete_build(build.app, build.id)
    delete_log(store.logs_dir, build.app, build.id)
    forget(store, build)
    return is_removed or not build.images


def prune_images(store: Store, places: Iterable[ImageStore]) -> None:
    """Delete blobs that no image needs any more.

    Args:
        store: Has the builds of everybody who writes to those places.
        places: Where images were removed from.
    """
    began = time.time()
    is_quiet = not store.list_unfinished_builds()
    for images in places:
        # Whoever begins to build from now on touches what it is going to use, which protects it.
        images.prune(time.time() - began + _CLOCK_TICK_S if is_quiet else None)
