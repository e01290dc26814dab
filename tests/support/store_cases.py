"""What every store of records must do, whatever database is below it: one class of tests, run on each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from convox.errors import NotFoundError
from convox.models import App, Build, BuildStatus, Release, new_build_id, new_release_id
from convox.store import BuildInUseError, IdTakenError, Store, TransitionError, open_store
from convox.store.abandoned import ABANDONED_REASON, fail_abandoned_builds
from convox.store.new_records import add_build, add_release, complete_build
from convox.store.process import current_process_id

NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
C, R, OK, F = BuildStatus.CREATED, BuildStatus.RUNNING, BuildStatus.COMPLETE, BuildStatus.FAILED


def a_build(build_id: str | None = None, **fields: object) -> Build:
    values: dict[str, object] = {"id": build_id or new_build_id(), "app": "web", "started": NOON, **fields}
    return Build(**values)  # type: ignore[arg-type]


def a_release(release_id: str | None = None, **fields: object) -> Release:
    values: dict[str, object] = {"id": release_id or new_release_id(), "app": "web", "created": NOON, **fields}
    return Release(**values)  # type: ignore[arg-type]


class StoreCases:
    """Subclasses give a fixture ``store_url`` that names an empty database."""

    @pytest.fixture
    def store(self, store_url: str, tmp_path: Path) -> Iterator[Store]:
        store = open_store(store_url, logs_dir=tmp_path / "logs")
        yield store
        store.close()

    def test_a_build_comes_back_with_every_field(self, store: Store) -> None:
        build = Build(
            id="BABCDEFGHIJ",
            app="web",
            status=OK,
            description="build 0a1b2c3d4e Grüße 🚢\nsecond line",
            entrypoint="'/bin/sh' -c 'echo \"x\"'",
            git_sha="f" * 40,
            logs="object://web/build/BABCDEFGHIJ/logs",
            manifest="services:\n  web:\n    build: .\n",
            process="host:1:2",
            release="RABCDEFGHIJ",
            reason="none",
            repository="registry:5000/web",
            started=NOON,
            ended=NOON + timedelta(seconds=61, microseconds=1),
            images={"web": "sha256:" + "a" * 64, "api": "sha256:" + "b" * 64},
        )
        store.create_build(build)
        assert store.get_build("web", "BABCDEFGHIJ") == build

    def test_times_in_other_zones_come_back_in_utc(self, store: Store) -> None:
        local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        store.create_build(a_build("BZONEZONEZO", started=local, ended=datetime(9999, 12, 31, tzinfo=UTC)))
        build = store.get_build("web", "BZONEZONEZO")
        assert (build.started, build.ended) == (NOON, datetime(9999, 12, 31, tzinfo=UTC))

    def test_texts_that_no_database_takes_are_made_harmless(self, store: Store) -> None:
        store.create_build(a_build("BTEXTTEXTTE", description="nul \0 and bytes \udcff end", images={"a\0": "x"}))
        build = store.get_build("web", "BTEXTTEXTTE")
        assert build.description == "nul � and bytes � end"
        assert build.images == {"a�": "x"}

    def test_builds_are_listed_newest_first_and_stable(self, store: Store) -> None:
        starts = {"BA": 5, "BB": 9, "BC": 9, "BD": 1, "BE": 9}
        for build_id, second in starts.items():
            store.create_build(a_build(build_id, started=NOON + timedelta(seconds=second)))
        store.create_build(a_build("BOTHER", app="other", started=NOON + timedelta(days=9)))
        store.create_build(a_build("BNEVER", started=None))
        for _ in range(3):
            assert [build.id for build in store.list_builds("web")] == ["BE", "BC", "BB", "BA", "BD", "BNEVER"]
        assert [build.id for build in store.list_builds("web", limit=2)] == ["BE", "BC"]
        assert store.list_builds("web", limit=0) == []
        assert store.list_builds("nobody") == []

    def test_ten_are_listed_where_nothing_is_said(self, store: Store) -> None:
        for second in range(12):
            store.create_build(a_build(started=NOON + timedelta(seconds=second)))
            store.create_release(a_release(created=NOON + timedelta(seconds=second)))
        assert len(store.list_builds("web")) == len(store.list_releases("web")) == 10

    def test_a_negative_limit_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="limit is -1"):
            store.list_builds("web", limit=-1)

    @pytest.mark.parametrize(
        ("path", "refused"),
        [
            ((R, OK), None),
            ((R, F), None),
            ((F,), None),
            ((OK,), OK),
            ((C,), C),
            ((R, R), R),
            ((R, C), C),
            ((R, OK, F), F),
            ((R, OK, OK), OK),
            ((R, F, OK), OK),
            ((R, F, R), R),
            ((R, F, F), F),
        ],
    )
    def test_the_status_only_moves_forward(
        self, store: Store, path: tuple[BuildStatus, ...], refused: BuildStatus | None
    ) -> None:
        store.create_build(a_build("BSTATESTATE"))
        *allowed, last = path
        if refused is None:
            allowed = [*path]
        for status in allowed:
            assert store.update_build("web", "BSTATESTATE", status=status).status == status
        if refused is not None:
            before = store.get_build("web", "BSTATESTATE")
            with pytest.raises(TransitionError, match=f"BSTATESTATE cannot become {last}") as caught:
                store.update_build("web", "BSTATESTATE", status=last, description="must not be written")
            assert caught.value.why == f"its status is {before.status}"
            assert store.get_build("web", "BSTATESTATE") == before

    def test_other_fields_may_change_after_the_end(self, store: Store) -> None:
        store.create_build(a_build("BLATELATELA"))
        store.update_build("web", "BLATELATELA", status=F, reason="exit code 1", ended=NOON)
        build = store.update_build("web", "BLATELATELA", release="RX", images={"web": "sha256:1"})
        assert (build.status, build.reason, build.ended) == (F, "exit code 1", NOON)
        assert (build.release, build.images) == ("RX", {"web": "sha256:1"})

    def test_only_fields_of_a_build_can_change(self, store: Store) -> None:
        store.create_build(a_build("BFIELDFIELD"))
        for name in ("id", "app", "seq", "nonsense"):
            with pytest.raises(TypeError, match=name):
                store.update_build("web", "BFIELDFIELD", **{name: "x"})

    def test_missing_records_are_named(self, store: Store) -> None:
        store.create_build(a_build("BMINEMINEMI"))
        with pytest.raises(NotFoundError, match="build BNONE not found"):
            store.get_build("web", "BNONE")
        with pytest.raises(NotFoundError, match="build BMINEMINEMI not found"):
            store.get_build("other", "BMINEMINEMI")
        with pytest.raises(NotFoundError, match="build BNONE not found"):
            store.update_build("web", "BNONE", status=R)
        with pytest.raises(NotFoundError, match="release RNONE not found"):
            store.get_release("web", "RNONE")
        with pytest.raises(NotFoundError, match="app not found: nobody"):
            store.get_app("nobody")
        with pytest.raises(NotFoundError, match="app not found: nobody"):
            store.update_app("nobody", release="R")

    def test_a_taken_id_is_refused_and_changes_nothing(self, store: Store) -> None:
        store.create_build(a_build("BTAKENTAKEN", description="first"))
        store.create_release(a_release("RTAKENTAKEN", description="first"))
        with pytest.raises(IdTakenError):
            store.create_build(a_build("BTAKENTAKEN", app="newapp", description="second"))
        with pytest.raises(IdTakenError):
            store.create_release(a_release("RTAKENTAKEN", app="newapp", description="second"))
        assert store.get_build("web", "BTAKENTAKEN").description == "first"
        assert store.get_release("web", "RTAKENTAKEN").description == "first"
        assert [app.name for app in store.list_apps()] == ["web"]

    def test_adding_draws_another_id_where_one_is_taken(self, store: Store) -> None:
        first = add_build(store, a_build("BTAKENTAKEN"))
        second = add_build(store, a_build("BTAKENTAKEN"))
        assert first.id == "BTAKENTAKEN"
        assert second.id != first.id
        assert store.get_build("web", second.id) == second
        releases = [add_release(store, a_release("RTAKENTAKEN")).id for _ in range(2)]
        assert len(set(releases)) == 2
        assert {release.id for release in store.list_releases("web")} == set(releases)

    def test_releases_come_back_newest_first(self, store: Store) -> None:
        assert store.latest_release("web") is None
        old = a_release("ROLD", env="A=1\nB=two=2", manifest="m", description="d", build="BX")
        store.create_release(old)
        store.create_release(replace(old, id="RNEW", created=NOON + timedelta(microseconds=1)))
        store.create_release(replace(old, id="RSAME", created=NOON + timedelta(microseconds=1)))
        assert store.get_release("web", "ROLD") == old
        assert [release.id for release in store.list_releases("web")] == ["RSAME", "RNEW", "ROLD"]
        latest = store.latest_release("web")
        assert latest is not None
        assert latest.id == "RSAME"

    def test_a_build_is_completed_with_its_release_or_not_at_all(self, store: Store) -> None:
        store.create_release(a_release("ROLD", env="A=1"))
        store.create_build(a_build("BRUNRUNRUNR", status=R, manifest="m", description="d"))
        store.create_release(a_release("RNEWER", env="A=2", created=NOON + timedelta(seconds=1)))
        running = store.get_build("web", "BRUNRUNRUNR")
        build, release = complete_build(store, running, images={"web": "sha256:1"}, entrypoint="run")
        assert (build.status, build.release, build.entrypoint) == (OK, release.id, "run")
        assert (release.build, release.env, release.manifest) == ("BRUNRUNRUNR", "A=2", "m")
        assert store.get_release("web", release.id) == release
        with pytest.raises(TransitionError):
            complete_build(store, running, images={}, entrypoint="", env="A=3")
        with pytest.raises(NotFoundError):
            store.complete_build("web", "BNONE", lambda _: a_release("RNOBUILD"))
        with pytest.raises(TypeError, match="status"):
            store.complete_build("web", "BRUNRUNRUNR", lambda _: a_release(), status=F)
        assert {one.id for one in store.list_releases("web")} == {"ROLD", "RNEWER", release.id}

    def test_a_build_is_removed_and_its_releases_stay(self, store: Store) -> None:
        for build_id in ("BGONEGONEGO", "BKEEPKEEPKE"):
            store.create_build(a_build(build_id, status=R))
        gone = store.complete_build("web", "BGONEGONEGO", lambda _: a_release("RGONE", build="BGONEGONEGO", env="A=1"))
        assert gone[0].release == "RGONE"
        store.create_release(a_release("RENV", build="BGONEGONEGO", env="A=2"))
        with pytest.raises(BuildInUseError, match="BKEEPKEEPKE cannot be removed") as caught:
            store.delete_build("web", "BKEEPKEEPKE")
        assert caught.value.why == "it is running"
        store.update_app("web", release="RENV")
        with pytest.raises(BuildInUseError) as caught:
            store.delete_build("web", "BGONEGONEGO")
        assert caught.value.why == "the active release RENV is made of it"
        assert store.get_release("web", "RENV").build == "BGONEGONEGO"
        store.update_app("web", release="")
        store.delete_build("web", "BGONEGONEGO")
        with pytest.raises(NotFoundError):
            store.get_build("web", "BGONEGONEGO")
        assert {(one.id, one.build, one.env) for one in store.list_releases("web")} == {
            ("RGONE", "", "A=1"),
            ("RENV", "", "A=2"),
        }
        with pytest.raises(NotFoundError):
            store.delete_build("web", "BGONEGONEGO")

    def test_apps_are_made_on_first_use_and_only_once(self, store: Store) -> None:
        first = store.ensure_app("web")
        assert store.ensure_app("web") == first
        assert first.created is not None
        store.create_build(a_build(app="api"))
        store.create_release(a_release(app="zoo"))
        changed = store.update_app("web", release="R1", params={"BuildCpu": "500"})
        assert changed == App(name="web", release="R1", created=first.created, params={"BuildCpu": "500"})
        assert [app.name for app in store.list_apps()] == ["api", "web", "zoo"]

    def test_abandoned_builds_are_failed_with_a_reason(self, store: Store) -> None:
        gone = current_process_id().split(":")
        gone[1] = "4194303"
        ids = {
            "BGONE": (R, ":".join(gone)),
            "BGONENEW": (C, ":".join(gone)),
            "BMINE": (R, current_process_id()),
            "BELSEWHERE": (R, "another-host:1:2"),
            "BUNKNOWN": (R, ""),
            "BDONE": (OK, ":".join(gone)),
        }
        for build_id, (status, process) in ids.items():
            store.create_build(a_build(build_id, status=status, process=process))
        store.create_build(a_build("BOTHERAPP", app="api", status=R, process=":".join(gone)))
        assert [build.id for build in store.list_unfinished_builds("api")] == ["BOTHERAPP"]

        assert [build.id for build in fail_abandoned_builds(store, "web")] == ["BGONE", "BGONENEW"]
        assert [build.id for build in fail_abandoned_builds(store)] == ["BOTHERAPP"]
        assert fail_abandoned_builds(store) == []

        failed = store.get_build("web", "BGONE")
        assert (failed.status, failed.reason, failed.ended) == (F, ABANDONED_REASON, NOON)
        assert {build_id: store.get_build("web", build_id).status for build_id in ids} == {
            "BGONE": F,
            "BGONENEW": F,
            "BMINE": R,
            "BELSEWHERE": R,
            "BUNKNOWN": R,
            "BDONE": OK,
        }

    def test_threads_share_one_store(self, store: Store) -> None:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for _ in range(10):
                    build = add_build(store, a_build(description=str(number)))
                    store.update_build("web", build.id, status=R)
                    store.update_build("web", build.id, status=OK, release="R")
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        builds = store.list_builds("web", limit=100)
        assert len(builds) == 60
        assert {build.status for build in builds} == {OK}

    def test_of_two_that_end_a_build_one_wins(self, store: Store, store_url: str, tmp_path: Path) -> None:
        other = open_store(store_url, logs_dir=tmp_path / "logs")
        try:
            store.create_build(a_build("BRACERACERA"))
            store.update_build("web", "BRACERACERA", status=R)
            barrier = threading.Barrier(2)
            results: list[str] = []

            def end(which: Store, status: BuildStatus) -> None:
                barrier.wait()
                try:
                    which.update_build("web", "BRACERACERA", status=status)
                    results.append("won")
                except TransitionError:
                    results.append("lost")

            threads = [threading.Thread(target=end, args=pair) for pair in ((store, OK), (other, F))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(results) == ["lost", "won"]
        finally:
            other.close()

    def test_records_outlive_the_connection(self, store: Store, store_url: str, tmp_path: Path) -> None:
        store.create_build(a_build("BSTAYSTAYST"))
        store.close()
        store.close()
        again = open_store(store_url, logs_dir=tmp_path / "logs")
        try:
            assert again.get_build("web", "BSTAYSTAYST").id == "BSTAYSTAYST"
        finally:
            again.close()

    def test_a_release_follows_from_the_newest_one(self, store: Store) -> None:
        first = store.fork_release("web", lambda newest: a_release("RFIRSTFIRST", env=f"{newest}"))
        assert first.env == "None"
        second = store.fork_release(
            "web", lambda newest: a_release(first.id, env=newest.id if newest else "", created=NOON - timedelta(days=1))
        )
        assert second.id != first.id  # it was taken
        assert (second.env, second.created) == (first.id, NOON)
        assert store.latest_release("web") == second
        assert store.list_releases("web") == [second, first]

        def refuse(newest: Release | None) -> Release:
            raise NotFoundError("no such parent")

        with pytest.raises(NotFoundError, match="no such parent"):
            store.fork_release("other", refuse)
        assert [app.name for app in store.list_apps()] == ["web"]

    def test_releases_forked_at_once_follow_one_another(self, store: Store, store_url: str, tmp_path: Path) -> None:
        def fork(name: str) -> None:
            own = open_store(store_url, logs_dir=tmp_path / "logs")
            try:
                for number in range(4):
                    line = f"{name}{number}"
                    own.fork_release(
                        "web",
                        lambda newest, line=line: a_release(  # type: ignore[misc]
                            env=f"{newest.env}\n{line}" if newest else line
                        ),
                    )
            finally:
                own.close()

        threads = [threading.Thread(target=fork, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        newest = store.latest_release("web")
        assert newest is not None
        assert sorted(newest.env.split("\n")) == [f"{name}{number}" for name in "abcd" for number in range(4)]

    def test_an_app_is_made_once_and_deleted_with_its_records(self, store: Store) -> None:
        assert store.create_app("web").name == "web"
        with pytest.raises(IdTakenError, match="app already exists: web"):
            store.create_app("web")
        build, release = a_build(), a_release()
        store.create_build(build)
        store.create_release(release)
        store.create_release(a_release(app="api"))
        with pytest.raises(BuildInUseError, match="cannot delete app web"):
            store.delete_app("web")
        store.update_build("web", build.id, status=F)
        store.delete_app("web")
        assert [app.name for app in store.list_apps()] == ["api"]
        assert len(store.list_releases("api")) == 1
        for missing in (lambda: store.get_app("web"), lambda: store.delete_app("web")):
            with pytest.raises(NotFoundError, match="app not found: web"):
                missing()
        assert store.list_builds("web") == []
        assert store.list_releases("web") == []
