"""Build container images from Python, straight over gRPC to a buildkitd.

Start at :class:`Client`. Names are loaded on first use: importing this package costs next to nothing, which matters to
commands that only print help.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_client.aio import AsyncClient
    from buildkit_client.client import BuildSession, Client, RunningBuild
    from buildkit_client.errors import (
        BuildCancelledError,
        BuildKitError,
        ConnectError,
        ConnectionLostError,
        ContextError,
        CredentialsError,
        LocalProtocolError,
        OptionError,
        RegistryError,
        RemoteProtocolError,
        SecretError,
        SolveError,
        SourceSnippet,
        SshAgentError,
    )
    from buildkit_client.options import (
        DockerfileFrontend,
        ImageExporter,
        OciExporter,
        OutputDirectory,
        OutputFile,
        OutputLayout,
        OutputStream,
        RawCache,
        RawExporter,
        RawFrontend,
        RegistryCache,
        SecretCallback,
        SecretFile,
        SecretValue,
        SshAgent,
    )
    from buildkit_client.progress import BuildGraph, PlainProgress, StatusUpdate
    from buildkit_client.records import DaemonInfo, UsageRecord, Worker
    from buildkit_client.solve import SolveResult
    from buildkit_client.transport.tls import TlsConfig

__version__ = "0.1.0"

_HOMES = {
    "aio": ("AsyncClient",),
    "client": ("BuildSession", "Client", "RunningBuild"),
    "errors": (
        "BuildCancelledError",
        "BuildKitError",
        "ConnectError",
        "ConnectionLostError",
        "ContextError",
        "CredentialsError",
        "LocalProtocolError",
        "OptionError",
        "RegistryError",
        "RemoteProtocolError",
        "SecretError",
        "SolveError",
        "SourceSnippet",
        "SshAgentError",
    ),
    "options": (
        "DockerfileFrontend",
        "ImageExporter",
        "OciExporter",
        "OutputDirectory",
        "OutputFile",
        "OutputLayout",
        "OutputStream",
        "RawCache",
        "RawExporter",
        "RawFrontend",
        "RegistryCache",
        "SecretCallback",
        "SecretFile",
        "SecretValue",
        "SshAgent",
    ),
    "progress": ("BuildGraph", "PlainProgress", "StatusUpdate"),
    "records": ("DaemonInfo", "UsageRecord", "Worker"),
    "solve": ("SolveResult",),
    "transport.tls": ("TlsConfig",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "BuildCancelledError",
    "BuildGraph",
    "BuildKitError",
    "BuildSession",
    "Client",
    "ConnectError",
    "ConnectionLostError",
    "ContextError",
    "CredentialsError",
    "DaemonInfo",
    "DockerfileFrontend",
    "ImageExporter",
    "LocalProtocolError",
    "OciExporter",
    "OptionError",
    "OutputDirectory",
    "OutputFile",
    "OutputLayout",
    "OutputStream",
    "PlainProgress",
    "RawCache",
    "RawExporter",
    "RawFrontend",
    "RegistryCache",
    "RegistryError",
    "RemoteProtocolError",
    "RunningBuild",
    "SecretCallback",
    "SecretError",
    "SecretFile",
    "SecretValue",
    "SolveError",
    "SolveResult",
    "SourceSnippet",
    "SshAgent",
    "SshAgentError",
    "StatusUpdate",
    "TlsConfig",
    "UsageRecord",
    "Worker",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
