"""One build with a builder that does as it is told: what is recorded, logged, cancelled and tried again."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from buildkit_client import BuildCancelledError, BuildKitError, Client, DockerfileFrontend, SolveError
from buildkit_client.errors import SourceSnippet, StatusDetails
from buildkit_client.oci import CredentialsProvider, StaticCredentials
from buildkit_client.options import LocalDirectory, RawCache, SecretValue, SshAgent
from buildkit_client.progress import StatusUpdate, Vertex, VertexLog, VertexStatus
from convox.build_flags import CacheFlag
from convox.builds import BuildRequest, BuildSite, run_build
from convox.errors import BuildError, ConvoxError, ManifestError, StoreError, UsageError
from convox.images import LayoutImages
from convox.interrupts import interrupt
from convox.models import Build, BuildStatus, Release, now
from convox.plan import PlannedImage
from convox.store import IdTakenError, Store, open_store, sqlite_url
from tests.support.threads import no_thread_stays

TWO = "services:\n  web:\n    build: web\n  api:\n    build: api\n"
LOST_BLOB = "failed to push x: errors:\nunknown: blob unknown to registry - sha256:1"

OnStatus = Callable[[StatusUpdate], object]
Script = Callable[["FakeBuild", OnStatus], str]


def digest(name: str) -> str:
    return f"sha256:{name.encode().hex():0<64}"


def step(name: str, *, error: str = "", output: bytes = b"", cached: bool = False) -> StatusUpdate:
    vertex = Vertex(f"sha256:{name}", name=name, started_ns=1, completed_ns=2, error=error, cached=cached)
    logs = (VertexLog(vertex.digest, data=output, timestamp_ns=1),) if output else ()
    return StatusUpdate(vertexes=(vertex,), logs=logs)


def succeed(build: FakeBuild, on_status: OnStatus) -> str:
    on_status(step(f"[1/1] RUN build {build.service}"))
    return digest(build.service)


def fail(message: str = "it failed", **details: Any) -> Script:
    def run(build: FakeBuild, on_status: OnStatus) -> str:
        raise SolveError(message, details=StatusDetails(message=message, **details))

    return run


def wait_for_cancel(build: FakeBuild, on_status: OnStatus) -> str:
    assert build.cancelled.wait(10), "never cancelled"
    on_status(step("[1/1] RUN long", error="context canceled"))
    raise BuildCancelledError("the build was cancelled")


class FakeBuild:
    def __init__(self, client: FakeClient, service: str) -> None:
        self.client = client
        self.service = service
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def wait(self, on_status: OnStatus) -> SimpleNamespace:
        script = self.client.scripts.get(self.service, succeed)
        if isinstance(script, list):
            script = script.pop(0)
        return SimpleNamespace(digest=script(self, on_status))


@dataclass
class FakeSession:
    folder: Path
    context: Path | LocalDirectory
    vanished_files: tuple[str, ...] = ()
    is_open: bool = False
    is_ending: bool = False

    def begin_close(self) -> None:
        self.is_ending = True


@dataclass
class FakeClient:
    """A builder; what it does for a service is its script."""

    scripts: dict[str, Script | list[Script]] = field(default_factory=dict)
    sessions: list[FakeSession] = field(default_factory=list)
    session_options: list[dict[str, Any]] = field(default_factory=list)
    solves: list[tuple[DockerfileFrontend, dict[str, Any]]] = field(default_factory=list)
    vanished: tuple[str, ...] = ()
    is_closed: bool = False

    @contextmanager
    def open_session(self, *, local_dirs: Mapping[str, Any], **options: Any) -> Iterator[FakeSession]:
        context = local_dirs["context"]
        session = FakeSession(local_dirs["dockerfile"], context, self.vanished, is_open=True)
        self.sessions.append(session)
        self.session_options.append(options)
        try:
            yield session
        finally:
            assert all(one.is_ending for one in self.sessions if one.is_open), "this waits for one after the other"
            session.is_open = False

    @contextmanager
    def start_solve(self, frontend: DockerfileFrontend, **options: Any) -> Iterator[FakeBuild]:
        assert options["session"].is_open
        self.solves.append((frontend, options))
        [exporter] = options["exporters"]
        service = exporter.to_attrs()["name"].split(",")[0].rpartition(":")[2].partition(".")[0]
        yield FakeBuild(self, service)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True


class FakeImages(LayoutImages):
    """A layout whose entrypoints are the names of services."""

    def entrypoint(self, image: PlannedImage, digest: str, credentials: CredentialsProvider) -> str:
        return f"{','.join(image.services)} {digest}"


class Screen:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.shown = b""
        self.notices: list[str] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.steps.append(f"{text}... ")
        yield
        self.steps[-1] += "OK"

    def write(self, data: bytes) -> None:
        self.shown += data

    def notice(self, text: str) -> None:
        self.notices.append(text)


@dataclass
class Rig:
    folder: Path
    store: Store
    client: FakeClient
    screen: Screen
    site: BuildSite

    def run(self, **options: Any) -> tuple[Any, Any]:
        return run_build(BuildRequest(app="app", path=self.folder, **options), self.site, self.screen)

    def fails(self, kind: type[BaseException], **options: Any) -> BaseException:
        with pytest.raises(kind) as caught:
            self.run(**options)
        return caught.value

    @property
    def record(self) -> Any:
        return self.store.list_builds("app")[0]

    @property
    def log(self) -> str:
        return (self.store.logs_dir / f"app/{self.record.id}.log").read_text()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    folder = tmp_path / "app"
    for name in ("web", "api"):
        (folder / name).mkdir(parents=True)
        (folder / name / "Dockerfile").write_text(f"FROM scratch\nARG TOKEN\nLABEL name={name}\n")
    (folder / "convox.yml").write_text(TWO)
    store = open_store(sqlite_url(tmp_path / "store.db"), logs_dir=tmp_path / "logs")
    client = FakeClient()
    site = BuildSite(
        rack="test",
        store=store,
        images=FakeImages("localhost/app", tmp_path / "images"),
        connect=lambda: cast(Client, client),
        credentials=StaticCredentials({}),
        secrets=["rack-secret"],
    )
    yield Rig(folder, store, client, Screen(), site)
    store.close()


class TestSuccess:
    def test_records(self, rig: Rig) -> None:
        rig.store.create_release(
            Release(id="RAAAAAAAAAA", app="app", env="COLOUR=blue\nEMPTY=", description="env", created=now())
        )
        build, release = rig.run(description="words")
        assert build == rig.record
        assert build.status is BuildStatus.COMPLETE
        assert (build.description, build.manifest, build.repository) == ("words", TWO, "localhost/app")
        assert build.images == {"web": digest("web"), "api": digest("api")}
        assert build.release == release.id
        assert rig.store.get_release("app", release.id) == release
        # The environment of the newest release goes on.
        assert (release.build, release.env, release.manifest) == (build.id, "COLOUR=blue\nEMPTY=", TWO)
        assert rig.screen.steps == ["Packaging source... OK", "Uploading source... OK", "Starting build... OK"]
        assert rig.screen.notices == []
        assert rig.client.is_closed
        assert not any(session.is_open for session in rig.client.sessions)

    def test_log_is_what_was_shown(self, rig: Rig) -> None:
        rig.run()
        assert rig.log == rig.screen.shown.decode()
        lines = set(rig.log.splitlines())
        assert {"web | #1 [1/1] RUN build web", "web | #1 DONE 0.0s", "api | #1 DONE 0.0s"} <= lines

    def test_entrypoint_is_that_of_the_last_service(self, rig: Rig) -> None:
        (rig.folder / "convox.yml").write_text(TWO + "  again:\n    build: web\n")
        build, _ = rig.run()
        assert build.entrypoint == f"web,again {digest('web')}"
        assert build.images == {"web": digest("web"), "again": digest("web"), "api": digest("api")}
        assert len(rig.client.solves) == 2

    def test_entrypoint_is_read_while_others_are_built(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        read = threading.Event()
        original = FakeImages.entrypoint

        def entrypoint(*words: Any) -> str:
            read.set()
            return original(*words)

        def wait_for_it(build: FakeBuild, on_status: OnStatus) -> str:
            assert read.wait(10), "the last service's image was built, and nobody read its entrypoint"
            return succeed(build, on_status)

        monkeypatch.setattr(FakeImages, "entrypoint", entrypoint)
        rig.client.scripts = {"web": wait_for_it}
        build, _ = rig.run()
        assert build.entrypoint == f"api {digest('api')}"

    def test_entrypoint_that_cannot_be_read_is_a_warning(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        def entrypoint(*_: object) -> str:
            raise BuildKitError("no such blob", why="gone")

        monkeypatch.setattr(FakeImages, "entrypoint", entrypoint)
        build, _ = rig.run()
        assert (build.status, build.entrypoint) == (BuildStatus.COMPLETE, "")
        assert rig.screen.notices == [
            f"WARNING: the entrypoint of localhost/app:api.{build.id} is not recorded: no such blob: gone"
        ]

    def test_one_session_for_each_folder(self, rig: Rig) -> None:
        (rig.folder / "web/Other").write_text("FROM scratch\n")
        manifest = TWO + "  other:\n    build:\n      path: web\n      manifest: Other\n"
        (rig.folder / "convox.yml").write_text(manifest)
        rig.run()
        assert [session.folder.name for session in rig.client.sessions] == ["web", "api"]
        used = {solve.filename + str(options["session"].folder.name) for solve, options in rig.client.solves}
        assert used == {"Dockerfileweb", "Otherweb", "Dockerfileapi"}

    def test_image_service_is_keyed_by_its_content(self, rig: Rig) -> None:
        (rig.folder / "convox.yml").write_text("services:\n  one:\n    image: alpine\n  two:\n    image: debian\n")
        rig.run()
        rig.run()
        first, second, third, fourth = (options["shared_key"] for options in rig.client.session_options)
        assert first != second
        assert (first, second) == (third, fourth)
        assert not any(session.folder.exists() for session in rig.client.sessions), "a temporary folder is left"

    def test_no_cache(self, rig: Rig) -> None:
        rig.run(is_cached=False)
        assert all(frontend.no_cache for frontend, _ in rig.client.solves)
        assert all(options["cache_imports"] == () for _, options in rig.client.solves)


class TestChoices:
    """What the command line can ask for."""

    def test_ignore_file_of_the_app_counts_for_every_context(self, rig: Rig) -> None:
        (rig.folder / ".dockerignore").write_text("*.log\n# no\n!keep.log\n")
        (rig.folder / "convox.yml").write_text(TWO + "  base:\n    image: alpine\n")
        rig.run()
        web, api, base = (session.context for session in rig.client.sessions)
        assert web == LocalDirectory(rig.folder / "web", ignore=("*.log", "!keep.log"), ignore_prefix="web")
        assert api == LocalDirectory(rig.folder / "api", ignore=("*.log", "!keep.log"), ignore_prefix="api")
        assert isinstance(base, Path)
        assert [session.folder.name for session in rig.client.sessions][:2] == ["web", "api"]

    def test_some_services(self, rig: Rig) -> None:
        build, release = rig.run(services=["api"])
        assert build.images == {"api": digest("api")}
        assert build.manifest == TWO
        assert release.build == build.id
        assert build.entrypoint == f"api {digest('api')}"
        assert rig.screen.notices == ["NOTICE: the release will have no image of web: only api is built"]

    def test_a_service_that_is_not_there(self, rig: Rig) -> None:
        error = rig.fails(UsageError, services=["wed"])
        assert str(error) == "there is no service wed in convox.yml"
        assert rig.record.reason == "there is no service wed in convox.yml"

    def test_target(self, rig: Rig) -> None:
        for name in ("web", "api"):
            (rig.folder / name / "Dockerfile").write_text("FROM scratch AS First\nFROM scratch\n")
        rig.run(target="first")
        assert [frontend.target for frontend, _ in rig.client.solves] == ["first", "first"]

    def test_caches_of_the_command_line_come_first(self, rig: Rig) -> None:
        rig.run(
            cache_from=[CacheFlag("r/app:main")],
            cache_to=[CacheFlag("type=registry,ref=r/app:{service},mode=max", is_export=True)],
        )
        for service in ("web", "api"):
            [options] = [one for _, one in rig.client.solves if one["session"].folder.name == service]
            assert list(options["cache_imports"]) == [RawCache("registry", {"ref": "r/app:main"})]
            assert list(options["cache_exports"]) == [RawCache("registry", {"ref": f"r/app:{service}", "mode": "max"})]

    def test_one_cache_for_several_images_is_refused(self, rig: Rig) -> None:
        error = rig.fails(UsageError, cache_to=[CacheFlag("r/app:main", is_export=True)])
        assert str(error) == "--cache-to names one cache for 2 images"
        assert rig.client.solves == []
        rig.run(cache_to=[CacheFlag("r/app:main", is_export=True)], services=["web"])
        rig.run(cache_to=[CacheFlag("type=inline", is_export=True)])

    def test_no_cache_uses_none_of_the_command_line(self, rig: Rig) -> None:
        rig.run(is_cached=False, cache_from=[CacheFlag("r/app:main")])
        assert all(options["cache_imports"] == () for _, options in rig.client.solves)

    def test_secrets_and_ssh_are_served(self, rig: Rig) -> None:
        secrets, ssh = {"token": SecretValue(b"x")}, {"default": SshAgent(Path("/agent"))}
        rig.run(secrets=secrets, ssh=ssh)
        assert all((one["secrets"], one["ssh"]) == (secrets, ssh) for one in rig.client.session_options)

    def test_environment_that_changes_during_the_build_is_kept(self, rig: Rig) -> None:
        def change(build: FakeBuild, on_status: OnStatus) -> str:
            rig.store.create_release(Release(id="RAAAAAAAAAA", app="app", env="COLOUR=red", created=now()))
            return digest("web")

        rig.client.scripts = {"web": change}
        _, release = rig.run()
        assert release.env == "COLOUR=red"


class TestFailure:
    def test_service_that_fails_cancels_the_others(self, rig: Rig) -> None:
        web_runs = threading.Event()

        def web(build: FakeBuild, on_status: OnStatus) -> str:
            web_runs.set()
            return wait_for_cancel(build, on_status)

        def api(build: FakeBuild, on_status: OnStatus) -> str:
            assert web_runs.wait(10), "web was not started beside api"
            return fail("no such file")(build, on_status)

        rig.client.scripts = {"web": web, "api": api}
        error = rig.fails(BuildError)
        assert isinstance(error, BuildError)
        assert (str(error), error.why) == ("build failed", "service api: no such file")
        assert error.hint == f"convox builds logs {rig.record.id} -a app"
        assert rig.record.status is BuildStatus.FAILED
        assert rig.record.reason == "service api: no such file"
        assert rig.record.ended is not None
        assert "web | #1 CANCELED\n" in rig.log
        assert rig.log.endswith("ERROR: service api: no such file\n")
        assert "ERROR: service" not in rig.screen.shown.decode()
        assert rig.store.latest_release("app") is None

    def test_place_in_the_dockerfile_is_found_through_the_cause(self, rig: Rig) -> None:
        snippet = SourceSnippet("Dockerfile", b"FROM scratch\n", ((1, 1),))
        rig.client.scripts = {"web": fail(sources=(snippet,))}
        error = rig.fails(BuildError)
        assert isinstance(error.__cause__, SolveError)
        assert error.__cause__.snippets == (snippet,)

    def test_unexpected_error_is_not_dressed_up(self, rig: Rig) -> None:
        def bug(build: FakeBuild, on_status: OnStatus) -> str:
            raise ZeroDivisionError("by zero")

        rig.client.scripts = {"web": bug, "api": wait_for_cancel}
        rig.fails(ZeroDivisionError)
        assert rig.record.reason == "by zero"

    def test_manifest_that_is_wrong(self, rig: Rig) -> None:
        (rig.folder / "convox.yml").write_text("services: []\n")
        error = rig.fails(ManifestError)
        assert rig.screen.steps == ["Packaging source... "]
        assert rig.record.status is BuildStatus.FAILED
        assert str(error) in rig.record.reason
        assert rig.log == f"ERROR: {rig.record.reason}\n"

    def test_builder_that_is_gone(self, rig: Rig) -> None:
        def connect() -> Client:
            raise ConvoxError("cannot reach buildkitd", why="nobody there", hint="start it")

        site = BuildSite(
            **{name: getattr(rig.site, name) for name in ("rack", "store", "images", "credentials")}, connect=connect
        )
        rig.site = site
        error = rig.fails(ConvoxError)
        assert isinstance(error, ConvoxError)
        assert error.hint == "start it", "there is no log worth reading"
        assert rig.record.reason == "cannot reach buildkitd: nobody there"

    def test_secrets_are_in_no_reason(self, rig: Rig) -> None:
        rig.client.scripts = {"web": fail("refused https://u:rack-secret@host and rack-secret")}
        rig.fails(BuildError)
        assert "rack-secret" not in rig.record.reason + rig.log

    def test_argument_that_is_a_secret_by_its_name(self, rig: Rig) -> None:
        def talk(build: FakeBuild, on_status: OnStatus) -> str:
            on_status(step("[1/1] RUN login npm-token", output=b"npm-token\n"))
            raise SolveError("npm-token", details=StatusDetails(message="npm-token"))

        rig.client.scripts = {"web": talk, "api": talk}
        rig.fails(BuildError, build_args=["TOKEN=npm-token"])
        assert "npm-token" not in rig.log + rig.record.reason + rig.screen.shown.decode()
        assert "RUN login ***" in rig.log
        assert "npm-token" in rig.site.secrets, "whoever shows the error must know"

    def test_short_values_are_not_hidden(self, rig: Rig) -> None:
        rig.run(build_args=["TOKEN=build"])
        assert "RUN build web" in rig.log

    def test_files_that_vanished(self, rig: Rig) -> None:
        rig.client.vanished = ("a/file",)
        error = rig.fails(BuildError)
        assert isinstance(error, BuildError)
        assert error.why.endswith(": cannot read a/file of the build context: gone while the build ran")
        assert rig.record.status is BuildStatus.FAILED

    def test_log_that_cannot_be_opened(self, rig: Rig) -> None:
        rig.store.logs_dir.parent.mkdir(exist_ok=True)
        rig.store.logs_dir.write_text("in the way")
        rig.fails(StoreError)
        assert rig.record.status is BuildStatus.FAILED
        assert "logs" in rig.record.reason

    def test_log_that_cannot_be_kept_ends_the_build(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        from convox.store import logs

        def write(writer: object, data: bytes) -> None:
            raise StoreError("cannot write the log", why="No space left on device")

        def talk(build: FakeBuild, on_status: OnStatus) -> str:
            on_status(step("[1/1] RUN something"))
            return wait_for_cancel(build, on_status)

        monkeypatch.setattr(logs.LogWriter, "write", write)
        rig.client.scripts = {"web": talk, "api": wait_for_cancel}
        started = time.monotonic()
        rig.fails(StoreError)
        assert time.monotonic() - started < 5
        assert rig.record.reason == "cannot write the log: No space left on device"

    def test_records_that_cannot_be_written_hide_no_error(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        real = rig.store.update_build

        def update(app: str, build_id: str, **changes: object) -> object:
            if changes.get("status") is BuildStatus.FAILED:
                raise StoreError("the disk is full")
            return real(app, build_id, **changes)

        monkeypatch.setattr(rig.store, "update_build", update)
        rig.client.scripts = {"web": fail("the first error")}
        error = rig.fails(BuildError)
        assert isinstance(error, BuildError)
        assert error.why == "service web: the first error"


class TestInterrupt:
    def test_a_record_that_was_just_added_is_ended(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        create = rig.store.create_build

        def create_and_interrupt(build: Build) -> None:
            create(build)
            interrupt()

        monkeypatch.setattr(rig.store, "create_build", create_and_interrupt)
        rig.fails(KeyboardInterrupt)
        assert rig.record.status is BuildStatus.FAILED
        assert rig.record.reason == "cancelled"

    def test_a_record_that_was_not_added_is_not_touched(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        rig.run()
        taken = rig.record
        monkeypatch.setattr("convox.builds.new_build_id", lambda: taken.id)
        monkeypatch.setattr("convox.store.new_records.new_build_id", lambda: taken.id)
        rig.fails(IdTakenError)
        assert rig.record == taken

    @pytest.mark.parametrize("slow", [False, True], ids=["prompt", "slow"])
    def test_builds_are_cancelled(self, rig: Rig, slow: bool) -> None:
        main = threading.get_ident()
        reacts = threading.Event()
        left: list[threading.Thread] = []

        def interrupt(build: FakeBuild, on_status: OnStatus) -> str:
            left.append(threading.current_thread())
            signal.pthread_kill(main, signal.SIGINT)
            if slow:
                reacts.wait(30)
            return wait_for_cancel(build, on_status)

        rig.client.scripts = {"web": wait_for_cancel, "api": interrupt}
        try:
            rig.fails(KeyboardInterrupt)
            assert left[0].is_alive() is slow  # a builder that does not react is not waited for
        finally:
            reacts.set()
            left[0].join()
        assert rig.record.status is BuildStatus.FAILED
        assert rig.record.reason == "cancelled"
        assert rig.log.endswith("ERROR: cancelled\n")
        assert rig.client.is_closed


class TestLostBlob:
    """A registry that denies a blob it has."""

    def test_push_is_tried_again(self, rig: Rig) -> None:
        rig.client.scripts = {"web": [fail(LOST_BLOB), fail(LOST_BLOB), succeed]}
        build, _ = rig.run(is_cached=False)
        assert build.status is BuildStatus.COMPLETE
        assert build.images["web"] == digest("web")
        assert rig.log.count("web | WARNING: the registry lost a blob that it had, trying again\n") == 2
        # Only the first try runs everything anew.
        web = [frontend.no_cache for frontend, options in rig.client.solves if options["session"].folder.name == "web"]
        assert web == [True, False, False]

    def test_not_without_end(self, rig: Rig) -> None:
        rig.client.scripts = {"web": [fail(LOST_BLOB)] * 3}
        error = rig.fails(BuildError)
        assert isinstance(error, BuildError)
        assert "blob unknown to registry" in error.why

    def test_cache_is_tried_again(self, rig: Rig) -> None:
        def lose_cache(build: FakeBuild, on_status: OnStatus) -> str:
            on_status(step("exporting cache to registry", error=f"error writing manifest blob: {LOST_BLOB}"))
            return digest("first")

        rig.client.scripts = {"web": [lose_cache, succeed]}
        build, _ = rig.run()
        assert build.images["web"] == digest("web")
        assert "failed:" not in rig.log

    def test_cache_that_a_failed_push_emptied_is_tried_again(self, rig: Rig) -> None:
        def skip_cache(build: FakeBuild, on_status: OnStatus) -> str:
            vertex = Vertex("sha256:export", name="exporting cache to registry", started_ns=1, completed_ns=2)
            nothing = VertexStatus("skipping cache export for empty result", vertex=vertex.digest)
            on_status(StatusUpdate(vertexes=(vertex,), statuses=(nothing,)))
            return digest("again")

        rig.client.scripts = {"web": [fail(LOST_BLOB), skip_cache, succeed], "api": [skip_cache]}
        build, _ = rig.run()
        assert build.images["web"] == digest("web")
        assert "web | WARNING: the builder kept no cache of what the failed push had left, trying again\n" in rig.log
        assert "api | WARNING" not in rig.log  # an image without layers has nothing to keep

    @pytest.mark.parametrize("is_cache", [False, True])
    def test_old_builders_tell_the_status_alone(self, rig: Rig, is_cache: bool) -> None:
        refusal = "unexpected status from PUT request to http://r:5000/v2/a/manifests/web.B1: 400 Bad Request"

        def refuse(build: FakeBuild, on_status: OnStatus) -> str:
            if not is_cache:
                return fail(f'failed to push x: failed commit on ref "manifest-sha256:1": {refusal}')(build, on_status)
            on_status(step("exporting cache to registry", error=f"error writing manifest blob: {refusal}"))
            return digest("first")

        rig.client.scripts = {"web": [refuse, succeed]}
        build, _ = rig.run()
        assert build.images["web"] == digest("web")
        assert "web | WARNING: the registry lost a blob, or wants no such manifest, trying again\n" in rig.log
        assert "failed:" not in rig.log

    def test_other_errors_are_not_tried_again(self, rig: Rig) -> None:
        rig.client.scripts = {"web": [fail("failed to push x: denied")], "api": wait_for_cancel}
        rig.fails(BuildError)
        assert "trying again" not in rig.log


class TestCaches:
    def test_cache_that_is_not_there_yet_is_no_error(self, rig: Rig) -> None:
        def first_build(build: FakeBuild, on_status: OnStatus) -> str:
            name = "importing cache manifest from r/app:web.buildcache"
            on_status(step(name, error="failed to configure registry cache importer: r/app:web.buildcache: not found"))
            return digest("web")

        rig.client.scripts = {"web": first_build}
        rig.run()
        web = [line for line in rig.log.splitlines() if line.startswith("web |")]
        assert web[0] == "web | #1 importing cache manifest from r/app:web.buildcache"
        assert web[1].endswith(" not found: this build makes it")
        assert web[2] == "web | #1 DONE 0.0s"
        assert len(web) == 3

    @pytest.mark.parametrize(
        "name", ["importing cache manifest from r/app:web.buildcache", "exporting cache to registry"]
    )
    def test_cache_that_fails_is_a_warning(self, rig: Rig, name: str) -> None:
        def no_cache(build: FakeBuild, on_status: OnStatus) -> str:
            on_status(step(name, error="401\nUnauthorized"))
            return digest("web")

        rig.client.scripts = {"web": no_cache}
        build, _ = rig.run()
        assert build.status is BuildStatus.COMPLETE
        assert f"web | WARNING: {name} failed: 401 Unauthorized\n" in rig.log
        assert "web | #1 ERROR: 401" in rig.log


def test_threads_of_a_build_end_with_it(rig: Rig) -> None:
    rig.client.scripts = {"web": fail(), "api": wait_for_cancel}
    with no_thread_stays(), contextlib.suppress(BuildError):
        rig.run()
