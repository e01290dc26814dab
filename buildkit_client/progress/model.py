"""What a build reports while it runs: vertexes, their statuses, their output, and warnings.

Plain values without any protocol type, so that displays and graphs can be fed from a daemon, from a recording or from
a test alike. Times are whole nanoseconds since 1970 UTC: exact, and quicker to handle than ``datetime`` at twenty
thousand log lines a second. Named tuples, for the same reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.errors import SourceSnippet

if TYPE_CHECKING:
    from buildkit_client._proto import control_pb2
    from buildkit_client._proto.well_known import Timestamp

_NS_PER_S = 1_000_000_000


class ProgressGroup(NamedTuple):
    """Vertexes with the same group id are drawn as one line.

    Attributes:
        id: Identity of the group.
        name: Text to show in place of the members' names.
        weak: A group whose started members are all weak stays hidden.

    Reference: solver/pb ops.proto, ProgressGroup.
    """

    id: str
    name: str = ""
    weak: bool = False


class Vertex(NamedTuple):
    """One step of the build graph, as one message describes it; later messages with the same digest are updates.

    Attributes:
        digest: Identity, for example ``sha256:…``.
        inputs: Digests of the steps it needs; may be empty.
        name: Text to show, for example ``[2/3] RUN make``.
        cached: The result came from a cache.
        started_ns: Start of the interval this message is about, None when it has not started.
        completed_ns: End of that interval, None while it runs.
        error: Why it failed, or empty; ends with ``context canceled`` when it was cancelled.
        progress_group: The group it is drawn in, or None.

    Reference: client/graph.go, Vertex.
    """

    digest: str
    inputs: tuple[str, ...] = ()
    name: str = ""
    cached: bool = False
    started_ns: int | None = None
    completed_ns: int | None = None
    error: str = ""
    progress_group: ProgressGroup | None = None


class VertexStatus(NamedTuple):
    """Progress of one action inside a vertex, such as a layer being pulled.

    Attributes:
        id: Identity inside the vertex and the text to show, for example ``transferring context:``.
        vertex: Digest of the vertex.
        name: The action, for example ``downloading``; may be empty.
        current: Amount done, in bytes.
        total: Whole amount in bytes, 0 when unknown.
        timestamp_ns: When this was reported.
        started_ns: When the action started, or None.
        completed_ns: When it ended, or None.

    Reference: client/graph.go, VertexStatus.
    """

    id: str
    vertex: str
    name: str = ""
    current: int = 0
    total: int = 0
    timestamp_ns: int = 0
    started_ns: int | None = None
    completed_ns: int | None = None


class VertexLog(NamedTuple):
    """A piece of a vertex's output, cut anywhere: not at line ends and not at UTF-8 borders.

    Attributes:
        vertex: Digest of the vertex.
        stream: 1 for stdout, 2 for stderr.
        data: The bytes as the process wrote them.
        timestamp_ns: When the daemon read them.

    Reference: client/graph.go, VertexLog.
    """

    vertex: str
    stream: int = 1
    data: bytes = b""
    timestamp_ns: int = 0


class Position(NamedTuple):
    """A place in a source file.

    Attributes:
        line: From 1.
        character: From 0.
    """

    line: int = 0
    character: int = 0


class VertexWarning(NamedTuple):
    """A warning about a vertex, for example from the Dockerfile linter.

    Attributes:
        vertex: Digest of the vertex.
        level: Severity, 1 for all that the linter says.
        short: One line of text.
        detail: More lines; may be empty.
        url: Where the rule is explained, or empty.
        source: The file it is about with the lines concerned, or None.
        ranges: First and last position of each place in ``source``; may be empty.
        source_info: The daemon's serialized ``pb.SourceInfo``, or empty; kept because JSON output shows all of it.

    Reference: client/graph.go, VertexWarning.
    """

    vertex: str
    level: int = 0
    short: bytes = b""
    detail: tuple[bytes, ...] = ()
    url: str = ""
    source: SourceSnippet | None = None
    ranges: tuple[tuple[Position, Position], ...] = ()
    source_info: bytes = b""

    @property
    def text(self) -> str:
        """The short text as a string; bytes that are not UTF-8 are replaced."""
        return self.short.decode("utf-8", "replace")


class StatusUpdate(NamedTuple):
    """One message of a build's status stream; every part may be empty.

    Reference: client/graph.go, SolveStatus.
    """

    vertexes: tuple[Vertex, ...] = ()
    statuses: tuple[VertexStatus, ...] = ()
    logs: tuple[VertexLog, ...] = ()
    warnings: tuple[VertexWarning, ...] = ()

    def __bool__(self) -> bool:
        """True when the message says anything."""
        return bool(self.vertexes or self.statuses or self.logs or self.warnings)


CANCELLED_SUFFIX = "context canceled"
"""How the error of a cancelled vertex ends (Go's ``context.Canceled``)."""


def is_cancelled_text(error: str) -> bool:
    """Whether a vertex error says that the vertex was cancelled rather than that it failed.

    Reference: util/progress/progressui/printer.go, textMux.printVtx.
    """
    return error.endswith(CANCELLED_SUFFIX)


def decode_status(response: control_pb2.StatusResponse) -> StatusUpdate:
    """Turn a message of the status stream into values.

    A missing timestamp of a status or a log becomes 1970, as in the reference client.

    Reference: client/status.go, NewSolveStatus.
    """
    logs = tuple(
        [
            VertexLog(log.vertex, log.stream, log.msg, (time := log.timestamp).seconds * _NS_PER_S + time.nanos)
            for log in response.logs
        ]
    )
    if not (response.vertexes or response.statuses or response.warnings):
        return StatusUpdate(logs=logs)  # a step that writes much sends one of these for each line or two
    return StatusUpdate(
        vertexes=tuple([_decode_vertex(vertex) for vertex in response.vertexes]),
        statuses=tuple([_decode_vertex_status(status) for status in response.statuses]),
        logs=logs,
        warnings=tuple([_decode_warning(warning) for warning in response.warnings]),
    )


def _nanoseconds(time: Timestamp) -> int:
    return time.seconds * _NS_PER_S + time.nanos


def _decode_vertex(vertex: control_pb2.Vertex) -> Vertex:
    group = None
    if vertex.HasField("progressGroup"):
        wire_group = vertex.progressGroup
        group = ProgressGroup(wire_group.id, wire_group.name, wire_group.weak)
    return Vertex(
        digest=vertex.digest,
        inputs=tuple(vertex.inputs),
        name=vertex.name,
        cached=vertex.cached,
        started_ns=_nanoseconds(vertex.started) if vertex.HasField("started") else None,
        completed_ns=_nanoseconds(vertex.completed) if vertex.HasField("completed") else None,
        error=vertex.error,
        progress_group=group,
    )


def _decode_vertex_status(status: control_pb2.VertexStatus) -> VertexStatus:
    return VertexStatus(
        id=status.ID,
        vertex=status.vertex,
        name=status.name,
        current=status.current,
        total=status.total,
        timestamp_ns=_nanoseconds(status.timestamp),
        started_ns=_nanoseconds(status.started) if status.HasField("started") else None,
        completed_ns=_nanoseconds(status.completed) if status.HasField("completed") else None,
    )


def _decode_warning(warning: control_pb2.VertexWarning) -> VertexWarning:
    ranges = tuple(
        [
            (Position(one.start.line, one.start.character), Position(one.end.line, one.end.character))
            for one in warning.ranges
        ]
    )
    source = None
    source_info = b""
    if warning.HasField("info"):
        info = warning.info
        source_info = info.SerializeToString()
        source = SourceSnippet(
            filename=info.filename,
            data=info.data,
            ranges=tuple([(start.line, end.line) for start, end in ranges]),
            language=info.language,
        )
    return VertexWarning(
        vertex=warning.vertex,
        level=warning.level,
        short=warning.short,
        detail=tuple(warning.detail),
        url=warning.url,
        source=source,
        ranges=ranges,
        source_info=source_info,
    )
