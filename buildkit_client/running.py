"""Builds that run, and the sessions that serve them: one for each build, or one that several builds share.

Brings together what a build is made of: the options' two halves, what its contexts need, its local caches, the session
with its services, and the Solve call. What fails on our side while the daemon asks us becomes the build's error here.

Reference: client/solve.go.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from buildkit_client.attachments import Attachments
from buildkit_client.errors import BuildKitError, ConnectionLostError, LocalProtocolError, OptionError, SolveError
from buildkit_client.options.needs import Needs
from buildkit_client.progress.model import StatusUpdate, Vertex
from buildkit_client.requirements import features_of, require
from buildkit_client.session.session import Session, new_id, shared_key_for
from buildkit_client.solve import OnStatus, Solve, SolveResult, SolveSpec
from buildkit_client.solve_options import Graph, SessionOptions, SolveOptions, SpecOptions, split_options
from buildkit_client.transport.apart import apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from buildkit_client.gateway import BuildFunction
    from buildkit_client.local_cache import PreparedCaches
    from buildkit_client.options import Frontend
    from buildkit_client.transport.channel import Channel


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

    def begin_close(self) -> None:
        """Tell the daemon that the session ends, without waiting for its answer.

        :meth:`close` waits, for one round trip of the connection. Of several sessions, or with other work to do
        meanwhile, call this first.
        """
        apart(self._session.begin_close)

    def close(self) -> None:
        """End the session; builds that still need it fail."""
        apart(self._session.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RunningBuild:
    """A build in progress; made by :meth:`Client.start_solve`."""

    def __init__(self, solve: Solve, session: BuildSession, spec: SolveSpec, caches: PreparedCaches | None) -> None:
        self._solve = solve
        self._caches = caches
        self._session = session
        self._spec = spec
        self._has_run = False

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
        """Wait for the end; see :meth:`Client.solve`.

        Raises:
            LocalProtocolError: The build waits for a function, see :meth:`run`.
        """
        if self._spec.build is None and not self._has_run:
            raise LocalProtocolError("a gateway build does not end without its function", hint="call run")
        attachments = self._session._attachments
        try:
            result = self._solve.wait(on_status and partial(_report_with_logins, attachments, on_status))
        except BuildKitError as exc:
            said = exc.details.message if isinstance(exc, SolveError) else f"{exc} {exc.why}"
            if (error := attachments.error(said)) is not None:
                raise error from (error.__cause__ or exc)
            if isinstance(exc, SolveError):
                exc.why = exc.why or attachments.hindrance()
            raise
        if self._caches is not None:
            self._caches.finish(result.exporter_response)
        attachments.finish(self._spec.exporters, result.exporter_response)
        return result

    def run(self, function: BuildFunction, on_status: OnStatus | None = None) -> SolveResult:
        """Run the function of a gateway build, and wait for the end; see :meth:`Client.run_gateway`.

        Raises:
            LocalProtocolError: The build has a frontend, or ran its function already.
        """
        if self._spec.build is not None or self._has_run:
            raise LocalProtocolError(
                "this build takes no function", why="it ran one already" if self._has_run else "it has a frontend"
            )
        self._has_run = True
        from buildkit_client.gateway import Gateway, GatewayRun  # noqa: PLC0415 - loaded by gateway builds alone

        gateway = Gateway(self._solve.channel, self.ref, self._session.id)
        run = GatewayRun(gateway, function)
        self._solve.inner_error = lambda: run.error
        try:
            return self.wait(on_status)
        finally:
            apart(gateway.close)


def start_session(channel: Channel, attachments: Attachments, shared_key: str = "") -> BuildSession:
    """Start a session.

    Args:
        channel: The connection.
        attachments: What it serves.
        shared_key: Tells the daemon which copies of directories may be reused; empty derives it from them.
    """
    session = Session(
        channel.session_stream,
        unary=attachments.unary,
        streaming=attachments.streaming,
        shared_key=shared_key or shared_key_for(attachments.local_dirs),
    )
    return BuildSession(apart(session.start, undo=Session.close), attachments)


@contextmanager
def running_build(
    channel: Channel,
    build: Frontend | Graph | None,
    options: SolveOptions,
    *,
    attrs: Mapping[str, str] | None = None,
    needs: Needs | None = None,
    session: BuildSession | None = None,
    ref: str = "",
) -> Iterator[RunningBuild]:
    """Run a build in a session given, or in one of its own.

    Args:
        channel: The connection.
        build: A frontend, a graph, or None for a gateway build.
        options: Every keyword of the build.
        attrs: Attributes of a gateway build as a whole.
        needs: What a gateway build wants served; of others, the build says it.
        session: A session to share.
        ref: Id of the build; empty makes one.

    Yields:
        The build, which is cancelled when the block ends before it.
    """
    served, wanted = split_options(options)
    if needs is None:
        needs = Needs() if build is None or isinstance(build, Graph) else build.needs()
    if session is not None:
        _check_shared(session, served, wanted)
        _check_alive(session)
    spec = SolveSpec(build=build, attrs=attrs or {}, **wanted)
    caches = None
    if spec.cache_imports or spec.cache_exports:
        from buildkit_client.local_cache import prepare_caches  # noqa: PLC0415 - loaded by builds with caches alone

        caches = prepare_caches(spec.cache_imports, spec.cache_exports)
    with ExitStack() as stack:
        if session is None:
            attachments = Attachments(served, needs=needs, exporters=spec.exporters)
            session = stack.enter_context(start_session(channel, attachments))
        _check_needs(session, needs)
        if caches is not None:
            session._attachments.add_stores(caches.stores)
            spec = replace(spec, cache_imports=caches.imports, cache_exports=caches.exports)
        spec = replace(
            spec,
            build=_resolved(spec.build, session._attachments.layouts),
            frontend_inputs={**needs.inputs, **spec.frontend_inputs},
        )
        yield from _solving(channel, session, spec, ref, caches)


def _solving(
    channel: Channel, session: BuildSession, spec: SolveSpec, ref: str, caches: PreparedCaches | None
) -> Iterator[RunningBuild]:
    attachments = session._attachments
    request = spec.to_request(
        ref or new_id(),
        session.id,
        has_policy=attachments.has_policy,
        chooses_exporters=attachments.chooses_exporters,
    )
    if features := features_of(request):
        require(features, channel.version())
    solve = apart(partial(Solve, channel, session._session, request), undo=Solve.close)
    try:
        yield RunningBuild(solve, session, spec, caches)
    finally:
        apart(solve.close)


def _resolved(build: Frontend | Graph | None, layouts: Mapping[str, Path]) -> Frontend | Graph | None:
    """Return what describes the build, with the digest of every image layout that a context names by tag."""
    if build is None or isinstance(build, Graph) or not layouts:
        return build
    from buildkit_client.image_layouts import resolve_layout_contexts  # noqa: PLC0415 - few builds read one
    from buildkit_client.options import RawFrontend  # noqa: PLC0415

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
            Vertex(
                digest=f"sha256:{hashlib.sha256(line.encode()).hexdigest()}",
                name=line,
                started_ns=now,
                completed_ns=now,
            )
            for line in lines
        )
        on_status(StatusUpdate(vertexes=tuple(steps)))


def _check_shared(session: BuildSession, served: SessionOptions, wanted: SpecOptions) -> None:
    """Refuse what a shared session cannot serve.

    The daemon names an exporter's stream by its index in the solve alone, so two builds of one session that both send
    something back could not be told apart.
    """
    if any(served.values()):
        raise OptionError(
            "directories, secrets and SSH agents belong to the session when one is given",
            hint="give them to open_session",
        )
    from buildkit_client.options import OutputLayout  # noqa: PLC0415 - few sessions are shared

    for exporter in wanted.get("exporters", ()):
        if exporter.output is not None and not isinstance(exporter.output, OutputLayout):
            raise OptionError(
                f"a build in a shared session cannot send its {exporter.type} result to us",
                why="the daemon does not say which of the builds it sends",
                hint="leave out session=, so that the build has its own",
            )
        if isinstance(exporter.output, OutputLayout) and session._attachments.layout is None:
            raise OptionError("the shared session has no OCI image layout", hint="give layout= to open_session")


def _check_alive(session: BuildSession) -> None:
    """Refuse a session that has ended: the daemon would wait for it, or take what it has of other builds."""
    if session.is_alive:
        return
    error = session._session.error
    if error is None:
        raise LocalProtocolError("the session is closed", hint="open a new one")
    raise ConnectionLostError("the session has ended", why=f"{error}: {error.why}".rstrip(": ")) from error


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
