"""A directory that a build may read, with what of it stays here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A local directory, with patterns of a folder above it that exclude files.

    Attributes:
        path: The directory.
        ignore: Patterns as a ``.dockerignore`` has them, relative to the folder above.
        ignore_prefix: Where the directory lies below that folder, with slashes; empty is the folder itself.
    """

    path: Path
    ignore: Sequence[str] = ()
    ignore_prefix: str = ""
