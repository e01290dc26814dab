"""One build of an app, from its folder to a finished record: plan, solve every image, keep the log, make the release.

The record exists before anything can go wrong, so whatever ends the build leaves it ``failed`` with its reason and the
log it had. All images are solved at once; images of one folder share a session, and so one upload.

Reference: convox/convox pkg/cli/build.go, build; pkg/build/build.go, execute.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convox.build_args import looks_secret
from convox.build_flags import caches_of, check_cache_exports
from convox.build_jobs import ImageJob, solve_all
from convox.build_log import LogTee
from convox.builder import is_new
from convox.errors import BuildError, ConvoxError
from convox.interrupts import uninterrupted
from convox.masking import secret_values
from convox.models import Build, BuildStatus, Release, new_build_id, now
from convox.source import describe_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client import BuildSession, Client
    from buildkit_client.oci import CredentialsProvider, HttpOptions
    from buildkit_client.options import Secret, SshSource
    from convox.build_flags import CacheFlag
    from convox.images import ImageStore
    from convox.manifest import Manifest
    from convox.plan import Plan, PlannedImage
    from convox.store import Store


class Reporter(Protocol):
    """Where a build says what it does."""

    def step(self, text: str) -> contextlib.AbstractContextManager[object]:
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
        services: Names of the services to build; empty for all.
        target: Stage to build of every Dockerfile; empty for the last one.
        cache_from: Caches to use besides the rack's.
        cache_to: Caches to write besides the rack's.
        secrets: Secret by the id that steps ask for.
        ssh: SSH agent or keys by the id that steps ask for.
        is_cached: Whether steps may come from a cache.
        is_development: Build the stage ``development`` where there is one.
        environ: Where ``NAME`` alone finds its value.
        flags: Flags that name app and rack on the command line, for hints.
    """

    app: str
    path: Path
    manifest: str = "convox.yml"
    description: str | None = None
    build_args: Sequence[str] = field(default=(), repr=False)
    services: Sequence[str] = ()
    target: str = ""
    cache_from: Sequence[CacheFlag] = ()
    cache_to: Sequence[CacheFlag] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, SshSource] = field(default_factory=dict)
    is_cached: bool = True
    is_development: bool = False
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    flags: str = ""

    def secret_values(self, env: Mapping[str, str]) -> list[str]:
        """Return the values that are secrets by their name, of the app's environment and of the build arguments."""
        given = dict(item.partition("=")[::2] for item in self.build_args)
        return [value for values in (env, given) for value in secret_values(values, is_secret=looks_secret)]

    def log_command(self, build_id: str) -> str:
        """Return the command that shows the log of this build."""
        return f"convox builds logs {build_id} {self.flags or f'-a {self.app}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSite:
    """Where it is built: what a rack stands for during one build.

    Attributes:
        rack: The rack's name.
        store: Keeps the records.
        images: Where images go.
        connect: Reaches the builder.
        credentials: Registry credentials of the build.
        registry_http: How token servers of registries are reached; None without a proxy.
        secrets: Values that must not be shown or kept; a build adds those that it finds among its arguments.
        platforms: To build for; empty takes the builder's.
    """

    rack: str
    store: Store
    images: ImageStore
    connect: ConnectBuilder
    credentials: CredentialsProvider
    registry_http: HttpOptions | None = None
    secrets: list[str] = field(default_factory=list, repr=False)
    platforms: Sequence[str] = ()


class ConnectBuilder(Protocol):
    """Reaches the builder when it is needed."""

    def __call__(self) -> Client:
        """Return a client that has answered once.

        Raises:
            ConvoxError: It cannot be reached.
        """


def plan_build(
    request: BuildRequest, *, rack: str, repository: str, build_id: str, git_sha: str, env: Mapping[str, str]
) -> tuple[Manifest, Plan]:
    """Read the manifest and find out what to build; nothing is changed or sent.

    Args:
        request: What is asked for.
        rack: The rack's name.
        repository: Where the images go, without a tag.
        build_id: Id of the build.
        git_sha: Commit of the source, or empty.
        env: The app's environment.

    Raises:
        ConvoxError: The manifest or the command line is wrong.
    """
    from convox.build_args import managed_values, parse_build_args  # noqa: PLC0415 (not needed by every command)
    from convox.manifest import load_manifest  # noqa: PLC0415 (not needed by every command)
    from convox.plan import make_plan  # noqa: PLC0415 (not needed by every command)

    managed = managed_values(
        app=request.app,
        build_id=build_id,
        rack=rack,
        manifest=request.manifest,
        git_sha=git_sha,
        is_development=request.is_development,
    )
    build_args = parse_build_args(request.build_args, {**request.environ, **managed})
    manifest = load_manifest(request.path / request.manifest, {**env, **build_args}, name=request.manifest)
    plan = make_plan(
        manifest,
        request.path,
        repository=repository,
        build_id=build_id,
        app_env=env,
        build_args=build_args,
        is_development=request.is_development,
        target=request.target,
        only=request.services,
    )
    return manifest, plan


