"""A directory that a build may read, without what the ignore file of a folder above it excludes.

Reference: moby/patternmatcher; docker's .dockerignore, whose patterns these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A local directory, with patterns of a folder above it that exclude files.

    What the patterns exclude never leaves this machine, whatever the directory's own ignore file says. They hold for
    this directory alone: a Dockerfile that is asked for under another name is found even if a pattern matches it.

    Attributes:
        path: The directory.
        ignore: Lines of a ``.dockerignore``, with patterns relative to the folder above; may be empty.
        ignore_prefix: Where the directory lies below that folder, with slashes, for example ``services/web``; empty
            when it is that folder itself.

    Raises:
        OptionError: ``ignore_prefix`` leads out of the folder.
    """

    path: Path
    ignore: Sequence[str] = ()
    ignore_prefix: str = ""

    def __post_init__(self) -> None:
        prefix = PurePosixPath(self.ignore_prefix)
        if prefix.is_absolute() or ".." in prefix.parts:
            raise OptionError(
                f"{self.ignore_prefix!r} is not a place below the folder with the ignore file",
                hint="give the directory's path relative to that folder",
            )
        # Frozen: the object's own way is closed. Both get the one form that equal directories have in common.
        object.__setattr__(self, "ignore", tuple(self.ignore))
        object.__setattr__(self, "ignore_prefix", "" if prefix == PurePosixPath() else str(prefix))
