"""Solving the images of one build, all at once; the first that fails cancels the others.

Images of one folder share steps, and builds that run at once share the work for them. There is one thing BuildKit does
not share: when a step comes from the registry cache of one image, the others do not find in theirs what follows it, and
run that again. So on a builder that has nothing yet, images of one folder go one after the other for as long as all
comes from caches; the next one starts when the one before it is done, or when a step of that one really runs.

Reference: solver/edge.go, probeCache; cache/remotecache/v1/cachestorage.go, AddLink.
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from convox.build_errors import ImageError
from convox.build_log import LinePrefixer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildkit_client import BuildSession, Client, StatusUpdate
    from buildkit_client.options import Cache
    from convox.build_log import LogTee
    from convox.images import ImageStore
    from convox.plan import PlannedImage

_IMPORT, _EXPORT = "importing cache manifest from ", "exporting cache"
_NO_EXPORT = "skipping cache export"
_LOST_BLOB = "blob unknown to registry"
# All that older builders tell of the registry's answer; Docker's has this status for a blob that it misses.
_REFUSED_MANIFEST = re.compile(r"unexpected status from PUT request to \S+/manifests/\S+: 400 ")
_TRIES = 3
_STEP = re.compile(
    r"\[(?!internal\]|context |auth\])[^]]*\] (?!FROM )"
)  # a step of a Dockerfile, as the daemon names it
_CANCEL_S = 3.0  # how long the builder has to end what was cancelled; its last lines are worth no longer wait


class ImageJob:
    """One image being solved.

    Args:
        image: What to build.
        session: Serves its folder.
        client: The connection.
        images: Where the result goes.
        log: Gets its progress.
        is_cached: Whether steps may come from a cache.
        platforms: To build for; empty takes the builder's.
        cache_imports: Caches to use besides those of ``images``.
        cache_exports: Caches to write besides those of ``images``.
        after: A job to make way first.
        on_built: Called in the job's thread with the image's digest; what it raises is the job's error.

    Attributes:
        digest: Digest of the image, once it is built.
        error: Why it was not, or None.
    """

    def __init__(
        self,
        image: PlannedImage,
        session: BuildSession,
        client: Client,
        images: ImageStore,
        log: LogTee,
        *,
        is_cached: bool,
        platforms: Sequence[str] = (),
        cache_imports: Sequence[Cache] = (),
        cache_exports: Sequence[Cache] = (),
        after: ImageJob | None = None,
        on_built: Callable[[str], object] | None = None,
    ) -> None:
        self.image = image
        self.digest = ""
        self.error: BaseException | None = None
        self._session = session
        self._client = client
        self._images = images
        self._log = log
        self._is_cached = is_cached
        self._platforms = platforms
        self._cache_imports = cache_imports
        self._cache_exports = cache_exports
        self._after = after
        self._on_built = on_built
        self._makes_way = threading.Event()
        self._exports = self._exported_nothing = False
        self._cancel_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._cancel_build: Callable[[], object] | None = None

    @property
    def label(self) -> str:
        """The services it is for, as the log shows them."""
        return ",".join(self.image.services)

    def wait_for_way(self) -> None:
        """Wait until this job is over, or runs a step, or is cancelled."""
        self._makes_way.wait()

    def cancel(self) -> None:
        """Cancel the solve, now or as soon as it starts."""
        self._makes_way.set()
        with self._cancel_lock:
            self._cancelled.set()
            if self._cancel_build is not None:
                self._cancel_build()

    def run(self) -> None:
        """Solve; leaves the digest or the error on this object."""
        if self._after is not None:
            self._after.wait_for_way()
        try:
            for tries_left in reversed(range(_TRIES)):
                # What the first try ran need not run again, also when nothing else may come from a cache.
                is_first = tries_left == _TRIES - 1
                self._exports = self._exported_nothing = False
                reason = self._try(no_cache=is_first and not self._is_cached, is_last=not tries_left)
                if not reason and not is_first and tries_left and self._exported_nothing:
                    reason = "the builder kept no cache of what the failed push had left"
                if not reason:
                    break
                self._log.line(f"{self.label} | WARNING: {reason}, trying again")
            if self._on_built is not None:
                self._on_built(self.digest)
        except BaseException as exc:
            self.error = exc
        finally:
            self._makes_way.set()

    def _try(self, *, no_cache: bool, is_last: bool) -> str:
        """Solve once; return why it is worth another time, empty when it is not.

        Docker's registry, with its images on a disk, may deny for a moment a blob that it got twice at once. Images of
        one app share layers with each other and with their caches, so that happens to a build all of itself; the next
        time the blob is there and is not sent again.
        """
        from buildkit_client import SolveError  # noqa: PLC0415 (needs grpc)
        from buildkit_client.progress import PlainProgress, ProgressDriver  # noqa: PLC0415 (needs protobuf)

        prefixer = LinePrefixer(f"{self.label} | ", self._log.write)
        progress = PlainProgress(prefixer.write, errors="surrogateescape")
        try:
            with ProgressDriver(progress) as driver:

                def show(update: StatusUpdate) -> None:
                    self._watch(update)
                    driver.update(_without_missing_caches(update))

                self._solve(show, no_cache=no_cache)
            self._check_files()
        except SolveError as exc:
            if not is_last and (reason := _lost_blob(exc.details.message)):
                return reason
            raise
        finally:
            prefixer.close()
        failed = [one for one in progress.graph.failed if one.name.startswith((_IMPORT, _EXPORT))]
        if not is_last and (reason := next(filter(None, (_lost_blob(one.error) for one in failed)), "")):
            return reason
        for one in failed:
            # The build goes on without a cache that cannot be used or kept.
            self._log.line(f"{self.label} | WARNING: {one.name} failed: {' '.join(one.error.split())}")
        return ""

    def _watch(self, update: StatusUpdate) -> None:
        """Note what the builder does.

        A step that runs makes way for the next job. One that shows during an export only fetches what was found.
        """
        for one in update.vertexes:
            if one.name.startswith("exporting "):
                self._exports = True
            is_running = one.started_ns is not None and one.completed_ns is None and not one.cached
            if is_running and not self._exports and _STEP.match(one.name):
                self._makes_way.set()
        self._exported_nothing |= any(one.id.startswith(_NO_EXPORT) for one in update.statuses)

    def _check_files(self) -> None:
        """Fail when files vanished during the upload: the image has them empty."""
        from buildkit_client import ContextError  # noqa: PLC0415 (needs grpc)

        if names := self._session.vanished_files:
            raise ContextError(
                f"cannot read {', '.join(names)} of the build context",
                why="gone while the build ran",
                hint="build again, or exclude in .dockerignore what comes and goes",
            )

    def _solve(self, on_status: Callable[[StatusUpdate], object], *, no_cache: bool) -> None:
        from buildkit_client import BuildCancelledError, DockerfileFrontend  # noqa: PLC0415 (needs grpc)

        image = self.image
        imports, exports = self._images.caches(image)
        frontend = DockerfileFrontend(
            filename=image.dockerfile,
            target=image.target,
            build_args=image.build_args,
            no_cache=no_cache,
            platforms=self._platforms,
        )
        with self._cancel_lock:
            if self._cancelled.is_set():
                raise BuildCancelledError("the build was cancelled")
        with self._client.start_solve(
            frontend,
            exporters=self._images.exporters(image),
            cache_imports=(*self._cache_imports, *imports) if self._is_cached else (),
            cache_exports=(*self._cache_exports, *exports),
            session=self._session,
        ) as build:
            with self._cancel_lock:
                self._cancel_build = build.cancel
                if self._cancelled.is_set():
                    build.cancel()
            self.digest = build.wait(on_status).digest


def solve_all(jobs: Sequence[ImageJob], log: LogTee, *, repository: str) -> dict[str, str]:
    """Run all jobs at once; the first that fails cancels the others.

    Args:
        jobs: At least one.
        log: Their log; once it cannot be kept, nobody would know what they do.
        repository: Where the images go, for error texts.

    Returns:
        Digest by service.

    Raises:
        BuildError: A job failed.
        StoreError: The log cannot be kept.
        KeyboardInterrupt: An interrupt arrived; the builds have been cancelled.
    """
    changed = threading.Condition()
    done: list[ImageJob] = []

    def run(job: ImageJob) -> None:
        job.run()
        with changed:
            done.append(job)
            changed.notify()

    threads = [threading.Thread(target=run, args=(job,), name=f"build-{job.label}", daemon=True) for job in jobs]
    first_failed: ImageJob | None = None
    try:
        for thread in threads:
            thread.start()
        with changed:
            while len(done) < len(jobs):
                changed.wait(0.5)
                log.check()
                if first_failed is None:
                    first_failed = _first_failed(done)
                    if first_failed is not None:
                        _cancel(jobs)
    except BaseException:
        _cancel(jobs)
        deadline = time.monotonic() + _CANCEL_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise
    first_failed = first_failed or _first_failed(done)
    if first_failed is not None:
        _raise_error(first_failed, repository)
    return {service: job.digest for job in jobs for service in job.image.services}


def _first_failed(done: Sequence[ImageJob]) -> ImageJob | None:
    return next((job for job in done if job.error is not None), None)


def _cancel(jobs: Sequence[ImageJob]) -> None:
    for job in jobs:
        job.cancel()


def _raise_error(job: ImageJob, repository: str) -> NoReturn:
    """Raise what made a job fail: the library's errors as the build's, all others as they are."""
    from buildkit_client import BuildKitError  # noqa: PLC0415 (not needed by every command)

    if isinstance(job.error, BuildKitError):
        raise ImageError(job.label, job.error, repository=repository) from job.error
    assert job.error is not None
    raise job.error


def _lost_blob(error: str) -> str:
    """Return what to say of an error that a registry's lost blob may be behind, empty for another error."""
    if _LOST_BLOB in error:
        return "the registry lost a blob that it had"
    return "the registry lost a blob, or wants no such manifest" if _REFUSED_MANIFEST.search(error) else ""


def _without_missing_caches(update: StatusUpdate) -> StatusUpdate:
    """Return a status in which a cache that is not there is no error: the first build of a service has none."""
    from buildkit_client.progress import VertexLog  # noqa: PLC0415 (not needed by every command)

    missing = [one for one in update.vertexes if one.name.startswith(_IMPORT) and one.error.endswith(": not found")]
    if not missing:
        return update
    vertexes = tuple(one._replace(error="") if one in missing else one for one in update.vertexes)
    notes = tuple(
        VertexLog(one.digest, data=b"not found: this build makes it\n", timestamp_ns=one.completed_ns or 0)
        for one in missing
    )
    return update._replace(vertexes=vertexes, logs=(*update.logs, *notes))
