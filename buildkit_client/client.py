"""The blocking client: one connection to a buildkitd, and everything its Control API does.

Reference: client/client.go and its siblings.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from buildkit_client._proto import control_pb2
from buildkit_client.attachments import Attachments
from buildkit_client.errors import OptionError
from buildkit_client.requirements import DISK_USAGE_AGE, PRUNE_DESCRIPTION, PRUNE_LIMITS, require
from buildkit_client.running import running_build, start_session
from buildkit_client.transport.address import default_address, parse_address
from buildkit_client.transport.channel import CONTROL, QUICK_S, Channel
from buildkit_client.transport.lenient import parse_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from buildkit_client.gateway import BuildFunction, Gateway, GatewayResult
    from buildkit_client.history import History
    from buildkit_client.options import Frontend
    from buildkit_client.records import DaemonInfo, UsageRecord, Worker
    from buildkit_client.running import BuildSession, RunningBuild
    from buildkit_client.solve import OnStatus, SolveResult
    from buildkit_client.solve_options import Graph, SessionOptions, SolveOptions
    from buildkit_client.subrequests import LintResult, Outline, Targets
    from buildkit_client.transport.tls import TlsConfig

# Without this, Python prints warnings of libraries to stderr wherever logging is not set up.
logging.getLogger("buildkit_client").addHandler(logging.NullHandler())


class Client:
    """A connection to a buildkitd.

    Connecting happens with the first call.

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
        parsed = parse_address(address or default_address(os.environ))
        self.address = str(parsed)
        self._channel = Channel(parsed, tls=tls, connect_timeout_s=connect_timeout_s)

    def close(self) -> None:
        """Close the connection; builds in progress are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- builds ------------------------------------------------------------------------------------------------

    def open_session(
        self, *, layout: Path | None = None, shared_key: str = "", **options: Unpack[SessionOptions]
    ) -> BuildSession:
        """Open a session that several builds can share.

        Args:
            layout: OCI image layout that builds with an :class:`OutputLayout` write to.
            shared_key: Tells the daemon which copies of directories may be reused; empty derives it from them.
            options: What the session serves, see :class:`~buildkit_client.solve_options.SessionOptions`.

        Raises:
            ConnectError: The daemon cannot be reached.
        """
        export_layout = None
        if layout is not None:
            from buildkit_client.oci.layout import ImageLayout  # noqa: PLC0415 - few sessions have one

            export_layout = ImageLayout(layout, create=True)
        return start_session(self._channel, Attachments(options, layout=export_layout), shared_key)

    @contextmanager
    def start_solve(
        self,
        build: Frontend | Graph,
        *,
        session: BuildSession | None = None,
        ref: str = "",
        **options: Unpack[SolveOptions],
    ) -> Iterator[RunningBuild]:
        """Start a build and leave waiting for it to the caller; see :meth:`solve` for the arguments.

        Yields:
            The build, which is cancelled when the block ends before it.
        """
        with running_build(self._channel, build, options, session=session, ref=ref) as running:
            yield running

    def solve(
        self,
        build: Frontend | Graph,
        *,
        session: BuildSession | None = None,
        ref: str = "",
        on_status: OnStatus | None = None,
        **options: Unpack[SolveOptions],
    ) -> SolveResult:
        """Run a build to its end.

        Args:
            build: What describes the build: a frontend, usually a :class:`DockerfileFrontend`, or a graph of
                :mod:`buildkit_client.llb`.
            session: A session to share; None opens one for this build. With one given, what it serves is its own.
            ref: Id of the build in the daemon's history; empty makes one.
            on_status: Gets the daemon's progress messages, in this thread.
            options: What the session serves, where the result goes, which caches to use: see
                :class:`~buildkit_client.solve_options.SessionOptions` and
                :class:`~buildkit_client.solve_options.SpecOptions`.

        Raises:
            SolveError: The build failed; has the step, its exit code, the place in the Dockerfile, its last output.
            ConnectError: The daemon cannot be reached.
            ContextError: A local directory cannot be read.
            CredentialsError: Credentials cannot be found out.
            SecretError: A secret cannot be read.
            SshAgentError: An SSH agent does not answer.
            OptionError: An option cannot work; nothing was sent.
            BuildCancelledError: The build was cancelled.
            BuildKitError: Another error, of the connection or of an output.
        """
        with self.start_solve(build, session=session, ref=ref, **options) as running:
            return running.wait(on_status)

    @contextmanager
    def start_gateway(
        self,
        *,
        attrs: Mapping[str, str] | None = None,
        session: BuildSession | None = None,
        ref: str = "",
        **options: Unpack[SolveOptions],
    ) -> Iterator[RunningBuild]:
        """Start a build whose frontend is a function of ours, which :meth:`RunningBuild.run` takes.

        See :meth:`run_gateway` for the arguments.

        Yields:
            The build, which is cancelled when the block ends before it.
        """
        with running_build(self._channel, None, options, attrs=attrs, session=session, ref=ref) as running:
            yield running

    def run_gateway(
        self,
        function: BuildFunction,
        *,
        attrs: Mapping[str, str] | None = None,
        session: BuildSession | None = None,
        ref: str = "",
        on_status: OnStatus | None = None,
        **options: Unpack[SolveOptions],
    ) -> SolveResult:
        """Run a build whose frontend is a function of ours.

        Args:
            function: Gets a :class:`~buildkit_client.gateway.Gateway` in a thread of its own; what it returns is
                exported. When the build is cancelled its calls of the gateway end; what else it does, it finishes.
            attrs: Attributes of the build as a whole, for example ``attest:provenance``.
            session: As for :meth:`solve`.
            ref: As for :meth:`solve`.
            on_status: As for :meth:`solve`.
            options: As for :meth:`solve`.

        Raises:
            Exception: What the function raises; else as :meth:`solve`.
        """
        with self.start_gateway(attrs=attrs, session=session, ref=ref, **options) as running:
            return running.run(function, on_status)

    def _subrequest(self, build: Frontend, name: str, options: SolveOptions) -> Mapping[str, bytes]:
        """Run a frontend's sub-request and return its metadata."""
        from buildkit_client.image_layouts import resolve_layout_contexts  # noqa: PLC0415
        from buildkit_client.options import RawFrontend  # noqa: PLC0415

        answers: list[GatewayResult] = []
        needs = build.needs()
        layouts = {**needs.layouts, **options.get("layouts", {})}
        asked = RawFrontend(
            build.name, {**resolve_layout_contexts(build.to_attrs(), layouts), "requestid": name}, unchecked=True
        )

        def ask(gateway: Gateway) -> GatewayResult:
            answers.append(gateway.solve(asked, cache_imports=options.get("cache_imports", ()), inputs=needs.inputs))
            return answers[0]

        with running_build(self._channel, None, {**options, "internal": True}, needs=needs) as running:
            running.run(ask)
        return answers[0].metadata

    def lint(self, build: Frontend, **options: Unpack[SolveOptions]) -> LintResult:
        """Check a Dockerfile without building it.

        Args:
            build: The frontend as for a build.
            options: As for :meth:`solve`.
        """
        from buildkit_client.subrequests import LintResult  # noqa: PLC0415 - as in other rare calls below

        return LintResult.from_metadata(self._subrequest(build, "frontend.lint", options))

    def outline(self, build: Frontend, **options: Unpack[SolveOptions]) -> Outline:
        """Tell what a Dockerfile's target takes: its build arguments, secrets, SSH ids and caches.

        Args:
            build: The frontend as for a build.
            options: As for :meth:`solve`.
        """
        from buildkit_client.subrequests import Outline  # noqa: PLC0415

        return Outline.from_metadata(self._subrequest(build, "frontend.outline", options))

    def list_targets(self, build: Frontend, **options: Unpack[SolveOptions]) -> Targets:
        """Tell which targets a Dockerfile has.

        Args:
            build: The frontend as for a build.
            options: As for :meth:`solve`.
        """
        from buildkit_client.subrequests import Targets  # noqa: PLC0415

        return Targets.from_metadata(self._subrequest(build, "frontend.targets", options))

    # -- the daemon --------------------------------------------------------------------------------------------

    @cached_property
    def history(self) -> History:
        """The daemon's record of past and running builds."""
        from buildkit_client.history import History  # noqa: PLC0415

        return History(self._channel)

    def info(self) -> DaemonInfo:
        """Return which BuildKit answers; every field is empty for daemons before 0.11, as in older Docker Engines."""
        from buildkit_client.records import DaemonInfo  # noqa: PLC0415

        return DaemonInfo.from_proto(parse_message(control_pb2.InfoResponse, self._channel.info()).buildkitVersion)

    def list_workers(self, filters: Sequence[str] = ()) -> list[Worker]:
        """Return the daemon's workers; the first is the default one.

        Args:
            filters: containerd filters, one of which must match.
        """
        from buildkit_client.records import Worker  # noqa: PLC0415

        request = control_pb2.ListWorkersRequest(filter=filters)
        response = self._channel.unary(
            CONTROL + "ListWorkers", request, partial(parse_message, control_pb2.ListWorkersResponse), timeout_s=QUICK_S
        )
        return [Worker.from_proto(record) for record in response.record]

    def disk_usage(self, filters: Sequence[str] = (), *, age_limit_s: float = 0) -> list[UsageRecord]:
        """Return what lies in the daemon's build cache, in the daemon's order.

        Args:
            filters: containerd filters, one of which must match.
            age_limit_s: Only what was not used for this long; 0 for everything.

        Raises:
            OptionError: The daemon is too old for the age limit.
        """
        from buildkit_client.records import UsageRecord  # noqa: PLC0415

        if age_limit_s:
            require([DISK_USAGE_AGE], self._channel.version())
        request = control_pb2.DiskUsageRequest(filter=filters, ageLimit=int(age_limit_s * 1e9))
        response = self._channel.unary(
            CONTROL + "DiskUsage", request, partial(parse_message, control_pb2.DiskUsageResponse)
        )
        return [UsageRecord.from_proto(record) for record in response.record]

    def prune(
        self,
        *,
        all: bool = False,  # noqa: A002 - the field's word
        filters: Sequence[str] = (),
        keep_duration_s: float = 0,
        reserved_bytes: int = 0,
        max_used_bytes: int = 0,
        min_free_bytes: int = 0,
    ) -> Iterator[UsageRecord]:
        """Remove records from the daemon's build cache.

        Args:
            all: Also internal, frontend and shared records.
            filters: containerd filters, one of which must match.
            keep_duration_s: Keep what was used within this time.
            reserved_bytes: Keep at least this much.
            max_used_bytes: Remove until no more than this is used.
            min_free_bytes: Remove until this much of the disk is free.

        Yields:
            Each removed record, as it is removed; the call ends when the iterator does.

        Raises:
            OptionError: The daemon is too old for the last two, or for a filter; it would remove something else. Or a
                number is too large.
        """
        from buildkit_client.records import UsageRecord  # noqa: PLC0415

        wanted = [PRUNE_LIMITS] if max_used_bytes or min_free_bytes else []
        if any("description" in one for one in filters):
            wanted.append(PRUNE_DESCRIPTION)
        if wanted:
            require(wanted, self._channel.version())
        try:
            request = control_pb2.PruneRequest(
                filter=filters,
                all=all,
                keepDuration=int(keep_duration_s * 1e9),
                reservedSpace=reserved_bytes,
                maxUsedSpace=max_used_bytes,
                minFreeSpace=min_free_bytes,
            )
        except (ValueError, OverflowError) as exc:
            raise OptionError("a limit of prune cannot be sent", why=str(exc)) from exc
        with self._channel.translated(is_build=False):
            records = self._channel.server_stream(
                CONTROL + "Prune", request, partial(parse_message, control_pb2.UsageRecord)
            )
            try:
                for record in records:
                    yield UsageRecord.from_proto(record)
            finally:
                records.cancel()
