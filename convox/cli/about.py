"""``convox version`` and ``convox help``."""

from typing import TYPE_CHECKING

import typer

from convox.cli.command import Command
from convox.cli.params import HiddenAppOption, HiddenRackOption, WaitOption

if TYPE_CHECKING:
    from convox.cli.context import CliContext

version_app = typer.Typer(name="version", rich_markup_mode=None, add_completion=False)
help_app = typer.Typer(name="help", rich_markup_mode=None, add_completion=False)


def version() -> str:
    """Return the version of this program."""
    from importlib.metadata import version as distribution_version  # noqa: PLC0415  (25 ms)

    return distribution_version("buildkit-client")


@version_app.command("version", cls=Command)
def show_version(
    ctx: typer.Context,
    *,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Display version information."""
    cx: CliContext = ctx.obj
    cx.console.print(f"client: {cx.console.paint(version(), 'info')}")
    # A rack here is a set of parameters: nothing of Convox runs there that would have a version.
    cx.console.print(f"server: {cx.console.paint('none', 'info')}")


@help_app.command("help", cls=Command)
def show_help(
    ctx: typer.Context,
    *,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List commands."""
    from convox.cli.help import list_commands  # noqa: PLC0415

    cx: CliContext = ctx.obj
    cx.console.print(list_commands())
