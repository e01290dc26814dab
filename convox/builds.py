"""One build of an app, from its folder to a finished record: plan, solve every image, keep the log, make the release.

The record exists before anything can go wrong, so whatever ends the build leaves it ``failed`` with its reason and the
log it had. All images are solved at once; images of one folder share a session, and so one upload.

Reference: convox/convox pkg/cli/build.go, build; pkg/build/build.go, execute.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convox.build_jobs import ImageJob, solve_all
from convox.build_log import LogTee
from convox.models import Build, BuildStatus, Release, new_build_id, new_release_id, now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client import BuildSession, Client
    from buildkit_client.oci import CredentialsProvider
    from convox.build_log import TakeBytes
    from convox.images import ImageStore
    from convox.plan import Plan, PlannedImage
    from convox.store import Store


class Reporter(Protocol):
    """Where a build says what it does."""

    def step(self, text: str) -> AbstractContextManager[object]:
        """Show a step: ``text... `` and, when the block ends well, ``OK``."""

    def write(self, data: bytes) -> None:
        """Show bytes of the build's log."""

    def notice(self, text: str) -> None:
        """Show a remark that is not part of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What somebody asked to be built.

    Attributes:
        app: The app's name.
        path: The app's folder.
        manifest: The manifest's path within it.
        description: Free text; None describes the build by the folder's commit.
        build_args: ``NAME=value`` or ``NAME``, as given.
        is_cached: Whether steps may come from a cache.
        is_development: Build the stage ``development`` where there is one.
        environ: Where ``NAME`` alone finds its value.
    """

    app: str
    path: Path
    manifest: str = "convox.yml"
    description: str | None = None
    build_args: Sequence[str] = field(default=(), repr=False)
    is_cached: bool = True
    is_development: bool = False
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSite:
    """Where it is built: what a rack stands for during one build.

    Attributes:
        rack: The rack's name.
        store: Keeps the records.
        images: Where images go.
        connect: Reaches the builder.
        credentials: Registry credentials of the build.
        secrets: Values that must not be shown or kept.
        platforms: To build for; empty takes the builder's.
    """

    rack: str
    store: Store
    images: ImageStore
    connect: ConnectBuilder
    credentials: CredentialsProvider
    secrets: Sequence[str] = field(default=(), repr=False)
    platforms: Sequence[str] = ()


class ConnectBuilder(Protocol):
    """Reaches the builder when it is needed."""

    def __call__(self) -> Client:
        """Return a client that has answered once.

        Raises:
            ConnectError: It cannot be reached.
        """


def run_build(request: BuildRequest, site: BuildSite, reporter: Reporter) -> tuple[Build, Release]:
    """Build an app and return its finished record and its release.

    Raises:
        ConvoxError: The manifest or the plan is wrong, or an image could not be built (:class:`BuildError`).
        BuildKitError: The builder could not be reached, or refused.
        KeyboardInterrupt: It was interrupted; the builder has been told.

    In every case but a store that cannot be used, a record of the build is left behind.
    """
    from convox.source import describe_source  # noqa: PLC0415 (starts git)
    from convox.store.logs import LogWriter  # noqa: PLC0415 (not needed by every command)

    source = describe_source(request.path, environ=request.environ)
    build = _create_record(request, site, git_sha=source.sha, description=source.description)
    with LogWriter(site.store.logs_dir, build.app, build.id) as log:
        run = _Run(request, site, reporter, build, log.write)
        try:
            return run.execute()
        except BaseException as exc:
            run.fail(exc)
            raise


def _create_record(request: BuildRequest, site: BuildSite, *, git_sha: str, description: str) -> Build:
    from convox.store.process import current_process_id  # noqa: PLC0415 (not needed by every command)
    from convox.store.new_records import add_build  # noqa: PLC0415 (not needed by every command)

    build = Build(
        id=new_build_id(),
        app=request.app,
        description=description if request.description is None else request.description,
        git_sha=git_sha,
        process=current_process_id(),
        repository=site.images.repository,
        started=now(),
    )
    build = add_build(site.store, build)
    return site.store.update_build(build.app, build.id, logs=f"object://{build.app}/build/{build.id}/logs")


