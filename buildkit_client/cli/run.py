"""One run of ``buildkit-client``: reads the command line, runs a command, prints its error, gives the exit code.

Exit codes are ``buildctl``'s: 0, 1 for everything that failed, 3 for a command that does not exist.

Reference: cmd/buildctl/main.go.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from buildkit_client import __version__
from buildkit_client.cli.commands import PROGRAM, command_tree
from buildkit_client.cli.console import (
    EXIT_FAILED,
    EXIT_NO_SUCH_COMMAND,
    EXIT_OK,
    CommandError,
    prepare_streams,
    write_error,
    write_out,
)
from buildkit_client.cli.flags import Invocation, UsageError, read_command_line
from buildkit_client.cli.help import help_page
from buildkit_client.errors import BuildKitError, DaemonError, OptionError, SolveError
from buildkit_client.startup import lean_imports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    prepare_streams()
    root = command_tree(os.environ)
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[-1] == "--generate-shell-completion":
        from buildkit_client.cli.completion import proposals  # noqa: PLC0415 (only for a shell that completes)

        write_out(proposals(root, words[:-1]))
        return EXIT_OK
    try:
        invocation = read_command_line(root, words)
    except UsageError as exc:
        write_error(f"Incorrect Usage: {exc}\n\n")
        if sys.stdout is not None:
            write_out(help_page(exc.path, version=__version__))
        write_error(f"error: {exc}\n")
        return EXIT_FAILED
    try:
        return _run(invocation)
    except BrokenPipeError:
        # Whoever read our output went away; the interpreter must not try to flush the rest when it ends.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        write_error("error: context canceled\n")
        return EXIT_FAILED
    except CommandError as exc:
        _print_error(exc.error, exc.doing, is_debug=invocation.is_set("debug"))
    except BuildKitError as exc:
        _print_error(exc, "", is_debug=invocation.is_set("debug"))
    except OSError as exc:
        place = f"open {exc.filename}: " if exc.filename else ""
        write_error(f"error: {place}{(exc.strerror or str(exc)).lower()}\n")
    return EXIT_FAILED


def _run(invocation: Invocation) -> int:
    command = invocation.command
    if invocation.asks_version:
        write_out(f"{PROGRAM} {__version__}\n")
        return EXIT_OK
    is_topic = invocation.arguments[:1] in (["help"], ["h"])  # every command has this inner one
    if (is_topic or not command.run) and not invocation.asks_help and invocation.arguments:
        return _run_without_command(invocation)
    if not command.run or invocation.asks_help:
        write_out(help_page(invocation.path, version=__version__))
        return EXIT_OK
    if invocation.text("log-format") not in ("json", "text", ""):
        write_error(f'error: unsupported log type "{invocation.text("log-format")}"\n')
        return EXIT_FAILED
    module_name, _, function_name = command.run.partition(":")
    # A command's module loads gRPC; help and mistakes in the command line do not need it.
    with lean_imports():
        module = import_module(module_name)
    run = cast("Callable[[Invocation], int]", getattr(module, function_name))
    return run(invocation)


def _run_without_command(invocation: Invocation) -> int:
    """Serve ``help [command]``, and refuse a command that does not exist."""
    name, *rest = invocation.arguments
    path = invocation.path
    if name in ("help", "h"):
        for word in rest[:1]:
            found = invocation.command.find(word)
            if found is None:
                write_error(f"No help topic for '{word}'\n")
                return EXIT_NO_SUCH_COMMAND
            path = (*path, found)
        write_out(help_page(path, version=__version__))
        return EXIT_OK
    write_error(f"No help topic for '{name}'\n")
    return EXIT_NO_SUCH_COMMAND


def _print_error(error: BuildKitError, doing: str, *, is_debug: bool) -> None:
    # Only something that went wrong needs these.
    import traceback  # noqa: PLC0415

    from buildkit_client.error_text import FAILED_TO_SOLVE, error_lines  # noqa: PLC0415

    lines = error_lines(error, doing=doing or FAILED_TO_SOLVE, errors="surrogateescape")
    # What the reference prints too stands alone; scripts compare it.
    if error.hint and not isinstance(error, (SolveError, DaemonError, OptionError)):
        lines.append(f"  try: {error.hint}")
    text = "".join(f"{line}\n" for line in lines)
    if is_debug:
        text += "".join(traceback.format_exception(error))
    write_error(text)
