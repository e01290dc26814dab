"""``convox apps``: the list, one app's information and parameters, making and deleting one."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command, Group
from convox.cli.flags import read_count
from convox.cli.params import AppOption, HiddenAppOption, OutputOption, RackOption, WaitOption, WatchOption

if TYPE_CHECKING:
    from convox.cli.context import CliContext
    from convox.rack import Rack
    from convox.store import Store


class AppsGroup(Group):
    """``convox apps`` alone lists apps."""

    own_command = "list"


class AppParamsGroup(Group):
    """``convox apps params`` alone shows the parameters."""

    own_command = "list"


app = typer.Typer(cls=AppsGroup, name="apps", help="Work with apps.", rich_markup_mode=None, add_completion=False)
params_app = typer.Typer(
    cls=AppParamsGroup, name="params", help="Work with app parameters.", rich_markup_mode=None, add_completion=False
)
app.add_typer(params_app)

AppArgument = Annotated[str | None, typer.Argument(metavar="app", show_default=False)]


@app.command("list", cls=Command, hidden=True)
def list_apps(
    ctx: typer.Context,
    *,
    rack: RackOption = None,
    watch: WatchOption = None,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List apps."""
    cx: CliContext = ctx.obj
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)
    with _open_store(cx, rack) as (_, store):

        def show() -> None:
            apps = store.list_apps()
            if is_json:
                cx.console.json([one.to_json() for one in apps])
                return
            cx.console.table(("APP", "STATUS", "RELEASE"), [(one.name, one.status, one.release) for one in apps])

        cx.watch(seconds, show)


@app.command("create", cls=Command)
def create_app(
    ctx: typer.Context,
    *,
    name: Annotated[str | None, typer.Argument(metavar="name", show_default=False)] = None,
    app: AppOption = None,
    rack: RackOption = None,
    generation: Annotated[str | None, typer.Option("-g", "--generation", hidden=True)] = None,  # noqa: ARG001
    timeout: Annotated[str | None, typer.Option("--timeout", hidden=True)] = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Create an app.

    A build makes an app that is not there, so this is only needed to set parameters before.
    """
    cx: CliContext = ctx.obj
    with (
        cx.records(app=name or app, rack=rack) as records,
        cx.console.step(f"Creating {cx.console.paint(records.app, 'app')}"),
    ):
        records.store.create_app(records.app)


@app.command("delete", cls=Command)
def delete_app(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="app", show_default=False)],
    rack: RackOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Delete an app.

    Its builds, releases and logs go, and its images where they are on this machine. Images in a registry stay there.
    """
    from convox.apps import delete_app  # noqa: PLC0415

    cx: CliContext = ctx.obj
    with cx.records(app=name, rack=rack) as records:
        with cx.console.step(f"Deleting {cx.console.paint(records.app, 'app')}"):
            is_gone = delete_app(records.store, records.rack, records.app)
        if not is_gone:
            cx.console.notice(f"NOTICE: images of app {records.app} stay in the registry")


@app.command("info", cls=Command)
def show_app(
    ctx: typer.Context,
    *,
    name: AppArgument = None,
    app: AppOption = None,
    rack: RackOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get information about an app."""
    from convox.models import GENERATION  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    with cx.records(app=name or app, rack=rack) as records:
        record = records.store.get_app(records.app)
    if is_json:
        cx.console.json(record.to_json())
        return
    cx.console.info(
        [
            ("Name", record.name),
            ("Status", record.status),
            ("Generation", GENERATION),
            ("Locked", "false"),
            ("Release", record.release),
        ]
    )


@params_app.command("list", cls=Command, hidden=True)
def show_params(
    ctx: typer.Context,
    *,
    name: AppArgument = None,
    app: AppOption = None,
    rack: RackOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Display app parameters."""
    from convox.apps import view_app_params  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    with cx.records(app=name or app, rack=rack) as records:
        rows = view_app_params(records.store.get_app(records.app))
    if is_json:
        cx.console.json(dict(rows))
        return
    cx.console.info(rows)


@params_app.command("set", cls=Command)
def set_params(
    ctx: typer.Context,
    *,
    params: Annotated[list[str], typer.Argument(metavar="Key=Value")],
    app: AppOption = None,
    rack: RackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Set app parameters.

    BuildArch says what the app is built for. BuildCpu, BuildMem and BuildLabels are kept and have no effect here. An
    empty value takes a parameter away.
    """
    from convox.apps import parse_app_params, update_app_params  # noqa: PLC0415

    cx: CliContext = ctx.obj
    changes = parse_app_params(params)
    with cx.records(app=app, rack=rack) as records:
        cx.console.print("Updating parameters... ")  # the line ends here in Convox too
        update_app_params(records.store, records.app, changes)
        cx.console.print(cx.console.paint("OK", "ok"))


@params_app.command("unset", cls=Command)
def unset_params(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="Key")],
    app: AppOption = None,
    rack: RackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Unset app parameters."""
    from convox.apps import check_app_param_names, update_app_params  # noqa: PLC0415

    cx: CliContext = ctx.obj
    check_app_param_names(names)
    with cx.records(app=app, rack=rack) as records:
        cx.console.print("Updating parameters... ")
        update_app_params(records.store, records.app, dict.fromkeys(names, ""))
        cx.console.print(cx.console.paint("OK", "ok"))


@contextlib.contextmanager
def _open_store(cx: "CliContext", rack: str | None) -> Iterator[tuple["Rack", "Store"]]:
    """Open a rack's records; no app is named."""
    from convox.store import open_store  # noqa: PLC0415

    current = cx.current_rack(cx.settings_for(rack=rack))
    store = open_store(current.store_url, logs_dir=current.logs_path)
    try:
        yield current, store
    finally:
        store.close()
