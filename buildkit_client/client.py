"""The blocking client: one connection to a buildkitd, and everything its Control API does.

Reference: client/client.go and its siblings.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from buildkit_client._proto import control_pb2
from buildkit_client.attachments import Attachments
from buildkit_client.errors import BuildKitError, DaemonError, OptionError, SolveError
from buildkit_client.gateway import BuildFunction, Gateway, GatewayResult, GatewayRun
from buildkit_client.history import History
from buildkit_client.image_layouts import resolve_layout_contexts
from buildkit_client.local_cache import PreparedCaches, prepare_caches
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.options import OutputLayout, RawFrontend
from buildkit_client.options.needs import Needs
from buildkit_client.progress.model import StatusUpdate, Vertex
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.records import DaemonInfo, UsageRecord, Worker
from buildkit_client.session.session import Session, new_id, shared_key_for
from buildkit_client.solve import OnStatus, Solve, SolveResult, SolveSpec
from buildkit_client.solve_options import Graph, SessionOptions, SolveOptions, SpecOptions, split_options
from buildkit_client.subrequests import LintResult, Outline, Targets
from buildkit_client.transport.address import default_address, parse_address
from buildkit_client.transport.apart import apart
from buildkit_client.transport.channel import CONTROL, QUICK_S, Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from buildkit_client.options import Frontend
    from buildkit_client.transport.tls import TlsConfig

# Without this, Python prints warnings of libraries to stderr wherever logging is not set up.
logging.getLogger("buildkit_client").addHandler(logging.NullHandler())


class BuildSession:
    """A session that several builds share, one after the other or at once.

    Made by :meth:`Client.open_session`. Builds of one session share the upload of its directories; builds of other
    directories need a session of their own.
    """

    def __init__(self, session: Session, attachments: Attachments) -> None:
        self._session = session
        self._attachments = attachments

    @property
    def id(self) -> str:
        """Names the session on the daemon."""
        return self._session.id

    @property
    def is_alive(self) -> bool:
        """Whether the daemon can still call us."""
        return self._session.is_alive

    @property
    def vanished_files(self) -> tuple[str, ...]:
        """Files that were gone when the daemon wanted them, so that it got them empty and went on: the first ones.

        Names are relative to their directory and ready to show.
        """
        return self._attachments.vanished_files

    def close(self) -> None:
        """End the session; builds that still need it fail."""
        apart(self._session.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
        export_layout = ImageLayout(layout, create=True) if layout is not None else None
        return self._start_session(Attachments(options, layout=export_layout), shared_key)

    def _start_session(self, attachments: Attachments, shared_key: str = "") -> BuildSession:
        session = Session(
            self._channel.session_stream,
            unary=attachments.unary,
            streaming=attachments.streaming,
            shared_key=shared_key or shared_key_for(attachments.local_dirs),
        )
        return BuildSession(apart(session.start, undo=Session.close), attachments)

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
        served, wanted = split_options(options)
        if session is not None:
            served = _check_shared(session, served, wanted)
        needs = Needs() if isinstance(build, Graph) else build.needs()
        with self._running(SolveSpec(build=build, **wanted), served, needs, session, ref) as running:
            yield running

    @contextmanager
    def _running(
        self, spec: SolveSpec, served: SessionOptions, needs: Needs, session: BuildSession | None, ref: str
    ) -> Iterator[RunningBuild]:
        """Run a build in a session given, or in one of its own."""
        caches = prepare_caches(spec.cache_imports, spec.cache_exports)
        with ExitStack() as stack:
            if session is None:
                attachments = Attachments(served, needs=needs, exporters=spec.exporters)
                session = stack.enter_context(self._start_session(attachments))
            _check_needs(session, needs)
            session._attachments.add_stores(caches.stores)
            spec = replace(
                spec,
                build=_resolved(spec.build, session._attachments.layouts),
                cache_imports=caches.imports,
                cache_exports=caches.exports,
                frontend_inputs={**needs.inputs, **spec.frontend_inputs},
            )
            yield from _solving(self._channel, session, spec, ref, caches)

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
        served, wanted = split_options(options)
        if session is not None:
            served = _check_shared(session, served, wanted)
        spec = SolveSpec(build=None, attrs=attrs or {}, **wanted)
        with self._running(spec, served, Needs(), session, ref) as running:
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
                exported.
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
        answers: list[GatewayResult] = []
        needs = build.needs()
        layouts = {**needs.layouts, **options.get("layouts", {})}
        asked = RawFrontend(
            build.name, {**resolve_layout_contexts(build.to_attrs(), layouts), "requestid": name}, unchecked=True
        )

        def ask(gateway: Gateway) -> GatewayResult:
            answers.append(gateway.solve(asked, cache_imports=options.get("cache_imports", ()), inputs=needs.inputs))
            return answers[0]

        served, wanted = split_options({**options, "internal": True})
        with self._running(SolveSpec(build=None, **wanted), served, needs, None, "") as running:
            running.run(ask)
        return answers[0].metadata

    def lint(self, build: Frontend, **options: Unpack[SolveOptions]) -> LintResult:
        """Check a Dockerfile without building it.

        Args:
            build: The frontend as for a build.
            options: As for :meth:`solve`.
        """
        return LintResult.from_metadata(self._subrequest(build, "frontend.lint", options))

    def outline(self, build: Frontend, **options: Unpack[SolveOptions]) -> Outline:
        """Tell what a Dockerfile's target takes: its build arguments, secrets, SSH ids and caches.

        Args:
            build: The frontend as for a build.
            options: As for :meth:`solve`.
        """
        return Outline.from_metadata(self._subrequest(build, "frontend.outline", options))

    def list_targets(self, build: Frontend, **options: Unpack[SolveOptions]) -> Targets:
        """Tell which targets a Dockerfile has.

        Args:
            build: The frontend as for a build.
            options: As for :meth:`solve`.
        """
        return Targets.from_metadata(self._subrequest(build, "frontend.targets", options))

    # -- the daemon --------------------------------------------------------------------------------------------

    @cached_property
    def history(self) -> History:
        """The daemon's record of past and running builds."""
        return History(self._channel)

    def info(self) -> DaemonInfo:
        """Return which BuildKit answers; every field is empty for daemons before 0.11, as in older Docker Engines."""
        try:
            response = self._channel.unary(
                CONTROL + "Info", control_pb2.InfoRequest(), control_pb2.InfoResponse.FromString, timeout_s=QUICK_S
            )
        except DaemonError as exc:
            if exc.details.code != StatusCode.UNIMPLEMENTED:
                raise
            return DaemonInfo()
        return DaemonInfo.from_proto(response.buildkitVersion)

    def list_workers(self, filters: Sequence[str] = ()) -> list[Worker]:
        """Return the daemon's workers; the first is the default one.

        Args:
            filters: containerd filters, one of which must match.
        """
        request = control_pb2.ListWorkersRequest(filter=filters)
        response = self._channel.unary(
            CONTROL + "ListWorkers", request, control_pb2.ListWorkersResponse.FromString, timeout_s=QUICK_S
        )
        return [Worker.from_proto(record) for record in response.record]

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """Return what lies in the daemon's build cache, in the daemon's order."""
        request = control_pb2.DiskUsageRequest(filter=filters)
        response = self._channel.unary(CONTROL + "DiskUsage", request, control_pb2.DiskUsageResponse.FromString)
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
        """
        request = control_pb2.PruneRequest(
            filter=filters,
            all=all,
            keepDuration=int(keep_duration_s * 1e9),
            reservedSpace=reserved_bytes,
            maxUsedSpace=max_used_bytes,
            minFreeSpace=min_free_bytes,
        )
        with self._channel.translated(is_build=False):
            records = self._channel.server_stream(CONTROL + "Prune", request, control_pb2.UsageRecord.FromString)
            try:
                for record in records:
                    yield UsageRecord.from_proto(record)
            finally:
                records.cancel()


class RunningBuild:
    """A build in progress; made by :meth:`Client.start_solve`."""

    def __init__(self, solve: Solve, session: BuildSession, spec: SolveSpec, caches: PreparedCaches) -> None:
        self._solve = solve
        self._caches = caches
        self._session = session
        self._spec = spec

    @property
    def ref(self) -> str:
        """Id of the build in the daemon's history."""
        return self._solve.ref

    @property
    def vanished_files(self) -> tuple[str, ...]:
        """As :attr:`BuildSession.vanished_files`, of the session that serves the build."""
        return self._session.vanished_files

    def cancel(self) -> None:
        """Cancel the build; may be called from any thread."""
        apart(self._solve.cancel)

    def wait(self, on_status: OnStatus | None = None) -> SolveResult:
        """Wait for the end; see :meth:`Client.solve`."""
        attachments = self._session._attachments
        try:
            result = self._solve.wait(on_status and partial(_report_with_logins, attachments, on_status))
        except BuildKitError as exc:
            said = exc.details.message if isinstance(exc, SolveError) else f"{exc} {exc.why}"
            if (error := attachments.error(said)) is not None:
                raise error from exc
            raise
        self._caches.finish(result.exporter_response)
        attachments.finish(self._spec.exporters, result.exporter_response)
        return result

    def run(self, function: BuildFunction, on_status: OnStatus | None = None) -> SolveResult:
        """Run the function of a gateway build, and wait for the end; see :meth:`Client.run_gateway`."""
        gateway = Gateway(self._solve.channel, self.ref, self._session.id)
        run = GatewayRun(gateway, function)
        self._solve.inner_error = lambda: run.error
        try:
            return self.wait(on_status)
        finally:
            apart(gateway.close)


