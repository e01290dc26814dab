"""``convox builds export``, ``import`` and ``import-image``: builds as files, and images as builds."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.params import AppOption, BuildArgument, OutputOption, RackOption, ThroughBuilderOption, WaitOption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from buildkit_client import Client
    from convox.archive_images import ByteReader
    from convox.cli.context import CliContext, Records


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
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="form",
            help="convox, or oci: one image layout of all services, plain unless it is called .tgz or .zst (convox)",
        ),
    ] = None,
    through_builder: ThroughBuilderOption = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Export a build.

    The file can be imported here and, in the form convox, on a Convox rack. Without --file, or with -, it goes to
    stdout. What broke off while a registry was read goes on where it stopped, when the command is repeated with the
    same --file.
    """
    from convox import builder  # noqa: PLC0415
    from convox.archive import export_build, parse_epoch  # noqa: PLC0415
    from convox.archive_file import choose_compression, choose_format  # noqa: PLC0415
    from convox.builder_images import BuilderImages  # noqa: PLC0415
    from convox.errors import UsageError  # noqa: PLC0415
    from convox.images import stored_images  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    file = None if file == "-" else file
    form = choose_format(file_format)
    kind = choose_compression(compression, file, form)
    if file is None and (console.is_terminal or sys.stdout is None):  # None: the process was started without one
        raise UsageError("pipe this command into a file or specify --file")
    console.id_only = file is None
    with cx.records(app=app, rack=rack) as records:
        settings = records.settings
        epoch = parse_epoch(settings.source_date_epoch)
        record = records.store.get_build(records.app, build)
        credentials = builder.credentials(
            records.rack, docker_config_path=settings.docker_config_path, environ=settings.environ
        )
        images = stored_images(records.rack, record)
        path = None if file is None else settings.cwd / file
        resumes = images.layout_path is None
        with (
            _builder(records, wanted=through_builder) as client,
            console.step("Exporting build"),
            (images if client is None else BuilderImages.of(images, client)).open_source(credentials) as source,
            _opened_output(cx, path, resumes=resumes) as out,
        ):
            export_build(
                records.store,
                record,
                source,
                out,
                file_format=form,
                compression=kind,
                epoch=epoch,
                resume_in=path.parent if resumes and path is not None else None,
            )


@contextlib.contextmanager
def _builder(records: "Records", *, wanted: bool) -> "Iterator[Client | None]":
    """Connect to the rack's builder, where registries are reached through it; else say of those out of reach how."""
    from buildkit_client.errors import RegistryUnreachableError  # noqa: PLC0415
    from convox import builder  # noqa: PLC0415

    if wanted:
        with builder.connect(records.rack, buildkit_host=records.settings.buildkit_host) as client:
            yield client
        return
    try:
        yield None
    except RegistryUnreachableError as exc:
        exc.hint = "; ".join(filter(None, (exc.hint, "or add --through-builder, if the rack's builder reaches it")))
        raise


@contextlib.contextmanager
def _opened_output(cx: "CliContext", path: "Path | None", *, resumes: bool) -> "Iterator[BinaryIO]":
    """Open where an export goes: a file that is written whole or not at all, or stdout."""
    from convox.archive_file import whole_file, writing  # noqa: PLC0415

    if path is not None:
        with whole_file(path, resumes=resumes) as out:
            yield out
        return
    with writing("stdout"):
        yield cx.console.stdout
        cx.console.stdout.flush()


