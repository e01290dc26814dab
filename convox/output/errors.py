"""The one place that turns an error into what a person reads, and into the exit code of the process.

Every error of ours says what happened, why, and what to try; both packages keep the three as fields. Whatever else
arrives here is a bug: it is shown as one line, with the way to get its traceback. Everything is scrubbed on its way.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from convox.errors import ConvoxError, ExitCode
from convox.masking import scrub
from convox.output.tables import plain_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_client.errors import SourceSnippet

_RED = "\x1b[38;5;124m"
_LIGHT_RED = "\x1b[38;5;203m"
_GREY = "\x1b[38;5;247m"
_END = "\x1b[0m"


def render_error(exc: BaseException, *, color: bool = False, debug: bool = False, secrets: Iterable[str] = ()) -> str:
    """Return an error as text for stderr.

    Args:
        exc: Any exception.
        color: Whether to colour it.
        debug: Whether the traceback follows.
        secrets: Known values to take out.

    Returns:
        Lines with line ends: where the daemon named a place in a source file, that place; ``ERROR: <what>``; then
        ``  why: ...`` and ``  try: ...`` where they are known. Without secrets and control sequences.
    """
    what, why, hint = _describe(exc, debug=debug)
    hidden = list(secrets)

    def clean(text: str) -> str:
        return plain_lines(scrub(text, hidden))

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_END}" if color else text

    head = f"{_RED}ERROR: {_LIGHT_RED}{clean(what)}{_END}" if color else f"ERROR: {clean(what)}"
    lines = [clean(block) for block in _snippet_blocks(exc)]
    lines.append(head)
    for label, text in (("why", why), ("try", hint)):
        if text:
            indented = clean(text).rstrip("\n").replace("\n", "\n       ")
            lines.append(f"  {paint(label + ':', _GREY)} {indented}")
    if debug:
        lines.append(clean("".join(traceback.format_exception(exc))).rstrip("\n"))
    return "".join(f"{line}\n" for line in lines)


def exit_code(exc: BaseException) -> int:
    """Return what the process ends with for an error; see :class:`~convox.errors.ExitCode`."""
    if isinstance(exc, ConvoxError):
        return int(exc.exit_code)
    if isinstance(exc, KeyboardInterrupt):
        return int(ExitCode.CANCELLED)
    if isinstance(exc, BrokenPipeError):
        return int(ExitCode.CLOSED_PIPE)
    if isinstance(exc, SystemExit):
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return int(_buildkit_exit_code(exc))


def _buildkit_exit_code(exc: BaseException) -> ExitCode:
    import buildkit_client.errors as bk  # noqa: PLC0415  (only where something went wrong)

    match exc:
        case bk.OptionError():
            return ExitCode.USAGE
        case bk.ConnectError() | bk.ConnectionLostError():
            return ExitCode.CONNECTION
        case bk.CredentialsError():
            return ExitCode.AUTH
        case bk.RegistryError(status=401 | 403):
            return ExitCode.AUTH
        case bk.RegistryError():
            return ExitCode.PUSH
        case bk.BuildCancelledError():
            return ExitCode.CANCELLED
    return ExitCode.FAILED


def _describe(exc: BaseException, *, debug: bool) -> tuple[str, str, str]:
    """Return what happened, why, and what to try."""
    why, hint = getattr(exc, "why", None), getattr(exc, "hint", None)
    if isinstance(why, str) and isinstance(hint, str):
        return str(exc) or type(exc).__name__, why, hint
    if isinstance(exc, KeyboardInterrupt):
        return "cancelled", "", "; ".join(getattr(exc, "__notes__", ()))
    if isinstance(exc, MemoryError):
        return "out of memory", "", "close other programs, or build fewer services at once"
    text = " ".join(str(exc).split())
    what = f"unexpected {type(exc).__name__}" + (f": {text}" if text else "")
    return what, "", "" if debug else "run it again with CONVOX_DEBUG=1 to see where, and report it"


def _snippet_blocks(exc: BaseException) -> list[str]:
    """Return the places in source files that a build error, or the build error behind this one, points at."""
    for error in (exc, exc.__cause__):
        snippets: Sequence[SourceSnippet] = getattr(error, "snippets", ())
        if snippets:
            from buildkit_client.error_text import snippet_lines  # noqa: PLC0415  (only where something went wrong)

            return [block for block in ("\n".join(snippet_lines(snippet)) for snippet in snippets) if block]
    return []