class _Run:
    """One build in progress."""

    def __init__(
        self, request: BuildRequest, site: BuildSite, reporter: Reporter, build: Build, keep: TakeBytes
    ) -> None:
        self._request = request
        self._site = site
        self._reporter = reporter
        self._build = build
        self._keep = keep
        self._log = LogTee(reporter.write, keep, site.secrets)

    def execute(self) -> tuple[Build, Release]:
        request, site = self._request, self._site
        latest = site.store.latest_release(request.app)
        env = _parse_env(latest.env if latest is not None else "")
        with self._reporter.step("Packaging source"):
            manifest_text, plan = self._plan(env)
        for warning in plan.warnings:
            self._log.line(f"WARNING: {warning}")
        with ExitStack() as stack:
            with self._reporter.step("Uploading source"):
                client = stack.enter_context(site.connect())
                jobs = [
                    ImageJob(
                        image,
                        session,
                        client,
                        site.images,
                        self._log,
                        is_cached=request.is_cached,
                        platforms=site.platforms,
                    )
                    for image, session in self._open_sessions(plan, client, stack)
                ]
            with self._reporter.step("Starting build"):
                self._build = site.store.update_build(
                    request.app, self._build.id, status=BuildStatus.RUNNING, manifest=manifest_text
                )
            digests = solve_all(jobs)
        self._log.close()
        entrypoint = self._entrypoint(plan, digests)
        return self._complete(latest, manifest_text, digests, entrypoint)

    def _plan(self, env: Mapping[str, str]) -> tuple[str, Plan]:
        """Read the manifest and find out what to build."""
        from convox.build_args import managed_values, parse_build_args  # noqa: PLC0415 (not needed by every command)
        from convox.manifest import load_manifest  # noqa: PLC0415 (not needed by every command)
        from convox.plan import make_plan  # noqa: PLC0415 (not needed by every command)

        request = self._request
        managed = managed_values(
            app=request.app,
            build_id=self._build.id,
            rack=self._site.rack,
            manifest=request.manifest,
            git_sha=self._build.git_sha,
            is_development=request.is_development,
        )
        build_args = parse_build_args(request.build_args, {**request.environ, **managed})
        manifest = load_manifest(request.path / request.manifest, {**env, **build_args}, name=request.manifest)
        plan = make_plan(
            manifest,
            request.path,
            repository=self._site.images.repository,
            build_id=self._build.id,
            app_env=env,
            build_args=build_args,
            is_development=request.is_development,
        )
        return manifest.text, plan

    def _open_sessions(self, plan: Plan, client: Client, stack: ExitStack) -> list[tuple[PlannedImage, BuildSession]]:
        """Open one session for each folder that images are built from, and pair every image with its own."""
        sessions: dict[object, BuildSession] = {}
        pairs = []
        for image in plan.images:
            key: object = image.context_path if image.inline_dockerfile is None else image.inline_dockerfile
            if key not in sessions:
                sessions[key] = stack.enter_context(self._open_session(image, client, stack))
            pairs.append((image, sessions[key]))
        return pairs

    def _open_session(self, image: PlannedImage, client: Client, stack: ExitStack) -> BuildSession:
        folder, shared_key = image.context_path, ""
        if image.inline_dockerfile is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="convox-")))
            (folder / image.dockerfile).write_bytes(image.inline_dockerfile)
            # The folder is another one each time; its content says what it is.
            shared_key = hashlib.sha256(b"convox inline\0" + image.inline_dockerfile).hexdigest()
        return client.open_session(
            {"context": folder, "dockerfile": folder},
            credentials=self._site.credentials,
            layout=self._site.images.layout_path,
            shared_key=shared_key,
        )

    def _entrypoint(self, plan: Plan, digests: Mapping[str, str]) -> str:
        """Return the last service's entrypoint; a build does not fail because it cannot be read."""
        from buildkit_client import BuildKitError  # noqa: PLC0415 (not needed by every command)

        last = plan.images[-1]
        try:
            return self._site.images.entrypoint(last, digests[last.services[-1]], self._site.credentials)
        except BuildKitError as exc:
            self._reporter.notice(f"the entrypoint of {last.tags[-1]} is not recorded: {exc}")
            return ""

    def _complete(
        self, latest: Release | None, manifest_text: str, digests: Mapping[str, str], entrypoint: str
    ) -> tuple[Build, Release]:
        from convox.store.new_records import add_release  # noqa: PLC0415 (not needed by every command)

        store = self._site.store
        release = add_release(
            store,
            Release(
                id=new_release_id(),
                app=self._build.app,
                build=self._build.id,
                env=latest.env if latest is not None else "",
                manifest=manifest_text,
                description=self._build.description,
                created=now(),
            ),
        )
        self._build = store.update_build(
            self._build.app,
            self._build.id,
            status=BuildStatus.COMPLETE,
            release=release.id,
            entrypoint=entrypoint,
            images=digests,
            ended=now(),
        )
        return self._build, release

    def fail(self, exc: BaseException) -> None:
        """Leave the record ``failed``, with its reason, and the reason at the end of the log."""
        from convox.masking import scrub  # noqa: PLC0415 (not needed by every command)

        reason = "cancelled" if isinstance(exc, KeyboardInterrupt) else str(exc) or type(exc).__name__
        why = getattr(exc, "why", "")
        text = scrub(f"{reason}: {why}" if why else reason, self._site.secrets)
        self._log.close()
        self._keep(f"ERROR: {text}\n".encode())
        self._site.store.update_build(
            self._build.app, self._build.id, status=BuildStatus.FAILED, reason=text, ended=now()
        )


def _parse_env(text: str) -> dict[str, str]:
    """Return a release's environment as values by name."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name:
            values[name] = value
    return values
