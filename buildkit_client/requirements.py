"""What not every daemon can do, and the release that brought it.

A daemon ignores fields and attributes that it does not know. An older one would build something else than was asked
for and say nothing, or remove more than it should. So what is asked for is compared with the daemon's release first.

Only what would be ignored is listed: whatever an older daemon refuses by itself, it refuses in words of its own. Graphs
name the capabilities that they need, and the daemon checks these.

Reference: api/services/control/control.proto and solver/pb/caps.go, release by release.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from buildkit_client._proto import control_pb2

_RELEASE = re.compile(r"v?(\d+)\.(\d+)")


class Feature(NamedTuple):
    """Something that daemons can do from a release on.

    Attributes:
        name: What it is, to begin a sentence with.
        release: The first that has it, for example ``0.13``; its pre-releases count as well.
        hint: What to do without it.
        otherwise: What an older daemon does with it.
    """

    name: str
    release: str
    hint: str = ""
    otherwise: str = "it would go on without that"


PRUNE_LIMITS = Feature(
    "pruning down to a size or until the disk has room",
    "0.17",
    "prune by reserved_bytes, which it takes for the size to keep",
    "it would remove everything",
)
DISK_USAGE_AGE = Feature(
    "disk usage by age", "0.22", "compare last_used_at_ns of the records", "it would return everything"
)
PRUNE_DESCRIPTION = Feature(
    "pruning by description", "0.14", "prune by id, which disk_usage tells", "it would see no descriptions"
)
# Daemons know both from 0.20 on, and crash up to 0.28 while a record that was deleted is still in use.
_CRASH = "it would list everything, or crash"
HISTORY_FILTERS = Feature("filtering the history", "0.29", "list every build, and choose from the records", _CRASH)
HISTORY_LIMIT = Feature("a limit for the history", "0.29", "list every build, and take the newest records", _CRASH)
HISTORY_FINALIZE = Feature("waiting for a build's trace", "0.15", otherwise="it would unpin the build")

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_LIMITS = frozenset({"cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems", "cpushares", "memory", "memswap"})


def _exports(key: str, values: frozenset[str] = _TRUE, *, kind: str = "") -> Callable[[control_pb2.SolveRequest], bool]:
    def is_wanted(request: control_pb2.SolveRequest) -> bool:
        return any(one.Attrs.get(key) in values and kind in ("", one.Type) for one in request.Exporters)

    return is_wanted


def _caches(kind: str, is_late: Callable[[Mapping[str, str]], bool]) -> Callable[[control_pb2.SolveRequest], bool]:
    def is_wanted(request: control_pb2.SolveRequest) -> bool:
        return any(one.Type == kind and is_late(one.Attrs) for one in (*request.Cache.Imports, *request.Cache.Exports))

    return is_wanted


def _limits_steps(request: control_pb2.SolveRequest) -> bool:
    return request.Frontend == "dockerfile.v0" and not _LIMITS.isdisjoint(request.FrontendAttrs)


def _wants_slsa_1(request: control_pb2.SolveRequest) -> bool:
    return "version=v1" in request.FrontendAttrs.get("attest:provenance", "").split(",")


OF_BUILDS: Mapping[Feature, Callable[[control_pb2.SolveRequest], bool]] = {
    Feature("more than one exporter", "0.13", "run one build for each; the cache makes the later ones short"): (
        lambda request: len(request.Exporters) > 1
    ),
    Feature("rewrite-timestamp", "0.13"): _exports("rewrite-timestamp"),
    Feature("attestations as OCI artifacts", "0.19", "leave out oci-artifact"): _exports("oci-artifact"),
    Feature("a GitHub cache of version 2", "0.20"): _caches(
        "gha", lambda attrs: attrs.get("version") == "2" or "url_v2" in attrs
    ),
    Feature("danging-name-empty-only", "0.21"): _exports("danging-name-empty-only", _TRUE | {""}),
    Feature("choosing exporters when the result is known", "0.21", "name the exporters before the build"): (
        lambda request: request.EnableSessionExporter
    ),
    Feature("provenance of version v1", "0.23", "leave out version=v1"): _wants_slsa_1,
    Feature("a policy callback", "0.26", "write the rules as a source policy"): (
        lambda request: bool(request.SourcePolicySession)
    ),
    Feature("a compatibility version", "0.30"): lambda request: bool(request.CompatibilityVersion),
    Feature("a local export with mode=delete", "0.31", "use mode=copy into an empty folder"): _exports(
        "mode", frozenset({"delete"}), kind="local"
    ),
    Feature("limiting the processors and memory of steps", "0.31"): _limits_steps,
    Feature("the network proxy", "0.31"): lambda request: request.ProxyNetwork,
}
"""What a Solve request can ask for, with how to see that it does."""


def features_of(request: control_pb2.SolveRequest) -> list[Feature]:
    """Return what a build asks for that not every daemon can do."""
    return [feature for feature, is_wanted in OF_BUILDS.items() if is_wanted(request)]


def require(features: Iterable[Feature], version: str) -> None:
    """Refuse what the daemon is too old for.

    Args:
        features: What is asked for.
        version: The daemon's, for example ``v0.34.2``. A build of BuildKit that does not know its own, as
            ``v0.0.0+unknown``, is taken for new enough.

    Raises:
        OptionError: The daemon's release lacks one of them; names the release that has it.
    """
    match = _RELEASE.match(version)
    if match is None or (actual := (int(match[1]), int(match[2]))) == (0, 0):
        return
    for feature in features:
        major, minor = feature.release.split(".")
        if actual < (int(major), int(minor)):
            raise OptionError(
                f"{feature.name} needs buildkitd {feature.release} or newer",
                why=f"this one is {version}: {feature.otherwise}",
                hint=feature.hint or "use a newer buildkitd",
            )
