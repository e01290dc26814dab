"""The first steps of the process: until everything is loaded, and after the command is over, Ctrl-C just ends it.

What needs no command line, the list of commands and what a shell asks, is answered here, without loading one.

Python's own answer to Ctrl-C is an exception, which shows as a traceback where nothing can catch it: in the middle of
an import, and while the interpreter ends.
"""

import gc
import os
import signal
import sys


def main() -> int:
    """Run one command and return the exit code of the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Manifests name files in UTF-8, whatever the locale has; whoever said otherwise to Python has it so.
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    if sys.argv[1:] in ([], ["help"], ["-h"], ["--help"]) and _list_commands():
        return 0
    if sys.argv[1:2] == ["__complete"]:
        from convox.cli.completion import answer  # noqa: PLC0415 (only for a shell that completes)

        return answer(sys.argv[2:])
    from buildkit_client.startup import lean_imports  # noqa: PLC0415 (help needs none)

    with lean_imports():
        from convox.cli.app import main as run_command  # noqa: PLC0415 (loads the command line)
    try:
        return run_command()
    finally:
        gc.freeze()  # nor is there anything to look for while the interpreter ends


def _list_commands() -> bool:
    """Print the commands; False where that fails, so that the command line meets the error and words it."""
    from convox.cli.help import list_commands  # noqa: PLC0415 (only for help)

    try:
        sys.stdout.write(f"{list_commands()}\n")
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):
        return False
    return True
