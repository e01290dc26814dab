"""``convox releases``: the list, one release's information and manifest, new ones from old, and which one is active."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command, Group
from convox.cli.flags import read_count
from convox.cli.params import (
    DEFAULT_LIMIT,
    AppOption,
    LimitOption,
    OutputOption,
    RackOption,
    ReleaseArgument,
    RevealOption,
    WaitOption,
    WatchOption,
)
from convox.environment import MASK as ENV_MASK
from convox.errors import NotFoundError
from convox.models import Release, format_time

if TYPE_CHECKING:
    from convox.cli.context import CliContext, Records
    from convox.output.console import Console

DEPLOYS_NOTHING = "NOTICE: the release is marked as active; nothing is deployed, this convox does not run apps"
"""What a promotion says on stderr."""

ForceOption = Annotated[bool, typer.Option("--force", help="has no effect: there is nothing to wait for")]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ReleasesGroup(Group):
    """``convox releases`` alone lists releases."""

    own_command = "list"


app = typer.Typer(
    cls=ReleasesGroup, name="releases", help="Work with releases.", rich_markup_mode=None, add_completion=False
)


@app.command("list", cls=Command, hidden=True)
def list_releases(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    limit: LimitOption = None,
    watch: WatchOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List releases for an app."""
    from convox.output.times import ago  # noqa: PLC0415

    cx: CliContext = ctx.obj
    count = read_count(limit, "-l, --limit")
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:

        def show() -> None:
            active = records.store.get_app(records.app).release
            releases = records.store.list_releases(records.app, limit=DEFAULT_LIMIT if count is None else count)
            if is_json:
                cx.console.json([masked(release).to_json() for release in releases])
                return
            cx.console.table(
                ("ID", "STATUS", "BUILD", "CREATED", "DESCRIPTION"),
                [
                    (
                        release.id,
                        "active" if release.id == active else "",
                        release.build,
                        ago(release.created),
                        release.description,
                    )
                    for release in releases
                ],
            )

        cx.watch(seconds, show)


