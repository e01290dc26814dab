"""Reads the daemon's messages: whose fault it is, and what to try.

The daemon reports a registry that refuses, a base image that is not there and a typo in the Dockerfile alike, with code
UNKNOWN and a text. The texts are those of Go's HTTP client, of containerd's resolver and of registries, so this is a
list of phrases; a message that fits none is ``other``.

Reference: containerd core/remotes/docker (pusher.go, resolver.go, auth/fetch.go); frontend/dockerfile/parser.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from buildkit_client.errors import SolveErrorKind


class Explanation(NamedTuple):
    """What a message means.

    Attributes:
        kind: Whose fault it is.
        why: The cause, in one clause; empty when the message says it well enough.
        hint: What to try; may be empty.
    """

    kind: SolveErrorKind
    why: str = ""
    hint: str = ""


# Plain text: a build without an error compiles none of them.
_RUN = r"(?s)process \".*\" did not complete successfully: "
_DOCKERFILE = (
    r"(?:\w+: )?(?:dockerfile parse error|failed to read dockerfile|the Dockerfile cannot be empty|target stage "
    r"|failed to process |failed to parse |circular dependency detected|base name \(|invalid reference format"
    r"|Dockerfile parse|unknown instruction)"
)
_POLICY = r"denied by policy|not allowed by policy: action DENY"
_GIT = r"failed to fetch remote |repository does not contain ref "
_DAMAGED = (
    r"unexpected commit digest|read exceeds expected size|short read: expected|unsupported offset"
    r"|NotFound: blob \w+:\w+ is not in "
)
_MISSING_FILE = r"(?s)failed to calculate checksum of ref [^:]+::[^:]+: (?P<path>.*): not found\Z"
_AUTH = (
    r"\b401 Unauthorized\b|\b403 Forbidden\b|no basic auth credentials|authorization failed|insufficient_scope"
    r"|(?:push|pull|requested) access (?:to the resource is )?denied|failed to (?:fetch|authorize)[^:]*\btoken\b"
    r"|failed to authorize|\b(?:unauthorized|denied)(?:: |\Z)|authentication required|incorrect username or password"
)
_PUSH = r"failed to push |error writing (?:layer|manifest|config|cache) |failed to copy: .*\bput\b|exporting cache"
_PULL = (
    r"failed to resolve source metadata for |failed to do request: (?:Head|Get) |pull access denied|failed to copy: "
    r"|failed to fetch |httpReadSeeker|unexpected status from (?:HEAD|GET) request"
    r"|(?:\A|: )(?P<image>\S+): (?P=image): not found\Z"  # before 0.13
)
_HTTP_TO_HTTPS = "server gave HTTP response to HTTPS client"
_CONNECTION = (
    r"connection refused|no such host|i/o timeout|no route to host|network is unreachable|connection reset by peer"
    r"|TLS handshake timeout|Client\.Timeout exceeded|server misbehaving|no active session|x509: |tls: |: EOF\Z"
    r"|server gave HTTP response to HTTPS client"
)
_HOST = (
    r"(?:https?://|failed to push |dial tcp:? (?:lookup )?|metadata for )"
    r"(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::\d+)?)"
)
_TOKEN_SERVICE = r"[?&]service=(?P<host>[^&\s\":]+)"


def classify_solve_message(message: str) -> SolveErrorKind:
    """Say whose fault a failed build is, for exit codes and hints.

    A refused login wins over what it was for: a push that is refused for lack of a login is ``auth``.

    Args:
        message: The daemon's message, with or without a code's name in front.
    """
    return explain_message(message).kind


def explain_message(message: str) -> Explanation:
    """Say what a daemon's message means and what to try."""
    if re.search(_RUN, message):
        return Explanation("run")
    if re.search(_POLICY, message):
        return Explanation("other", "a source policy forbids it", "change the policy, or what the build loads")
    if re.search(_GIT, message):
        return Explanation(
            "pull", "the daemon cannot fetch it with git", "check the repository's address, ref and login"
        )
    if re.match(_DOCKERFILE, message):
        return Explanation("dockerfile", hint=_dockerfile_hint(message))
    missing = re.search(_MISSING_FILE, message)
    if missing:
        return Explanation(
            "dockerfile",
            f"there is no {missing['path']} to copy",
            "check the path; without --from it is relative to the build context, and .dockerignore counts",
        )
    is_unreachable = re.search(_CONNECTION, message) is not None
    if re.search(_AUTH, message) and not is_unreachable:
        host = _host(message) or "the registry"
        return Explanation(
            "auth",
            f"{host} wants a login, or the login may not do this",
            "log in to it, and check the name and the rights on the repository",
        )
    kind = _transfer_kind(message)
    if re.search(_DAMAGED, message):
        return Explanation(
            kind or "other",
            "what was read does not have the size or digest that names it",
            "the image, image layout or cache is damaged: write it again",
        )
    if is_unreachable:
        why, hint = _connection_reason(message)
        return Explanation(kind or "connection", why, hint)
    if kind == "pull" and message.endswith(": not found"):
        return Explanation("pull", "the registry has no such image", "check the image's name and tag")
    if "toomanyrequests" in message or "429 Too Many Requests" in message:
        return Explanation(
            kind or "pull", "the registry's rate limit is reached", "log in to it, or wait, or use a mirror"
        )
    if kind is not None:
        return Explanation(kind)
    return Explanation("other", hint=_other_hint(message))


