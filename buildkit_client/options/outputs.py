"""Where bytes go that a build sends back to us. An output is never sent to the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class OutputFile:
    """Bytes go into a file, which appears whole or not at all."""

    path: Path


@dataclass(frozen=True, slots=True)
class OutputStream:
    """Bytes go into a stream the caller opened, and closes."""

    stream: BinaryIO


@dataclass(frozen=True, slots=True)
class OutputDirectory:
    """Files go into a directory (``local`` exporter)."""

    path: Path


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """Blobs go into an OCI image layout on disk; those it has already are not sent again."""

    path: Path


Output = OutputFile | OutputStream | OutputDirectory | OutputLayout


def as_output(dest: Path | str | OutputFile | OutputStream | OutputLayout) -> OutputFile | OutputStream | OutputLayout:
    """Return a destination as an output; a path alone is a file's."""
    return OutputFile(Path(dest)) if isinstance(dest, Path | str) else dest
