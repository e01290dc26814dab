"""What a command has at hand: the console, the settings of this run, and the records of the rack it is for."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.startup import lean_imports
from convox.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from convox.output.console import Console
    from convox.rack import Rack
    from convox.settings import Settings
    from convox.store import Store


class Records(NamedTuple):
    """The records that a command works on.

    Attributes:
        app: The app's name.
        rack: The rack.
        store: The rack's store; closed when the command ends.
        settings: The settings with the command's flags.
    """

    app: str
    rack: Rack
    store: Store
    settings: Settings


@dataclass(slots=True)
class CliContext:
    """Made once per run and handed to every command as ``ctx.obj``.

    Attributes:
        console: Where the command writes.
        settings: The settings of this run, without flags.
        secrets: Values that no error may show; commands add to it.
    """

    console: Console
    settings: Settings
    secrets: list[str] = field(default_factory=list, repr=False)

    @property
    def stdin(self) -> BinaryIO:
        """Standard input; an empty one where the process was started without."""
        return io.BytesIO() if sys.stdin is None else sys.stdin.buffer

    def settings_for(self, *, rack: str | None = None, app: str | None = None) -> Settings:
        """Return the settings with a command's ``-r`` and ``-a``."""
        return replace(self.settings, rack_flag=rack or "", app_flag=app or "")

    def current_rack(self, settings: Settings) -> Rack:
        """Return the rack a command is for; its secrets are kept out of errors from now on.

        Raises:
            RackError: It is not there, or cannot be read.
        """
        with lean_imports():
            from convox.rack import current_rack  # noqa: PLC0415  (not needed by every command)

        rack = current_rack(settings)
        self.hide_params(rack.params)
        return rack

    def hide_params(self, params: Mapping[str, str]) -> None:
        """Keep the secret ones of some rack parameters out of errors from now on."""
        from convox.rack_params import is_masked  # noqa: PLC0415  (not needed by every command)

        self.secrets += [value for name, value in params.items() if is_masked(name)]

    @contextlib.contextmanager
    def records(self, *, app: str | None, rack: str | None) -> Iterator[Records]:
        """Open the records of an app on a rack, and end those that their process left behind.

        Args:
            app: Value of ``-a``.
            rack: Value of ``-r``.

        Raises:
            ConvoxError: No app or rack fits, or the store cannot be used.
        """
        with lean_imports():
            from convox.store import open_store  # noqa: PLC0415  (not needed by every command)
            from convox.store.abandoned import fail_abandoned_builds  # noqa: PLC0415  (not needed by every command)

        settings = self.settings_for(rack=rack, app=app)
        name = settings.app_name()
        current = self.current_rack(settings)
        with lean_imports():
            store = open_store(current.store_url, logs_dir=current.logs_path)
        try:
            fail_abandoned_builds(store, name)
            yield Records(app=name, rack=current, store=store, settings=settings)
        finally:
            store.close()

    def wants_json(self, output: str | None, *, print_id: bool = False) -> bool:
        """Return whether ``--output`` asks for JSON.

        Args:
            output: Its value.
            print_id: Whether ``--id`` is there.

        Raises:
            UsageError: It asks for something else than text or JSON, or there is ``--id`` too.
        """
        if output not in (None, "text", "json"):
            raise UsageError(f"unknown output: {output}", why="--output is text or json")
        if output == "json" and print_id:
            raise UsageError("--id and --output json both want stdout for themselves", hint="leave one of them out")
        return output == "json"

    def watch(self, seconds: int | None, show: Callable[[], None]) -> None:
        """Show something once, or again and again until somebody ends it.

        Args:
            seconds: Time between two times; None or 0 for once.
            show: Shows it; an error of ours is shown in its place and does not end the watch.

        Reference: convox/convox pkg/cli/helpers.go, watch.
        """
        if not seconds:
            show()
            return
        import time  # noqa: PLC0415

        from convox.errors import ConvoxError  # noqa: PLC0415

        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self.console.clear()
                self.console.print(f"Every {seconds}s:\n")
                try:
                    show()
                except ConvoxError as exc:
                    self.console.error(exc, secrets=self.secrets)
                time.sleep(seconds)
