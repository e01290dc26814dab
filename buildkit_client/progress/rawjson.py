"""Progress for machines: one JSON object per status message and line, as ``buildctl --progress=rawjson`` writes it.

The reference encodes its Go structs with ``encoding/json``; this writes the same bytes: the same order of keys, empty
values left out, ``<``, ``>`` and ``&`` escaped, bytes in base64, times in RFC 3339 with as many fraction digits as
they need. :func:`read_rawjson` reads such lines back.

Reference: client/graph.go (the struct tags); util/progress/progressui/display.go, rawJSONDisplay.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from buildkit_client.errors import RemoteProtocolError, SourceSnippet
from buildkit_client.progress.model import (
    Position,
    ProgressGroup,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

_NS_PER_S = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_TIME = re.compile(r"(\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class RawJsonProgress:
    """Writes each status message as a line of JSON, at once.

    Args:
        write: Takes each line, with its line end.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:  # noqa: ARG002 - the format has no place for it
        """Write a message."""
        self._write(to_rawjson(update) + "\n")

    def tick(self) -> None:
        """Do nothing: nothing is ever pending."""

    def finish(self) -> None:
        """Do nothing: nothing is ever pending."""


def to_rawjson(update: StatusUpdate) -> str:
    """Return a status message as one line of JSON, without line end."""
    value = _without_empty(
        {
            "vertexes": [_vertex(one) for one in update.vertexes],
            "statuses": [_status(one) for one in update.statuses],
            "logs": [_log(one) for one in update.logs],
            "warnings": [_warning(one) for one in update.warnings],
        }
    )
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)
    return text.encode("utf-8", "replace").decode()


def format_time(moment_ns: int) -> str:
    """Write a moment as Go's ``time.RFC3339Nano`` does in UTC, for example ``2025-01-02T03:04:05.06Z``."""
    seconds, nanos = divmod(moment_ns, _NS_PER_S)
    try:
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    except OverflowError:
        return "0001-01-01T00:00:00Z"  # a nonsense time must not end the display; this is Go's zero time
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{text}{fraction}Z"


def parse_time(text: str) -> int:
    """Read a moment of RFC 3339 with up to nine fraction digits, in nanoseconds since 1970.

    Raises:
        ValueError: The text is no such moment.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time of RFC 3339: {text!r}")
    whole, fraction, zone = match.groups()
    moment = datetime.fromisoformat(whole + zone)
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    return seconds * _NS_PER_S + int((fraction or "").ljust(9, "0"))


def _without_empty(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what Go's ``omitempty`` leaves out: zero, false, empty text and empty lists."""
    return {key: value for key, value in pairs.items() if value or value == {}}


def _optional_time(moment_ns: int | None) -> str:
    return "" if moment_ns is None else format_time(moment_ns)


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _vertex(vertex: Vertex) -> dict[str, Any]:
    value = _without_empty(
        {
            "digest": vertex.digest,
            "inputs": vertex.inputs,
            "name": vertex.name,
            "started": _optional_time(vertex.started_ns),
            "completed": _optional_time(vertex.completed_ns),
            "cached": vertex.cached,
            "error": vertex.error,
        }
    )
    group = vertex.progress_group
    if group is not None:
        value["progressGroup"] = _without_empty({"id": group.id, "name": group.name, "weak": group.weak})
    return value


def _status(status: VertexStatus) -> dict[str, Any]:
    value: dict[str, Any] = {"id": status.id}
    value |= _without_empty({"vertex": status.vertex, "name": status.name, "total": status.total})
    value |= {"current": status.current, "timestamp": format_time(status.timestamp_ns)}
    value |= _without_empty(
        {"started": _optional_time(status.started_ns), "completed": _optional_time(status.completed_ns)}
    )
    return value


def _log(log: VertexLog) -> dict[str, Any]:
    value = _without_empty({"vertex": log.vertex, "stream": log.stream})
    value["data"] = _base64(log.data) if log.data else None  # an empty slice that came off the wire is nil in Go
    value["timestamp"] = format_time(log.timestamp_ns)
    return value


def _warning(warning: VertexWarning) -> dict[str, Any]:
    value = _without_empty(
        {
            "vertex": warning.vertex,
            "level": warning.level,
            "short": _base64(warning.short),
            "detail": [_base64(line) for line in warning.detail],
            "url": warning.url,
        }
    )
    source_info = _source_info(warning)
    if source_info is not None:
        value["sourceInfo"] = source_info
    if warning.ranges:
        value["range"] = [{"start": _position(start), "end": _position(end)} for start, end in warning.ranges]
    return value


