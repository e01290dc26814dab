"""``convox builds export``, ``import`` and ``import-image``: builds as files, and images as builds."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.params import AppOption, BuildArgument, RackOption, WaitOption

if TYPE_CHECKING:
    from convox.cli.context import CliContext


def export_build(
    ctx: typer.Context,
    *,
    build: BuildArgument,
    app: AppOption = None,
    rack: RackOption = None,
    file: Annotated[str | None, typer.Option("-f", "--file", metavar="file", help="export to file")] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            "--compression",
            metavar="kind",
            help="gzip, which is what Convox racks read, zstd or none (by the name: zstd for .zst, else gzip)",
        ),
    ] = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Export a build.

    The file can be imported here and on a Convox rack. Without --file it goes to stdout.
    """
    from convox import builder  # noqa: PLC0415
    from convox.archive import export_build, parse_epoch  # noqa: PLC0415
    from convox.archive_file import choose_compression, whole_file, writing  # noqa: PLC0415
    from convox.errors import UsageError  # noqa: PLC0415
    from convox.images import stored_images  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    kind = choose_compression(compression, file)
    if file is None and console.is_terminal:
        raise UsageError("pipe this command into a file or specify --file")
    console.id_only = file is None
    with cx.records(app=app, rack=rack) as records:
        settings = records.settings
        epoch = parse_epoch(settings.source_date_epoch)
        record = records.store.get_build(records.app, build)
        credentials = builder.credentials(records.rack, docker_config_path=settings.docker_config_path)
        with console.step("Exporting build"), stored_images(records.rack, record).open_source(credentials) as source:
            if file is None:
                with writing("stdout"):
                    export_build(records.store, record, source, console.stdout, compression=kind, epoch=epoch)
                    console.stdout.flush()
            else:
                with whole_file(settings.cwd / file) as out:
                    export_build(records.store, record, source, out, compression=kind, epoch=epoch)


def import_build(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    file: Annotated[str | None, typer.Option("-f", "--file", metavar="file", help="import from file")] = None,
    print_id: Annotated[bool, typer.Option("--id", help="print the release id alone; the rest goes to stderr")] = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Import a build.

    Takes what export wrote, here or on a Convox rack, in gzip, zstd or neither. Without --file it is read from stdin.
    """
    from convox import builder  # noqa: PLC0415
    from convox.archive import import_build  # noqa: PLC0415
    from convox.archive_reader import InputFile, open_export  # noqa: PLC0415
    from convox.errors import UsageError  # noqa: PLC0415
    from convox.images import image_store  # noqa: PLC0415
    from convox.import_record import ImportSite  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("pipe a file into this command or specify --file")
    console.id_only = print_id
    with cx.records(app=app, rack=rack) as records, contextlib.ExitStack() as stack:
        settings = records.settings
        if file is None:
            stream = InputFile(sys.stdin.buffer, "stdin")
        else:
            stream = stack.enter_context(open_export(settings.cwd / file))
        images = image_store(records.rack, records.app)
        credentials = builder.credentials(records.rack, docker_config_path=settings.docker_config_path)
        with console.step("Importing build") as step, images.open_target(credentials) as target:
            site = ImportSite(
                app=records.app,
                store=records.store,
                repository=images.repository,
                target=target,
                secrets=cx.secrets,
            )
            _, release = import_build(stream, site)
            step.done(release.id)
        if print_id:
            console.print_id(release.id)


def import_image(
    ctx: typer.Context,
    *,
    source_image: Annotated[str, typer.Argument(metavar="source-image", show_default=False)],
    app: AppOption = None,
    rack: RackOption = None,
    manifest: Annotated[
        str | None, typer.Option("-m", "--manifest", metavar="file", help="the app's manifest (convox.yml)")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--src-creds-user", metavar="name", help="user of the image's registry")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option("--src-creds-pass", metavar="password", help="its password; others can see it, use one of these:"),
    ] = None,
    password_env: Annotated[
        str | None, typer.Option("--src-creds-pass-env", metavar="NAME", help="environment variable with the password")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--src-creds-pass-stdin", help="read the password from stdin, one line")
    ] = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Import a prebuilt container image into a new build.

    Every service of the manifest gets the image, but for those with an image of their own. Of an image for several
    platforms all are taken, or the one that the rack's param platform names. Without a login here, those of builds
    are used.
    """
    from convox import builder  # noqa: PLC0415
    from convox.cli.source_login import read_password, source_credentials  # noqa: PLC0415
    from convox.image_import import ImageOrigin, import_image, only_platform  # noqa: PLC0415
    from convox.images import image_store  # noqa: PLC0415
    from convox.import_record import ImportSite  # noqa: PLC0415

    cx: CliContext = ctx.obj
    secret = read_password(cx, password, password_env, stdin=password_stdin)
    with cx.records(app=app, rack=rack) as records:
        settings, current = records.settings, records.rack
        logins = builder.credentials(current, docker_config_path=settings.docker_config_path)
        origin = ImageOrigin(
            credentials=source_credentials(source_image, user, secret, logins),
            insecure_host=current.registry_host if current.param("registry_insecure") == "true" else "",
            platform=only_platform(current.param("platform")),
        )
        images = image_store(current, records.app)
        with images.open_target(logins) as target:
            site = ImportSite(
                app=records.app,
                store=records.store,
                repository=images.repository,
                target=target,
                secrets=cx.secrets,
            )
            manifest_path = settings.cwd / (manifest or "convox.yml")
            build, release = import_image(source_image, manifest_path, origin, site, cx.console)
        cx.console.print(f"Build:   {build.id}")
        cx.console.print(f"Release: {release.id}")
