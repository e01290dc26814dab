"""The errors that convox shows, each with what happened, why, and what to try."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process ends with; 0 and 1 as Convox has them, the others our own."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONNECTION = 3
    AUTH = 4
    PUSH = 5
    CANCELLED = 130
    CLOSED_PIPE = 141


class ConvoxError(Exception):
    """Root of every error of convox.

    Attributes:
        why: The cause, in one clause; may be empty.
        hint: What to try next; may be empty.
        exit_code: What the process ends with.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, *, why: str = "", hint: str = "", exit_code: ExitCode | None = None) -> None:
        super().__init__(what)
        self.why = why
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(ConvoxError):
    """The command line does not fit the command."""

    exit_code = ExitCode.USAGE


class ManifestError(ConvoxError):
    """convox.yml is missing, unreadable or says something that is not allowed."""


class RackError(ConvoxError):
    """No rack fits, or a rack's parameters do not."""


class NotFoundError(ConvoxError):
    """A record with that name does not exist."""


class StoreError(ConvoxError):
    """The store of records cannot be read or written."""


class ArchiveError(ConvoxError):
    """An export file cannot be written or read."""


class BuilderError(ConvoxError):
    """The builder cannot be reached, or the local one cannot be started or stopped."""

    exit_code = ExitCode.CONNECTION


class BuildError(ConvoxError):
    """A build ended without its images; the record says why."""
