"""``convox racks``, ``convox switch`` and ``convox rack``: which racks there are, and their parameters."""

from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command, Group
from convox.cli.flags import read_count
from convox.cli.params import (
    HiddenAppOption,
    HiddenRackOption,
    OutputOption,
    RackOption,
    RevealOption,
    WaitOption,
    WatchOption,
)

if TYPE_CHECKING:
    from convox.cli.context import CliContext


class RackGroup(Group):
    """``convox rack`` alone tells about the rack."""

    own_command = "info"


class ParamsGroup(Group):
    """``convox rack params`` alone shows the parameters."""

    own_command = "list"


racks_app = typer.Typer(name="racks", rich_markup_mode=None, add_completion=False)
switch_app = typer.Typer(name="switch", rich_markup_mode=None, add_completion=False)
rack_app = typer.Typer(
    cls=RackGroup, name="rack", help="Work with a rack.", rich_markup_mode=None, add_completion=False
)
params_app = typer.Typer(
    cls=ParamsGroup, name="params", help="Work with rack parameters.", rich_markup_mode=None, add_completion=False
)
rack_app.add_typer(params_app)


@racks_app.command("racks", cls=Command)
def list_racks(
    ctx: typer.Context,
    *,
    watch: WatchOption = None,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List available racks."""
    from convox.rack import list_racks  # noqa: PLC0415

    cx: CliContext = ctx.obj
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)

    def show() -> None:
        rows = [(found.name, found.provider, found.status) for found in list_racks(cx.settings.config_path)]
        if is_json:
            cx.console.json([dict(zip(("name", "provider", "status"), row, strict=True)) for row in rows])
            return
        cx.console.table(("NAME", "PROVIDER", "STATUS"), rows)

    cx.watch(seconds, show)


@switch_app.command("switch", cls=Command)
def switch(
    ctx: typer.Context,
    *,
    name: Annotated[str | None, typer.Argument(metavar="rack")] = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Switch current rack.

    Without a name, the current rack's name is shown.
    """
    from convox.rack import switch_rack  # noqa: PLC0415

    cx: CliContext = ctx.obj
    if name is None:
        cx.console.print(cx.current_rack(cx.settings_for(rack=rack)).name)
        return
    found = switch_rack(cx.settings.config_path, name)
    cx.console.print(f"Switched to {cx.console.paint(found.name, 'rack')}")


@rack_app.command("info", cls=Command, hidden=True)
def show_rack(
    ctx: typer.Context,
    *,
    rack: RackOption = None,
    watch: WatchOption = None,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get information about the rack."""
    from convox.cli.about import version  # noqa: PLC0415

    cx: CliContext = ctx.obj
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)

    def show() -> None:
        found = cx.current_rack(cx.settings_for(rack=rack))
        rows = [
            ("Name", found.name),
            ("Provider", found.provider),
            ("Status", found.status),
            ("Version", version()),
        ]
        if is_json:
            cx.console.json({header.lower(): value for header, value in rows})
            return
        cx.console.info(rows)

    cx.watch(seconds, show)


@rack_app.command("install", cls=Command)
def install_rack(
    ctx: typer.Context,
    *,
    provider: Annotated[str, typer.Argument(metavar="provider")],
    name: Annotated[str, typer.Argument(metavar="name")],
    params: Annotated[list[str] | None, typer.Argument(metavar="Key=Value")] = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Install a new rack.

    The rack is a set of parameters on this machine; the provider says which of Convox's parameters it accepts.
    """
    from convox.errors import RackError  # noqa: PLC0415
    from convox.rack import check_rack_name, create_rack  # noqa: PLC0415
    from convox.rack_params import PROVIDERS  # noqa: PLC0415
    from convox.rack_values import check_params, parse_params, read_secret_values  # noqa: PLC0415

    cx: CliContext = ctx.obj
    if provider not in PROVIDERS:
        raise RackError(f"unknown provider: {provider}", hint=f"it is one of {', '.join(PROVIDERS)}")
    check_rack_name(name)
    with cx.console.step("Installing rack"):
        given = parse_params(params or [])
        cx.hide_params(given)
        values = read_secret_values(given, cwd=cx.settings.cwd, stdin=cx.stdin)
        cx.hide_params(values)
        checked = check_params({**values, "provider": provider}, {}, cwd=cx.settings.cwd, is_install=True)
        create_rack(cx.settings.config_path, name, checked.values)
    for warning in checked.warnings:
        cx.console.notice(f"WARNING: {warning}")


@rack_app.command("uninstall", cls=Command)
def uninstall_rack(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="name", show_default=False)],
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Uninstall a rack.

    Its parameters, logins, records, logs and images on this machine are gone afterwards; what is in a registry, or in a
    database elsewhere, stays. The name has to be given as a whole.
    """
    from convox.errors import RackError  # noqa: PLC0415
    from convox.rack import get_rack, remove_rack  # noqa: PLC0415
    from convox.store import open_store  # noqa: PLC0415
    from convox.store.abandoned import fail_abandoned_builds  # noqa: PLC0415

    cx: CliContext = ctx.obj
    found = get_rack(cx.settings.config_path, name, is_exact=True)
    cx.hide_params(found.params)
    with cx.console.step(f"Uninstalling {cx.console.paint(found.name, 'rack')}"):
        if found.param("store") or (found.path / "store.db").exists():
            store = open_store(found.store_url, logs_dir=found.logs_path)
            try:
                fail_abandoned_builds(store)
                if unfinished := store.list_unfinished_builds():
                    raise RackError(
                        f"rack {found.name} is in use",
                        why=f"build {unfinished[0].id} of app {unfinished[0].app} is {unfinished[0].status}",
                    )
            finally:
                store.close()
        remove_rack(cx.settings.config_path, found.name)


@rack_app.command("pull-secret", cls=Command)
def show_pull_secret(
    ctx: typer.Context,
    *,
    rack: RackOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="name", help="name of the secret (docker-hub-authentication)")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", metavar="namespace", help="namespace (kubectl's current one)")
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option("--service-account", metavar="name", help="add the secret to those of a service account"),
    ] = None,
    has_all: Annotated[
        bool, typer.Option("--all", help="logins of the rack's registry and of convox registries too")
    ] = False,
    reveal: RevealOption = False,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Print the Docker Hub login as a Kubernetes secret.

    It is ready for: kubectl apply -f -. Pods use it when it is among the imagePullSecrets of the pod or of its service
    account; --service-account default makes all pods of a namespace use it. --output json gives the same as JSON.
    """
    from convox.errors import UsageError  # noqa: PLC0415
    from convox.pull_secret import DEFAULT_NAME, pull_logins, secret_objects, to_yaml  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    found = cx.current_rack(cx.settings_for(rack=rack))
    logins = pull_logins(found, has_all=has_all)
    objects = secret_objects(
        logins,
        name=DEFAULT_NAME if name is None else name,
        namespace=namespace or "",
        service_account=service_account or "",
    )
    if cx.console.is_terminal and not reveal:
        raise UsageError(
            "pipe this command into a file or kubectl, or specify --reveal",
            why="it prints a password",
            hint="convox rack pull-secret | kubectl apply -f -",
        )
    for host, why in logins.left_out.items():
        cx.console.notice(f"NOTICE: {host} is left out: {why}")
    if not is_json:
        cx.console.write(to_yaml(objects).encode())
    elif len(objects) == 1:
        cx.console.json(objects[0])
    else:
        cx.console.json({"apiVersion": "v1", "kind": "List", "items": objects})


@params_app.command("list", cls=Command, hidden=True)
def show_params(
    ctx: typer.Context,
    *,
    rack: RackOption = None,
    group: Annotated[str | None, typer.Option("-g", "--group", metavar="group", help="only params of a group")] = None,
    reveal: RevealOption = False,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Display rack parameters.

    Secret values are shown as ********** unless --reveal is given, also where the output is a file or a pipe.
    """
    from convox.rack_params import resolve_group, view_params  # noqa: PLC0415

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    resolved = resolve_group(group) if group else ""
    found = cx.current_rack(cx.settings_for(rack=rack))
    view = view_params(found.params, group=resolved, is_revealed=reveal)
    if is_json:
        cx.console.json(dict(view.rows))
    else:
        cx.console.info(view.rows)
    if view.notice:
        cx.console.notice(view.notice)


@params_app.command("set", cls=Command)
def set_params(
    ctx: typer.Context,
    *,
    params: Annotated[list[str] | None, typer.Argument(metavar="Key=Value")] = None,
    rack: RackOption = None,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="set params that are not known, and files that are not there")
    ] = False,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Set rack parameters.

    An empty value takes a parameter away. A secret can be given as Key=@/path/of/a/file, or as Key=- for standard
    input, which keeps it out of the list of processes.
    """
    from convox.rack import update_params  # noqa: PLC0415
    from convox.rack_values import check_params, parse_params, read_secret_values  # noqa: PLC0415

    cx: CliContext = ctx.obj
    found = cx.current_rack(cx.settings_for(rack=rack))
    with cx.console.step("Updating parameters"):
        given = parse_params(params or [])
        cx.hide_params(given)
        values = read_secret_values(given, cwd=cx.settings.cwd, stdin=cx.stdin)
        cx.hide_params(values)
        checked = check_params(values, found.params, cwd=cx.settings.cwd, is_forced=force)
        update_params(found, checked.values)
    for warning in checked.warnings:
        cx.console.notice(f"WARNING: {warning}")
