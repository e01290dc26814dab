"""W1 to W5 and W11 to W14: our clients beside ``buildctl``, or beside a bare interpreter."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
import statistics
from datetime import datetime
from typing import TYPE_CHECKING

from benchmarks import contexts
from benchmarks.compare import Arm, Goal, Row
from benchmarks.measure import MIB, Cost, timed
from benchmarks.pipeline import Convox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.lab import Lab

_LINE = re.compile(rb" line (\d+): what a compiler says")
_CLIENT_MIB = 60_000_000 / MIB
OUR_NAME, PEER_NAME = "buildkit-client", "buildctl"


def build_words(client: Path, address: str, context: Path, more: Sequence[str] = ()) -> list[str | Path]:
    """Return a build's command; both clients take the same words."""
    build = ["build", "--progress=plain", "--frontend", "dockerfile.v0"]
    folders = ["--local", f"context={context}", "--local", f"dockerfile={context}"]
    return [client, "--addr", address, *build, *folders, *more]


def client_arms(lab: Lab, context: Path, more: Sequence[str] = (), *, address: str = "") -> tuple[Arm, Arm]:
    """Return both clients' arms for one build."""

    def run(client: Path) -> Cost:
        return timed(build_words(client, address or lab.daemon.address, context, more))

    return Arm(OUR_NAME, functools.partial(run, lab.ours)), Arm(PEER_NAME, functools.partial(run, lab.buildctl))


def transfer_seconds(trace: Path) -> float:
    """Return how long the context travelled, by a trace of the progress; 0 when it did not."""
    seconds = 0.0
    with trace.open() as file:
        for line in file:
            for vertex in json.loads(line).get("vertexes") or []:
                if vertex.get("name", "").endswith("load build context") and vertex.get("completed"):
                    began, ended = (datetime.fromisoformat(vertex[key]) for key in ("started", "completed"))
                    seconds = max(seconds, (ended - began).total_seconds())
    return seconds


def traced_arms(lab: Lab, context: Path, trace: Path) -> tuple[Arm, Arm]:
    """Return both clients' arms for one build, with the context's own time."""

    def run(client: Path) -> Cost:
        trace.unlink(missing_ok=True)
        cost = timed(build_words(client, lab.daemon.address, context, ["--trace", str(trace)]))
        return cost.then(Cost(0.0, 0.0, 0.0, {"transfer_s": transfer_seconds(trace)}))

    return Arm(OUR_NAME, functools.partial(run, lab.ours)), Arm(PEER_NAME, functools.partial(run, lab.buildctl))


def _small_count(lab: Lab) -> int:
    return lab.count(50_000, 100)


def small_files(lab: Lab) -> AbstractContextManager[Path]:
    """Return the context of W1, which is made once."""
    make = functools.partial(contexts.small_files, count=_small_count(lab))
    return lab.context("small", make, is_kept=True)


def w1(lab: Lab) -> Iterator[Row]:
    """Many small files, cold."""
    with small_files(lab) as context, lab.scratch() as scratch:
        arms = traced_arms(lab, context, scratch / "trace.json")
        goals = (Goal("wall_s", 0.90), Goal("transfer_s", 0.80), Goal("peak_mib", _CLIENT_MIB, "ours"))
        yield Row("W1", f"{_small_count(lab):,} files of 1-4 KiB, cold", *arms, goals, prepare=lab.daemon.prune)


def w2(lab: Lab) -> Iterator[Row]:
    """One large file, cold."""
    mib = lab.count(1024, 16)
    with lab.context("big", lambda folder: contexts.one_big_file(folder, mib)) as context, lab.scratch() as scratch:
        arms = traced_arms(lab, context, scratch / "trace.json")
        goals = (Goal("wall_s", 0.75), Goal("peak_mib", _CLIENT_MIB, "ours"))
        yield Row("W2", f"one file of {mib} MiB, cold", *arms, goals, prepare=lab.daemon.prune)


def w3(lab: Lab) -> Iterator[Row]:
    """Files of middle size, cold."""
    count = lab.count(2000, 20)
    with lab.context("middle", lambda folder: contexts.middle_files(folder, count)) as context:
        arms = client_arms(lab, context)
        yield Row("W3", f"{count:,} files of 256 KiB, cold", *arms, [Goal("wall_s", 0.80)], prepare=lab.daemon.prune)


def w4(lab: Lab) -> Iterator[Row]:
    """Many small files, none of them changed."""
    with small_files(lab) as context:
        yield Row("W4", "W1 again, unchanged", *client_arms(lab, context), [Goal("wall_s", 0.65)])


def w5(lab: Lab) -> Iterator[Row]:
    """Nothing to do."""
    with lab.context("nothing", contexts.next_to_nothing) as context:
        arms = client_arms(lab, context)
        note = functools.partial(_what_bounds_w5, lab)
        yield Row("W5", "3 files, all cached", *arms, [Goal("wall_s", 3.0)], pairs_factor=2, note=note)


