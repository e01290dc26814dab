"""One build: the Solve call, its Status stream, and what its session serves.

``Solve`` is a call that lasts as long as the build. The Status stream is read in the caller's thread, so progress
callbacks run there and an interrupt there cancels the build on the daemon.

Reference: client/solve.go; control/control.go, Solve.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit_client._proto import control_pb2
from buildkit_client.errors import BuildCancelledError, BuildKitError, BuildPhase, ConnectionLostError, SolveError
from buildkit_client.progress.graph import BuildGraph
from buildkit_client.progress.model import StatusUpdate, decode_status
from buildkit_client.session.session import Session, new_id
from buildkit_client.transport.channel import CONTROL, Channel
from buildkit_client.transport.lenient import parse_message
from buildkit_client.transport.liveness import Liveness

if TYPE_CHECKING:
    from buildkit_client.options import Cache, Exporter, Frontend

OnStatus = Callable[[StatusUpdate], object]
"""Gets every message of the Status stream, in order, in the thread that waits for the build."""

_SILENCE_AFTER_SOLVE_S = 5.0  # client/solve.go: how long Status may stay silent once Solve has returned
_NO_STATUS_S = 1.0  # the same when it never said anything: a refused request makes no job that could have a status


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveSpec:
    """Everything of a build that goes into the Solve call, except ref and session."""

    frontend: Frontend
    exporters: Sequence[Exporter] = ()
    cache_imports: Sequence[Cache] = ()
    cache_exports: Sequence[Cache] = ()
    entitlements: Sequence[str] = ()

    def to_request(self, ref: str, session_id: str) -> control_pb2.SolveRequest:
        """Return the request."""
        attrs = self.frontend.to_attrs()
        imports = [(cache.type, cache.to_import_attrs()) for cache in self.cache_imports]
        if imports:
            # A frontend attaches its imports to its inner solves, so for a frontend this attribute is what counts.
            attrs["cache-imports"] = json.dumps([{"Type": kind, "Attrs": values} for kind, values in imports])
        exporters = [control_pb2.Exporter(Type=one.type, Attrs=one.to_attrs()) for one in self.exporters]
        entry = control_pb2.CacheOptionsEntry
        request = control_pb2.SolveRequest(
            Ref=ref,
            Session=session_id,
            Frontend=self.frontend.name,
            FrontendAttrs=attrs,
            Exporters=exporters,
            Entitlements=self.entitlements,
            Cache=control_pb2.CacheOptions(
                Exports=[entry(Type=cache.type, Attrs=cache.to_export_attrs()) for cache in self.cache_exports],
                Imports=[entry(Type=kind, Attrs=values) for kind, values in imports],
            ),
        )
        if exporters:  # daemons before 0.13 know only these two fields
            request.ExporterDeprecated = exporters[0].Type
            request.ExporterAttrsDeprecated.update(exporters[0].Attrs)
        return request


class Solve:
    """One running build.

    Args:
        channel: The connection.
        session: Serves the daemon's calls; already started.
        spec: What to build.
        ref: Id of the build; empty makes one.
    """

    def __init__(self, channel: Channel, session: Session, spec: SolveSpec, *, ref: str = "") -> None:
        self.ref = ref or new_id()
        self._channel = channel
        self._session = session
        self._cancelled = False
        self._lost: ConnectionLostError | None = None
        self._graph = BuildGraph()
        request = spec.to_request(self.ref, session.id)
        self._future = channel.unary_future(
            CONTROL + "Solve", request, partial(parse_message, control_pb2.SolveResponse)
        )
        self._status = channel.server_stream(
            CONTROL + "Status",
            control_pb2.StatusRequest(Ref=self.ref),
            partial(parse_message, control_pb2.StatusResponse),
        )
        self._last_status_s = time.monotonic()
        self._has_status = False
        self._over = threading.Event()
        self._future.add_done_callback(lambda _: self._watch_silence())

    def cancel(self) -> None:
        """Cancel the build on the daemon; may be called from any thread."""
        self._cancelled = True
        self._future.cancel()

    def wait(self, on_status: OnStatus | None = None) -> SolveResult:
        """Read progress until the build ends.

        Args:
            on_status: Gets the daemon's messages; what it raises cancels the build.

        Raises:
            SolveError: The build failed.
            BuildCancelledError: It was cancelled.
            BuildKitError: The connection, the session or one of its services failed.
        """
        liveness = Liveness(
            lambda: max(self._last_status_s, self._session.last_heard_s), self._channel.question, self._lose
        )
        try:
            liveness.start()
            self._read_status(on_status)
            response = self._response()
        except BaseException:
            self.cancel()
            self._status.cancel()
            raise
        finally:
            self._over.set()
            liveness.stop()
        return SolveResult(self.ref, dict(response.ExporterResponse), self._session.id)

    def _read_status(self, on_status: OnStatus | None) -> None:
        """Read the Status stream to its end; what ended it does not matter, since Solve tells the same or more."""
        messages = iter(self._status)
        while True:
            try:
                with self._channel.translated():
                    message = next(messages, None)
            except BuildKitError:
                return
            if message is None:
                return
            self._last_status_s = time.monotonic()
            self._has_status = True
            update = decode_status(message)
            self._graph.apply(update)
            if on_status is not None:
                on_status(update)

    def _response(self) -> control_pb2.SolveResponse:
        try:
            with self._channel.translated():
                return self._future.result()
        except BuildKitError as exc:
            error = self._explained(exc)
            raise error from (exc if error is not exc else exc.__cause__)

    def _watch_silence(self) -> None:
        """End the Status stream when it stays silent after Solve returned; runs in gRPC's thread."""

        def watch() -> None:
            while (left_s := self._last_status_s + self._patience_s() - time.monotonic()) > 0:
                if self._over.wait(left_s):
                    return
            self._status.cancel()

        self._last_status_s = time.monotonic()
        if not self._over.is_set() and self._status.is_active():
            threading.Thread(target=watch, name="status-silence", daemon=True).start()

    def _patience_s(self) -> float:
        return _SILENCE_AFTER_SOLVE_S if self._has_status else _NO_STATUS_S

    def _lose(self, silence_s: float) -> None:
        """Give up: the connection is dead; called from the watching thread."""
        if not self._future.done():
            self._lost = ConnectionLostError(
                f"the connection to buildkitd at {self._channel.address} was lost",
                why=f"nothing was heard from it for {silence_s:.0f} seconds",
                hint="check the network, and whether the daemon still runs",
            )
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


def local_directories(directories: Mapping[str, Path | str]) -> dict[str, Path]:
    """Return the local directories as absolute paths."""
    return {name: Path(path).absolute() for name, path in directories.items()}
