"""Turns the status of a failed call into an error that says what, why, and what to try.

A failed call carries a gRPC code, a message, and in the trailer ``grpc-status-details-bin`` a ``google.rpc.Status``.
Its details are not protobuf: each value is JSON, named by a type URL without the usual prefix. Daemons nest more kinds
of details than anybody needs; those not known here are skipped.

This module takes codes as numbers and trailers as pairs, so it does not depend on the gRPC library.

Reference: util/grpcerrors/grpcerrors.go; solver/errdefs.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from buildkit_client.errors import (
    BuildCancelledError,
    BuildKitError,
    ConnectError,
    ConnectionLostError,
    DaemonError,
    SolveError,
    SourceSnippet,
    StatusDetails,
)
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.transport.refusals import classify_solve_message, explain_message

if TYPE_CHECKING:
    from collections.abc import Iterable

DETAILS_TRAILER = "grpc-status-details-bin"
_CANCELLED_TEXT = "context canceled"
_TYPE_PREFIX = "github.com/moby/buildkit/"
_LOST_TEXTS = ("Socket closed", "Connection reset", "GOAWAY", "recvmsg", "sendmsg", "Broken pipe", "keepalive")

TrailerValue = str | bytes


class _Reason(NamedTuple):
    why: str = ""
    hint: str = ""


def decode_details(trailing: Iterable[tuple[str, TrailerValue]] | Mapping[str, TrailerValue] | None) -> StatusDetails:
    """Read what a failed call's trailers say besides code and message.

    Nothing in a trailer is an error: what cannot be read is left out, since the error at hand matters more.

    Args:
        trailing: Names and values, as the gRPC library gives them.

    Returns:
        Code and message are those of the details, 2 and empty when the trailer is not there.
    """
    pairs = trailing.items() if isinstance(trailing, Mapping) else trailing or ()
    for key, value in pairs:
        if key.lower() == DETAILS_TRAILER:
            raw = value if isinstance(value, bytes) else _from_base64(value)
            if raw is not None:
                return _decode_status(raw)
    return StatusDetails()


def _from_base64(text: str) -> bytes | None:
    """Decode a binary header that came as text; senders may leave the padding out."""
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _decode_status(raw: bytes) -> StatusDetails:
    # Only a failed call needs the generated messages of this module.
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    from buildkit_client._proto import rpc_status_pb2  # noqa: PLC0415
    from buildkit_client.transport.lenient import parse_message  # noqa: PLC0415

    try:
        status = parse_message(rpc_status_pb2.Status, raw)
    except DecodeError:
        return StatusDetails()
    found = _Details()
    for detail in status.details:
        found.add(detail.type_url, detail.value)
    return StatusDetails(
        code=status.code,
        message=status.message,
        vertex=found.vertex,
        exit_code=found.exit_code,
        sources=tuple(found.sources),
        deny_messages=tuple(found.deny_messages),
        frontend_cap=found.frontend_cap,
        subrequest=found.subrequest,
        sentences=tuple(found.sentences),
        extra=tuple(found.extra),
    )


class _Details:
    """Collects what the details say, one after the other."""

    def __init__(self) -> None:
        self.vertex = ""
        self.exit_code: int | None = None
        self.sources: list[SourceSnippet] = []
        self.deny_messages: list[str] = []
        self.frontend_cap = ""
        self.subrequest = ""
        self.sentences: list[str] = []
        self.extra: list[str] = []

    def add(self, type_url: str, value: bytes) -> None:
        name = type_url.rpartition(_TYPE_PREFIX)[2]
        try:
            content = json.loads(value)
            if not isinstance(content, dict) or not self._take(name, content):
                self.extra.append(name)
        except (ValueError, TypeError, AttributeError, KeyError):
            self.extra.append(name)

    def _take(self, name: str, content: dict[str, Any]) -> bool:
        """Take one detail in; False when its type is not known."""
        match name:
            case "errdefs.Source+json":
                snippet = _snippet(content)
                if snippet is not None:
                    self.sources.append(snippet)
            case "errdefs.Vertex+json":
                self.vertex = self.vertex or str(content.get("digest", ""))
            case "gatewayapi.ExitMessage+json":
                if self.exit_code is None:
                    self.exit_code = int(content.get("Code", 0))
            case "policysession.DecisionResponse+json":
                texts = [str(one.get("message", "")) for one in content.get("denyMessages") or ()]
                self.deny_messages += [text for text in texts if text]
            case "errdefs.FrontendCap+json":
                self.frontend_cap = str(content.get("name", ""))
                self._put_in_front(f"unsupported frontend capability {self.frontend_cap}")
            case "errdefs.Subrequest+json":
                self.subrequest = str(content.get("name", ""))
                self._put_in_front(f"unsupported request {self.subrequest}")
            case "errdefs.CompatibilityFeature+json":
                version, feature = content.get("version", 0), content.get("feature", "")
                self._put_in_front(f"unsupported compatibility-version {version} feature {feature}")
            case "errdefs.Frontend+json" | "stack.Stack+json":
                pass  # known, and of no use for a message
            case _:
                return False
        return True

    def _put_in_front(self, sentence: str) -> None:
        self.sentences.insert(0, sentence)  # each detail wraps those before it


def _snippet(content: dict[str, Any]) -> SourceSnippet | None:
    info = content.get("info")
    if info is None:
        return None
    ranges = [
        (int((one.get("start") or {}).get("line", 0)), int((one.get("end") or {}).get("line", 0)))
        for one in content.get("ranges") or ()
    ]
    return SourceSnippet(
        filename=str(info.get("filename", "")),
        data=b64decode(info.get("data") or "", validate=True),
        ranges=tuple(ranges),
        language=str(info.get("language", "")),
    )


def error_from_rpc(
    code: int,
    message: str,
    trailing: Iterable[tuple[str, TrailerValue]] | Mapping[str, TrailerValue] | None = None,
    *,
    address: str,
    established: bool | None = None,
    is_build: bool = True,
) -> BuildKitError:
    """Choose the error for a failed call.

    Args:
        code: gRPC status code, 0 to 16.
        message: The status message.
        trailing: The trailers.
        address: Of the daemon, as the caller gave it.
        established: The connection had worked before; None guesses from the message.
        is_build: The call belongs to a build; others give a plain :class:`DaemonError`.

    Returns:
        * :class:`BuildCancelledError`: code CANCELLED, or the daemon says that the context was cancelled.
        * :class:`ConnectError`: UNAVAILABLE without an answer of the daemon, before the connection worked.
        * :class:`ConnectionLostError`: the same afterwards.
        * :class:`SolveError` or :class:`DaemonError`: all others.
    """
    details = decode_details(trailing)
    is_from_daemon = bool(details.message)
    code = details.code if is_from_daemon else code
    message = details.message or message
    if code == StatusCode.CANCELLED or (code == StatusCode.UNKNOWN and message.endswith(_CANCELLED_TEXT)):
        return BuildCancelledError("the build was cancelled", why=message)
    if code == StatusCode.UNAVAILABLE and not is_from_daemon:
        return _unavailable(message, address, established=established)
    details = replace(details, code=code, message=message)
    reason = _reason(code, message) or explain_message(message)
    why = "; ".join(details.deny_messages) or reason.why
    what = full_message(details)
    if not is_build:
        return DaemonError(what, details=details, why=why, hint=reason.hint)
    kind = classify_solve_message(message)
    return SolveError(what, details=details, kind=kind, why=why, hint=reason.hint)


def full_message(details: StatusDetails) -> str:
    """The daemon's message as Go's client prints it, with the code's name in front unless the code is UNKNOWN.

    Reference: util/grpcerrors/grpcerrors.go, grpcStatusError.Error.
    """
    message = details.message
    if details.code not in (StatusCode.OK, StatusCode.UNKNOWN):
        message = f"{code_name(details.code)}: {message}"
    return ": ".join([*details.sentences, message])


def code_name(code: int) -> str:
    """The name that Go prints for a status code, for example ``DeadlineExceeded`` or ``Code(17)``."""
    try:
        return StatusCode(code).go_name
    except ValueError:
        return f"Code({code})"


def _unavailable(message: str, address: str, *, established: bool | None) -> BuildKitError:
    if established is None:
        established = any(text in message for text in _LOST_TEXTS)
    if established:
        return ConnectionLostError(
            f"the connection to buildkitd at {address} was lost",
            why=message,
            hint="check whether the daemon still runs, and its log",
        )
    phase = "tls" if "SSL" in message or "certificate" in message.lower() else "connect"
    hint = "start buildkitd, or name another daemon with --addr or BUILDKIT_HOST"
    if "http1.x" in message or "HTTP/1" in message:
        phase, hint = "handshake", "check that the port is buildkitd's: a web server answers there"
    return ConnectError(f"cannot reach buildkitd at {address}", address=address, phase=phase, why=message, hint=hint)


def _reason(code: int, message: str) -> _Reason | None:
    """Why and what to try for codes that tell more than the message; None for the others."""
    match code:
        case StatusCode.RESOURCE_EXHAUSTED if "larger than max" in message:
            return _Reason(
                "a message is larger than the 16 MiB that both sides take",
                "pass large values as files of the context rather than as build arguments or options",
            )
        case StatusCode.RESOURCE_EXHAUSTED:
            return _Reason("the daemon ran out of something it needs", "see the daemon's log, and its disk and memory")
        case StatusCode.DEADLINE_EXCEEDED if "no active session" in message:
            return _Reason(
                "the daemon waited in vain for this client's session",
                "a proxy between here and the daemon must let gRPC streams through in both directions",
            )
        case StatusCode.DEADLINE_EXCEEDED:
            return _Reason("an answer did not come in time", "try again, or see what keeps the daemon busy")
        case StatusCode.UNIMPLEMENTED if "unknown service" in message:
            return _Reason("another gRPC server than buildkitd answers there", "check the address")
        case StatusCode.UNIMPLEMENTED if "unknown method" in message:
            return _Reason("the daemon is too old to know this call", "use a newer buildkitd")
        case StatusCode.UNIMPLEMENTED:
            return _Reason(
                "the daemon or the Dockerfile frontend does not support this",
                "use a newer buildkitd, or a newer frontend in the Dockerfile's syntax line",
            )
        case StatusCode.UNAUTHENTICATED | StatusCode.PERMISSION_DENIED if not explain_message(message).why:
            return _Reason("the daemon, or a proxy in front of it, refuses this client", "check the client certificate")
        case StatusCode.INTERNAL if "RST_STREAM" in message:
            return _Reason(
                "the stream was broken off, by the daemon or by a proxy between",
                "if a proxy is between, let it pass headers of several hundred kilobytes",
            )
    return None
