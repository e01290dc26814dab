"""``du`` and ``prune``: what lies in the daemon's build cache, and removing it.

Reference: cmd/buildctl/diskusage.go and prune.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.cli.connection import open_client
from buildkit_client.cli.console import EXIT_OK, CommandError, write_out, write_pieces
from buildkit_client.cli.go_values import Named, Nil, Record, go_time
from buildkit_client.cli.tabwriter import tabulate
from buildkit_client.cli.template import Template
from buildkit_client.errors import BuildKitError, DaemonError, OptionError
from buildkit_client.progress.measure import format_bytes
from buildkit_client.progress.rawjson import format_time
from buildkit_client.transport.status import code_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_client.cli.flags import Invocation
    from buildkit_client.records import UsageRecord

_HEAD = "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED"
_NS_PER_S = 1_000_000_000
_BYTES_PER_MB = 1_000_000
_TOO_MANY_BYTES = 2**63


def run_disk_usage(invocation: Invocation) -> int:
    """Print what lies in the build cache."""
    filters = invocation.texts("filter")
    with open_client(invocation) as client:
        try:
            records = client.disk_usage(filters)
        except BuildKitError as exc:
            raise CommandError(exc, "failed to call diskusage") from exc
    records.sort(key=lambda record: (record.size_bytes, record.id))
    if form := invocation.text("format"):
        write_pieces(Template(form).lines([_go_record(record) for record in records]))
        return EXIT_OK
    lines = verbose_lines(records) if invocation.is_set("verbose") else table_lines(records)
    write_out(tabulate(lines))
    if not filters:
        write_out(tabulate(summary_lines(records)))
    return EXIT_OK


def run_prune(invocation: Invocation) -> int:
    """Remove records of the build cache and print them as they go."""
    form = invocation.text("format")
    template = Template(form) if form else None
    total = 0
    is_first = True
    with open_client(invocation) as client:
        try:
            for record in client.prune(
                all=invocation.is_set("all"),
                filters=invocation.texts("filter"),
                keep_duration_s=invocation.number("keep-duration") / _NS_PER_S,
                reserved_bytes=_size_bytes(invocation, "keep-storage-min"),
                max_used_bytes=_size_bytes(invocation, "keep-storage"),
                min_free_bytes=_size_bytes(invocation, "free-storage"),
            ):
                total += record.size_bytes
                if template is not None:
                    write_pieces(template.lines(_go_record(record)))
                    continue
                if invocation.is_set("verbose"):
                    text = tabulate(verbose_lines([record]))
                else:
                    # Each row is aligned for itself: the next is not known yet. The head waits for the first.
                    rows = table_lines([record])
                    text = tabulate(rows if is_first else rows[1:])
                is_first = False
                write_out(text)
        except DaemonError as exc:  # the reference does not wrap what a stream ends with
            text = f"rpc error: code = {code_name(exc.details.code)} desc = {exc.details.message}"
            raise CommandError(BuildKitError(text), "") from exc
        except BuildKitError as exc:
            raise CommandError(exc, "failed to call prune") from exc
    if template is None:
        write_out(tabulate([f"Total:\t{format_bytes(total)}"]))
    return EXIT_OK


def _size_bytes(invocation: Invocation, name: str) -> int:
    """Read a flag with megabytes.

    Raises:
        OptionError: It is too large or no number; the reference would send another size, and remove everything.
    """
    megabytes = invocation.number(name)
    if not abs(megabytes * _BYTES_PER_MB) < _TOO_MANY_BYTES:
        raise OptionError(f'invalid value "{megabytes:g}" for flag -{name}: no size in MB')
    return int(megabytes * _BYTES_PER_MB)


def table_lines(records: Iterable[UsageRecord]) -> list[str]:
    """The table's lines, its head first, for ``tabulate``."""
    return [_HEAD, *(_row(record) for record in records)]


def _row(record: UsageRecord) -> str:
    name = record.id + ("*" if record.is_mutable else "")
    size = format_bytes(record.size_bytes) + ("*" if record.is_shared else "")
    return f"{name:<71}\t{_go_bool(not record.is_in_use):<11}\t{size}\t"


def verbose_lines(records: Iterable[UsageRecord]) -> list[str]:
    """A block of lines for each record, for ``tabulate``."""
    lines: list[str] = []
    for record in records:
        pairs = [
            ("ID", record.id),
            ("Parents", ";".join(record.parents)),
            ("Created at", go_time(record.created_at_ns)),
            ("Mutable", _go_bool(record.is_mutable)),
            ("Reclaimable", _go_bool(not record.is_in_use)),
            ("Shared", _go_bool(record.is_shared)),
            ("Size", format_bytes(record.size_bytes)),
            ("Description", record.description),
            ("Usage count", str(record.usage_count)),
            ("Last used", "" if record.last_used_at_ns is None else go_time(record.last_used_at_ns)),
            ("Type", record.record_type),
        ]
        lines += [f"{key}:\t{value}" for key, value in pairs if value]
        lines.append("")
    return lines


def summary_lines(records: Sequence[UsageRecord]) -> list[str]:
    """The sums below the table, for ``tabulate``."""
    sized = [record for record in records if record.size_bytes > 0]
    total = sum(record.size_bytes for record in sized)
    shared = sum(record.size_bytes for record in records if record.is_shared)
    lines = []
    if shared > 0:
        lines += [f"Shared:\t{format_bytes(shared)}", f"Private:\t{format_bytes(total - shared)}"]
    reclaimable = sum(record.size_bytes for record in sized if not record.is_in_use)
    return [*lines, f"Reclaimable:\t{format_bytes(reclaimable)}", f"Total:\t{format_bytes(total)}"]


def _go_bool(value: bool) -> str:
    return "true" if value else "false"


def _go_record(record: UsageRecord) -> Record:
    """Reference: client/diskusage.go, UsageInfo."""
    last_used = Nil("*time.Time") if record.last_used_at_ns is None else _go_moment(record.last_used_at_ns)
    return Record(
        (
            ("ID", "id", record.id),
            ("Mutable", "mutable", record.is_mutable),
            ("InUse", "inUse", record.is_in_use),
            ("Size", "size", record.size_bytes),
            ("CreatedAt", "createdAt", _go_moment(record.created_at_ns)),
            ("LastUsedAt", "lastUsedAt", last_used),
            ("UsageCount", "usageCount", record.usage_count),
            ("Parents", "parents", list(record.parents) or Nil("[]string")),
            ("Description", "description", record.description),
            ("RecordType", "recordType", Named(record.record_type, record.record_type, "client.UsageRecordType")),
            ("Shared", "shared", record.is_shared),
        ),
        "*client.UsageInfo",
    )


def _go_moment(moment_ns: int) -> Named:
    return Named(format_time(moment_ns), go_time(moment_ns), "time.Time")
