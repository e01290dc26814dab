"""The blocking client: one connection to a buildkitd, and everything its Control API does.

Reference: client/client.go and its siblings.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from buildkit_client._proto import control_pb2
from buildkit_client.attachments import Attachments
from buildkit_client.errors import BuildKitError, OptionError, SolveError
from buildkit_client.oci.credentials import CredentialsProvider, DockerConfig, default_docker_config_path
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.options import OutputLayout
from buildkit_client.progress.model import StatusUpdate, Vertex
from buildkit_client.records import DaemonInfo, UsageRecord, Worker
from buildkit_client.session.session import Session, shared_key_for
from buildkit_client.solve import OnStatus, Solve, SolveResult, SolveSpec, local_directories
from buildkit_client.transport.address import default_address, parse_address
from buildkit_client.transport.apart import apart
from buildkit_client.transport.channel import CONTROL, QUICK_S, Channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from buildkit_client.options import Cache, Exporter, Frontend, Secret, SshAgent
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
        address: ``unix:///path`` or ``tcp://host:port``; empty takes ``BUILDKIT_HOST``, else the platform's default.
        tls: TLS files for ``tcp``; None speaks plain text.
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
        self,
        local_dirs: Mapping[str, Path | str] | None = None,
        *,
        credentials: CredentialsProvider | None = None,
        layout: Path | None = None,
        secrets: Mapping[str, Secret] | None = None,
        ssh: Mapping[str, SshAgent] | None = None,
        shared_key: str = "",
    ) -> BuildSession:
        """Open a session that several builds can share.

        Args:
            local_dirs: Directory by the name the frontend asks for, usually ``context`` and ``dockerfile``.
            credentials: Finds registry credentials; None reads docker's configuration.
            layout: OCI image layout that builds with an :class:`OutputLayout` write to.
            secrets: Secret by the id that steps ask for.
            ssh: SSH agent by the id that steps ask for.
            shared_key: Tells the daemon which copies of directories may be reused; empty derives it from them.

        Raises:
            ConnectError: The daemon cannot be reached.
        """
        directories = local_directories(local_dirs or {})
        attachments = Attachments(
            local_dirs=directories,
            credentials=credentials or _docker_credentials(),
            layout=ImageLayout(layout, create=True) if layout is not None else None,
            secrets=secrets,
            ssh=ssh,
        )
        return self._start_session(directories, attachments, shared_key)

    def _start_session(
        self, directories: Mapping[str, Path], attachments: Attachments, shared_key: str
    ) -> BuildSession:
        session = Session(
            self._channel.session_stream,
            unary=attachments.unary,
            streaming=attachments.streaming,
            shared_key=shared_key or shared_key_for(directories),
        )
        return BuildSession(apart(session.start, undo=Session.close), attachments)

    @contextmanager
    def start_solve(
        self,
        frontend: Frontend,
        *,
        local_dirs: Mapping[str, Path | str] | None = None,
        exporters: Sequence[Exporter] = (),
        cache_imports: Sequence[Cache] = (),
        cache_exports: Sequence[Cache] = (),
        credentials: CredentialsProvider | None = None,
        entitlements: Sequence[str] = (),
        secrets: Mapping[str, Secret] | None = None,
        ssh: Mapping[str, SshAgent] | None = None,
        session: BuildSession | None = None,
        ref: str = "",
    ) -> Iterator[RunningBuild]:
        """Start a build and leave waiting for it to the caller; see :meth:`solve` for the arguments.

        Yields:
            The build, which is cancelled when the block ends before it.
        """
        spec = SolveSpec(
            frontend=frontend,
            exporters=exporters,
            cache_imports=cache_imports,
            cache_exports=cache_exports,
            entitlements=entitlements,
        )
        if session is None:
            directories = local_directories(local_dirs or {})
            attachments = Attachments(
                local_dirs=directories,
                credentials=credentials or _docker_credentials(),
                exporters=exporters,
                secrets=secrets,
                ssh=ssh,
            )
            owned = self._start_session(directories, attachments, "")
            try:
                yield from _running(self._channel, owned, spec, ref)
            finally:
                owned.close()
        else:
            _check_shared(session, exporters, own=bool(local_dirs or secrets or ssh))
            yield from _running(self._channel, session, spec, ref)

    def solve(
        self,
        frontend: Frontend,
        *,
        local_dirs: Mapping[str, Path | str] | None = None,
        exporters: Sequence[Exporter] = (),
        cache_imports: Sequence[Cache] = (),
        cache_exports: Sequence[Cache] = (),
        credentials: CredentialsProvider | None = None,
        entitlements: Sequence[str] = (),
        secrets: Mapping[str, Secret] | None = None,
        ssh: Mapping[str, SshAgent] | None = None,
        session: BuildSession | None = None,
        ref: str = "",
        on_status: OnStatus | None = None,
    ) -> SolveResult:
        """Run a build to its end.

        Args:
            frontend: What reads the build's description, usually a :class:`DockerfileFrontend`.
            local_dirs: Directory by the name the frontend asks for, usually ``context`` and ``dockerfile``.
            exporters: Where the result goes; none only builds.
            cache_imports: Caches to use.
            cache_exports: Caches to write.
            credentials: Finds registry credentials; None reads docker's configuration.
            entitlements: What the build may do beyond the sandbox, for example ``network.host``.
            secrets: Secret by the id that steps ask for.
            ssh: SSH agent by the id that steps ask for; ``default`` for those that name none.
            session: A session to share; None opens one for this build. With one given, ``local_dirs``,
                ``credentials``, ``secrets`` and ``ssh`` are its own.
            ref: Id of the build in the daemon's history; empty makes one.
            on_status: Gets the daemon's progress messages, in this thread.

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
        with self.start_solve(
            frontend,
            local_dirs=local_dirs,
            exporters=exporters,
            cache_imports=cache_imports,
            cache_exports=cache_exports,
            credentials=credentials,
            entitlements=entitlements,
            secrets=secrets,
            ssh=ssh,
            session=session,
            ref=ref,
        ) as build:
            return build.wait(on_status)

    # -- the daemon --------------------------------------------------------------------------------------------

    def info(self) -> DaemonInfo:
        """Return which BuildKit answers; every field is empty for daemons before 0.11."""
        response = self._channel.unary(
            CONTROL + "Info", control_pb2.InfoRequest(), control_pb2.InfoResponse.FromString, timeout_s=QUICK_S
        )
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

    def __init__(self, solve: Solve, session: BuildSession, spec: SolveSpec) -> None:
        self._solve = solve
        self._session = session
        self._spec = spec

    @property
    def ref(self) -> str:
        """Id of the build in the daemon's history."""
        return self._solve.ref

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
        attachments.finish(self._spec.exporters, result.exporter_response)
        return result


