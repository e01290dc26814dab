"""Adding records under a fresh id: the id is drawn at random, and drawn again where it is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convox.models import Build, Release, new_build_id, new_release_id
from convox.store import IdTakenError

if TYPE_CHECKING:
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
