"""``convox builds export`` and ``convox builds import``: builds as files."""

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
    from convox.archive import ImportSite, import_build  # noqa: PLC0415
    from convox.archive_reader import InputFile, open_export  # noqa: PLC0415
    from convox.errors import UsageError  # noqa: PLC0415
    from convox.images import image_store  # noqa: PLC0415

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
