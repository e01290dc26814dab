"""One build: the Solve call, its Status stream, and what its session serves.

``Solve`` is a call that lasts as long as the build. Threads wait for it, read the Status stream, and watch that the
daemon still lives; the caller's thread handles what they put into a queue, so progress callbacks run there and an
interrupt there leaves nothing half done.

Reference: client/solve.go; control/control.go, Solve.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from buildkit_client._proto import control_pb2
from buildkit_client.errors import (
    BuildCancelledError,
    BuildKitError,
    BuildPhase,
    ConnectionLostError,
    ExportError,
    SolveError,
)
from buildkit_client.options.known import checked_texts
from buildkit_client.progress.graph import BuildGraph
from buildkit_client.progress.model import StatusUpdate, VertexLog, decode_status
from buildkit_client.solve_options import Graph
from buildkit_client.transport.channel import CONTROL, Channel
from buildkit_client.transport.lenient import parse_message
from buildkit_client.transport.liveness import Liveness, lost

if TYPE_CHECKING:
    from buildkit_client.options import Cache, Exporter, Frontend, SourcePolicy
    from buildkit_client.session.session import Session
    from buildkit_client.transport.channel import PendingCall

OnStatus = Callable[[StatusUpdate], object]
"""Gets the Status stream's messages, in order, in the thread that waits for the build.

Messages that only bring output are joined to one where several wait.
"""

_SILENCE_AFTER_SOLVE_S = 5.0  # client/solve.go: how long Status may stay silent once Solve has returned
_NO_STATUS_S = 1.0  # the same when it never said anything
_READ_AHEAD = 128  # how many status messages may wait for the caller
_GATHER_S = 0.005  # how long output may gather: a step that writes line by line sends thousands of messages a second


@dataclass(frozen=True, slots=True)
class SolveResult:
    """What a finished build gives back.

    Attributes:
        ref: The build's id, for the daemon's history.
        exporter_response: The daemon's answers, for example ``containerimage.digest``; empty without exporters.
        session_id: The session that served it.
    """

    ref: str
    exporter_response: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""

    @property
    def digest(self) -> str:
        """Digest of the image's manifest or index, or empty when no image was made."""
        return self.exporter_response.get("containerimage.digest", "")

    @property
    def config_digest(self) -> str:
        """Digest of the image's config, or empty when no single image was made."""
        return self.exporter_response.get("containerimage.config.digest", "")

    @property
    def descriptor(self) -> dict[str, Any]:
        """The image's descriptor as JSON gives it, or empty when no image was made."""
        text = self.exporter_response.get("containerimage.descriptor", "")
        if not text:
            return {}
        value = json.loads(base64.b64decode(text))
        return value if isinstance(value, dict) else {}

    @property
    def image_id(self) -> str:
        """What ``docker build --iidfile`` writes: digest of the config, of an index its own; empty when none was made.

        Reference: docker/buildx, commands/build.go, getImageID.
        """
        return self.config_digest or self.digest

    def write_image_id(self, path: Path | str) -> None:
        """Write the image's id to a file, without a line end.

        Raises:
            ExportError: No image was made, or the file cannot be written; what was there before is left.
        """
        if not self.image_id:
            raise ExportError(f"cannot write {path}", why="the build made no image", hint="add an exporter for images")
        _write_file(path, self.image_id)

    def write_metadata(self, path: Path | str) -> None:
        """Write :meth:`metadata` to a file as JSON, as ``--metadata-file`` does.

        Raises:
            ExportError: The file cannot be written; what was there before is left.
        """
        from buildkit_client.result_files import metadata_json  # noqa: PLC0415 - few results are written

        _write_file(path, metadata_json(self.metadata()))

    def metadata(self) -> dict[str, Any]:
        """Return the response as a metadata file has it: base64 of a JSON object is decoded, all else is text.

        Reference: cmd/buildctl/build.go, writeMetadataFile.
        """
        decoded: dict[str, Any] = {}
        for key, value in self.exporter_response.items():
            decoded[key] = value
            try:
                parsed = json.loads(base64.b64decode(value, validate=True))
            except (binascii.Error, ValueError):
                continue
            if isinstance(parsed, dict) and parsed:
                decoded[key] = parsed
        return decoded


