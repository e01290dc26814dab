"""A registry cache brings an emptied builder back to where it was."""

from __future__ import annotations

import itertools
import json
import socket
import time
import urllib.request
import uuid

import pytest

from buildkit_client import BuildGraph, Client, DockerfileFrontend, ImageExporter, RegistryCache, SolveError
from buildkit_client.oci.credentials import Credentials, StaticCredentials
from tests.support.own_buildkitd import OwnBuildkitd

_numbers = itertools.count()


@pytest.fixture(scope="module")
def own(services, tmp_path_factory):
    with OwnBuildkitd(services, tmp_path_factory.mktemp("own")) as daemon:
        yield daemon


@pytest.fixture
def folder(services, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    unique = f"{time.time()}-{next(_numbers)}"
    (folder / "Dockerfile").write_text(
        f"FROM {services.base_image} AS build\n"
        f"RUN echo {unique} > /made\n"
        "COPY source /source\n"
        "RUN cat /source /made > /product\n"
        f"FROM {services.base_image}\n"
        f"RUN mkdir /app; echo {unique} > /app/made\n"
        "COPY --from=build /product /app/\n"
    )
    (folder / "source").write_text("source")
    return folder


def build(own, folder, **options):
    graph = BuildGraph()
    with Client(own.address) as client:
        result = client.solve(
            DockerfileFrontend(),
            local_dirs={"context": folder, "dockerfile": folder},
            on_status=graph.apply,
            **options,
        )
    return result, graph


def cache(ref, **options):
    return RegistryCache(ref=ref, mode="max", image_manifest=True, oci_media_types=True, ignore_error=True, **options)


RUNS = {"[build 2/4] RUN echo", "[build 4/4] RUN cat", "[stage-1 2/3] RUN mkdir"}


def short(names):
    return {name for name in RUNS if any(one.startswith(name) for one in names)}


@pytest.mark.parametrize("secured", [False, True], ids=["open", "htpasswd"])
def test_round_trip_on_an_emptied_builder(own, services, folder, secured):
    registry = services.registry_htpasswd if secured else services.registry
    login = StaticCredentials(
        {services.registry_htpasswd: Credentials(services.htpasswd_user, services.htpasswd_password)}
    )
    repository = f"{registry}/tests/cache-{uuid.uuid4().hex[:12]}"
    options = {
        "cache_imports": [cache(f"{repository}:web.buildcache")],
        "cache_exports": [cache(f"{repository}:web.buildcache")],
        "exporters": [ImageExporter(name=f"{repository}:web", push=True)],
        "credentials": login,
    }
    first, graph = build(own, folder, **options)
    assert short(graph.cache_summary().run_executed) == RUNS
    assert graph.cache_summary().run_cached == ()

    own.prune_all()
    second, graph = build(own, folder, **options)
    summary = graph.cache_summary()
    assert short(summary.run_cached) == RUNS
    assert summary.run_executed == ()
    assert second.digest == first.digest
    assert json.loads(second.exporter_response["cache.manifest"])["mediaType"].endswith("manifest.v1+json")

    own.prune_all()
    _, graph = build(own, folder, exporters=options["exporters"], credentials=login)
    assert short(graph.cache_summary().run_executed) == RUNS, "without the import nothing is cached: the test is real"


def test_a_change_runs_only_what_depends_on_it(own, services, folder):
    ref = f"{services.registry}/tests/cache-{uuid.uuid4().hex[:12]}:buildcache"
    build(own, folder, cache_exports=[cache(ref)])
    own.prune_all()
    (folder / "source").write_text("changed")
    _, graph = build(own, folder, cache_imports=[cache(ref)])
    assert short(graph.cache_summary().run_cached) == {"[build 2/4] RUN echo", "[stage-1 2/3] RUN mkdir"}
    assert short(graph.cache_summary().run_executed) == {"[build 4/4] RUN cat"}


def test_mode_min_keeps_the_result_alone(own, services, folder):
    ref = f"{services.registry}/tests/cache-{uuid.uuid4().hex[:12]}:buildcache"
    exporter = ImageExporter(name=f"{ref}-image", push=True)
    build(own, folder, cache_exports=[RegistryCache(ref=ref, mode="min")], exporters=[exporter])
    own.prune_all()
    (folder / "source").write_text("changed")
    _, graph = build(own, folder, cache_imports=[cache(ref)])
    assert short(graph.cache_summary().run_cached) == {"[stage-1 2/3] RUN mkdir"}
    assert "[build 2/4] RUN echo" in short(graph.cache_summary().run_executed)


def test_attributes_reach_the_registry(own, services, folder):
    name = f"tests/cache-{uuid.uuid4().hex[:12]}"
    ref = f"{services.registry}/{name}:zstd"
    build(own, folder, cache_exports=[cache(ref, compression="zstd", compression_level=3, force_compression=True)])
    request = urllib.request.Request(
        f"http://{services.registry}/v2/{name}/manifests/zstd",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        manifest = json.load(response)
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+zstd"}


def test_ignored_errors_show_and_others_fail(own, folder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"127.0.0.1:{server.getsockname()[1]}/tests/cache:gone"
    result, graph = build(own, folder, cache_imports=[cache(gone)], cache_exports=[cache(gone)])
    assert result.ref
    errors = {vertex.name: vertex.error for vertex in graph.failed}
    assert any(name.startswith("importing cache manifest from") for name in errors), errors
    assert any(name.startswith("exporting cache") for name in errors), errors
    assert all("connection refused" in text for text in errors.values())
    with pytest.raises(SolveError) as caught:
        build(own, folder, cache_exports=[RegistryCache(ref=gone, mode="max")])
    assert caught.value.kind == "push"


def test_an_emptied_builder_has_nothing_left(own, folder):
    """Records come as they are removed, and a prune that is left early does no harm."""
    build(own, folder)
    with Client(own.address) as client:
        before = {record.id for record in client.disk_usage()}
        first = next(iter(client.prune(all=True)))
        assert first.id in before
        removed = {record.id for record in client.prune(all=True)}
        assert removed <= before
        assert client.disk_usage() == []
