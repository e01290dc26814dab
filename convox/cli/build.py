"""``convox build``: from a folder to images, a record and a release."""

from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command
from convox.cli.params import AppOption, OutputOption, RackOption, WaitOption
from convox.errors import RackError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convox.build_flags import GivenSecrets
    from convox.builds import BuildRequest
    from convox.cli.context import CliContext, Records
    from convox.images import ImageStore

app = typer.Typer(name="build", rich_markup_mode=None, add_completion=False)

Many = list[str]
"""Values of a flag that may be given several times."""


@app.command("build", cls=Command)
def build(
    ctx: typer.Context,
    *,
    directory: Annotated[str | None, typer.Argument(metavar="[dir]", show_default=False)] = None,
    app: AppOption = None,
    rack: RackOption = None,
    build_args: Annotated[
        Many, typer.Option("--build-args", metavar="NAME=value", help="build argument; may be given several times")
    ] = [],  # noqa: B006 - never changed, as all below
    cache_from: Annotated[
        Many, typer.Option("--cache-from", metavar="type=…", help="a cache to use besides the rack's, as for buildctl")
    ] = [],  # noqa: B006
    cache_to: Annotated[
        Many,
        typer.Option("--cache-to", metavar="type=…", help="a cache to write; {service} stands for a service's name"),
    ] = [],  # noqa: B006
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
    no_push: Annotated[bool, typer.Option("--no-push", help="keep the images in the rack's folder, push none")] = False,
    output: OutputOption = None,
    platform: Annotated[
        Many, typer.Option("--platform", metavar="os/arch", help="platforms to build for, joined by commas")
    ] = [],  # noqa: B006
    print_plan: Annotated[bool, typer.Option("--print", help="print what would be built, and build nothing")] = False,
    push: Annotated[bool, typer.Option("--push", help="fail where the rack has no registry to push to")] = False,
    secret: Annotated[
        Many, typer.Option("--secret", metavar="id=…", help="a secret for steps: id=NAME,src=FILE or id=NAME,env=NAME")
    ] = [],  # noqa: B006
    service: Annotated[
        Many, typer.Option("--service", metavar="name", help="build this service alone; may be given several times")
    ] = [],  # noqa: B006
    ssh: Annotated[
        Many, typer.Option("--ssh", metavar="id[=path]", help="an SSH agent or key for steps: default, or ID=PATH")
    ] = [],  # noqa: B006
    target: Annotated[
        str | None, typer.Option("--target", metavar="stage", help="stage to build, not the last")
    ] = None,
    wildcard_domain: Annotated[
        bool, typer.Option("--wildcard-domain", help="has no effect: nothing is deployed")
    ] = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Create a build.

    Images are pushed where the rack has a registry, and else kept in its folder. With --service, the record and the
    release have the images of those services and no others.
    """
    from convox.apps import build_platforms  # noqa: PLC0415
    from convox.build_flags import CacheFlag, read_platforms, read_secrets, read_ssh  # noqa: PLC0415
    from convox.builds import BuildRequest  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    is_json = cx.wants_json(output, print_id=print_id)
    console.id_only = print_id or (is_json and not print_plan)
    for flag, is_given in (("--external", external), ("--wildcard-domain", wildcard_domain)):
        if is_given:
            console.notice(f"{flag} has no effect here: {_NO_EFFECT[flag]}")
    environ, cwd = cx.settings.environ, cx.settings.cwd
    given: GivenSecrets = read_secrets(secret, cwd=cwd, environ=environ)
    cx.secrets += given.values
    platforms = read_platforms(platform)
    with cx.records(app=app, rack=rack) as records:
        request = BuildRequest(
            app=records.app,
            path=cwd / (directory or "."),
            manifest=manifest or "convox.yml",
            description=description,
            build_args=build_args,
            services=service,
            target=target or "",
            cache_from=[CacheFlag(text, environ=environ) for text in cache_from],
            cache_to=[CacheFlag(text, is_export=True, environ=environ) for text in cache_to],
            secrets=given.secrets,
            ssh=read_ssh(ssh, cwd=cwd, environ=environ),
            is_cached=not no_cache,
            is_development=development,
            environ=environ,
            flags=f"-a {records.app}" + (f" -r {rack}" if rack else ""),
        )
        for cache in (*request.cache_from, *request.cache_to):
            cache.cache("x")  # refuses what cannot work
        images = _images(records, push=push, no_push=no_push)
        rack_platforms = records.rack.param("platform")
        wanted = platforms or build_platforms(records.store, records.app, rack_platforms)
        if print_plan:
            _print_plan(cx, records, request, images, wanted, is_json=is_json)
            return
        _build(cx, records, request, images, wanted, is_json=is_json, print_id=print_id)


def _images(records: "Records", *, push: bool, no_push: bool) -> "ImageStore":
    """Return where the images go.

    Raises:
        UsageError: Both flags are given.
        RackError: They are to be pushed, and the rack has no registry.
    """
    from convox.images import image_store, local_images  # noqa: PLC0415

    if push and no_push:
        raise UsageError("--push and --no-push exclude each other")
    if push and not records.rack.param("registry"):
        raise RackError(
            f"rack {records.rack.name} has no registry to push to",
            hint="convox rack params set registry=HOST/PATH",
        )
    return local_images(records.rack, records.app) if no_push else image_store(records.rack, records.app)


def _print_plan(
    cx: "CliContext",
    records: "Records",
    request: "BuildRequest",
    images: "ImageStore",
    platforms: "Sequence[str]",
    *,
    is_json: bool,
) -> None:
    from convox.build_flags import check_cache_exports  # noqa: PLC0415
    from convox.builds import partial_note, plan_build  # noqa: PLC0415
    from convox.output.plan import show_plan  # noqa: PLC0415
    from convox.plan_view import view_plan  # noqa: PLC0415
    from convox.source import describe_source  # noqa: PLC0415

    latest = records.store.latest_release(records.app)
    env = latest.environment if latest is not None else {}
    cx.secrets += request.secret_values(env)
    manifest, plan = plan_build(
        request,
        rack=records.rack.name,
        repository=images.repository,
        build_id="<build>",
        git_sha=describe_source(request.path, environ=request.environ).sha,
        env=env,
    )
    check_cache_exports(request.cache_to, [image.services for image in plan.images])
    note = partial_note(manifest, plan)
    view = view_plan(
        plan,
        request,
        rack=records.rack.name,
        images=images,
        platforms=platforms,
        env=env,
        notes=[note] if note else [],
    )
    if is_json:
        cx.console.json(view.to_json())
    else:
        show_plan(cx.console, view)


def _build(
    cx: "CliContext",
    records: "Records",
    request: "BuildRequest",
    images: "ImageStore",
    platforms: "Sequence[str]",
    *,
    is_json: bool,
    print_id: bool,
) -> None:
    from functools import partial  # noqa: PLC0415

    from convox import builder  # noqa: PLC0415
    from convox.builds import BuildSite, run_build  # noqa: PLC0415

    settings, console = records.settings, cx.console

    def start_local() -> str:
        from convox.local_builder import LocalBuilder  # noqa: PLC0415

        return LocalBuilder.of(settings).start(console.step).address

    site = BuildSite(
        rack=records.rack.name,
        store=records.store,
        images=images,
        connect=partial(builder.connect, records.rack, buildkit_host=settings.buildkit_host, start_local=start_local),
        credentials=builder.credentials(
            records.rack, docker_config_path=settings.docker_config_path, environ=settings.environ
        ),
        registry_http=records.rack.registry_http(),
        secrets=cx.secrets,
        platforms=platforms,
    )
    record, release = run_build(request, site, console)
    console.print(f"Build:   {console.paint(record.id, 'build')}")
    console.print(f"Release: {console.paint(release.id, 'release')}")
    if is_json:
        console.json(record.to_json())
    if print_id:
        console.print_id(release.id)


_NO_EFFECT = {
    "--external": "no docker is needed, every build runs on the rack's builder",
    "--wildcard-domain": "nothing is deployed",
}
