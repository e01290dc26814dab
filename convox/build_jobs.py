"""Solving the images of one build, all at once; the first that fails cancels the others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from convox.build_log import LinePrefixer
from convox.errors import BuildError, ConvoxError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buildkit_client import BuildSession, Client, SolveError, StatusUpdate
    from buildkit_client.progress import PlainProgress
    from convox.build_log import LogTee
    from convox.images import ImageStore
    from convox.plan import PlannedImage


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
        platforms: Sequence[str],
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
        self._cancel_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._cancel_build: Callable[[], object] | None = None

    @property
    def label(self) -> str:
        """The services it is for, as the log shows them."""
        return ",".join(self.image.services)

    def cancel(self) -> None:
        """Cancel the solve, now or as soon as it starts."""
        with self._cancel_lock:
            self._cancelled.set()
            if self._cancel_build is not None:
                self._cancel_build()

    def run(self) -> None:
        """Solve; leaves the digest or the error on this object."""
        from buildkit_client.progress import PlainProgress, ProgressDriver  # noqa: PLC0415 (needs protobuf)

        prefixer = LinePrefixer(f"{self.label} | ", self._log.write)
        progress = PlainProgress(prefixer.write, errors="surrogateescape")
        try:
            with ProgressDriver(progress) as driver:
                self._solve(driver.update)
            self._warn_about_caches(progress)
        except BaseException as exc:
            self.error = exc
        finally:
            prefixer.close()

    def _solve(self, on_status: Callable[[StatusUpdate], object]) -> None:
        from buildkit_client import BuildCancelledError, DockerfileFrontend  # noqa: PLC0415 (needs grpc)

        image = self.image
        imports, exports = self._images.caches(image)
        frontend = DockerfileFrontend(
            filename=image.dockerfile,
            target=image.target,
            build_args=image.build_args,
            no_cache=not self._is_cached,
            platforms=self._platforms,
        )
        with self._cancel_lock:
            if self._cancelled.is_set():
                raise BuildCancelledError("the build was cancelled")
        with self._client.start_solve(
            frontend,
            exporters=self._images.exporters(image),
            cache_imports=imports if self._is_cached else (),
            cache_exports=exports,
            session=self._session,
        ) as build:
            with self._cancel_lock:
                self._cancel_build = build.cancel
                if self._cancelled.is_set():
                    build.cancel()
            self.digest = build.wait(on_status).digest

    def _warn_about_caches(self, progress: PlainProgress) -> None:
        """Say which cache could not be used or kept, as the build goes on without it."""
        failed = [
            state for state in progress.graph.failed if state.name.startswith(("importing cache", "exporting cache"))
        ]
        for state in failed:
            missing = "not found" in state.error and state.name.startswith("importing")
            if not missing:  # the first build of a service has no cache to find
                self._log.line(f"{self.label} | WARNING: {state.name} failed: {state.error}")


def solve_all(jobs: Sequence[ImageJob]) -> dict[str, str]:
    """Run all jobs at once; the first that fails cancels the others.

    Returns:
        Digest by service.

    Raises:
        BuildError: A job failed.
        BuildKitError: The connection failed.
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
    try:
        for thread in threads:
            thread.start()
        first_failed = None
        while len(done) < len(jobs):
            with changed:
                changed.wait(0.5)
            if first_failed is None:
                first_failed = next((job for job in done if job.error is not None), None)
                if first_failed is not None:
                    for job in jobs:
                        if job is not first_failed:
                            job.cancel()
        first_failed = first_failed or next((job for job in done if job.error is not None), None)
    except BaseException:
        for job in jobs:
            job.cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join(5.0)
        raise
    if first_failed is not None and first_failed.error is not None:
        raise _explained(first_failed) from first_failed.error
    return {service: job.digest for job in jobs for service in job.image.services}


def _explained(job: ImageJob) -> BaseException:
    """Return the error of a job as the build's error."""
    from buildkit_client import BuildKitError, SolveError  # noqa: PLC0415 (not needed by every command)

    error = job.error
    assert error is not None
    if isinstance(error, SolveError):
        return ServiceBuildError(job.label, error)
    if isinstance(error, (BuildKitError, ConvoxError)):
        return error
    return BuildError(f"build failed in service {job.label}", why=f"{type(error).__name__}: {error}")


class ServiceBuildError(BuildError):
    """An image of the build failed.

    Attributes:
        service: The services it was for.
        solve_error: What the builder said, with the place in the Dockerfile.
    """

    def __init__(self, service: str, error: SolveError) -> None:
        code = {"auth": ExitCode.AUTH, "push": ExitCode.PUSH}.get(error.kind, ExitCode.FAILED)
        super().__init__(
            "build failed", why=f"service {service}: {error.details.message}", hint=error.hint, exit_code=code
        )
        self.service = service
        self.solve_error = error