def _transfer_kind(message: str) -> Literal["push", "pull"] | None:
    if re.search(_PUSH, message):
        return "push"
    return "pull" if re.search(_PULL, message) else None


def _connection_reason(message: str) -> tuple[str, str]:
    host = _host(message) or "the other side"
    if _HTTP_TO_HTTPS in message:
        return (
            f"{host} speaks plain HTTP and the daemon expects HTTPS",
            "mark the registry as http in the daemon's configuration, or push with registry.insecure=true",
        )
    if "x509: " in message or "tls: " in message:
        return (
            f"the daemon does not trust the certificate of {host}",
            "give the registry's CA to the daemon in its configuration, or push with registry.insecure=true",
        )
    if "no active session" in message:
        return "the daemon waited in vain for this client's session", "try again"
    if "connection refused" in message:
        return f"nothing answers at {host}", "check the host and port, as the daemon's machine sees them"
    if "no such host" in message or "server misbehaving" in message:
        return f"the daemon cannot find the host {host}", "check the name, and the DNS of the daemon's machine"
    return f"the connection to {host} failed", "check the network of the daemon's machine, and try again"


def _dockerfile_hint(message: str) -> str:
    if "failed to read dockerfile" in message and "no such file" in message:
        return "check the name of the Dockerfile and its folder"
    if "target stage " in message:
        return "name a stage that the Dockerfile has"
    if "the Dockerfile cannot be empty" in message:
        return "begin it with FROM; a stream can be read only once"
    if "no local sources enabled" in message:
        return "give the build the folder that its files come from"
    return ""


def _other_hint(message: str) -> str:
    if message.startswith("secret ") and message.endswith("not found"):
        return "give the secret to the build"
    if "is not allowed by build daemon configuration" in message:
        return "allow the entitlement in the daemon's configuration"
    if message.endswith(("network.host is not allowed", "security.insecure is not allowed")):
        return "give the build this entitlement"
    if "unknown entitlement" in message:
        return "known are device, network.host, security.insecure"
    if message.startswith("job ID "):
        return "give each build a ref of its own, or none"
    return ""


def _host(message: str) -> str:
    """The registry that a message is about: the one a token is for, else the first host it names, else empty."""
    service = re.search(_TOKEN_SERVICE, message)
    if service:
        return unquote(service["host"])
    match = re.search(_HOST, message)
    return match["host"] if match else ""
