"""Releases that follow from others, and the mark of the active one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from convox.errors import NotFoundError, UsageError
from convox.models import Build, BuildStatus, Release, now
from convox.releases import (
    active_release,
    change_environment,
    choose_release,
    copy_forward,
    create_from,
    newest_release,
    promote,
    read_environment,
)
from convox.store import Store, open_store, sqlite_url


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(sqlite_url(tmp_path / "store.db"), logs_dir=tmp_path / "logs")
    yield opened
    opened.close()


def set_values(store: Store, parent: str = "", **values: str) -> Release:
    return change_environment(store, "web", lambda before: {**before, **values}, parent=parent)


def add_build(store: Store, build_id: str, description: str, env: str = "") -> Release:
    store.create_build(
        Build(
            id=build_id, app="web", status=BuildStatus.COMPLETE, description=description, manifest=f"of {build_id}: 1"
        )
    )
    release = Release(id=build_id.replace("B", "R"), app="web", build=build_id, env=env, created=now())
    store.create_release(release)
    return release


def test_each_change_of_the_environment_is_a_release(store: Store) -> None:
    first = set_values(store, FOO="1", BAR="2")
    second = set_values(store, FOO="3")
    third = change_environment(store, "web", lambda _: {"FOO": "3"})
    assert [one.description for one in (first, second, third)] == [
        "env add:BAR add:FOO",
        "env change:FOO",
        "env remove:BAR",
    ]
    assert third.env == "FOO=3"
    assert [one.id for one in store.list_releases("web")] == [third.id, second.id, first.id]
    assert store.get_release("web", first.id).env == "BAR=2\nFOO=1"


def test_a_change_keeps_the_build_of_the_newest_release_and_not_of_the_active_one(store: Store) -> None:
    old, new = add_build(store, "BONE", "first"), add_build(store, "BTWO", "second", "A=1")
    promote(store, "web", old.id)
    changed = set_values(store, B="2")
    assert (changed.build, changed.manifest, changed.env) == (new.build, "of BTWO: 1", "A=1\nB=2")
    assert changed.description == "env add:B"
    assert set_values(store, B="2").description == "second"  # nothing changed, so its build describes it


def test_a_change_can_begin_from_an_older_release(store: Store) -> None:
    old, _ = add_build(store, "BONE", "first", "A=1"), add_build(store, "BTWO", "second", "A=2")
    changed = set_values(store, parent=old.id, B="2")
    assert (changed.build, changed.env) == (old.build, "A=1\nB=2")
    with pytest.raises(NotFoundError, match="release RNONE not found"):
        set_values(store, parent="RNONE", B="2")


def test_what_a_change_raises_leaves_nothing_behind(store: Store) -> None:
    def refuse(_: dict[str, str]) -> dict[str, str]:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        change_environment(store, "new", refuse)
    assert store.list_apps() == []


def test_changes_made_at_once_are_all_kept(tmp_path: Path, store: Store) -> None:
    def change(number: int) -> None:
        own = open_store(sqlite_url(tmp_path / "store.db"), logs_dir=tmp_path / "logs")
        try:
            for count in range(5):
                values = {f"N{number}_{count}": "x"}
                change_environment(own, "web", lambda before, values=values: {**before, **values})  # type: ignore[misc]
        finally:
            own.close()

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_environment(store, "web")) == 20
    assert len(store.list_releases("web", limit=100)) == 20


def test_a_clock_that_went_back_does_not_make_an_old_release_the_newest(store: Store) -> None:
    ahead = now() + timedelta(days=1)
    store.create_release(Release(id="RAHEAD", app="web", env="A=1", created=ahead))
    changed = set_values(store, B="2")
    assert changed.created == ahead
    assert newest_release(store, "web").id == changed.id


def test_rolling_back_copies_build_and_environment(store: Store) -> None:
    old, _ = add_build(store, "BONE", "first", "A=1"), add_build(store, "BTWO", "second", "A=2")
    copy = copy_forward(store, "web", old.id)
    assert (copy.build, copy.env, copy.manifest) == (old.build, old.env, old.manifest)
    assert copy.description == "env change:A"
    assert copy.id != old.id


def test_a_release_outlives_the_record_of_its_build(store: Store) -> None:
    old = add_build(store, "BONE", "first", "A=1")
    store.delete_build("web", "BONE")
    assert copy_forward(store, "web", old.id).env == "A=1"


def test_build_and_environment_of_two_releases(store: Store) -> None:
    build, env = add_build(store, "BONE", "first", "A=1"), add_build(store, "BTWO", "second", "A=2")
    made = create_from(store, "web", build_from=build.id, env_from=env.id)
    assert (made.build, made.env) == (build.build, env.env)
    assert made.description == f"Created from build release: {build.id} and environment release: {env.id}"


def test_the_active_release_is_a_mark_on_the_app(store: Store) -> None:
    with pytest.raises(NotFoundError, match="app not found: web"):
        newest_release(store, "web")
    store.ensure_app("web")
    with pytest.raises(NotFoundError, match="no releases to promote"):
        newest_release(store, "web")
    release = set_values(store, A="1")
    with pytest.raises(NotFoundError, match="app web has no active release"):
        active_release(store, "web")
    promote(store, "web", release.id)
    assert active_release(store, "web") == release
    with pytest.raises(NotFoundError, match="release RNONE not found"):
        promote(store, "web", "RNONE")
    assert store.get_app("web").release == release.id


@pytest.mark.parametrize(("named", "is_active"), [(None, False), ("", False), ("R1", True)])
def test_one_of_two_flags_names_a_release(named: str | None, is_active: bool) -> None:
    with pytest.raises(UsageError, match="must specify either --build-from or --use-active-release-build"):
        choose_release(named, is_active=is_active, flag="--build-from", active_flag="--use-active-release-build")
    assert choose_release("R1", is_active=False, flag="a", active_flag="b") == "R1"
    assert choose_release(None, is_active=True, flag="a", active_flag="b") == ""
