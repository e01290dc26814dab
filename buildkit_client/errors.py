"""The errors a caller can meet, each with what happened, why, and what to try.

One tree under :class:`BuildKitError`. Third-party errors are translated into it where the third party is used, so
nothing that imports gRPC, HTTP or YAML types leaks to callers. This module imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


class BuildKitError(Exception):
    """Root of every error of this library.

    Attributes:
        why: The cause, in one clause; may be empty.
        hint: What to try next; may be empty.
    """

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.why = why
        self.hint = hint


class OptionError(BuildKitError):
    """A caller's option has a value that cannot work; nothing was sent."""


class PatternError(OptionError):
    """An include or exclude pattern is not valid."""


class ConnectError(BuildKitError):
    """The daemon cannot be reached; ``phase`` says how far the attempt came.

    Attributes:
        address: The address as the caller gave it.
        phase: One of ``address``, ``resolve``, ``connect``, ``tls``, ``handshake``.
    """

    def __init__(self, what: str, *, address: str = "", phase: str = "connect", why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.address = address
        self.phase = phase


BuildPhase = Literal["", "start", "context", "solve", "export"]
"""How far a build had come: before its first step, reading local directories, running steps, or sending its result
and caches; empty when no build was running."""


class ConnectionLostError(BuildKitError):
    """The connection or the session to the daemon ended while it was needed.

    Attributes:
        phase: How far the build had come, see :data:`BuildPhase`.
    """

    def __init__(self, what: str, *, phase: BuildPhase = "", why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.phase: BuildPhase = phase


class LocalProtocolError(BuildKitError):
    """Our side broke the protocol: a bug of this library or of the calling code."""


class RemoteProtocolError(BuildKitError):
    """The peer sent something that the protocol does not allow."""


class BuildCancelledError(BuildKitError):
    """The build was cancelled, by the caller or by the daemon."""


class ContextError(BuildKitError):
    """A local directory that a build needs cannot be read."""


class ExportError(BuildKitError):
    """What a build exports cannot be written to its destination."""


class CredentialsError(BuildKitError):
    """Credentials for a registry cannot be found out, or were refused.

    Attributes:
        host: The registry's host, with port where it has one; may be empty.
    """

    def __init__(self, what: str, *, host: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.host = host


class RegistryError(BuildKitError):
    """A registry refused a request or answered outside the distribution specification.

    Attributes:
        host: The registry's host, with port where it has one.
        status: The HTTP status, 0 when there was no answer.
    """

    def __init__(self, what: str, *, host: str = "", status: int = 0, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.host = host
        self.status = status


class RegistryUnreachableError(RegistryError):
    """A registry gave no answer at all."""


class DigestError(BuildKitError):
    """A digest is not well formed."""


class DigestMismatchError(BuildKitError):
    """Bytes do not have the digest they were announced with."""


class DigestChangedError(BuildKitError):
    """An image would not keep its digest on the way; it was not sent."""


class BlobNotFoundError(BuildKitError):
    """A store or registry has no blob of that digest."""


class ImageFormatError(BuildKitError):
    """An image's index, manifest, config or descriptor is not what the OCI specification allows."""


class LayoutError(BuildKitError):
    """An OCI image layout is missing or damaged."""


@dataclass(frozen=True, slots=True)
class SourceSnippet:
    """The place in a source file that a build error points at.

    Attributes:
        filename: As the daemon names it, for example ``Dockerfile``.
        language: For example ``Dockerfile``; may be empty.
        data: The whole file.
        ranges: Pairs of first and last line, 1-based, both inclusive.
    """

    filename: str
    data: bytes
    ranges: tuple[tuple[int, int], ...]
    language: str = ""


@dataclass(frozen=True, slots=True)
class StatusDetails:
    """What a daemon's error carries besides code and message.

    Attributes:
        code: gRPC status code, 0 to 16.
        message: The daemon's message, unchanged.
        vertex: Digest of the failed vertex, or empty.
        exit_code: Exit code of the failed process, or None.
        sources: Places in source files, in wire order.
        deny_messages: Texts of a source policy's denial.
        frontend_cap: Name of a frontend capability that is missing, or empty.
        subrequest: Name of a sub-request that is not known, or empty.
        sentences: What other clients print before the message, for some kinds of details.
        extra: Type URLs of details that are not read.
    """

    code: int = 2
    message: str = ""
    vertex: str = ""
    exit_code: int | None = None
    sources: tuple[SourceSnippet, ...] = ()
    deny_messages: tuple[str, ...] = ()
    frontend_cap: str = ""
    subrequest: str = ""
    sentences: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


SolveErrorKind = Literal["auth", "push", "pull", "connection", "dockerfile", "run", "other"]
"""What went wrong: a login, sending an image or cache, fetching one, reaching something, the Dockerfile or what it
copies, a process of the build, or something else."""


class SolveError(BuildKitError):
    """The daemon ran the build and it failed.

    Attributes:
        details: Everything the daemon said, see :class:`StatusDetails`.
        kind: What went wrong, as far as the daemon's text tells.
        vertex_name: Name of the failed step as progress shows it, or empty.
        last_output: The last lines that the step wrote, without line ends; may be empty.
    """

    def __init__(
        self,
        what: str,
        *,
        details: StatusDetails,
        kind: SolveErrorKind = "other",
        vertex_name: str = "",
        last_output: Sequence[str] = (),
        why: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(what, why=why, hint=hint)
        self.details = details
        self.kind: SolveErrorKind = kind
        self.vertex_name = vertex_name
        self.last_output = tuple(last_output)

    @property
    def vertex(self) -> str:
        """Digest of the failed vertex, or empty."""
        return self.details.vertex

    @property
    def exit_code(self) -> int | None:
        """Exit code of the failed process, or None when no process failed."""
        return self.details.exit_code

    @property
    def snippets(self) -> tuple[SourceSnippet, ...]:
        """Places in source files that the error points at, in wire order."""
        return self.details.sources


class DaemonError(BuildKitError):
    """The daemon refused a call that is no build.

    Attributes:
        details: Everything the daemon said, see :class:`StatusDetails`.
    """

    def __init__(self, what: str, *, details: StatusDetails, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.details = details


class NotRecordedError(BuildKitError):
    """The daemon's history has no such build, or not what was asked for of it."""


class SecretError(BuildKitError):
    """A secret that a build needs cannot be read; the text never holds its value."""


class SshAgentError(BuildKitError):
    """An SSH agent that a build needs cannot be reached, or an SSH key cannot be used; the text never holds a key."""


class PolicyError(BuildKitError):
    """A source policy could not decide, so the build cannot go on."""
