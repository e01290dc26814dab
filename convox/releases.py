"""Releases: each build makes one, and so does each change of an app's environment.

A new release follows from the newest one, not from the active one: it has that one's build and environment, but for
what is changed. Which release is active is a mark on the app; nothing is deployed from here.

Reference: convox/convox provider/k8s/release.go, ReleaseCreate; pkg/cli/releases.go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convox.environment import describe_change, format_environment, parse_environment
from convox.errors import NotFoundError, UsageError
from convox.models import Release, new_release_id, now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from convox.store import Store

    ChangeEnvironment = Callable[[dict[str, str]], Mapping[str, str]]


def change_environment(store: Store, app: str, change: ChangeEnvironment, *, parent: str = "") -> Release:
    """Make a release with another environment.

    Args:
        store: Keeps the release.
        app: The app's name; made where it is new, since a build may need values before it can be tried.
        change: Gets the values by name and returns those of the new release.
        parent: Id of the release to begin from; empty for the newest.

    Raises:
        NotFoundError: There is no such parent, or what ``change`` raised.
    """

    def make(newest: Release | None) -> Release:
        base = store.get_release(app, parent) if parent else newest
        env = format_environment(change(parse_environment(base.env if base is not None else "")))
        return _follow(store, app, base, env=env)

    return store.fork_release(app, make)


def create_from(store: Store, app: str, *, build_from: str, env_from: str) -> Release:
    """Make a release of the build of one and the environment of another.

    Args:
        store: Keeps the release.
        app: The app's name.
        build_from: Id of the release whose build is taken.
        env_from: Id of the release whose environment is taken.

    Raises:
        NotFoundError: There is no such release.
    """
    build, env = store.get_release(app, build_from), store.get_release(app, env_from)
    description = f"Created from build release: {build.id} and environment release: {env.id}"
    return store.fork_release(
        app,
        lambda newest: replace(
            _follow(store, app, newest, build=build.build, env=env.env),
            manifest=build.manifest,
            description=description,
        ),
    )


def copy_forward(store: Store, app: str, release_id: str) -> Release:
    """Make a release like an older one: its build and its environment.

    Raises:
        NotFoundError: There is no such release.
    """
    old = store.get_release(app, release_id)
    return store.fork_release(
        app,
        lambda newest: replace(_follow(store, app, newest, build=old.build, env=old.env), manifest=old.manifest),
    )


def promote(store: Store, app: str, release_id: str) -> None:
    """Mark a release as the active one.

    Raises:
        NotFoundError: There is no such app or release.
    """
    store.update_app(app, release=store.get_release(app, release_id).id)


def newest_release(store: Store, app: str) -> Release:
    """Return the newest release.

    Raises:
        NotFoundError: There is no such app, or it has no release.
    """
    store.get_app(app)
    release = store.latest_release(app)
    if release is None:
        raise NotFoundError(
            "no releases to promote", why=f"app {app} has none", hint=f"convox build, or convox env set, -a {app}"
        )
    return release


def active_release(store: Store, app: str) -> Release:
    """Return the active release.

    Raises:
        NotFoundError: There is no such app, or no release was promoted.
    """
    active = store.get_app(app).release
    if not active:
        raise NotFoundError(
            f"app {app} has no active release",
            why="none was promoted",
            hint=f"convox releases promote -a {app}, or name the release with --build-from and --env-from",
        )
    return store.get_release(app, active)


def read_environment(store: Store, app: str, release_id: str = "", *, may_be_new: bool = False) -> dict[str, str]:
    """Return the environment of a release by name, of the newest where none is named; empty where there is none.

    Args:
        store: Has the release.
        app: The app's name.
        release_id: The release; empty for the newest.
        may_be_new: Whether an app that is not there is like one without releases.

    Raises:
        NotFoundError: There is no such app or release.
    """
    if not may_be_new:
        store.get_app(app)
    release = store.get_release(app, release_id) if release_id else store.latest_release(app)
    return {} if release is None else parse_environment(release.env)


def choose_release(named: str | None, *, is_active: bool, flag: str, active_flag: str) -> str:
    """Return the id that one of two flags names, empty for the active release.

    Raises:
        UsageError: Neither flag was given, or both were.
    """
    if bool(named) == is_active:
        raise UsageError(f"must specify either {flag} or {active_flag}")
    return named or ""


def _follow(store: Store, app: str, base: Release | None, *, env: str, build: str | None = None) -> Release:
    """Return what follows from a release; described by its build, or by how its environment changes."""
    before = base.env if base is not None else ""
    build_id = build if build is not None else base.build if base is not None else ""
    description = manifest = ""
    if build_id:
        record = store.get_build(app, build_id)
        description, manifest = record.description, record.manifest
    if change := describe_change(before, env):
        description = f"env {change}"
    return Release(
        id=new_release_id(),
        app=app,
        build=build_id,
        env=env,
        manifest=manifest,
        description=description,
        created=now(),
    )
