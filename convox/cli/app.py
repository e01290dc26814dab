"""The command ``convox``: its tree of commands, and the border where every error ends.

A command's module is imported when the command runs, so that a listing does not pay for a build. Errors travel up to
:func:`main` and nowhere else become text and exit code.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import typer

from buildkit_client.startup import lean_imports
from convox.cli.command import Group, command_of
from convox.cli.context import CliContext
from convox.errors import ConvoxError, ExitCode, UsageError
from convox.interrupts import interrupt
from convox.output.console import Console
from convox.settings import Settings

COMMANDS: dict[str, str] = {
    "apps": "convox.cli.apps:app",
    "build": "convox.cli.build:app",
    "builder": "convox.cli.builder:app",
    "builds": "convox.cli.builds:app",
    "completion": "convox.cli.completion:app",
    "env": "convox.cli.env:app",
    "help": "convox.cli.about:help_app",
    "rack": "convox.cli.racks:rack_app",
    "racks": "convox.cli.racks:racks_app",
    "registries": "convox.cli.registries:app",
    "releases": "convox.cli.releases:app",
    "switch": "convox.cli.racks:switch_app",
    "version": "convox.cli.about:version_app",
}
"""Where the commands are, by their word: a module, and the typer app in it."""

_OF_RUNNING_APPS = frozenset(
    {"deploy", "exec", "instances", "logs", "ps", "resources", "restart", "run", "scale", "services"}
)
"""Convox's commands for apps that run; here are none."""


class RootGroup(Group):
    """All commands; each is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the words of the commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import a command; None where no command has that word."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        if cmd_name not in self.commands:
            with lean_imports():
                app = getattr(import_module(module), name)
            self.commands[cmd_name] = command_of(app)
        return self.commands[cmd_name]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after ``convox``."""
        return super().parse_args(ctx, args or ["help"])

    def _refuse(self, ctx: Any, word: str, what: str) -> NoReturn:
        if word in _OF_RUNNING_APPS:
            hint = (
                "convox build makes a release, convox releases promote marks it as active" if word == "deploy" else ""
            )
            raise UsageError(what, why="this convox builds apps and does not run them", hint=hint)
        super()._refuse(ctx, word, what)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process; see :class:`~convox.errors.ExitCode`.

    Args:
        argv: The words after ``convox``; this process's own by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console.for_process()
    context: CliContext | None = None
    try:
        with _Terminable():
            settings = Settings.load()
            console = Console.for_process(color=None if settings.is_color_allowed else False)
            context = CliContext(console=console, settings=settings)
            _run(words, context)
    except typer.Exit as exc:
        return exc.exit_code
    except BrokenPipeError:
        console.silence()
        return ExitCode.CLOSED_PIPE
    except (Exception, KeyboardInterrupt) as exc:  # the border: nothing passes it as a traceback
        return _show(exc, console, context)
    return ExitCode.OK


def _run(words: list[str], context: CliContext) -> None:
    if words[:1] in (["-v"], ["--version"]):
        from convox.cli.about import version  # noqa: PLC0415

        context.console.print(version())
        return
    if words[:1] == ["-h"] or words[:1] == ["--help"]:
        words = ["help", *words[1:]]
    root = root_group()
    with root.make_context("convox", words, obj=context) as ctx:
        root.invoke(ctx)


def root_group() -> RootGroup:
    """Return the tree of commands."""
    return RootGroup(name="convox", help="Build container images as Convox does.", rich_markup_mode=None)


def _show(exc: BaseException, console: Console, context: CliContext | None) -> int:
    """Show an error and return its exit code."""
    from convox.output.errors import exit_code  # noqa: PLC0415  (only where something went wrong)

    code = exit_code(exc)
    is_debug = context is not None and context.settings.is_debug
    with contextlib.suppress(OSError, ConvoxError):  # else nobody can be told
        console.error(exc, debug=is_debug, secrets=context.secrets if context else ())
    console.silence()
    return code


class _Terminable:
    """While this is open, Ctrl-C or a request to end the process ends the command, with the records in order.

    Only the first counts: what follows it is soon over, and another one in the middle of that would leave a build
    without its end.
    """

    def __enter__(self) -> None:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._end)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        for one in self._before:
            signal.signal(one, signal.SIG_IGN)
        interrupt()


if __name__ == "__main__":
    sys.exit(main())
