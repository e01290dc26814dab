"""The role of a progress display, and the display that shows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from buildkit_client.progress.model import StatusUpdate


class Progress(Protocol):
    """Shows a build's status messages in some form.

    Displays are not safe for use from several threads at once, and do nothing on their own between calls; see
    ``ProgressDriver`` for both.

    Reference: util/progress/progressui/display.go, display.
    """

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:
        """Take the next message in, and show what it changes as far as the display's pace allows.

        Args:
            update: The message.
            solve: Name of the solve it came from, when several share the display.
        """

    def tick(self) -> None:
        """Show what time changes; to be called about every 150 ms."""

    def finish(self) -> None:
        """Show everything still pending and the recap of what failed; to be called once, last."""


class QuietProgress:
    """Shows nothing (``--progress=quiet``)."""

    def update(self, update: StatusUpdate, *, solve: str = "") -> None:
        """Drop the message."""

    def tick(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""
