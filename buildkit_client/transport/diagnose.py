"""Why a daemon cannot be reached: tries the address step by step, after the gRPC library gave up.

The library's own texts mix resolver, socket and TLS noise. Here each step is taken alone, so the error can name the
phase that failed and what to try.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_client.errors import ConnectError

if TYPE_CHECKING:
    from buildkit_client.transport.address import Address
    from buildkit_client.transport.tls import TlsFiles

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # then an empty SETTINGS frame
_FRAME_SETTINGS = 4
_FRAME_GOAWAY = 7
_SPEAKS_FIRST_S = 0.5  # how long we wait for the other side to speak first
_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
)  # RFC 8446, 6.2


def diagnose(address: Address, tls: TlsFiles | None, server_name: str, *, timeout_s: float, seen: str) -> ConnectError:
    """Return the error that says at which phase reaching an address fails, and why.

    Args:
        address: Where the daemon should be.
        tls: TLS material, or None for plain text.
        server_name: Name the daemon's certificate must carry.
        timeout_s: For each step.
        seen: What the gRPC library said; used when every step works here.
    """

    def error(phase: str, why: str, hint: str) -> ConnectError:
        return unreachable(address, phase, why, hint)

    try:
        if address.scheme == "unix":
            stream = _connect_unix(address.path, timeout_s)
        else:
            stream = _connect_tcp(address, timeout_s)
    except _StepError as exc:
        return error(exc.phase, exc.why, exc.hint)
    with stream:
        if tls is not None:
            try:
                stream = tls.context("h2").wrap_socket(stream, server_hostname=server_name)
            except OSError as exc:
                return error("tls", *_tls_reason(exc, server_name))
        with suppress(OSError), stream:
            answer = _greet(stream, timeout_s)
            if isinstance(answer, ssl.SSLError) and (reason := _refusal(answer)) is not None:
                # With TLS 1.3 the daemon looks at our certificate after the handshake has ended for us.
                return error("tls", *reason)
            if tls is None and address.scheme == "tcp" and _speaks_tls(address, answer, timeout_s):
                return error(
                    "tls",
                    "the port speaks TLS, and no TLS files were given",
                    "give --tlscacert, --tlscert and --tlskey, or --tlsdir",
                )
            return error("handshake", *_http2_reason(answer, seen=seen))
    return error("handshake", seen or "the connection broke off", "see the daemon's log")


def unreachable(address: Address, phase: str, why: str, hint: str) -> ConnectError:
    """Return the error for a daemon that cannot be reached; see :class:`ConnectError` for the phases."""
    return ConnectError(f"cannot reach buildkitd at {address}", address=str(address), phase=phase, why=why, hint=hint)


class _StepError(Exception):
    def __init__(self, phase: str, why: str, hint: str) -> None:
        super().__init__(why)
        self.phase, self.why, self.hint = phase, why, hint


def _connect_unix(path: str, timeout_s: float) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(timeout_s)
    try:
        stream.connect(path)
    except FileNotFoundError as exc:
        stream.close()
        raise _StepError(
            "connect",
            f"there is no socket {path}",
            "start buildkitd, or name another daemon with --addr or BUILDKIT_HOST",
        ) from exc
    except PermissionError as exc:
        stream.close()
        raise _StepError(
            "connect", _permission_reason(path), "join that group, or name another daemon with BUILDKIT_HOST"
        ) from exc
    except OSError as exc:
        stream.close()
        if not stat.S_ISSOCK(_mode(path)):
            raise _StepError("connect", f"{path} is not a socket", "name the socket that buildkitd listens on") from exc
        raise _StepError(
            "connect", f"{path}: {_text(exc)}", "no daemon listens there any more: start buildkitd again"
        ) from exc
    return stream


def _mode(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_mode  # noqa: PTH116 - may be any text
    return 0


def _permission_reason(path: str) -> str:
    with suppress(OSError):
        info = os.stat(path)  # noqa: PTH116 - may be any text
        owner = f"uid {info.st_uid}, gid {info.st_gid}, mode {info.st_mode & 0o7777:04o}"
        return f"permission denied: {path} belongs to {owner}"
    return f"permission denied: a folder above {path} cannot be entered"


def _connect_tcp(address: Address, timeout_s: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:  # UnicodeError: of a name that is no host's
        said = _text(exc) if isinstance(exc, OSError) else str(exc)
        raise _StepError(
            "resolve", f"the host {address.host!r} is not known: {said}", "check the name in the address"
        ) from exc
    reason: OSError = OSError("no address")
    for family, kind, proto, _, where in found:
        stream = socket.socket(family, kind, proto)
        stream.settimeout(timeout_s)
        try:
            stream.connect(where)
        except OSError as exc:
            stream.close()
            reason = exc
        else:
            return stream
    hint = (
        f"nothing listens on port {address.port}: check the port, and that buildkitd listens on tcp"
        if isinstance(reason, ConnectionRefusedError)
        else "check the address, and that no firewall is between"
    )
    raise _StepError("connect", f"{address.host} port {address.port}: {_text(reason)}", hint) from reason


def _tls_reason(exc: OSError, server_name: str) -> tuple[str, str]:
    """Return why and hint for a failed TLS handshake."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        code = exc.verify_code
        if code == 10:
            return "the daemon's certificate has expired", "renew it, and check this machine's clock"
        if code in (62, 63, 64):
            return (
                f"the daemon's certificate is not for {server_name!r}",
                "use the name in the certificate as the address, or give it with --tlsservername",
            )
        if code in (18, 19, 20, 21, 2):
            return (
                "the daemon's certificate is signed by a CA that is not trusted",
                "give the daemon's CA with --tlscacert",
            )
        return f"the daemon's certificate cannot be verified: {exc.verify_message}", "check the CA and the certificate"
    text = str(exc)
    if "WRONG_VERSION_NUMBER" in text or "UNKNOWN_PROTOCOL" in text or "RECORD_LAYER" in text:
        return "the port speaks no TLS", "leave out the TLS files, or use the daemon's TLS port"
    if (reason := _refusal(exc)) is not None:
        return reason
    return f"the TLS handshake failed: {_text(exc)}", "check that the port speaks TLS"


