"""What every operation of a graph can be told besides its work: platform, workers, and facts outside its digest.

The same keywords (:class:`ConstraintOptions`) go to sources, ``run``, ``file``, ``merge`` and ``diff``. Platform and
worker filters become part of the operation; names, caching and limits travel beside it, so they change no cache key.

Reference: client/llb/state.go, Constraints, OpMetadata, mergeMetadata; marshal.go, MarshalConstraints.
"""

from __future__ import annotations

import platform as machine
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, TypedDict

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.oci.descriptor import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

CUSTOM_NAME = "llb.customname"  # client/llb/state.go, WithCustomName
_MACHINES = {"armv6l": "arm/v6", "armv7l": "arm/v7", "armv8l": "arm/v8", "loongarch64": "loong64"}


@dataclass(frozen=True, slots=True)
class ProgressGroup:
    """Steps that progress may show as one.

    Attributes:
        id: The same for all steps of the group.
        name: What people see.
        weak: A group of only weak steps stays hidden until one of them fails.

    Reference: client/llb/state.go, ProgressGroup.
    """

    id: str
    name: str = ""
    weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinuxResources:
    """Limits of a step's container; 0 or "" leaves one alone. They change no cache key.

    Attributes:
        memory_bytes: RAM.
        memory_swap_bytes: RAM and swap together.
        cpu_shares: Weight against other containers.
        cpu_period_us: Length of a period.
        cpu_quota_us: CPU time in a period.
        cpuset_cpus: For example ``0-3,6``.
        cpuset_mems: Memory nodes in the same notation.

    Reference: client/llb/meta.go, LinuxResources.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""

    def to_proto(self) -> ops_pb2.LinuxResources:
        """Return the wire message."""
        return ops_pb2.LinuxResources(
            memory=self.memory_bytes,
            memorySwap=self.memory_swap_bytes,
            cpuShares=self.cpu_shares,
            cpuPeriod=self.cpu_period_us,
            cpuQuota=self.cpu_quota_us,
            cpusetCpus=self.cpuset_cpus,
            cpusetMems=self.cpuset_mems,
        )


class ConstraintOptions(TypedDict, total=False):
    """The keywords that every operation takes.

    Attributes:
        platform: What the operation runs on or pulls for, for example ``linux/arm64``; a text is brought to its usual
            spelling.
        require: Worker filters in containerd's filter language.
        description: Texts for people and frontends, by key.
        custom_name: What progress shows instead of the operation's own text.
        ignore_cache: Run it even when its result is known.
        export_cache: Whether its result goes into exported caches; left out, the build decides.
        progress_group: See :class:`ProgressGroup`.
        resources: Limits for ``run``, see :class:`LinuxResources`.
    """

    platform: Platform | str
    require: Sequence[str]
    description: Mapping[str, str]
    custom_name: str
    ignore_cache: bool
    export_cache: bool
    progress_group: ProgressGroup
    resources: LinuxResources


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Facts about an operation that are not part of its digest.

    Reference: client/llb/state.go, OpMetadata.
    """

    ignore_cache: bool = False
    description: Mapping[str, str] = field(default_factory=dict)
    export_cache: bool | None = None
    caps: frozenset[str] = frozenset()
    progress_group: ProgressGroup | None = None
    resources: LinuxResources | None = None

    def merged(self, other: Metadata) -> Metadata:
        """Return both together; where only one can be, the other's counts.

        Two equal operations are one in the graph, so what was said about either is said about both.

        Reference: client/llb/state.go, mergeMetadata.
        """
        return Metadata(
            ignore_cache=self.ignore_cache or other.ignore_cache,
            description={**self.description, **other.description},
            export_cache=self.export_cache if other.export_cache is None else other.export_cache,
            caps=self.caps | other.caps,
            progress_group=other.progress_group or self.progress_group,
            resources=other.resources or self.resources,
        )

    def to_proto(self) -> ops_pb2.OpMetadata:
        """Return the wire message."""
        message = ops_pb2.OpMetadata(
            ignore_cache=self.ignore_cache,
            description=self.description,
            caps=dict.fromkeys(self.caps, True),
        )
        if self.export_cache is not None:
            message.export_cache.CopyFrom(ops_pb2.ExportCache(Value=self.export_cache))
        if self.progress_group is not None:
            group = self.progress_group
            message.progress_group.CopyFrom(ops_pb2.ProgressGroup(id=group.id, name=group.name, weak=group.weak))
        if self.resources is not None:
            message.linux_resources.CopyFrom(self.resources.to_proto())
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """The keywords of one operation, or of a whole ``marshal``, read and checked.

    Attributes:
        platform: Or None.
        require: Worker filters.
        metadata: The rest.
    """

    platform: Platform | None = None
    require: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)

    @classmethod
    def of(
        cls,
        *,
        platform: Platform | str | None = None,
        require: Sequence[str] = (),
        description: Mapping[str, str] | None = None,
        custom_name: str = "",
        ignore_cache: bool = False,
        export_cache: bool | None = None,
        progress_group: ProgressGroup | None = None,
        resources: LinuxResources | None = None,
    ) -> Self:
        """Read what :class:`ConstraintOptions` describes.

        Raises:
            OptionError: A value cannot be what it should.
        """
        texts = dict(description or {})
        if custom_name:
            texts[CUSTOM_NAME] = custom_name
        return cls(
            platform=read_platform(platform),
            require=read_strings("require", require),
            metadata=Metadata(
                ignore_cache=ignore_cache,
                description=texts,
                export_cache=export_cache,
                progress_group=progress_group,
                resources=resources,
            ),
        )

    def with_caps(self, *caps: str) -> Self:
        """Return the same with capabilities that a daemon must have for the operation."""
        return replace(self, metadata=replace(self.metadata, caps=self.metadata.caps.union(caps)))


def read_platform(value: Platform | str | None) -> Platform | None:
    """Return a platform from its text; a :class:`Platform` stays as it is."""
    return Platform.parse(value) if isinstance(value, str) else value


def read_strings(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return a list of texts.

    Raises:
        OptionError: It is a single text, which Python would take for a list of letters.
    """
    if isinstance(values, str):
        raise OptionError(f"{name} is a list of texts", why="it is a single text", hint=f"{name}=[{values!r}]")
    return tuple(values)


@cache
def default_platform() -> Platform:
    """Return the platform of this machine, for what says nothing else.

    Reference: containerd platforms, DefaultSpec.
    """
    name = machine.machine().lower()
    architecture, _, variant = _MACHINES.get(name, name).partition("/")
    return Platform(machine.system().lower(), architecture, variant).normalized()
