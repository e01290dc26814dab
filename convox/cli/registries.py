"""``convox registries``: the list, adding and removing logins, and trying them."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command, Group
from convox.cli.flags import check_count, read_count
from convox.cli.params import HiddenAppOption, OutputOption, RackOption, WaitOption, WatchOption
from convox.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from convox.cli.context import CliContext


class RegistriesGroup(Group):
    """``convox registries`` alone lists registries."""

    own_command = "list"


app = typer.Typer(
    cls=RegistriesGroup,
    name="registries",
    help="Work with private registries.",
    rich_markup_mode=None,
    add_completion=False,
)

MAX_PASSWORD_BYTES = 64 << 10
_EXIT_CODES = {"refused": ExitCode.AUTH, "unreachable": ExitCode.FAILED}


@app.command("list", cls=Command, hidden=True)
def list_registries(
    ctx: typer.Context,
    *,
    rack: RackOption = None,
    watch: WatchOption = None,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List private registries."""
    from convox.registries import list_registries  # noqa: PLC0415

    cx: CliContext = ctx.obj
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)
    current = cx.current_rack(cx.settings_for(rack=rack))

    def show() -> None:
        rows = [(one.server, one.username) for one in list_registries(current)]
        if is_json:
            cx.console.json([{"server": server, "username": username} for server, username in rows])
            return
        cx.console.table(("SERVER", "USERNAME"), rows)

    cx.watch(seconds, show)


@app.command("add", cls=Command)
def add_registry(
    ctx: typer.Context,
    *,
    server: Annotated[str, typer.Argument(metavar="server", show_default=False)],
    username: Annotated[str, typer.Argument(metavar="username", show_default=False)],
    password: Annotated[str | None, typer.Argument(metavar="password", show_default=False)] = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="read the password from stdin")] = False,
    rack: RackOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Add a private registry.

    Builds use the login for pulls, pushes and caches of this registry and no other. Others can see a password among the
    arguments in the list of processes; - in its place reads it from stdin, and without one it is asked for.
    """
    from convox.providers import profile_for  # noqa: PLC0415
    from convox.registries import Registry, add_registry  # noqa: PLC0415

    cx: CliContext = ctx.obj
    current = cx.current_rack(cx.settings_for(rack=rack))
    secret = _read_password(cx, password, is_stdin=password_stdin)
    registry = Registry(server=server, username=username, password=secret)
    with cx.console.step("Adding registry"):
        add_registry(current, registry)
    profile = profile_for(registry.host)
    if profile.name == "plain" and username == "robot":
        cx.console.notice("WARNING: the user name is robot; if it was robot$NAME, put it in single quotes")


@app.command("remove", cls=Command)
def remove_registry(
    ctx: typer.Context,
    *,
    server: Annotated[str, typer.Argument(metavar="server", show_default=False)],
    rack: RackOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Remove private registry."""
    from convox.registries import remove_registry  # noqa: PLC0415

    cx: CliContext = ctx.obj
    current = cx.current_rack(cx.settings_for(rack=rack))
    with cx.console.step("Removing registry"):
        remove_registry(current, server)


@app.command("check", cls=Command)
def check_registries(
    ctx: typer.Context,
    *,
    servers: Annotated[list[str] | None, typer.Argument(metavar="server")] = None,
    rack: RackOption = None,
    output: OutputOption = None,
    app: HiddenAppOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Try the logins of registries.

    Of Docker Hub, the rack's registry and those of convox registries, or of the ones that are named: whether the login
    works, where it comes from, and how many pulls Docker Hub still allows. Asking does not count as a pull. Ends with
    exit code 4 when a login is refused, and with 1 when a registry cannot be reached.
    """
    from convox import builder  # noqa: PLC0415
    from convox.registry_check import (  # noqa: PLC0415
        check_registries,
        check_to_json,
        describe_limit,
        describe_status,
    )

    cx: CliContext = ctx.obj
    is_json = cx.wants_json(output)
    settings = cx.settings_for(rack=rack)
    current = cx.current_rack(settings)
    logins = builder.credentials(current, docker_config_path=settings.docker_config_path, environ=settings.environ)
    checks = check_registries(current, logins, servers or [])
    if is_json:
        cx.console.json([check_to_json(check) for check in checks])
    else:
        cx.console.table(
            ("SERVER", "LOGIN", "USERNAME", "SOURCE", "PULLS LEFT"),
            [
                (check.host, describe_status(check), check.username, check.source, describe_limit(check.rate_limit))
                for check in checks
            ],
        )
    codes = {_EXIT_CODES[check.status] for check in checks if check.status in _EXIT_CODES}
    if codes:
        raise typer.Exit(max(codes))


def _read_password(cx: "CliContext", given: str | None, *, is_stdin: bool) -> str:
    """Return the password that was given as an argument, on stdin, or on the terminal; no error will show it."""
    if given not in (None, "-"):
        if is_stdin:
            raise UsageError("the password is given as an argument and on stdin")
        cx.console.notice("WARNING: others can see the password in the list of processes; use --password-stdin instead")
        password = str(given)
    elif is_stdin or given == "-":
        data = cx.stdin.read(MAX_PASSWORD_BYTES + 1)
        if len(data) > MAX_PASSWORD_BYTES:
            raise UsageError(f"stdin has more than {MAX_PASSWORD_BYTES} bytes")
        try:
            password = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise UsageError("stdin is not UTF-8") from None
        if not password:
            raise UsageError("no password was received on stdin")
    elif sys.stdin is not None and sys.stdin.isatty():
        import getpass  # noqa: PLC0415

        password = getpass.getpass("Password: ")
    else:
        check_count(2, 3, 3)
        password = ""
    if password:
        cx.secrets.append(password)
    return password