def _position(position: Position) -> dict[str, Any]:
    return _without_empty({"line": position.line, "character": position.character})


def _source_info(warning: VertexWarning) -> dict[str, Any] | None:
    if warning.source_info:
        # Only a warning with its source needs the generated messages, which are slow to import.
        from buildkit_client._proto import ops_pb2  # noqa: PLC0415

        return _go_json(ops_pb2.SourceInfo.FromString(warning.source_info))
    source = warning.source
    if source is None:
        return None
    return _without_empty({"filename": source.filename, "data": _base64(source.data), "language": source.language})


def _go_json(message: Message) -> dict[str, Any]:
    """Return a message as ``encoding/json`` shows the struct that Go generates for it.

    Not protobuf's own JSON mapping: keys are the names of the .proto file and 64-bit integers stay numbers.
    """
    value: dict[str, Any] = {}
    present = {field.number: content for field, content in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        if field.number not in present:
            continue
        content = present[field.number]
        if isinstance(content, (str, bytes, int, float)) or hasattr(content, "DESCRIPTOR"):
            value[field.name] = _go_value(content)
        elif hasattr(content, "items"):
            value[field.name] = {key: _go_value(content[key]) for key in sorted(content)}
        else:
            value[field.name] = [_go_value(one) for one in content]
    return value


def _go_value(content: Any) -> Any:
    if isinstance(content, bytes):
        return _base64(content)
    return content if isinstance(content, (str, int, float)) else _go_json(content)


def read_rawjson(line: str | bytes) -> StatusUpdate:
    """Read one line of ``rawjson`` progress.

    Keys that are not known are left out.

    Raises:
        RemoteProtocolError: The line is no such object.
    """
    try:
        value = json.loads(line)
        return StatusUpdate(
            vertexes=tuple(_read_vertex(one) for one in value.get("vertexes") or ()),
            statuses=tuple(_read_status(one) for one in value.get("statuses") or ()),
            logs=tuple(_read_log(one) for one in value.get("logs") or ()),
            warnings=tuple(_read_warning(one) for one in value.get("warnings") or ()),
        )
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as exc:
        raise RemoteProtocolError("not a line of rawjson progress", why=str(exc)) from exc


def _read_time(value: Mapping[str, Any], key: str) -> int | None:
    text = value.get(key)
    return None if text is None else parse_time(text)


def _read_vertex(value: Mapping[str, Any]) -> Vertex:
    group = value.get("progressGroup")
    return Vertex(
        digest=value.get("digest", ""),
        inputs=tuple(value.get("inputs") or ()),
        name=value.get("name", ""),
        cached=value.get("cached", False),
        started_ns=_read_time(value, "started"),
        completed_ns=_read_time(value, "completed"),
        error=value.get("error", ""),
        progress_group=None
        if group is None
        else ProgressGroup(group.get("id", ""), group.get("name", ""), group.get("weak", False)),
    )


def _read_status(value: Mapping[str, Any]) -> VertexStatus:
    return VertexStatus(
        id=value["id"],
        vertex=value.get("vertex", ""),
        name=value.get("name", ""),
        current=value.get("current", 0),
        total=value.get("total", 0),
        timestamp_ns=_read_time(value, "timestamp") or 0,
        started_ns=_read_time(value, "started"),
        completed_ns=_read_time(value, "completed"),
    )


def _read_log(value: Mapping[str, Any]) -> VertexLog:
    return VertexLog(
        vertex=value.get("vertex", ""),
        stream=value.get("stream", 0),
        data=_bytes(value.get("data") or ""),
        timestamp_ns=_read_time(value, "timestamp") or 0,
    )


def _read_warning(value: Mapping[str, Any]) -> VertexWarning:
    ranges = tuple(
        (_read_position(one.get("start")), _read_position(one.get("end"))) for one in value.get("range") or ()
    )
    info = value.get("sourceInfo")
    source = None
    if info is not None:
        source = SourceSnippet(
            filename=info.get("filename", ""),
            data=_bytes(info.get("data") or ""),
            ranges=tuple((start.line, end.line) for start, end in ranges),
            language=info.get("language", ""),
        )
    return VertexWarning(
        vertex=value.get("vertex", ""),
        level=value.get("level", 0),
        short=_bytes(value.get("short") or ""),
        detail=tuple(_bytes(line) for line in value.get("detail") or ()),
        url=value.get("url", ""),
        source=source,
        ranges=ranges,
    )


def _read_position(value: Mapping[str, Any] | None) -> Position:
    return Position() if value is None else Position(value.get("line", 0), value.get("character", 0))
