"""The keywords of a build: one list for every method that takes them, of both faces.

A build has two halves. What belongs to its *session* is served from here when the daemon asks for it; what belongs to
the *solve* travels in the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypedDict, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from buildkit_client._proto import ops_pb2
    from buildkit_client.oci.credentials import CredentialsProvider
    from buildkit_client.oci.token import HttpOptions
    from buildkit_client.options import Cache, Exporter, Secret, SourcePolicy, SshSource
    from buildkit_client.options.local_directory import LocalDirectory
    from buildkit_client.session.exporter import ChooseExporters
    from buildkit_client.session.policy import PolicyCallback


@runtime_checkable
class Graph(Protocol):
    """A build graph, usually a :class:`buildkit_client.llb.Definition`."""

    def to_proto(self) -> ops_pb2.Definition:
        """Return the message of the Solve request."""


class SessionOptions(TypedDict, total=False):
    """What a session serves.

    Attributes:
        local_dirs: Directory by the name the build asks for, usually ``context`` and ``dockerfile``.
        credentials: Finds registry credentials; without it docker's configuration is read.
        secrets: Secret by the id that steps ask for.
        ssh: SSH agent or keys by the id that steps ask for; ``default`` for those that name none.
        layouts: OCI image layout by the name in ``oci-layout://NAME@sha256:...``, which the build may read.
        uploads: Stream by the id in ``http://buildkit-session/ID``, read once.
        policy: Decides, source by source, what the build may use.
        choose_exporters: Chooses further exporters when the result is known.
        registry_http: How token servers of registries are reached: TLS files, proxies, time limits.
    """

    local_dirs: Mapping[str, Path | str | LocalDirectory]
    credentials: CredentialsProvider | None
    secrets: Mapping[str, Secret]
    ssh: Mapping[str, SshSource]
    layouts: Mapping[str, Path | str]
    uploads: Mapping[str, BinaryIO]
    policy: PolicyCallback | None
    choose_exporters: ChooseExporters | None
    registry_http: HttpOptions | None


class SpecOptions(TypedDict, total=False):
    """What a build does with its result, and what it may do.

    Attributes:
        exporters: Where the result goes; none only builds.
        cache_imports: Caches to use.
        cache_exports: Caches to write.
        entitlements: What the build may do beyond the sandbox, for example ``network.host``.
        frontend_inputs: Graph by name, for ``input:NAME`` contexts.
        source_policy: Rules by which the daemon allows, denies or replaces sources.
        proxy_network: Run steps behind the daemon's network proxy.
        internal: Leave the build out of the daemon's history.
        compatibility_version: Build as older releases did: 10 as 0.13, 20 as 0.15, 30 as 0.31; 0 as the daemon does.
    """

    exporters: Sequence[Exporter]
    cache_imports: Sequence[Cache]
    cache_exports: Sequence[Cache]
    entitlements: Sequence[str]
    frontend_inputs: Mapping[str, Graph]
    source_policy: SourcePolicy | None
    proxy_network: bool
    internal: bool
    compatibility_version: int


class SolveOptions(SessionOptions, SpecOptions, total=False):
    """Every keyword of a build."""


def split_options(options: SolveOptions) -> tuple[SessionOptions, SpecOptions]:
    """Tell the halves apart.

    Raises:
        TypeError: There is no such keyword.
    """
    for name in options:
        if name not in SolveOptions.__annotations__:
            raise TypeError(
                f"a build has no keyword {name!r}; it has {', '.join(sorted(SolveOptions.__annotations__))}"
            )
    session = {name: value for name, value in options.items() if name in SessionOptions.__annotations__}
    spec = {name: value for name, value in options.items() if name in SpecOptions.__annotations__}
    return cast("SessionOptions", session), cast("SpecOptions", spec)