@app.command("info", cls=Command)
def show_release(
    ctx: typer.Context,
    *,
    release: ReleaseArgument,
    app: AppOption = None,
    rack: RackOption = None,
    reveal: RevealOption = False,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get information about a release.

    The values of its environment are shown as **** unless --reveal is given, also where the output is a file or a pipe.
    """
    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:
        record = records.store.get_release(records.app, release)
    if not reveal:
        record = masked(record)
    if is_json:
        cx.console.json(record.to_json())
        return
    created = record.created.replace(microsecond=0) if record.created else None
    cx.console.info(
        [
            ("Id", record.id),
            ("Build", record.build),
            ("Created", format_time(created)),
            ("Description", record.description),
            ("Env", record.env),
        ]
    )


@app.command("manifest", cls=Command)
def show_manifest(
    ctx: typer.Context,
    *,
    release: ReleaseArgument,
    app: AppOption = None,
    rack: RackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get manifest for a release."""
    cx: CliContext = ctx.obj
    with cx.records(app=app, rack=rack) as records:
        record = records.store.get_release(records.app, release)
        if not record.build:
            raise NotFoundError(f"no build for release: {release}", why="it only changes the environment")
        build = records.store.get_build(records.app, record.build)
    cx.console.write(f"{build.manifest.strip()}\n".encode())


@app.command("create-from", cls=Command)
def create_release_from(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    build_from: Annotated[
        str | None, typer.Option("--build-from", metavar="release", help="release whose build is taken")
    ] = None,
    env_from: Annotated[
        str | None, typer.Option("--env-from", metavar="release", help="release whose environment is taken")
    ] = None,
    use_active_build: Annotated[
        bool, typer.Option("--use-active-release-build", help="take the active release's build")
    ] = False,
    use_active_env: Annotated[
        bool, typer.Option("--use-active-release-env", help="take the active release's environment")
    ] = False,
    promote: Annotated[bool, typer.Option("--promote", help="promote the release")] = False,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Create a new release using the build from one release and the environment from another for an app."""
    from convox.releases import active_release, choose_release, create_from  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    build_id = choose_release(
        build_from, is_active=use_active_build, flag="--build-from", active_flag="--use-active-release-build"
    )
    env_id = choose_release(
        env_from, is_active=use_active_env, flag="--env-from", active_flag="--use-active-release-env"
    )
    is_json = cx.wants_json(output)
    console.id_only = is_json
    with cx.records(app=app, rack=rack) as records:
        store = records.store
        active = active_release(store, records.app).id if use_active_build or use_active_env else ""
        build, env = (store.get_release(records.app, release_id or active).id for release_id in (build_id, env_id))
        console.print(f"Using build from release: {build}")
        console.print(f"Using env from release: {env}")
        made = create_from(store, records.app, build_from=build, env_from=env)
        console.print(f"Created release: {made.id}")
        if promote:
            show_promotion(console, records, made.id)
        else:
            console.print(console.paint("OK", "ok"))
    if is_json:
        console.json(masked(made).to_json())


@app.command("promote", cls=Command)
def promote_release(
    ctx: typer.Context,
    *,
    release: Annotated[str | None, typer.Argument(metavar="release", show_default=False)] = None,
    app: AppOption = None,
    rack: RackOption = None,
    force: ForceOption = False,  # noqa: ARG001
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Promote a release.

    Marks it as the active one, the newest where none is named. Nothing is deployed: this convox does not run apps.
    """
    from convox.releases import newest_release  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    cx.console.id_only = is_json
    with cx.records(app=app, rack=rack) as records:
        chosen = (
            records.store.get_release(records.app, release) if release else newest_release(records.store, records.app)
        )
        show_promotion(cx.console, records, chosen.id)
    if is_json:
        cx.console.json(masked(chosen).to_json())


@app.command("rollback", cls=Command)
def roll_back(
    ctx: typer.Context,
    *,
    release: ReleaseArgument,
    app: AppOption = None,
    rack: RackOption = None,
    force: ForceOption = False,  # noqa: ARG001
    print_id: Annotated[bool, typer.Option("--id", help="print the release id alone; the rest goes to stderr")] = False,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Copy an old release forward and promote it.

    Marks the copy as the active release. Nothing is deployed: this convox does not run apps.
    """
    from convox.releases import copy_forward  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    is_json = cx.wants_json(output, print_id=print_id)
    console.id_only = print_id or is_json
    with cx.records(app=app, rack=rack) as records:
        with console.step(f"Rolling back to {console.paint(release, 'release')}") as step:
            made = copy_forward(records.store, records.app, release)
            step.done(made.id)
        show_promotion(console, records, made.id)
    if is_json:
        console.json(masked(made).to_json())
    elif print_id:
        console.print_id(made.id)


def show_promotion(console: "Console", records: "Records", release_id: str) -> None:
    """Mark a release as active and show it as Convox shows a promotion; the first line ends before the work there."""
    from convox.releases import promote  # noqa: PLC0415

    console.print(f"Promoting {console.paint(release_id, 'release')}... ")
    promote(records.store, records.app, release_id)
    console.print(console.paint("OK", "ok"))
    console.notice(DEPLOYS_NOTHING)


def masked(release: Release) -> Release:
    """Return a release whose environment shows names and no values."""
    return replace(release, env="\n".join(_masked_line(line) for line in release.env.split("\n")))


def _masked_line(line: str) -> str:
    name, equals, value = line.partition("=")
    # What does not look like a name is a further line of the value above it: the last line of a key, say, which ends
    # in "=" or "==".
    is_name = _NAME.fullmatch(name) is not None and value != "=" and bool(value or name.isupper() or name.islower())
    if equals and is_name:
        return f"{name}={ENV_MASK}"
    return ENV_MASK if line else ""
