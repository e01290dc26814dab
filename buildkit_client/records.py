"""What the daemon says about itself: version, workers, records of its build cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client._proto import control_pb2, ops_pb2, worker_pb2


def _platform_text(platform: ops_pb2.Platform) -> str:
    """Return a platform as tools print it, for example ``linux/arm64/v8``."""
    text = f"{platform.OS}/{platform.Architecture}"
    return f"{text}/{platform.Variant}" if platform.Variant else text


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """Which BuildKit a daemon is.

    Attributes:
        package: For example ``github.com/moby/buildkit``.
        version: For example ``v0.34.2``.
        revision: Commit it was built from.
        dockerfile_version: Version of the built-in Dockerfile frontend; empty before daemons had it.
    """

    package: str = ""
    version: str = ""
    revision: str = ""
    dockerfile_version: str = ""

    @classmethod
    def from_proto(cls, message: worker_pb2.BuildkitVersion) -> Self:
        """Read the wire's message."""
        return cls(message.package, message.version, message.revision, message.dockerfileVersion)


@dataclass(frozen=True, slots=True)
class GcPolicy:
    """One rule by which a worker removes records on its own.

    Attributes:
        all: Also internal, frontend and shared records.
        filters: Which records; empty takes every one.
        keep_duration_ns: Keeps what was used within this time.
        reserved_bytes: Keeps at least this much.
        max_used_bytes: Removes until no more than this is used.
        min_free_bytes: Removes until this much of the disk is free.
    """

    all: bool = False
    filters: tuple[str, ...] = ()
    keep_duration_ns: int = 0
    reserved_bytes: int = 0
    max_used_bytes: int = 0
    min_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """What runs build steps.

    Attributes:
        id: Identity of the worker.
        labels: For example ``org.mobyproject.buildkit.worker.snapshotter``.
        platforms: For example ``linux/amd64``; the first is the worker's own.
        gc_policies: Rules, in order.
        buildkit: Version of the daemon it belongs to.
    """

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    gc_policies: tuple[GcPolicy, ...] = ()
    buildkit: DaemonInfo = field(default_factory=DaemonInfo)

    @classmethod
    def from_proto(cls, message: worker_pb2.WorkerRecord) -> Self:
        """Read the wire's message."""
        return cls(
            id=message.ID,
            labels=dict(message.Labels),
            platforms=tuple(_platform_text(platform) for platform in message.platforms),
            gc_policies=tuple(
                GcPolicy(
                    all=policy.all,
                    filters=tuple(policy.filters),
                    keep_duration_ns=policy.keepDuration,
                    reserved_bytes=policy.reservedSpace,
                    max_used_bytes=policy.maxUsedSpace,
                    min_free_bytes=policy.minFreeSpace,
                )
                for policy in message.GCPolicy
            ),
            buildkit=DaemonInfo.from_proto(message.BuildkitVersion),
        )


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One record of the daemon's build cache.

    Attributes:
        id: Identity.
        size_bytes: Its size on disk.
        description: What it came from.
        record_type: ``regular``, ``source.local``, ``exec.cachemount``, and others.
        is_mutable: Whether it can still change.
        is_in_use: Whether a build uses it now.
        is_shared: Whether its bytes are also an image's.
        parents: Ids it is built on.
        created_at_ns: Since 1970.
        last_used_at_ns: Since 1970; None when it was never used.
        usage_count: How often it was used.
    """

    id: str
    size_bytes: int = 0
    description: str = ""
    record_type: str = ""
    is_mutable: bool = False
    is_in_use: bool = False
    is_shared: bool = False
    parents: tuple[str, ...] = ()
    created_at_ns: int = 0
    last_used_at_ns: int | None = None
    usage_count: int = 0

    @classmethod
    def from_proto(cls, message: control_pb2.UsageRecord) -> Self:
        """Read the wire's message."""
        return cls(
            id=message.ID,
            size_bytes=message.Size,
            description=message.Description,
            record_type=message.RecordType,
            is_mutable=message.Mutable,
            is_in_use=message.InUse,
            is_shared=message.Shared,
            parents=tuple(message.Parents) or ((message.Parent,) if message.Parent else ()),
            created_at_ns=message.CreatedAt.ToNanoseconds(),
            last_used_at_ns=message.LastUsedAt.ToNanoseconds() if message.HasField("LastUsedAt") else None,
            usage_count=message.UsageCount,
        )
