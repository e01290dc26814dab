"""``convox releases``: the list, one release's information, its manifest."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

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
from convox.errors import NotFoundError
from convox.models import Release, format_time

if TYPE_CHECKING:
    from convox.cli.context import CliContext

ENV_MASK = "****"
"""What a value of an environment is shown as."""

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
