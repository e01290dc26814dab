"""``convox build``: from a folder to images, a record and a release."""

from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command
from convox.cli.params import AppOption, RackOption, WaitOption

if TYPE_CHECKING:
    from convox.cli.context import CliContext

app = typer.Typer(name="build", rich_markup_mode=None, add_completion=False)


@app.command("build", cls=Command)
def build(
    ctx: typer.Context,
    *,
    directory: Annotated[str | None, typer.Argument(metavar="[dir]", show_default=False)] = None,
    app: AppOption = None,
    rack: RackOption = None,
    build_args: Annotated[
        list[str], typer.Option("--build-args", metavar="NAME=value", help="build argument; may be given several times")
    ] = [],  # noqa: B006 - never changed
    description: Annotated[
        str | None, typer.Option("-d", "--description", metavar="text", help="description of the build")
    ] = None,
    development: Annotated[bool, typer.Option("--development", help="build the stages named development")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="has no effect: every build runs on the rack's builder")
    ] = False,
    print_id: Annotated[bool, typer.Option("--id", help="print the release id alone; the rest goes to stderr")] = False,
    manifest: Annotated[
        str | None, typer.Option("-m", "--manifest", metavar="file", help="the app's manifest (convox.yml)")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="run every step again")] = False,
    wildcard_domain: Annotated[
        bool, typer.Option("--wildcard-domain", help="has no effect: nothing is deployed")
    ] = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Create a build."""
    from functools import partial  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from convox import builder  # noqa: PLC0415
    from convox.builds import BuildRequest, BuildSite, run_build  # noqa: PLC0415
    from convox.images import image_store  # noqa: PLC0415
    from convox.local_builder import LocalBuilder  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    console.id_only = print_id
    for flag, is_given in (("--external", external), ("--wildcard-domain", wildcard_domain)):
        if is_given:
            console.notice(f"{flag} has no effect here: {_NO_EFFECT[flag]}")
    with cx.records(app=app, rack=rack) as records:
        settings = records.settings

        def start_local() -> str:
            return LocalBuilder.of(settings).start(console.step).address

        request = BuildRequest(
            app=records.app,
            path=settings.cwd / Path(directory or "."),
            manifest=manifest or "convox.yml",
            description=description,
            build_args=build_args,
            is_cached=not no_cache,
            is_development=development,
            environ=settings.environ,
            flags=f"-a {records.app}" + (f" -r {rack}" if rack else ""),
        )
        site = BuildSite(
            rack=records.rack.name,
            store=records.store,
            images=image_store(records.rack, records.app),
            connect=partial(
                builder.connect, records.rack, buildkit_host=settings.buildkit_host, start_local=start_local
            ),
            credentials=builder.credentials(records.rack, docker_config_path=settings.docker_config_path),
            secrets=cx.secrets,
            platforms=tuple(part for part in records.rack.param("platform").split(",") if part),
        )
        record, release = run_build(request, site, console)
        console.print(f"Build:   {record.id}")
        console.print(f"Release: {release.id}")
        if print_id:
            console.print_id(release.id)


_NO_EFFECT = {
    "--external": "no docker is needed, every build runs on the rack's builder",
    "--wildcard-domain": "nothing is deployed",
}
