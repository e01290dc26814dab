"""How cost grows with the context: memory from 1 to 10 GB, and time for each file from 1,000 to 500,000."""

from __future__ import annotations

import functools
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks import contexts
from benchmarks.measure import Cost, timed
from benchmarks.rows_client import build_words

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.lab import Lab

GB = 1_000_000_000
_SIZES_GB = (1, 2, 5, 10)
_COUNTS = (1_000, 10_000, 50_000, 100_000, 250_000, 500_000)
_BYTES_A_FILE = 4 * 4096  # in the context, as sent, as copied, and its entries


def _clients(lab: Lab) -> dict[str, Path]:
    return {"buildkit-client": lab.ours, "buildctl": lab.buildctl}


def memory(lab: Lab) -> list[dict[str, object]]:
    """Send contexts of more and more bytes and print the client's peak; the context itself takes no room."""
    print(f"\n{'context':>12}  {'client':<16} {'wall s':>8} {'cpu s':>8} {'peak MiB':>9}")
    found: list[dict[str, object]] = []
    for gigabytes in _SIZES_GB:
        size = int(gigabytes * GB * min(1.0, lab.scale))
        lab.daemon.prune()
        if shutil.disk_usage(lab.folder).free < 1.3 * size:
            print(f"{size / GB:>9.2f} GB  not run: the daemon's copy does not fit into {lab.folder}")
            continue
        make = functools.partial(contexts.sparse_files, size_bytes=size, base_image=lab.base_image)
        with lab.context(f"sparse-{gigabytes}", make) as context:
            for name, client in _clients(lab).items():
                lab.daemon.prune()
                cost = timed(build_words(client, lab.daemon.address, context))
                print(
                    f"{size / GB:>9.2f} GB  {name:<16} {cost.wall_s:>8.2f} {cost.cpu_s:>8.2f} {cost.peak_mib:>9.1f}",
                    flush=True,
                )
                found.append({"bytes": size, "client": name, **asdict(cost)})
    lab.daemon.prune()
    return found


def curve(lab: Lab, repeats: int) -> list[dict[str, object]]:
    """Send contexts of more and more small files and print what each file costs; the best of a few runs counts."""
    print(f"\n{'files':>9}  {'client':<16} {'wall s':>8} {'us/file':>9} {'cpu s':>8} {'us/file':>9} {'peak MiB':>9}")
    found: list[dict[str, object]] = []
    for full in _COUNTS:
        count = lab.count(full, 100)
        if shutil.disk_usage(lab.folder).free < count * _BYTES_A_FILE:
            print(f"{count:>9,}  not run: does not fit into {lab.folder}")
            continue
        make = functools.partial(contexts.small_files, count=count)
        with lab.context(f"curve-{full}", make) as context:
            for name, client in _clients(lab).items():
                cost = _best(lab, client, context, repeats if count <= 100_000 else 1)
                print(
                    f"{count:>9,}  {name:<16} {cost.wall_s:>8.2f} {cost.wall_s / count * 1e6:>9.1f}"
                    f" {cost.cpu_s:>8.2f} {cost.cpu_s / count * 1e6:>9.1f} {cost.peak_mib:>9.1f}",
                    flush=True,
                )
                found.append({"files": count, "client": name, **asdict(cost)})
    lab.daemon.prune()
    return found


def _best(lab: Lab, client: Path, context: Path, repeats: int) -> Cost:
    costs = []
    for _ in range(repeats):
        lab.daemon.prune()
        costs.append(timed(build_words(client, lab.daemon.address, context)))
    return min(costs, key=lambda cost: cost.wall_s)