def _write_file(path: Path | str, text: str) -> None:
    from buildkit_client.result_files import write_whole  # noqa: PLC0415 - few results are written

    try:
        write_whole(Path(path), text)
    except OSError as exc:
        raise ExportError(f"cannot write {path}", why=exc.strerror or str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveSpec:
    """Everything of a build that goes into the Solve call, except ref and session; see :class:`SpecOptions`.

    Attributes:
        build: A frontend, a graph, or None for a gateway build, whose function solves.
        attrs: Attributes of a gateway build as a whole.
    """

    build: Frontend | Graph | None
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)
    exporters: Sequence[Exporter] = ()
    cache_imports: Sequence[Cache] = ()
    cache_exports: Sequence[Cache] = ()
    entitlements: Sequence[str] = ()
    frontend_inputs: Mapping[str, Graph] = field(default_factory=dict, repr=False)
    source_policy: SourcePolicy | None = None
    proxy_network: bool = False
    internal: bool = False
    compatibility_version: int = 0

    def to_request(
        self, ref: str, session_id: str, *, has_policy: bool = False, chooses_exporters: bool = False
    ) -> control_pb2.SolveRequest:
        """Return the request.

        Args:
            ref: Id of the build.
            session_id: The session that serves it.
            has_policy: The session decides about sources.
            chooses_exporters: The session chooses further exporters.

        Raises:
            OptionError: An option cannot work.
        """
        frontend, attrs, definition = "", dict(self.attrs), None
        if isinstance(self.build, Graph):
            definition = self.build.to_proto()
        elif self.build is not None:
            frontend, attrs = self.build.name, self.build.to_attrs()
        imports = [(cache.type, cache.to_import_attrs()) for cache in self.cache_imports]
        if imports:
            # A frontend attaches its imports to its inner solves, so for a frontend this attribute is what counts.
            attrs["cache-imports"] = json.dumps([{"Type": kind, "Attrs": values} for kind, values in imports])
        exporters = [
            control_pb2.Exporter(Type=one.type, Attrs=checked_texts(f"exporter {one.type}", one.to_attrs()))
            for one in self.exporters
        ]
        entry = control_pb2.CacheOptionsEntry
        request = control_pb2.SolveRequest(
            Ref=ref,
            Session=session_id,
            Definition=definition,
            Frontend=frontend,
            FrontendAttrs=checked_texts(f"frontend {frontend}".rstrip(), attrs),
            FrontendInputs={name: graph.to_proto() for name, graph in self.frontend_inputs.items()},
            SourcePolicy=self.source_policy.to_proto() if self.source_policy is not None else None,
            SourcePolicySession=session_id if has_policy else "",
            EnableSessionExporter=chooses_exporters,
            ProxyNetwork=self.proxy_network,
            Internal=self.internal,
            CompatibilityVersion=self.compatibility_version,
            Exporters=exporters,
            # A single text is a sequence of letters; whoever gives one means one entitlement.
            Entitlements=[self.entitlements] if isinstance(self.entitlements, str) else self.entitlements,
            Cache=control_pb2.CacheOptions(
                Exports=[
                    entry(Type=cache.type, Attrs=checked_texts(f"cache export {cache.type}", cache.to_export_attrs()))
                    for cache in self.cache_exports
                ],
                Imports=[entry(Type=kind, Attrs=values) for kind, values in imports],
            ),
        )
        if exporters:  # daemons before 0.13 know only these two fields
            request.ExporterDeprecated = exporters[0].Type
            request.ExporterAttrsDeprecated.update(exporters[0].Attrs)
        return request


class _StatusEnded(NamedTuple):
    """The Status stream is at its end, or what came last cannot be read."""

    error: Exception | None = None


class _Returned(NamedTuple):
    """The Solve call is over."""

    exporter_response: Mapping[str, str]
    error: BaseException | None = None