def _running(channel: Channel, session: BuildSession, spec: SolveSpec, ref: str) -> Iterator[RunningBuild]:
    solve = apart(partial(Solve, channel, session._session, spec, ref=ref), undo=Solve.close)
    try:
        yield RunningBuild(solve, session, spec)
    finally:
        apart(solve.close)


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


def _check_shared(session: BuildSession, exporters: Sequence[Exporter], *, own: bool) -> None:
    """Refuse what a shared session cannot serve.

    The daemon names an exporter's stream by its index in the solve alone, so two builds of one session that both send
    something back could not be told apart.
    """
    if own:
        raise OptionError(
            "directories, secrets and SSH agents belong to the session when one is given",
            hint="give them to open_session",
        )
    for exporter in exporters:
        if exporter.output is not None and not isinstance(exporter.output, OutputLayout):
            raise OptionError(
                f"a build in a shared session cannot send its {exporter.type} result to us",
                why="the daemon does not say which of the builds it sends",
                hint="leave out session=, so that the build has its own",
            )
        if isinstance(exporter.output, OutputLayout) and session._attachments.layout is None:
            raise OptionError("the shared session has no OCI image layout", hint="give layout= to open_session")


def _docker_credentials() -> CredentialsProvider:
    return DockerConfig(default_docker_config_path(os.environ))
