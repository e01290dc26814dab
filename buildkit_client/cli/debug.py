"""``debug workers`` and ``debug info``: what the daemon says about itself.

Reference: cmd/buildctl/debug/workers.go and info.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.cli.connection import open_client
from buildkit_client.cli.console import EXIT_OK, CommandError, write_out, write_pieces
from buildkit_client.cli.go_values import Named, Nil, Record
from buildkit_client.cli.tabwriter import tabulate
from buildkit_client.cli.template import Template
from buildkit_client.cli.values import format_duration
from buildkit_client.errors import BuildKitError
from buildkit_client.progress.measure import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit_client.cli.flags import Invocation
    from buildkit_client.records import CdiDevice, DaemonInfo, GcPolicy, Worker


def run_workers(invocation: Invocation) -> int:
    """Print the daemon's workers."""
    with open_client(invocation) as client:
        try:
            workers = client.list_workers(invocation.texts("filter"))
        except BuildKitError as exc:
            raise CommandError(exc, "failed to list workers") from exc
    if form := invocation.text("format"):
        write_pieces(Template(form).lines([_go_worker(worker) for worker in workers]))
        return EXIT_OK
    lines = worker_blocks(workers) if invocation.is_set("verbose") else worker_table(workers)
    write_out(tabulate(lines))
    return EXIT_OK


def run_info(invocation: Invocation) -> int:
    """Print which BuildKit answers."""
    with open_client(invocation) as client:
        try:
            info = client.info()
        except BuildKitError as exc:
            raise CommandError(exc, "failed to call info") from exc
    if form := invocation.text("format"):
        value = Record((("BuildkitVersion", "buildkitVersion", _go_version(info)),), "*client.Info")
        write_pieces(Template(form).lines(value))
        return EXIT_OK
    write_out(tabulate(_version_lines(info), min_width=0, tab_width=0, pad_char=" "))
    return EXIT_OK


def _version_lines(info: DaemonInfo) -> list[str]:
    lines = [f"BuildKit:\t{info.package} {info.version} {info.revision}"]
    if info.dockerfile_version:
        lines.append(f"Dockerfile:\t{info.dockerfile_version}")
    return lines


def worker_table(workers: Iterable[Worker]) -> list[str]:
    """The table's lines, for ``tabulate``."""
    return ["ID\tPLATFORMS", *(f"{worker.id}\t{_platforms(worker)}" for worker in workers)]


def worker_blocks(workers: Iterable[Worker]) -> list[str]:
    """A block of lines for each worker, for ``tabulate``."""
    lines: list[str] = []
    for worker in workers:
        lines += [f"ID:\t{worker.id}", f"Platforms:\t{_platforms(worker)}", *_version_lines(worker.buildkit), "Labels:"]
        lines += [f"\t{key}:\t{worker.labels[key]}" for key in sorted(worker.labels)]
        if worker.devices:
            lines.append("Devices:")
            for device in worker.devices:
                lines += _device_lines(device)
            lines.append("")
        for number, policy in enumerate(worker.gc_policies):
            lines.append(f"GC Policy rule#{number}:")
            lines += [f"\t{key}:\t{value}" for key, value in _policy_pairs(policy)]
        lines.append("")
    return lines


def _device_lines(device: CdiDevice) -> list[str]:
    flag = "OnDemand:\ttrue" if device.on_demand else f"AutoAllow:\t{str(device.auto_allow).lower()}"
    notes = [f"\tAnnotations:\t{key}:\t{device.annotations[key]}" for key in sorted(device.annotations)]
    return [f"\tName:\t{device.name}", f"\t{flag}", *notes]


def _policy_pairs(policy: GcPolicy) -> Iterable[tuple[str, str]]:
    yield "All", "true" if policy.all else "false"
    if policy.filters:
        yield "Filters", " ".join(policy.filters)
    if policy.keep_duration_ns > 0:
        yield "Keep duration", format_duration(policy.keep_duration_ns)
    for key, amount in (
        ("Reserved space", policy.reserved_bytes),
        ("Minimum free space", policy.min_free_bytes),
        ("Maximum used space", policy.max_used_bytes),
    ):
        if amount > 0:
            yield key, format_bytes(amount, "g")


def _platforms(worker: Worker) -> str:
    return ",".join(normal_platform(platform) for platform in worker.platforms)


def normal_platform(platform: str) -> str:
    """Leave out a variant that goes without saying: ``linux/arm64/v8`` is ``linux/arm64``.

    Reference: github.com/containerd/platforms, database.go, normalizeArch.
    """
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    match architecture, variant:
        case ("arm64", "8" | "v8") | ("amd64", "v1"):
            variant = ""
        case ("arm", "" | "7"):
            variant = "v7"
        case ("arm", "5" | "6" | "8"):
            variant = f"v{variant}"
    return "/".join(part for part in (system, architecture, variant) if part)


def _go_version(info: DaemonInfo) -> Record:
    """Reference: client/info.go, BuildkitVersion."""
    return Record(
        (
            ("Package", "package", info.package),
            ("Version", "version", info.version),
            ("Revision", "revision", info.revision),
            ("DockerfileVersion", "dockerfileVersion" if info.dockerfile_version else "", info.dockerfile_version),
        ),
        "client.BuildkitVersion",
    )


def _go_worker(worker: Worker) -> Record:
    """Reference: client/workers.go, WorkerInfo."""
    devices = [_go_device(device) for device in worker.devices]
    return Record(
        (
            ("ID", "id", worker.id),
            ("Labels", "labels", dict(worker.labels)),
            ("Platforms", "platforms", [_go_platform(platform) for platform in worker.platforms]),
            ("GCPolicy", "gcPolicy", [_go_policy(policy) for policy in worker.gc_policies]),
            ("BuildkitVersion", "buildkitVersion", _go_version(worker.buildkit)),
            ("CDIDevices", "cdiDevices", devices or Nil("[]client.CDIDevice")),
        ),
        "*client.WorkerInfo",
    )


def _go_device(device: CdiDevice) -> Record:
    """Reference: client/info.go, CDIDevice."""
    return Record(
        (
            ("Name", "name", device.name),
            ("AutoAllow", "autoAllow", device.auto_allow),
            ("Annotations", "annotations", dict(device.annotations) or Nil("map[string]string")),
            ("OnDemand", "onDemand", device.on_demand),
        ),
        "client.CDIDevice",
    )


def _go_platform(platform: str) -> Record:
    """Reference: OCI image-spec, specs-go/v1/descriptor.go, Platform."""
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return Record(
        (
            ("Architecture", "architecture", architecture),
            ("OS", "os", system),
            ("OSVersion", "", ""),
            ("OSFeatures", "", Nil("[]string")),
            ("Variant", "variant" if variant else "", variant),
        ),
        "v1.Platform",
    )


def _go_policy(policy: GcPolicy) -> Record:
    """Reference: client/prune.go, PruneInfo."""
    keep_duration = Named(policy.keep_duration_ns, format_duration(policy.keep_duration_ns), "time.Duration")
    return Record(
        (
            ("All", "all", policy.all),
            ("Filter", "filter", list(policy.filters) or Nil("[]string")),
            ("KeepDuration", "keepDuration", keep_duration),
            ("ReservedSpace", "reservedSpace", policy.reserved_bytes),
            ("MaxUsedSpace", "maxUsedSpace", policy.max_used_bytes),
            ("MinFreeSpace", "minFreeSpace", policy.min_free_bytes),
        ),
        "client.PruneInfo",
    )
