"""Builds written in Python: the graph of operations (LLB) that a Dockerfile would become.

    from buildkit_client import llb

    tools = llb.image("alpine:3.20").run("apk add --no-cache make").root()
    built = tools.run("make", mounts=[llb.Mount("/src", llb.local("context"))], cwd="/src").get_mount("/src")
    definition = llb.scratch().file(llb.copy(built, "/app", "/app")).marshal(platform="linux/amd64")

Whoever knows Go's ``client/llb`` finds the same words, and the same graph gives the same bytes: digests and
cache keys agree with those of Go programs.

Reference: client/llb.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_client.llb.constraints import ConstraintOptions, LinuxResources, ProgressGroup
    from buildkit_client.llb.definition import Definition
    from buildkit_client.llb.exec import Network, Security
    from buildkit_client.llb.file import (
        BoundFiles,
        CopyOptions,
        FileAction,
        FileOptions,
        MkdirOptions,
        MkfileOptions,
        Owner,
        RmOptions,
        copy,
        mkdir,
        mkfile,
        rm,
        symlink,
    )
    from buildkit_client.llb.mounts import (
        CacheMount,
        CdiDevice,
        ContentCache,
        Mount,
        ProxyEnv,
        Secret,
        Sharing,
        SshSocket,
        TmpfsMount,
    )
    from buildkit_client.llb.source import (
        Differ,
        ImageResolver,
        ResolvedImage,
        ResolveMode,
        git,
        http,
        image,
        local,
        oci_layout,
    )
    from buildkit_client.llb.state import ExecState, State, diff, merge, scratch

_HOMES = {
    "constraints": (
        "ConstraintOptions",
        "LinuxResources",
        "ProgressGroup",
    ),
    "definition": ("Definition",),
    "exec": (
        "Network",
        "Security",
    ),
    "file": (
        "BoundFiles",
        "CopyOptions",
        "FileAction",
        "FileOptions",
        "MkdirOptions",
        "MkfileOptions",
        "Owner",
        "RmOptions",
        "copy",
        "mkdir",
        "mkfile",
        "rm",
        "symlink",
    ),
    "mounts": (
        "CacheMount",
        "CdiDevice",
        "ContentCache",
        "Mount",
        "ProxyEnv",
        "Secret",
        "Sharing",
        "SshSocket",
        "TmpfsMount",
    ),
    "source": (
        "Differ",
        "ImageResolver",
        "ResolvedImage",
        "ResolveMode",
        "git",
        "http",
        "image",
        "local",
        "oci_layout",
    ),
    "state": (
        "ExecState",
        "State",
        "diff",
        "merge",
        "scratch",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BoundFiles",
    "CacheMount",
    "CdiDevice",
    "ConstraintOptions",
    "ContentCache",
    "CopyOptions",
    "Definition",
    "Differ",
    "ExecState",
    "FileAction",
    "FileOptions",
    "ImageResolver",
    "LinuxResources",
    "MkdirOptions",
    "MkfileOptions",
    "Mount",
    "Network",
    "Owner",
    "ProgressGroup",
    "ProxyEnv",
    "ResolveMode",
    "ResolvedImage",
    "RmOptions",
    "Secret",
    "Security",
    "Sharing",
    "SshSocket",
    "State",
    "TmpfsMount",
    "copy",
    "diff",
    "git",
    "http",
    "image",
    "local",
    "merge",
    "mkdir",
    "mkfile",
    "oci_layout",
    "rm",
    "scratch",
    "symlink",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use: reading raw LLB does not pay for writing graphs."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