def partial_note(manifest: Manifest, plan: Plan) -> str:
    """Return what a build of some of the services leaves out, in one sentence; empty when it builds all."""
    built = {name for image in plan.images for name in image.services}
    left_out = [service.name for service in manifest.services if service.name not in built]
    if not left_out:
        return ""
    return f"the release will have no image of {', '.join(left_out)}: only {', '.join(sorted(built))} is built"


def run_build(request: BuildRequest, site: BuildSite, reporter: Reporter) -> tuple[Build, Release]:
    """Build an app and return its finished record and its release.

    Raises:
        ConvoxError: The manifest or the plan is wrong, the builder cannot be reached, or an image could not be built
            (:class:`~convox.errors.BuildError`).
        BuildKitError: The builder, or the place for the images, cannot be used.
        KeyboardInterrupt: It was interrupted; the builder has been told.

    In every case but a store that cannot be used, a record of the build is left behind.
    """
    from convox.store.logs import LogWriter  # noqa: PLC0415 (not needed by every command)
    from convox.store.new_records import add_build  # noqa: PLC0415 (not needed by every command)
    from convox.store.process import current_process_id  # noqa: PLC0415 (not needed by every command)

    build = Build(
        id=new_build_id(),
        app=request.app,
        process=current_process_id(),
        repository=site.images.repository,
        started=now(),
    )
    is_added = False
    try:
        with uninterrupted():  # once there is a record, somebody has to end it
            build = add_build(site.store, build)
            is_added = True
        with LogWriter(site.store.logs_dir, build.app, build.id) as writer:
            log = LogTee(reporter.write, writer.write, site.secrets)
            try:
                return _Run(request, site, reporter, build, log).execute()
            except BaseException as exc:
                log.end(f"ERROR: {_failure(exc, site.secrets)}")
                raise
    except BaseException as exc:
        if is_added:
            _end_failed(site, build, exc)
        if isinstance(exc, BuildError):
            exc.hint = f"{exc.hint}\n{request.log_command(build.id)}".lstrip("\n")
        raise


def _end_failed(site: BuildSite, build: Build, exc: BaseException) -> None:
    """Leave the record ``failed``, with its reason; the first error is what counts, so this raises none."""
    with contextlib.suppress(ConvoxError):
        site.store.update_build(
            build.app, build.id, status=BuildStatus.FAILED, reason=_failure(exc, site.secrets), ended=now()
        )


def _failure(exc: BaseException, secrets: Sequence[str]) -> str:
    """Return in one text why a build failed, without secrets."""
    from convox.masking import scrub  # noqa: PLC0415 (not needed by every command)

    if isinstance(exc, KeyboardInterrupt):
        return "cancelled"
    text, why = str(exc) or type(exc).__name__, getattr(exc, "why", "")
    if isinstance(exc, BuildError) and why:
        text = why  # that the build failed is what the record says anyway
    elif why:
        text = f"{text}: {why}"
    return scrub(text, secrets)


