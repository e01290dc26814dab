"""``convox builds``: the list, one build's information, its log."""

from typing import TYPE_CHECKING

import typer

from convox.cli import transfers
from convox.cli.command import Command, Group
from convox.cli.flags import read_count
from convox.cli.params import (
    DEFAULT_LIMIT,
    AppOption,
    BuildArgument,
    LimitOption,
    OutputOption,
    RackOption,
    WaitOption,
    WatchOption,
)

if TYPE_CHECKING:
    from convox.cli.context import CliContext


class BuildsGroup(Group):
    """``convox builds`` alone lists builds."""

    own_command = "list"


app = typer.Typer(cls=BuildsGroup, name="builds", help="Work with builds.", rich_markup_mode=None, add_completion=False)
app.command("export", cls=Command)(transfers.export_build)
app.command("import", cls=Command)(transfers.import_build)
app.command("import-image", cls=Command)(transfers.import_image)


@app.command("list", cls=Command, hidden=True)
def list_builds(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    limit: LimitOption = None,
    watch: WatchOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List builds."""
    from convox.output.times import ago, elapsed  # noqa: PLC0415

    cx: CliContext = ctx.obj
    count = read_count(limit, "-l, --limit")
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:

        def show() -> None:
            records.store.get_app(records.app)
            builds = records.store.list_builds(records.app, limit=DEFAULT_LIMIT if count is None else count)
            if is_json:
                cx.console.json([build.to_json() for build in builds])
                return
            cx.console.table(
                ("ID", "STATUS", "RELEASE", "STARTED", "ELAPSED", "DESCRIPTION"),
                [
                    (
                        build.id,
                        build.status,
                        build.release,
                        ago(build.started),
                        elapsed(build.started, build.ended),
                        build.description,
                    )
                    for build in builds
                ],
            )

        cx.watch(seconds, show)


@app.command("info", cls=Command)
def show_build(
    ctx: typer.Context,
    *,
    build: BuildArgument,
    app: AppOption = None,
    rack: RackOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get information about a build."""
    from convox.output.times import ago, elapsed  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:
        record = records.store.get_build(records.app, build)
    if is_json:
        cx.console.json(record.to_json())
        return
    rows = [
        ("Id", record.id),
        ("Status", str(record.status)),
        ("Release", record.release),
        ("Description", record.description),
        ("Started", ago(record.started)),
        ("Elapsed", elapsed(record.started, record.ended)),
    ]
    if record.reason:  # Convox knows it and does not show it
        rows.append(("Reason", record.reason))
    cx.console.info(rows)


@app.command("logs", cls=Command)
def show_log(
    ctx: typer.Context,
    *,
    build: BuildArgument,
    app: AppOption = None,
    rack: RackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get logs for a build.

    The log is shown as it was written. While the build runs, its log is followed to the end.
    """
    from convox.store.logs import follow_log  # noqa: PLC0415

    cx: CliContext = ctx.obj
    with cx.records(app=app, rack=rack) as records:
        for chunk in follow_log(records.store, records.app, build):
            cx.console.write(chunk)