def _solving(
    channel: Channel, session: BuildSession, spec: SolveSpec, ref: str, caches: PreparedCaches
) -> Iterator[RunningBuild]:
    attachments = session._attachments
    request = spec.to_request(
        ref or new_id(),
        session.id,
        has_policy=attachments.has_policy,
        chooses_exporters=attachments.chooses_exporters,
    )
    solve = apart(partial(Solve, channel, session._session, request), undo=Solve.close)
    try:
        yield RunningBuild(solve, session, spec, caches)
    finally:
        apart(solve.close)


def _resolved(build: Frontend | Graph | None, layouts: Mapping[str, Path]) -> Frontend | Graph | None:
    """Return what describes the build, with the digest of every image layout that a context names by tag."""
    if build is None or isinstance(build, Graph) or not layouts:
        return build
    return RawFrontend(build.name, resolve_layout_contexts(build.to_attrs(), layouts), unchecked=True)


def _report_with_logins(attachments: Attachments, on_status: OnStatus, update: StatusUpdate) -> None:
    """Pass a message on, and what happened about logins meanwhile as steps of their own.

    Reference: session/auth/authprovider/authprovider.go; the daemon does not tell, so the client does.
    """
    on_status(update)
    lines = attachments.take_login_lines()
    if lines:
        now = time.time_ns()
        steps = (
            Vertex(digest=f"sha256:{sha256(line.encode()).hexdigest()}", name=line, started_ns=now, completed_ns=now)
            for line in lines
        )
        on_status(StatusUpdate(vertexes=tuple(steps)))


