"""A build's progress: what the daemon reports, folded into one state, and shown as lines, live, or as JSON."""

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
