"""``convox builder``: the buildkitd that convox starts on a machine that has none."""

from typing import TYPE_CHECKING

import typer

from convox.cli.command import Command, Group
from convox.cli.params import HiddenAppOption, HiddenRackOption, OutputOption, WaitOption

if TYPE_CHECKING:
    from convox.cli.context import CliContext

app = typer.Typer(
    cls=Group, name="builder", help="Work with the local builder.", rich_markup_mode=None, add_completion=False
)

NOT_RUNNING = 3
"""What ``convox builder status`` ends with when there is none that answers, as for a service of the system."""


@app.command("start", cls=Command)
def start(
    ctx: typer.Context,
    *,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Start the local builder.

    It is a buildkitd of your own, as root or rootless. A build starts it by itself when its rack names no builder,
    BUILDKIT_HOST is not set, and none answers at the usual place; then it uses it.
    """
    from convox.local_builder import LocalBuilder  # noqa: PLC0415

    cx: CliContext = ctx.obj
    builder = LocalBuilder.of(cx.settings)
    if builder.state().status == "running":
        cx.console.print("The local builder is running already")
        return
    builder.start(cx.console.step)


@app.command("status", cls=Command)
def show_status(
    ctx: typer.Context,
    *,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get information about the local builder.

    Ends with exit code 3 when it is not running.
    """
    from convox.local_builder import LocalBuilder  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    state = LocalBuilder.of(cx.settings).state()
    if is_json:
        cx.console.json(
            {
                "status": state.status,
                "address": state.address,
                "pid": state.pid,
                "version": state.version,
                "root": str(state.root_path),
                "log": str(state.log_path),
            }
        )
    else:
        cx.console.info(
            [
                ("Status", state.status),
                ("Address", state.address),
                ("Pid", "" if state.pid is None else str(state.pid)),
                ("Version", state.version),
                ("Root", str(state.root_path)),
                ("Log", str(state.log_path)),
            ]
        )
    if state.status != "running":
        raise typer.Exit(NOT_RUNNING)


@app.command("stop", cls=Command)
def stop(
    ctx: typer.Context,
    *,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Stop the local builder.

    Builds that it is running get ten seconds, then they are ended. Its cache stays.
    """
    from convox.local_builder import LocalBuilder  # noqa: PLC0415

    cx: CliContext = ctx.obj
    if not LocalBuilder.of(cx.settings).stop(cx.console.step):
        cx.console.print("The local builder is not running")