class Solve:
    """One running build; everything of it but :meth:`wait` belongs into :func:`~.transport.apart.apart`.

    Args:
        channel: The connection.
        session: Serves the daemon's calls; already started.
        request: What to build, and the session that serves the daemon's calls.

    Attributes:
        inner_error: Tells what failed in the function of a gateway build, which says more than what Solve returns then.
    """

    inner_error: Callable[[], BaseException | None] | None = None

    def __init__(self, channel: Channel, session: Session, request: control_pb2.SolveRequest) -> None:
        self.ref = request.Ref
        self.channel = channel
        self._session = session
        self._cancelled = False
        self._lost: ConnectionLostError | None = None
        self._graph = BuildGraph()
        self._returned: _Returned | None = None
        self._has_status = self._has_status_ended = False
        self._future = channel.unary_future(
            CONTROL + "Solve", request, partial(parse_message, control_pb2.SolveResponse)
        )
        self._status = channel.server_stream(
            CONTROL + "Status",
            control_pb2.StatusRequest(Ref=self.ref),
            partial(parse_message, control_pb2.StatusResponse),
            is_watched=False,  # the build is, as a whole
        )
        self._last_status_s = time.monotonic()
        self._events: SimpleQueue[StatusUpdate | _StatusEnded | _Returned] = SimpleQueue()
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(_READ_AHEAD):
            self._room.put(True)
        self._liveness = Liveness(lambda: max(self._last_status_s, session.last_heard_s), channel.question, self._lose)
        self._reader = threading.Thread(target=self._read_status, name="build-status", daemon=True)
        self._liveness.start()
        self._reader.start()
        self._future.add_done_callback(self._on_return)

    def cancel(self) -> None:
        """Cancel the build on the daemon; may be called from any thread."""
        self._cancelled = True
        self._future.cancel()

    def close(self) -> None:
        """Cancel what still runs, and end the threads."""
        self.cancel()
        self._status.cancel()
        self._room.put(False)
        self._liveness.stop()
        self._reader.join()

    def wait(self, on_status: OnStatus | None = None) -> SolveResult:
        """Handle progress until the build ends; once it has, a further call has the same outcome.

        Args:
            on_status: Gets the daemon's messages.

        Raises:
            SolveError: The build failed.
            BuildCancelledError: It was cancelled.
            BuildKitError: The connection, the session or one of its services failed.
        """
        while self._returned is None or not self._has_status_ended:
            # A request that is refused makes no job; the daemon then lets us wait for the job's status in vain.
            patience_s = _SILENCE_AFTER_SOLVE_S if self._has_status else _NO_STATUS_S
            try:
                event = self._events.get(timeout=patience_s if self._returned is not None else None)
            except Empty:
                break
            updates: list[StatusUpdate] = []
            while isinstance(event, StatusUpdate):
                updates.append(event)
                try:
                    event = self._events.get_nowait()
                except Empty:
                    break
            for update in _joined(updates):
                self._has_status = True
                self._graph.apply(update)
                if on_status is not None:
                    on_status(update)
            for _ in updates:
                self._room.put(True)
            match event:
                case _Returned():
                    self._returned = event
                case _StatusEnded(error):
                    self._has_status_ended = True
                    if error is not None:
                        raise error
                case StatusUpdate(logs=logs) if logs and len(updates) < _READ_AHEAD // 2:
                    time.sleep(_GATHER_S)
        assert self._returned is not None
        failure = self._returned.error
        if failure is not None:
            if not isinstance(failure, BuildKitError):
                raise failure
            explained = self._explained(failure)
            raise explained from (failure if explained is not failure else explained.__cause__)
        return SolveResult(self.ref, self._returned.exporter_response, self._session.id)

    def _read_status(self) -> None:
        """Queue the Status stream's messages; runs in a thread of its own."""
        ended = _StatusEnded()
        try:
            with self.channel.translated():
                for message in self._status:
                    self._last_status_s = time.monotonic()
                    self._events.put(decode_status(message))
                    if not self._room.get():
                        break
        except BuildKitError:
            pass  # what ended the stream does not matter: Solve tells the same or more
        except Exception as exc:
            ended = _StatusEnded(exc)
        self._events.put(ended)

    def _on_return(self, future: PendingCall[control_pb2.SolveResponse]) -> None:
        """Queue what Solve returned; runs in gRPC's thread."""
        self._liveness.stop(wait=False)
        try:
            with self.channel.translated():
                returned = _Returned(dict(future.result().ExporterResponse))
        except BuildKitError as exc:
            returned = _Returned({}, (self.inner_error and self.inner_error()) or exc)
        self._events.put(returned)

    def _lose(self, silence_s: float) -> None:
        """Give up: the connection is dead; called from the watching thread."""
        if not self._future.done():
            self._lost = lost(self.channel.address, silence_s)
            self._session.abort(self._lost)
            self._future.cancel()
            self._status.cancel()

    def _explained(self, exc: BuildKitError) -> BuildKitError:
        """Return an error of the build with what the session and the progress know about it."""
        if self._cancelled:
            return BuildCancelledError("the build was cancelled")
        exc = self._lost or exc
        if isinstance(exc, ConnectionLostError):
            phase, doing = phase_of(self._graph)
            return ConnectionLostError(f"{exc} {doing}", phase=phase, why=exc.why, hint=exc.hint)
        if isinstance(exc, SolveError):
            vertex = self._graph.vertex(exc.vertex) if exc.vertex else None
            if vertex is not None:
                exc.vertex_name = vertex.name
                exc.last_output = tuple(self._graph.last_output(exc.vertex))
        if self._session.error is not None and not exc.why:
            exc.why = f"{self._session.error}: {self._session.error.why}".rstrip(": ")
        return exc


def phase_of(graph: BuildGraph) -> tuple[BuildPhase, str]:
    """Say how far a build has come.

    Returns:
        The phase, and what was going on, to be put behind a sentence: ``during [2/2] RUN make``.
    """
    running = [vertex.name for vertex in graph.running]
    if not running:
        return ("solve", "between two steps") if graph.started else ("start", "before the first step")
    exports = [name for name in running if _is_export(name)]
    contexts = [name for name in running if _is_context(name)]
    names = exports or contexts or running
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return "export" if exports else "context" if contexts else "solve", f"during {names[0]}{others}"


def _is_export(name: str) -> bool:
    return name.startswith("exporting ")


def _is_context(name: str) -> bool:
    return name.startswith(("[internal] load build ", "[internal] load .dockerignore")) or (
        name.startswith("[context ") and name.endswith("load from client")
    )


def _joined(updates: Iterable[StatusUpdate]) -> Iterator[StatusUpdate]:
    """Yield messages with those joined that follow each other and only bring output."""
    logs: list[VertexLog] = []
    for update in updates:
        if not (update.vertexes or update.statuses or update.warnings):
            logs += update.logs
            continue
        if logs:
            yield StatusUpdate(logs=tuple(logs))
            logs = []
        yield update
    if logs:
        yield StatusUpdate(logs=tuple(logs))
