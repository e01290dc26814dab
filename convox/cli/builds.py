"""``convox builds``: the list, one build's information, its log; comparing, cancelling and removing builds."""

from typing import TYPE_CHECKING, Annotated

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
    from convox.store.abandoned import fail_abandoned_builds  # noqa: PLC0415

    cx: CliContext = ctx.obj
    count = read_count(limit, "-l, --limit")
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:

        def show() -> None:
            records.store.get_app(records.app)
            if seconds:  # a build may be killed while it is watched
                fail_abandoned_builds(records.store, records.app)
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


@app.command("cancel", cls=Command)
def cancel(
    ctx: typer.Context,
    *,
    build: BuildArgument,
    app: AppOption = None,
    rack: RackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Cancel a running build.

    It must run on this host. Its process is asked to end, which tells the builder, and after ten seconds killed.
    """
    from convox.build_cancel import cancel_build, current_user  # noqa: PLC0415

    cx: CliContext = ctx.obj
    with cx.records(app=app, rack=rack) as records:
        records.store.get_build(records.app, build)
        with cx.console.step("Cancelling build"):
            cancel_build(records.store, records.app, build, by=current_user())


@app.command("rm", cls=Command)
def remove(
    ctx: typer.Context,
    *,
    builds: Annotated[list[str], typer.Argument(metavar="build", show_default=False)],
    app: AppOption = None,
    rack: RackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Remove builds.

    Their records, logs, and the images that lie on this machine go; images in a registry stay there, and so do the
    releases, without a build. A build that runs, or that the active release is made of, is not removed.
    """
    from convox.build_removal import check_removable, prune_images, remove_build  # noqa: PLC0415
    from convox.images import stored_images  # noqa: PLC0415

    cx: CliContext = ctx.obj
    with cx.records(app=app, rack=rack) as records:
        found = [records.store.get_build(records.app, build_id) for build_id in dict.fromkeys(builds)]
        for build in found:
            check_removable(records.store, build)
        places = [stored_images(records.rack, build) for build in found]
        for build, images in zip(found, places, strict=True):
            with cx.console.step(f"Removing build {cx.console.paint(build.id, 'build')}"):
                has_left_none = remove_build(records.store, build, images)
            if not has_left_none:
                cx.console.notice(f"NOTICE: the images of {build.id} stay in {build.repository}")
        prune_images(records.store, {images.layout_path: images for images in places}.values())


@app.command("diff", cls=Command)
def diff(
    ctx: typer.Context,
    *,
    before: Annotated[str, typer.Argument(metavar="build", show_default=False)],
    after: Annotated[str, typer.Argument(metavar="build", show_default=False)],
    app: AppOption = None,
    rack: RackOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Show the differences between two builds.

    What is compared: the records, how much came from a cache, each service's image with its size, layers, base images,
    build arguments and variables, the app's environment, and the manifest. Values of secrets are shown as ****.
    """
    from convox import builder  # noqa: PLC0415
    from convox.build_diff import diff_builds  # noqa: PLC0415
    from convox.images import stored_images  # noqa: PLC0415
    from convox.output.build_diff import show_diff  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:
        settings = records.settings
        credentials = builder.credentials(
            records.rack, docker_config_path=settings.docker_config_path, environ=settings.environ
        )
        found = [records.store.get_build(records.app, build_id) for build_id in (before, after)]
        left, right = ((build, stored_images(records.rack, build)) for build in found)
        result = diff_builds(records.store, left, right, credentials)
    if is_json:
        cx.console.json(result.to_json())
    else:
        show_diff(cx.console, result)
