"""``convox env``: the values that an app's builds get, each change of them a release."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from convox.cli.command import Command, Group
from convox.cli.flags import check_count, read_count
from convox.cli.params import AppOption, OutputOption, RackOption, RevealOption, WaitOption, WatchOption
from convox.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from convox.cli.context import CliContext, Records


class EnvGroup(Group):
    """``convox env`` alone lists values."""

    own_command = "list"


app = typer.Typer(cls=EnvGroup, name="env", help="Work with env vars.", rich_markup_mode=None, add_completion=False)

ReleaseOption = Annotated[str | None, typer.Option("--release", metavar="release", help="id of the release")]
PromoteOption = Annotated[bool, typer.Option("-p", "--promote", help="promote the release")]
IdOption = Annotated[bool, typer.Option("--id", help="print the release id alone; the rest goes to stderr")]

MAX_INPUT_BYTES = 4 << 20
_MIN_SECRET = 8  # a shorter value may well be a word that every error has


@app.command("list", cls=Command, hidden=True)
def list_env(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    release: ReleaseOption = None,
    reveal: RevealOption = False,
    watch: WatchOption = None,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """List env vars.

    Values are shown as **** unless --reveal is given, also where the output is a file or a pipe.
    """
    from convox.environment import format_environment, masked_values  # noqa: PLC0415
    from convox.releases import read_environment  # noqa: PLC0415

    cx: CliContext = ctx.obj
    seconds = read_count(watch, "--watch")
    is_json = cx.wants_json(output)
    with cx.records(app=app, rack=rack) as records:

        def show() -> None:
            values = read_environment(records.store, records.app, release or "")
            if not reveal:
                values = masked_values(values)
            if is_json:
                cx.console.json(dict(sorted(values.items())))
            else:
                cx.console.write(f"{format_environment(values)}\n".encode("utf-8", "surrogateescape"))
            if values and not reveal and not cx.console.is_terminal:
                cx.console.notice("NOTICE: values are masked; --reveal shows them")

        cx.watch(seconds, show)


@app.command("get", cls=Command)
def get_env(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="var", show_default=False)],
    app: AppOption = None,
    rack: RackOption = None,
    release: ReleaseOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Get an env var."""
    from convox.releases import read_environment  # noqa: PLC0415

    cx: CliContext = ctx.obj
    with cx.records(app=app, rack=rack) as records:
        values = read_environment(records.store, records.app, release or "")
    if name not in values:
        raise NotFoundError(f"env not found: {name}")
    cx.console.write(f"{values[name]}\n".encode("utf-8", "surrogateescape"))


@app.command("set", cls=Command)
def set_env(
    ctx: typer.Context,
    *,
    pairs: Annotated[list[str] | None, typer.Argument(metavar="key=value")] = None,
    app: AppOption = None,
    rack: RackOption = None,
    release: ReleaseOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace all environment variables with given ones")
    ] = False,
    promote: PromoteOption = False,
    print_id: IdOption = False,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Set env var(s).

    Without arguments, or with - among them, NAME=value lines are read from stdin, which keeps values out of the list of
    processes.
    """
    from convox.environment import read_arguments  # noqa: PLC0415

    cx: CliContext = ctx.obj
    arguments = [pair for pair in pairs or [] if pair != "-"]
    values = read_arguments(arguments)
    if len(arguments) != len(pairs or []) or not arguments:
        values = {**_read_stdin(), **values}
    if not values and not replace:
        raise UsageError("no key=value is given")
    _hide(cx, values)

    def change(before: dict[str, str]) -> Mapping[str, str]:
        return values if replace else {**before, **values}

    with cx.records(app=app, rack=rack) as records:
        _make_release(
            cx, records, "Setting", values, change, parent=release, promote=promote, print_id=print_id, output=output
        )


@app.command("unset", cls=Command)
def unset_env(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="key")],
    app: AppOption = None,
    rack: RackOption = None,
    release: ReleaseOption = None,
    promote: PromoteOption = False,
    print_id: IdOption = False,
    output: OutputOption = None,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Unset env var(s)."""
    cx: CliContext = ctx.obj
    missing: list[str] = []

    def change(before: dict[str, str]) -> Mapping[str, str]:
        missing[:] = sorted(set(names) - set(before))
        return {name: value for name, value in before.items() if name not in names}

    with cx.records(app=app, rack=rack) as records:
        records.store.get_app(records.app)
        _make_release(
            cx,
            records,
            "Unsetting",
            dict.fromkeys(names, ""),
            change,
            parent=release,
            promote=promote,
            print_id=print_id,
            output=output,
        )
    if missing:
        cx.console.notice(f"NOTICE: {', '.join(missing)} was not set")


@app.command("edit", cls=Command)
def edit_env(
    ctx: typer.Context,
    *,
    app: AppOption = None,
    rack: RackOption = None,
    release: ReleaseOption = None,
    promote: PromoteOption = False,
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Edit env interactively.

    The editor is $EDITOR, or vi. It gets a file that only you can read and that is deleted afterwards.
    """
    from convox.editor import edit_text  # noqa: PLC0415
    from convox.environment import format_environment, read_lines  # noqa: PLC0415
    from convox.releases import read_environment  # noqa: PLC0415

    cx: CliContext = ctx.obj
    with cx.records(app=app, rack=rack) as records:
        before = read_environment(records.store, records.app, release or "", may_be_new=True)
        text = edit_text(
            f"{format_environment(before)}\n" if before else "", name=f"{records.app}.env", settings=records.settings
        )
        after = read_lines(text, "the edited text")
        if after == before:
            cx.console.notice("NOTICE: nothing was changed, so there is no new release")
            return
        _hide(cx, after)

        def change(current: dict[str, str]) -> Mapping[str, str]:
            if current != before:
                raise UsageError(
                    "the environment was changed by somebody else meanwhile", hint="run convox env edit again"
                )
            return after

        _make_release(cx, records, "Setting", after, change, parent=release, promote=promote)


def _make_release(
    cx: "CliContext",
    records: "Records",
    verb: str,
    names: Mapping[str, str],
    change: "Callable[[dict[str, str]], Mapping[str, str]]",
    *,
    parent: str | None,
    promote: bool,
    print_id: bool = False,
    output: str | None = None,
) -> None:
    """Make a release with another environment, and show it."""
    from convox.cli.releases import masked, show_promotion  # noqa: PLC0415
    from convox.releases import change_environment  # noqa: PLC0415

    console = cx.console
    is_json = cx.wants_json(output, print_id=print_id)
    console.id_only = print_id or is_json
    listed = ", ".join(console.paint(name, "info") for name in sorted(names))
    with console.step(f"{verb} {listed}"):
        made = change_environment(records.store, records.app, change, parent=parent or "")
    console.print(f"Release: {console.paint(made.id, 'release')}")
    if promote:
        show_promotion(console, records, made.id)
    if is_json:
        console.json(masked(made).to_json())
    elif print_id:
        console.print_id(made.id)


def _read_stdin() -> dict[str, str]:
    """Return the values on stdin; none of them was typed."""
    from convox.environment import read_lines  # noqa: PLC0415

    if sys.stdin is None or sys.stdin.isatty():
        check_count(0, 1, None)
    data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise UsageError(f"stdin has more than {MAX_INPUT_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("stdin is not UTF-8") from None
    return read_lines(text, "stdin")


def _hide(cx: "CliContext", values: Mapping[str, str]) -> None:
    """Keep values out of errors from now on."""
    cx.secrets += [value for value in values.values() if len(value) >= _MIN_SECRET]