def _check_shared(session: BuildSession, served: SessionOptions, wanted: SpecOptions) -> SessionOptions:
    """Refuse what a shared session cannot serve.

    The daemon names an exporter's stream by its index in the solve alone, so two builds of one session that both send
    something back could not be told apart.
    """
    if any(served.values()):
        raise OptionError(
            "directories, secrets and SSH agents belong to the session when one is given",
            hint="give them to open_session",
        )
    for exporter in wanted.get("exporters", ()):
        if exporter.output is not None and not isinstance(exporter.output, OutputLayout):
            raise OptionError(
                f"a build in a shared session cannot send its {exporter.type} result to us",
                why="the daemon does not say which of the builds it sends",
                hint="leave out session=, so that the build has its own",
            )
        if isinstance(exporter.output, OutputLayout) and session._attachments.layout is None:
            raise OptionError("the shared session has no OCI image layout", hint="give layout= to open_session")
    return {}


def _check_needs(session: BuildSession, needs: Needs) -> None:
    """Refuse contexts that the shared session does not serve."""
    for what, names, has in (
        ("directory", needs.local_dirs, session._attachments.local_dirs),
        ("OCI image layout", needs.layouts, session._attachments.layouts),
        ("stream", needs.uploads, session._attachments.uploads),
    ):
        for name in names:
            if name not in has:
                raise OptionError(
                    f"the shared session does not serve the {what} {name} that the build's contexts name",
                    hint="give it to open_session, or leave out session=",
                )
