"""The asynchronous face: the same methods as :class:`~buildkit_client.client.Client`, to be awaited.

It is a face, not a second implementation: calls run in threads, and a session has its own threads anyway, so an event
loop that is busy or blocked cannot make the daemon drop a build. Cancelling a task cancels its build on the daemon.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from buildkit_client.aio_history import AsyncHistory
from buildkit_client.aio_threads import in_thread
from buildkit_client.client import Client
from buildkit_client.running import BuildSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from buildkit_client.gateway import BuildFunction
    from buildkit_client.options import Frontend
    from buildkit_client.progress.model import StatusUpdate
    from buildkit_client.records import DaemonInfo, UsageRecord, Worker
    from buildkit_client.running import RunningBuild
    from buildkit_client.solve import OnStatus, SolveResult
    from buildkit_client.solve_options import Graph, SessionOptions, SolveOptions
    from buildkit_client.subrequests import LintResult, Outline, Targets
    from buildkit_client.transport.tls import TlsConfig


class AsyncBuildSession(BuildSession):
    """A session that several builds share; made by :meth:`AsyncClient.open_session`."""

    async def aclose(self) -> None:
        """End the session; builds that still need it fail."""
        await in_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncClient:
    """A connection to a buildkitd, for asyncio; see :class:`~buildkit_client.client.Client` for every argument.

    Args:
        address: For example ``unix:///path``, ``tcp://host:port``, ``docker://``, ``kube-pod://name``, ``ssh://host``;
            empty takes ``BUILDKIT_HOST``, else the platform's default.
        tls: TLS files; None speaks plain text.
        connect_timeout_s: How long the daemon may take to answer first.

    Raises:
        ConnectError: The address is malformed.
        OptionError: A TLS file cannot be read.
    """

    def __init__(self, address: str = "", *, tls: TlsConfig | None = None, connect_timeout_s: float = 5.0) -> None:
        self._client = Client(address, tls=tls, connect_timeout_s=connect_timeout_s)
        self.address = self._client.address

    async def aclose(self) -> None:
        """Close the connection; builds in progress are cancelled."""
        await in_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open_session(
        self, *, layout: Path | None = None, shared_key: str = "", **options: Unpack[SessionOptions]
    ) -> AsyncBuildSession:
        """Open a session that several builds can share; see :meth:`Client.open_session`."""
        opened = await in_thread(partial(self._client.open_session, layout=layout, shared_key=shared_key, **options))
        return AsyncBuildSession(opened._session, opened._attachments)

    async def solve(
        self,
        build: Frontend | Graph,
        *,
        session: BuildSession | None = None,
        ref: str = "",
        on_status: OnStatus | None = None,
        **options: Unpack[SolveOptions],
    ) -> SolveResult:
        """Run a build to its end; see :meth:`Client.solve`.

        ``on_status`` is called in the event loop's thread. Cancelling the task cancels the build, and waits for that.
        """
        control = _BuildControl()
        report = _in_loop(on_status)

        def run() -> SolveResult:
            with self._client.start_solve(build, session=session, ref=ref, **options) as running:
                control.started(running)
                return running.wait(report)

        return await in_thread(run, on_cancel=control.cancel)

    async def run_gateway(
        self,
        function: BuildFunction,
        *,
        attrs: Mapping[str, str] | None = None,
        session: BuildSession | None = None,
        ref: str = "",
        on_status: OnStatus | None = None,
        **options: Unpack[SolveOptions],
    ) -> SolveResult:
        """Run a build whose frontend is a function of ours; see :meth:`Client.run_gateway`.

        The function is an ordinary one and runs in a thread. Cancelling the task cancels the build, and waits for that.
        """
        control = _BuildControl()
        report = _in_loop(on_status)

        def run() -> SolveResult:
            with self._client.start_gateway(attrs=attrs, session=session, ref=ref, **options) as running:
                control.started(running)
                return running.run(function, report)

        return await in_thread(run, on_cancel=control.cancel)

    async def lint(self, build: Frontend, **options: Unpack[SolveOptions]) -> LintResult:
        """Check a Dockerfile without building it; see :meth:`Client.lint`."""
        return await in_thread(partial(self._client.lint, build, **options))

    async def outline(self, build: Frontend, **options: Unpack[SolveOptions]) -> Outline:
        """Tell what a Dockerfile's target takes; see :meth:`Client.outline`."""
        return await in_thread(partial(self._client.outline, build, **options))

    async def list_targets(self, build: Frontend, **options: Unpack[SolveOptions]) -> Targets:
        """Tell which targets a Dockerfile has; see :meth:`Client.list_targets`."""
        return await in_thread(partial(self._client.list_targets, build, **options))

    @cached_property
    def history(self) -> AsyncHistory:
        """The daemon's record of past and running builds; see :attr:`Client.history`."""
        return AsyncHistory(self._client.history)

    async def info(self) -> DaemonInfo:
        """Return which BuildKit answers; see :meth:`Client.info`."""
        return await in_thread(self._client.info)

    async def list_workers(self, filters: Sequence[str] = ()) -> list[Worker]:
        """Return the daemon's workers; see :meth:`Client.list_workers`."""
        return await in_thread(partial(self._client.list_workers, filters))

    async def disk_usage(self, filters: Sequence[str] = (), *, age_limit_s: float = 0) -> list[UsageRecord]:
        """Return what lies in the daemon's build cache; see :meth:`Client.disk_usage`."""
        return await in_thread(partial(self._client.disk_usage, filters, age_limit_s=age_limit_s))

    async def prune(
        self,
        *,
        all: bool = False,  # noqa: A002 - the field's word
        filters: Sequence[str] = (),
        keep_duration_s: float = 0,
        reserved_bytes: int = 0,
        max_used_bytes: int = 0,
        min_free_bytes: int = 0,
    ) -> AsyncIterator[UsageRecord]:
        """Remove records from the daemon's build cache; see :meth:`Client.prune`."""
        records = iter(
            self._client.prune(
                all=all,
                filters=filters,
                keep_duration_s=keep_duration_s,
                reserved_bytes=reserved_bytes,
                max_used_bytes=max_used_bytes,
                min_free_bytes=min_free_bytes,
            )
        )
        while (record := await in_thread(partial(next, records, None))) is not None:
            yield record


def _in_loop(on_status: OnStatus | None) -> OnStatus | None:
    """Return a callback that may be called from any thread and lets the running loop call the given one."""
    if on_status is None:
        return None
    loop = asyncio.get_running_loop()

    def report(update: StatusUpdate) -> None:
        loop.call_soon_threadsafe(on_status, update)

    return report


class _BuildControl:
    """Cancels a build from another thread, also one that is only about to start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._build: RunningBuild | None = None
        self._is_cancelled = threading.Event()

    def started(self, build: RunningBuild) -> None:
        with self._lock:
            self._build = build
        if self._is_cancelled.is_set():
            build.cancel()

    def cancel(self) -> None:
        self._is_cancelled.set()
        with self._lock:
            if self._build is not None:
                self._build.cancel()
