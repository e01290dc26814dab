"""The flags and arguments that several commands share."""

from typing import Annotated

import typer

AppOption = Annotated[str | None, typer.Option("-a", "--app", metavar="app", help="app name")]
RackOption = Annotated[str | None, typer.Option("-r", "--rack", metavar="rack", help="rack name")]
HiddenAppOption = Annotated[str | None, typer.Option("-a", "--app", hidden=True)]
HiddenRackOption = Annotated[str | None, typer.Option("-r", "--rack", hidden=True)]
WaitOption = Annotated[
    bool, typer.Option("-w", "--wait", hidden=True, help="has no effect; scripts for older versions have it")
]
ThroughBuilderOption = Annotated[
    bool,
    typer.Option("--through-builder", help="reach registries through the rack's builder, where only that one can"),
]
LimitOption = Annotated[
    str | None, typer.Option("-l", "--limit", metavar="limit", help="how many to show, newest first (10)")
]
WatchOption = Annotated[
    str | None, typer.Option("--watch", metavar="seconds", help="show it again every so many seconds")
]
OutputOption = Annotated[str | None, typer.Option("--output", metavar="format", help="text or json (text)")]
RevealOption = Annotated[bool, typer.Option("--reveal", help="show secret values")]
BuildArgument = Annotated[str, typer.Argument(metavar="build", show_default=False)]
ReleaseArgument = Annotated[str, typer.Argument(metavar="release", show_default=False)]

DEFAULT_LIMIT = 10
"""How many records a listing shows where nothing else is said; the number that a Convox rack takes."""