def _refusal(exc: OSError) -> tuple[str, str] | None:
    """Return why and hint when the daemon answered a TLS handshake with an alert."""
    text = str(exc).upper().replace(" ", "_")
    if "CERTIFICATE_REQUIRED" in text:
        return "the daemon asks for a client certificate", "give one with --tlscert and --tlskey"
    if any(word in text for word in _CERTIFICATE_ALERTS):
        return (
            f"the daemon refused our certificate: {_text(exc)}",
            "use a client certificate signed by the CA the daemon trusts",
        )
    if "ALERT" in text:
        return f"the daemon refused the TLS handshake: {_text(exc)}", "check the client certificate and its CA"
    return None


def _greet(stream: socket.socket, timeout_s: float) -> bytes | OSError:
    """Return the first bytes of the other side, empty when it hangs up, or what went wrong.

    It may speak first: buildkitd sends its settings at once, and a daemon that refuses our certificate its alert. Our
    own bytes, arriving at a socket that is closed already, would make the kernel throw that answer away.
    """
    answer = b""
    try:
        stream.settimeout(min(timeout_s, _SPEAKS_FIRST_S))
        try:
            answer = stream.recv(64)
            if not answer:
                return answer
        except TimeoutError:
            pass
        stream.settimeout(timeout_s)
        if not answer:
            stream.sendall(_PREFACE)
        while len(answer) < 9 and (chunk := stream.recv(64)):
            answer += chunk
    except OSError as exc:
        return exc
    return answer


def _speaks_tls(address: Address, answer: bytes | OSError, timeout_s: float) -> bool:
    """Find out whether a port that did not answer plain text speaks TLS; nothing is sent but a greeting."""
    if isinstance(answer, TimeoutError):
        return False
    if isinstance(answer, bytes) and answer:
        return answer[:1] == b"\x15"  # a TLS alert record
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect_tcp(address, timeout_s) as stream, context.wrap_socket(stream):
            return True
    except ssl.SSLError as exc:
        return _refusal(exc) is not None
    except (OSError, _StepError):
        return False


def _http2_reason(answer: bytes | OSError, *, seen: str) -> tuple[str, str]:
    """Return why and hint from what came back to the first bytes of HTTP/2."""
    if isinstance(answer, TimeoutError):
        why = "it accepts connections but does not answer as HTTP/2"
        return why, "check that it is buildkitd that listens there, and that it is not stuck"
    if isinstance(answer, OSError):
        return f"it closed the connection: {_text(answer)}", "check that the port is buildkitd's"
    if len(answer) >= 9 and answer[3] in (_FRAME_SETTINGS, _FRAME_GOAWAY) and answer[0] == 0:
        return seen or "it speaks gRPC but is no buildkitd", "check that the address is buildkitd's"
    if not answer:
        why = "it closed the connection at once"
        return why, "check that the port is buildkitd's, and whether it wants TLS"
    who = "a web server" if answer.startswith((b"HTTP/", b"<")) else "something else than buildkitd"
    return f"{who} answers there: {answer[:40]!r}", "check that the port is buildkitd's"


def _text(exc: OSError) -> str:
    return exc.strerror or str(exc)