def import_build(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    file: Annotated[str | None, typer.Option("-f", "--file", metavar="file", help="import from file")] = None,
    print_id: Annotated[bool, typer.Option("--id", help="print the release id alone; the rest goes to stderr")] = False,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="only show what the file says about its build; reads no further")
    ] = False,
    output: OutputOption = None,
    through_builder: ThroughBuilderOption = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Import a build.

    Takes what export wrote, here or on a Convox rack, in every form and packing. Without --file, or with -, it is read
    from stdin. What the rack has already is not sent again, so an import that broke goes on when it is repeated.
    """
    from convox import builder  # noqa: PLC0415
    from convox.archive import import_build  # noqa: PLC0415
    from convox.archive_reader import InputFile, open_export  # noqa: PLC0415
    from convox.builder_images import BuilderImages  # noqa: PLC0415
    from convox.errors import UsageError  # noqa: PLC0415
    from convox.images import image_store  # noqa: PLC0415
    from convox.import_record import ImportSite  # noqa: PLC0415

    cx: CliContext = ctx.obj
    console = cx.console
    file = None if file == "-" else file
    is_json = cx.wants_json(output, print_id=print_id)
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("pipe a file into this command or specify --file")
    console.id_only = print_id or is_json
    with contextlib.ExitStack() as stack:
        settings = cx.settings_for(rack=rack, app=app)
        if file is None:
            stream = InputFile(sys.stdin.buffer, "stdin")
        else:
            stream = stack.enter_context(open_export(settings.cwd / file))
        if inspect:
            _show_header(cx, stream, is_json=is_json)
            return
        records = stack.enter_context(cx.records(app=app, rack=rack))
        images = image_store(records.rack, records.app)
        credentials = builder.credentials(
            records.rack, docker_config_path=settings.docker_config_path, environ=settings.environ
        )
        client = stack.enter_context(_builder(records, wanted=through_builder))
        place = images if client is None else BuilderImages.of(images, client)
        with console.step("Importing build") as step, place.open_target(credentials) as target:
            site = ImportSite(
                app=records.app,
                store=records.store,
                repository=images.repository,
                target=target,
                secrets=cx.secrets,
            )
            build, release = import_build(stream, site)
            step.done(release.id)
        console.notice(str(target.tally))
        if is_json:
            console.json(build.to_json())
        elif print_id:
            console.print_id(release.id)


def _show_header(cx: "CliContext", stream: "ByteReader", *, is_json: bool) -> None:
    """Show the record at the beginning of an export."""
    from convox.archive_reader import read_header  # noqa: PLC0415
    from convox.output.times import ago, elapsed  # noqa: PLC0415

    record = read_header(stream)
    if is_json:
        cx.console.json(record.to_json())
        return
    cx.console.info(
        [
            ("Id", record.id),
            ("App", record.app),
            ("Status", record.status),
            ("Release", record.release),
            ("Description", record.description),
            ("Started", ago(record.started)),
            ("Elapsed", elapsed(record.started, record.ended)),
            ("Git SHA", record.git_sha),
            ("Images", "\n".join(f"{service} {digest}" for service, digest in sorted((record.images or {}).items()))),
        ]
    )


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
    output: OutputOption = None,
    through_builder: ThroughBuilderOption = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Import a prebuilt container image into a new build.

    Every service of the manifest gets the image, but for those with an image of their own. Of an image for several
    platforms all are taken, or the one that the rack's param platform names. Without a login here, those of builds
    are used.
    """
    from convox import builder  # noqa: PLC0415
    from convox.builder_images import BuilderImages  # noqa: PLC0415
    from convox.cli.source_login import read_password, source_credentials  # noqa: PLC0415
    from convox.image_import import ImageOrigin, import_image, only_platform  # noqa: PLC0415
    from convox.images import image_store  # noqa: PLC0415
    from convox.import_record import ImportSite  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    cx.console.id_only = is_json
    secret = read_password(cx, password, password_env, stdin=password_stdin)
    with cx.records(app=app, rack=rack) as records, _builder(records, wanted=through_builder) as client:
        settings, current = records.settings, records.rack
        logins = builder.credentials(current, docker_config_path=settings.docker_config_path, environ=settings.environ)
        origin = ImageOrigin(
            credentials=source_credentials(source_image, user, secret, logins),
            insecure_host=current.registry_host if current.param("registry_insecure") == "true" else "",
            http=current.registry_http(),
            platform=only_platform(current.param("platform")),
            builder=client,
        )
        images = image_store(current, records.app)
        place = images if client is None or images.layout_path is not None else BuilderImages.of(images, client)
        with place.open_target(logins) as target:
            site = ImportSite(
                app=records.app,
                store=records.store,
                repository=images.repository,
                target=target,
                secrets=cx.secrets,
            )
            manifest_path = settings.cwd / (manifest or "convox.yml")
            build, release = import_image(source_image, manifest_path, origin, site, cx.console)
        cx.console.notice(str(target.tally))
        cx.console.print(f"Build:   {cx.console.paint(build.id, 'build')}")
        cx.console.print(f"Release: {cx.console.paint(release.id, 'release')}")
        if is_json:
            cx.console.json(build.to_json())
