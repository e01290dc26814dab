"""The entry of ``buildkit-client``: loads the command line, and as little as possible with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.startup import lean_imports

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    with lean_imports():
        from buildkit_client.cli.run import run_command_line  # noqa: PLC0415 - what it loads is loaded leanly

    return run_command_line(arguments)
