"""A local cache brings an emptied builder back to where it was; buildctl and we read each other's."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from buildkit_client import BuildGraph, Client
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.options import DockerfileFrontend, LocalCache
from tests.support.own_buildkitd import OwnBuildkitd

_numbers = itertools.count()
RUNS = {"[build 2/3] RUN", "[stage-1 3/3] RUN"}


@pytest.fixture(scope="module")
def own(services, tmp_path_factory):
    with OwnBuildkitd(services, tmp_path_factory.mktemp("own")) as daemon:
        yield daemon


@pytest.fixture
def folder(services, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM {services.base_image} AS build\nRUN echo {time.time()}-{next(_numbers)} > /made\nCOPY source /source\n"
        f"FROM {services.base_image}\nCOPY --from=build /made /made\nRUN cat /made\n"
    )
    (folder / "source").write_text("source")
    return folder


def ours(own, folder, **options):
    graph = BuildGraph()
    with Client(own.address) as client:
        result = client.solve(DockerfileFrontend(context=folder), on_status=graph.apply, **options)
    return result, set(graph.cache_summary().run_cached)


def buildctl(own, folder, *words):
    done = own.buildctl(
        "build", "--progress=plain", "--frontend=dockerfile.v0", f"--local=context={folder}",
        f"--local=dockerfile={folder}", *words,
    )  # fmt: skip
    return done.stderr


def short(names):
    return {name for name in RUNS if any(one.startswith(name) for one in names)}


def index_of(path):
    return json.loads((path / "index.json").read_text())["manifests"]


def test_round_trip_on_an_emptied_builder(own, folder, tmp_path):
    cache = LocalCache(path=tmp_path / "cache", mode="max")
    result, cached = ours(own, folder, cache_imports=[cache], cache_exports=[cache])
    assert not short(cached)
    (entry,) = index_of(cache.path)
    assert json.loads(result.exporter_response["cache.manifest"])["digest"] == entry["digest"]
    own.prune_all()
    _, cached = ours(own, folder, cache_imports=[cache])
    assert short(cached) == RUNS


def test_buildctl_reads_ours(own, folder, tmp_path):
    path = tmp_path / "cache"
    ours(own, folder, cache_exports=[LocalCache(path=path, mode="max", tag="web")])
    own.prune_all()
    output = buildctl(own, folder, f"--import-cache=type=local,src={path},tag=web")
    assert output.count("CACHED") >= len(RUNS), output


def test_we_read_buildctls(own, folder, tmp_path):
    path = tmp_path / "cache"
    buildctl(own, folder, f"--export-cache=type=local,dest={path},mode=max,tag=web")
    own.prune_all()
    _, cached = ours(own, folder, cache_imports=[LocalCache(path=path, tag="web")])
    assert short(cached) == RUNS


@pytest.mark.buildkit(">=0.25")  # older daemons write another cache each time, whoever asks
def test_both_write_the_same_files(own, folder, tmp_path):
    ours(own, folder, cache_exports=[LocalCache(path=tmp_path / "a", mode="max", tag="web")])
    buildctl(own, folder, f"--export-cache=type=local,dest={tmp_path / 'b'},mode=max,tag=web")
    for name in ("index.json", "oci-layout"):
        assert json.loads((tmp_path / "a" / name).read_text()) == json.loads((tmp_path / "b" / name).read_text())
    blobs = [sorted(p.name for p in (tmp_path / one / "blobs/sha256").iterdir()) for one in "ab"]
    assert blobs[0] == blobs[1]


def test_one_directory_holds_several_and_reset_keeps_them(own, folder, tmp_path):
    path = tmp_path / "cache"
    ours(own, folder, cache_exports=[LocalCache(path=path, tag="first", mode="max")])
    (folder / "source").write_text("second")
    with (folder / "Dockerfile").open("a") as file:
        file.write("RUN echo gone > /gone\n")
    ours(own, folder, cache_exports=[LocalCache(path=path, tag="second", mode="max")])
    gone = {one["digest"] for one in index_of(path) if "second" in one["annotations"].values()}
    assert len(gone) == 1
    with (folder / "Dockerfile").open("a") as file:
        file.write("RUN echo other > /other\n")
    before = {info.digest for info in ImageLayout(path).blobs()}
    ours(own, folder, cache_exports=[LocalCache(path=path, tag="second", mode="max", reset=True)])
    layout = ImageLayout(path)
    assert len(index_of(path)) == 2
    for entry in layout.read_index().manifests:
        layout.verify(entry)
    deleted = before - {info.digest for info in layout.blobs()}
    assert deleted
    assert gone <= deleted


def test_a_missing_cache_costs_a_warning_only(own, folder, tmp_path, caplog):
    result, _ = ours(own, folder, cache_imports=[LocalCache(path=tmp_path / "none")])
    assert result.ref
    assert any("not used" in record.getMessage() for record in caplog.records)