class _Run:
    """One build in progress."""

    def __init__(self, request: BuildRequest, site: BuildSite, reporter: Reporter, build: Build, log: LogTee) -> None:
        self._request = request
        self._site = site
        self._reporter = reporter
        self._build = build
        self._log = log

    def execute(self) -> tuple[Build, Release]:
        request, site = self._request, self._site
        source = describe_source(request.path, environ=request.environ)
        self._update(
            description=source.description if request.description is None else request.description,
            git_sha=source.sha,
            logs=f"object://{self._build.app}/build/{self._build.id}/logs",
        )
        latest = site.store.latest_release(request.app)
        env = latest.environment if latest is not None else {}
        # The manifest gets these values wherever it asks for them, and its errors quote what it says then.
        site.secrets.extend(request.secret_values(env))
        with self._reporter.step("Packaging source"):
            manifest, plan = plan_build(
                request,
                rack=site.rack,
                repository=site.images.repository,
                build_id=self._build.id,
                git_sha=self._build.git_sha,
                env=env,
            )
            check_cache_exports(request.cache_to, [image.services for image in plan.images])
        site.secrets.extend(_secret_args(plan))
        self._log.hide(site.secrets)
        for warning in plan.warnings:
            self._log.line(f"WARNING: {warning}")
        if note := partial_note(manifest, plan):
            self._reporter.notice(f"NOTICE: {note}")
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(site.connect())  # may start a builder, which is a step of its own
            with self._reporter.step("Uploading source"):
                pairs = self._open_sessions(plan, client, stack)
                last = plan.image_for(_last_service(manifest, plan))
                entrypoint = _Entrypoint(site, last, client)
                jobs = self._jobs(pairs, client, entrypoint)
            with self._reporter.step("Starting build"):
                self._update(status=BuildStatus.RUNNING, manifest=manifest.text)
            digests = solve_all(jobs, self._log, repository=site.images.repository)
            self._log.flush()
            self._log.check()
        if entrypoint.warning:
            self._reporter.notice(f"WARNING: {entrypoint.warning}")
        return self._complete(digests, entrypoint.words)

    def _jobs(
        self,
        pairs: Sequence[tuple[PlannedImage, BuildSession]],
        client: Client,
        entrypoint: _Entrypoint,
    ) -> list[ImageJob]:
        """Return the job of every image; see :mod:`convox.build_jobs` for those that go one after the other."""
        request, site = self._request, self._site
        is_shared = len({id(session) for _, session in pairs}) < len(pairs)
        has_caches = request.is_cached and any(site.images.caches(image)[0] for image, _ in pairs)
        is_in_turn = is_shared and has_caches and is_new(client)
        last_of: dict[int, ImageJob] = {}
        jobs = []
        for image, session in pairs:
            job = ImageJob(
                image,
                session,
                client,
                site.images,
                self._log,
                is_cached=request.is_cached,
                platforms=site.platforms,
                cache_imports=caches_of(request.cache_from, image.services),
                cache_exports=caches_of(request.cache_to, image.services),
                after=last_of.get(id(session)) if is_in_turn else None,
                on_built=entrypoint.read if image is entrypoint.image else None,
            )
            last_of[id(session)] = job
            jobs.append(job)
        return jobs

    def _update(self, **changes: object) -> None:
        self._build = self._site.store.update_build(self._build.app, self._build.id, **changes)

    def _open_sessions(
        self, plan: Plan, client: Client, stack: contextlib.ExitStack
    ) -> list[tuple[PlannedImage, BuildSession]]:
        """Open one session for each folder that images are built from, and pair every image with its own."""
        sessions: dict[object, BuildSession] = {}
        pairs = []
        for image in plan.images:
            key: object = image.context_path if image.inline_dockerfile is None else image.inline_dockerfile
            if key not in sessions:
                sessions[key] = stack.enter_context(self._open_session(plan, image, client, stack))
            pairs.append((image, sessions[key]))
        stack.callback(_end_sessions, pairs)
        return pairs

    def _open_session(
        self, plan: Plan, image: PlannedImage, client: Client, stack: contextlib.ExitStack
    ) -> BuildSession:
        from buildkit_client.options import LocalDirectory  # noqa: PLC0415 (not needed by every command)

        folder, shared_key = image.context_path, ""
        context: Path | LocalDirectory = LocalDirectory(
            folder, ignore=plan.ignore, ignore_prefix=plan.ignore_prefix(image)
        )
        if image.inline_dockerfile is not None:
            context = folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="convox-")))
            (folder / image.dockerfile).write_bytes(image.inline_dockerfile)
            # The folder is another one each time; its content says what it is.
            shared_key = hashlib.sha256(b"convox inline\0" + image.inline_dockerfile).hexdigest()
        return client.open_session(
            local_dirs={"context": context, "dockerfile": folder},
            credentials=self._site.credentials,
            registry_http=self._site.registry_http,
            layout=self._site.images.layout_path,
            secrets=self._request.secrets,
            ssh=self._request.ssh,
            shared_key=shared_key,
        )

    def _complete(self, digests: Mapping[str, str], entrypoint: str) -> tuple[Build, Release]:
        from convox.store.new_records import complete_build  # noqa: PLC0415 (not needed by every command)

        self._build, release = complete_build(self._site.store, self._build, images=digests, entrypoint=entrypoint)
        return self._build, release


class _Entrypoint:
    """The entrypoint of an image, read as soon as that is built; a build does not fail because it cannot be read.

    A builder that pushed an image still has its documents, and is at hand; the registry is asked when it has not.

    Attributes:
        image: The image.
        words: The entrypoint as a shell would take it, or empty.
        warning: Why it is not known, or empty.
    """

    def __init__(self, site: BuildSite, image: PlannedImage, client: Client) -> None:
        self.words = self.warning = ""
        self._site = site
        self.image = image
        self._client = client

    def read(self, digest: str) -> None:
        """Read it."""
        from buildkit_client import BuildKitError  # noqa: PLC0415 (not needed by every command)
        from buildkit_client.oci import Digest, read_image_config  # noqa: PLC0415 (not needed by every command)

        images = self._site.images
        if images.layout_path is None:
            with contextlib.suppress(BuildKitError):
                config = read_image_config(Digest(digest), self._client.history.read_blob)
                self.words = shlex.join(config.entrypoint)
                return
        try:
            self.words = images.entrypoint(self.image, digest, self._site.credentials)
        except BuildKitError as exc:
            why = f": {exc.why}" if exc.why else ""
            self.warning = f"the entrypoint of {self.image.tags[-1]} is not recorded: {exc}{why}"


def _last_service(manifest: Manifest, plan: Plan) -> str:
    """Return the last service of the manifest that is built."""
    built = {name for image in plan.images for name in image.services}
    return [service.name for service in manifest.services if service.name in built][-1]


def _end_sessions(pairs: Sequence[tuple[PlannedImage, BuildSession]]) -> None:
    """End all sessions at once: each is closed later, and waits for the builder's answer then."""
    for _, session in pairs:
        session.begin_close()


def _secret_args(plan: Plan) -> list[str]:
    """Return the values of build arguments that are secrets by their name: the builder shows commands with them."""
    return [value for image in plan.images for value in secret_values(image.build_args, is_secret=looks_secret)]
