"""What the daemon says about itself: version, workers, records of its build cache and of its past builds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

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
class CdiDevice:
    """A device that a worker can give to steps (Container Device Interface).

    Attributes:
        name: For example ``vendor.example/gpu=0``.
        auto_allow: Steps get it without an entitlement.
        annotations: Texts by key.
        on_demand: It is set up when a step first asks for it.
    """

    name: str
    auto_allow: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    on_demand: bool = False

    @classmethod
    def from_proto(cls, message: worker_pb2.CDIDevice) -> Self:
        """Read the wire's message."""
        return cls(message.Name, message.AutoAllow, dict(message.Annotations), message.OnDemand)


@dataclass(frozen=True, slots=True)
class Worker:
    """What runs build steps.

    Attributes:
        id: Identity of the worker.
        labels: For example ``org.mobyproject.buildkit.worker.snapshotter``.
        platforms: For example ``linux/amd64``; the first is the worker's own.
        gc_policies: Rules, in order.
        buildkit: Version of the daemon it belongs to.
        devices: What steps may ask for.
    """

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    gc_policies: tuple[GcPolicy, ...] = ()
    buildkit: DaemonInfo = field(default_factory=DaemonInfo)
    devices: tuple[CdiDevice, ...] = ()

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
            devices=tuple(CdiDevice.from_proto(device) for device in message.CDIDevices),
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


@dataclass(frozen=True, slots=True)
class BlobDescriptor:
    """Names a blob in the daemon's content store.

    Attributes:
        media_type: What it is.
        digest: Of its bytes, as the daemon says it, for example ``sha256:…``.
        size_bytes: Its length.
        annotations: Texts by key.
    """

    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_proto(cls, message: control_pb2.Descriptor) -> Self:
        """Read the wire's message."""
        return cls(message.media_type, message.digest, message.size, dict(message.annotations))


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """What a build made: for the build as a whole, or for one of its platforms.

    Attributes:
        results: Descriptor by the exporter's position among the build's exporters, where it made an image.
        attestations: Statements about it, with their kind in the annotation ``in-toto.io/predicate-type``.
    """

    results: Mapping[int, BlobDescriptor] = field(default_factory=dict, hash=False)
    attestations: tuple[BlobDescriptor, ...] = ()

    @classmethod
    def from_proto(cls, message: control_pb2.BuildResultInfo) -> Self:
        """Read the wire's message; daemons before several exporters were possible know one result."""
        results = {number: BlobDescriptor.from_proto(one) for number, one in sorted(message.Results.items())}
        if not results and message.HasField("ResultDeprecated"):
            results = {0: BlobDescriptor.from_proto(message.ResultDeprecated)}
        return cls(results, tuple(BlobDescriptor.from_proto(one) for one in message.Attestations))


@dataclass(frozen=True, slots=True)
class RecordedExporter:
    """An exporter that a build was asked for.

    Attributes:
        type: For example ``image``.
        attrs: Its options.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What the daemon remembers of a build, also while it runs.

    Attributes:
        ref: The build's id.
        frontend: For example ``dockerfile.v0``; empty for LLB.
        frontend_attrs: Its options.
        exporters: What the build was asked to make.
        exporter_response: What exporters and frontend answered, for example ``containerimage.digest``.
        created_at_ns: Start, since 1970.
        completed_at_ns: End, since 1970; None while it runs.
        error_code: gRPC status code of its failure, 0 when it did not fail.
        error_message: The daemon's message, empty when it did not fail.
        external_error: Blob with the whole failure, or None; see :meth:`History.error`.
        logs: Blob with its progress, or None.
        trace: Blob with its trace, or None as long as the daemon has not stored it.
        output: What it made, or None.
        platform_outputs: What it made for each platform, for example ``linux/arm64``.
        generation: Counts changes of the record.
        is_pinned: The daemon keeps it.
        total_steps: How many steps it has.
        cached_steps: Those that came from the cache.
        completed_steps: Those that are done, the cached ones among them.
        warnings: How many warnings it gave.
    """

    ref: str
    frontend: str = ""
    frontend_attrs: Mapping[str, str] = field(default_factory=dict, hash=False)
    exporters: tuple[RecordedExporter, ...] = ()
    exporter_response: Mapping[str, str] = field(default_factory=dict, hash=False)
    created_at_ns: int = 0
    completed_at_ns: int | None = None
    error_code: int = 0
    error_message: str = ""
    external_error: BlobDescriptor | None = None
    logs: BlobDescriptor | None = None
    trace: BlobDescriptor | None = None
    output: BuildOutput | None = None
    platform_outputs: Mapping[str, BuildOutput] = field(default_factory=dict, hash=False)
    generation: int = 0
    is_pinned: bool = False
    total_steps: int = 0
    cached_steps: int = 0
    completed_steps: int = 0
    warnings: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.completed_at_ns is None

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error; a cancelled build did too."""
        return self.error_code != 0

    @classmethod
    def from_proto(cls, message: control_pb2.BuildHistoryRecord) -> Self:
        """Read the wire's message."""

        def blob(name: Literal["logs", "trace", "externalError"]) -> BlobDescriptor | None:
            return BlobDescriptor.from_proto(getattr(message, name)) if message.HasField(name) else None

        return cls(
            ref=message.Ref,
            frontend=message.Frontend,
            frontend_attrs=dict(message.FrontendAttrs),
            exporters=tuple(RecordedExporter(one.Type, dict(one.Attrs)) for one in message.Exporters),
            exporter_response=dict(message.ExporterResponse),
            created_at_ns=message.CreatedAt.ToNanoseconds(),
            completed_at_ns=message.CompletedAt.ToNanoseconds() if message.HasField("CompletedAt") else None,
            error_code=message.error.code,
            error_message=message.error.message,
            external_error=blob("externalError"),
            logs=blob("logs"),
            trace=blob("trace"),
            output=BuildOutput.from_proto(message.Result) if message.HasField("Result") else None,
            platform_outputs={key: BuildOutput.from_proto(one) for key, one in sorted(message.Results.items())},
            generation=message.Generation,
            is_pinned=message.pinned,
            total_steps=message.numTotalSteps,
            cached_steps=message.numCachedSteps,
            completed_steps=message.numCompletedSteps,
            warnings=message.numWarnings,
        )


BuildEventKind = Literal["started", "complete", "deleted"]
"""What happened to a build: it runs, it ended (again when its record changes), or its record was removed.

A daemon (v0.34) says nothing about the removal of a record that somebody once asked for by its ref.
"""


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """A change in the daemon's history of builds.

    Attributes:
        kind: What happened.
        record: The build as it is then; of a deleted one only ``ref`` is sure.
        message: The daemon's message, which tools that show all of it need.
    """

    kind: BuildEventKind
    record: BuildRecord
    message: control_pb2.BuildHistoryEvent = field(repr=False, compare=False)

    @classmethod
    def from_proto(cls, message: control_pb2.BuildHistoryEvent) -> Self:
        """Read the wire's message."""
        kinds: tuple[BuildEventKind, ...] = ("started", "complete", "deleted")
        kind = kinds[message.type] if message.type < len(kinds) else "complete"
        return cls(kind, BuildRecord.from_proto(message.record), message)
