"""Errors as ``buildctl`` prints them: snippets of source files, denials of policies, one error line.

Reference: solver/errdefs/source.go, Source.Print; cmd/buildctl/main.go, handleErr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.errors import BuildCancelledError, BuildKitError, DaemonError, SolveError

if TYPE_CHECKING:
    from buildkit_client.errors import SourceSnippet

_RULE = "-" * 20
FAILED_TO_SOLVE = "failed to solve"


def snippet_lines(snippet: SourceSnippet, *, errors: str = "replace") -> list[str]:
    """Render the place in a source file that an error points at.

    Args:
        snippet: The place.
        errors: How bytes that are not UTF-8 become text.

    Returns:
        Lines without line ends: file and line, a rule, the lines with some context and marks, a rule. Empty when the
        place is not in the file.
    """
    lines = snippet.data.split(b"\n")
    ranges = [(first, max(first, last)) for first, last in snippet.ranges]
    if not ranges:
        return []
    start = first_line = min(first for first, _ in ranges)
    end = max(last for _, last in ranges)
    if not 1 <= start <= len(lines):
        return []
    end = min(end, len(lines))
    budget = 4 if start == end else 2
    used = 0
    while used < budget:
        if start > 1:
            start -= 1
            used += 1
        if end < len(lines):
            end += 1
            used += 1
        used += 1
    rendered = [f"{snippet.filename}:{first_line}", _RULE]
    for number in range(start, end + 1):
        mark = ">>>" if any(first <= number <= last for first, last in ranges) else "   "
        rendered.append(f" {number:3d} | {mark} {lines[number - 1].decode('utf-8', errors)}")
    rendered.append(_RULE)
    return rendered


def error_lines(error: BuildKitError, *, doing: str = FAILED_TO_SOLVE, errors: str = "replace") -> list[str]:
    """Render an error as ``buildctl`` does.

    Args:
        error: What happened.
        doing: What stands before the message of an error that the daemon answered with.
        errors: How bytes of source files that are not UTF-8 become text.

    Returns:
        Lines without line ends. For an error of the daemon: snippets, denials, then ``error: failed to solve: …``. For
        others: ``error: …`` with the cause.
    """
    lines: list[str] = []
    if isinstance(error, (SolveError, DaemonError)):
        for snippet in error.details.sources:
            lines += snippet_lines(snippet, errors=errors)
        lines += [f"policy deny: {text}" for text in error.details.deny_messages]
        lines.append(f"error: {doing}: {error}")
    elif isinstance(error, BuildCancelledError):
        lines.append(f"error: {doing}: Canceled: context canceled")
    else:
        lines.append(f"error: {error}: {error.why}" if error.why else f"error: {error}")
    return lines