def _what_bounds_w5(lab: Lab) -> str:
    """Measure the parts of a process that has nothing to do."""

    def seconds(code: str) -> float:
        return statistics.median(timed([lab.python, "-c", code]).wall_s for _ in range(5))

    bare = seconds("pass")
    lean = "from buildkit_client.startup import lean_imports\nwith lean_imports(): import "
    grpc = seconds(f"{lean}grpc")
    client = seconds(f"{lean}buildkit_client.cli.run, buildkit_client.cli.build, buildkit_client.client")
    return (
        f"of our time: interpreter {bare * 1000:.0f} ms, importing grpc {(grpc - bare) * 1000:.0f} ms, "
        f"all other imports {max(0.0, client - grpc) * 1000:.0f} ms; the rest is the build itself"
    )


def w11(lab: Lab) -> Iterator[Row]:
    """The result of a build comes to the client: as files, a tenth of W1's, and all of W1's as one archive.

    With all of W1's files ``buildctl`` 0.34 hangs, and now and then with a fifth of them: it asks for more than the
    daemon takes up, and does not read what the daemon sends meanwhile.
    """
    count = lab.count(5_000, 100)
    make = functools.partial(contexts.small_files, count=count)
    with lab.context("tenth", make) as tenth, small_files(lab) as small, lab.scratch() as scratch:
        for kind, context, what in (("local", tenth, f"{count:,} files"), ("oci", small, "W1's image")):
            dest = scratch / kind
            arms = client_arms(lab, context, ["--output", f"type={kind},dest={dest}"])
            clear = functools.partial(_remove, dest)
            yield Row(f"W11 {kind}", f"{kind} export of {what}", *arms, [Goal("wall_s", 1.0)], prepare=clear)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def w12(lab: Lab) -> Iterator[Row]:
    """A cache in a folder of the client's."""
    mib = lab.count(1024, 16)
    make = functools.partial(contexts.cached_steps, base_image=lab.base_image, mib=mib)
    with lab.context("steps", make) as context, lab.scratch() as scratch:
        cache = scratch / "cache"
        # Not compressed: gzip in the daemon would take most of the time of both arms and hide what is compared.
        export = ["--export-cache", f"type=local,dest={cache},mode=max,compression=uncompressed,force-compression=true"]
        arms = client_arms(lab, context, export)
        goals = [Goal("wall_s", 1.0)]
        clear = functools.partial(_remove, cache)
        yield Row("W12 export", f"{mib} MiB to a local cache", *arms, goals, prepare=clear)
        timed(build_words(lab.buildctl, lab.daemon.address, context, export))
        another_step = ["--opt", "build-arg:RUN=1"]  # it is not in the cache, and needs the bytes that are
        imported = ["--import-cache", f"type=local,src={cache}", *another_step]
        arms = client_arms(lab, context, imported)
        yield Row("W12 import", f"{mib} MiB from a local cache", *arms, goals, prepare=lab.daemon.prune)


def w13(lab: Lab) -> Iterator[Row]:
    """A step that prints as fast as a terminal never would."""
    tenths = lab.count(100, 5)
    expected = tenths * contexts.LINES_A_TENTH
    numbers = itertools.count(1)
    make = functools.partial(contexts.log_lines, base_image=lab.base_image, tenths=tenths)
    with lab.context("lines", make) as context, lab.scratch() as scratch:
        log = scratch / "log"

        def run(client: Path) -> Cost:
            more = ["--opt", f"build-arg:RUN={next(numbers)}"]
            cost = timed(build_words(client, lab.daemon.address, context, more), output=log)
            lost = expected - count_lines(log, expected)
            return cost.then(Cost(0.0, 0.0, 0.0, {"lost": lost, "lines_per_s": expected / cost.wall_s}))

        arms = (Arm(OUR_NAME, functools.partial(run, lab.ours)), Arm(PEER_NAME, functools.partial(run, lab.buildctl)))
        goals = (Goal("cpu_s", 2.0), Goal("lost", 0, "ours"))
        yield Row("W13", f"{expected:,} log lines, 20,000 a second", *arms, goals)


def count_lines(log: Path, expected: int) -> int:
    """Return how many of the numbered lines a log has; those that it has twice count once."""
    seen = bytearray(expected)
    with log.open("rb") as file:
        for line in file:
            found = _LINE.search(line)
            if found and int(found[1]) < expected:
                seen[int(found[1])] = 1
    return sum(seen)


def w14(lab: Lab) -> Iterator[Row]:
    """Commands that have nothing to do with a builder."""
    bare = Arm("python -c pass", lambda: timed([lab.python, "-c", "pass"]))
    with lab.scratch() as config:
        convox = Convox(lab.bin / "convox", config, config)
        convox.ask("apps", "create", "app")
        for words, limit in ((("builds", "-a", "app"), 160), (("--help",), 120)):
            arm = Arm("convox", functools.partial(convox.run, *words))
            goals = [Goal("wall_s", limit / 20)]  # the goal is for a machine where a bare interpreter takes 20 ms
            yield Row(
                f"W14 {words[0].lstrip('-')}", f"convox {' '.join(words)}", arm, bare, goals, warm_ups=2, pairs_factor=4
            )
