"""The first steps of the process: until everything is loaded, and after the command is over, Ctrl-C just ends it.

Python's own answer to Ctrl-C is an exception, which shows as a traceback where nothing can catch it: in the middle of
an import, and while the interpreter ends.
"""

import signal
import sys


def main() -> int:
    """Run one command and return the exit code of the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] == ["__complete"]:
        from convox.cli.completion import answer  # noqa: PLC0415 (only for a shell that completes)

        return answer(sys.argv[2:])
    from convox.cli.app import main as run_command  # noqa: PLC0415 (loads the command line)

    return run_command()
