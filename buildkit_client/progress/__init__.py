"""A build's progress: what the daemon reports, folded into one state, and shown as lines, live, or as JSON.

Names are loaded on first use: a build loads the one display that it shows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_client.progress.choose import MODES, make_progress
    from buildkit_client.progress.clock import ClockShift
    from buildkit_client.progress.driver import ProgressDriver
    from buildkit_client.progress.graph import BuildGraph, CacheSummary, Counts, VertexState
    from buildkit_client.progress.model import (
        Position,
        ProgressGroup,
        StatusUpdate,
        Vertex,
        VertexLog,
        VertexStatus,
        VertexWarning,
        decode_status,
    )
    from buildkit_client.progress.plain import PlainProgress
    from buildkit_client.progress.quiet import Progress, QuietProgress
    from buildkit_client.progress.rawjson import RawJsonProgress, read_rawjson, to_rawjson
    from buildkit_client.progress.terminal_text import neutralise
    from buildkit_client.progress.tty import TtyProgress

_HOMES = {
    "choose": (
        "MODES",
        "make_progress",
    ),
    "clock": ("ClockShift",),
    "driver": ("ProgressDriver",),
    "graph": (
        "BuildGraph",
        "CacheSummary",
        "Counts",
        "VertexState",
    ),
    "model": (
        "Position",
        "ProgressGroup",
        "StatusUpdate",
        "Vertex",
        "VertexLog",
        "VertexStatus",
        "VertexWarning",
        "decode_status",
    ),
    "plain": ("PlainProgress",),
    "quiet": (
        "Progress",
        "QuietProgress",
    ),
    "rawjson": (
        "RawJsonProgress",
        "read_rawjson",
        "to_rawjson",
    ),
    "terminal_text": ("neutralise",),
    "tty": ("TtyProgress",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "MODES",
    "BuildGraph",
    "CacheSummary",
    "ClockShift",
    "Counts",
    "PlainProgress",
    "Position",
    "Progress",
    "ProgressDriver",
    "ProgressGroup",
    "QuietProgress",
    "RawJsonProgress",
    "StatusUpdate",
    "TtyProgress",
    "Vertex",
    "VertexLog",
    "VertexState",
    "VertexStatus",
    "VertexWarning",
    "decode_status",
    "make_progress",
    "neutralise",
    "read_rawjson",
    "to_rawjson",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
