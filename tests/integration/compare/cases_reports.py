"""Cases of what a build says about itself: metadata file, ref file, trace, cache metrics, progress."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.integration.compare.case import Case, dockerfile
from tests.integration.compare.observe import Seen

AREA = "reports"

_TWICE = dockerfile("FROM {base} AS one\nCOPY hello /one\nFROM scratch\nCOPY --from=one /one /\n")
_TIMES = {"files": "the metrics hold how long it took", "stdout": "the metrics hold how long it took"}


def _metrics(read: Callable[[Seen], str]) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        lines = [line for line in read(seen).splitlines() if line and not line.startswith(("#", "time="))]
        counts = json.loads(lines[-1])
        duration = counts.pop("client_duration_ms")
        assert 0 < duration < 60_000
        assert counts == {
            "total": counts["total"],
            "completed": counts["total"],
            "user_total": 3,
            "user_cached": 1,
            "user_completed": 3,
            "user_cacheable": 2,
            "from": 1,
            "miss": 2,
        }
        misses = sorted(line for line in lines if line.startswith("cache miss: "))
        assert [line.partition("]")[0] for line in misses] == ["cache miss: [one 2/2", "cache miss: [stage-1 1/1"]

    return check


def _keys(*wanted: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert set(wanted) <= set(seen.metadata), sorted(seen.metadata)

    return check


def _text(*wanted: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        for one in wanted:
            assert one in seen.stderr

    return check


def _rawjson(seen: Seen) -> None:
    updates = [json.loads(line) for line in seen.stderr.splitlines() if line.startswith("{")]
    names = {vertex["name"] for update in updates for vertex in update.get("vertexes") or ()}
    assert set(seen.step_names) <= names


def _warned(seen: Seen) -> None:
    assert any("StageNameCasing" in warning for warning in seen.warnings)


def _silent(seen: Seen) -> None:
    assert "COPY" not in seen.stderr


CASES = [
    Case(
        name="metadata of an image",
        flags="--no-cache --output type=image,name=example.com/a:1,rewrite-timestamp=true",
        check=_keys("containerimage.digest", "containerimage.descriptor", "containerimage.config.digest", "image.name"),
    ),
    Case(
        name="metadata of an index",
        flags="--no-cache --opt multi-platform=true --output type=image,name=example.com/a:1,rewrite-timestamp=true",
        check=_keys("containerimage.digest", "image.name"),
    ),
    Case(
        name="metadata with a cache",
        flags="--export-cache type=local,dest={arm}/cache",
        loose="undated",
        check=_keys("cache.manifest"),
    ),
    Case(
        name="metadata over a file",
        more={"metadata.json": b"before"},
        flags="--output type=image,name=a,rewrite-timestamp=true",  # 0.22 may take old times of folders
    ),
    Case(
        name="metadata as others may read it",
        umask=0o022,
        flags="--metadata-file={out}/m.json",
        ignore={"files": "buildctl clears the umask: its file may be written by everybody"},
    ),
    Case(
        name="cache metrics in a file",
        files=_TWICE,
        flags="--no-cache --debug-json-cache-metrics {out}/metrics",
        ignore=_TIMES,
        check=_metrics(lambda seen: seen.text("metrics")),
    ),
    Case(
        name="cache metrics on standard output",
        files=_TWICE,
        flags="--no-cache --debug-json-cache-metrics stdout",
        ignore=_TIMES,
        check=_metrics(lambda seen: seen.stdout.decode()),
    ),
    Case(
        name="cache metrics on standard error",
        files=_TWICE,
        flags="--no-cache --debug-json-cache-metrics stderr",
        ignore=_TIMES,
        check=_metrics(lambda seen: seen.stderr),
    ),
    Case(
        name="progress, plain",
        flags="--no-cache --progress=plain",
        check=_text("[1/1] COPY . /app/", "transferring context"),
    ),
    Case(name="progress, auto", flags="--no-cache --progress=auto", check=_text("[1/1] COPY . /app/")),
    Case(name="progress, rawjson", flags="--no-cache --progress=rawjson", check=_rawjson),
    Case(name="progress, quiet", flags="--no-cache --progress=quiet", check=_silent),
    Case(
        name="progress by the environment",
        environ={"BUILDKIT_PROGRESS": "quiet"},
        flags="--no-cache",
        check=_silent,
    ),
    Case(
        name="warnings",
        files=dockerfile("FROM scratch AS Small\nCOPY hello /\n"),
        flags="--no-cache",
        check=_warned,
        needs="0.14",
    ),
    Case(
        name="output of steps",
        files=dockerfile("FROM {base}\nRUN echo out; echo err >&2\n"),
        flags="--no-cache",
        check=_text("out", "err"),
    ),
]
