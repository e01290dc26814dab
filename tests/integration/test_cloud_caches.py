"""Caches in the stores of clouds bring an emptied builder back to where it was; the stores are stand-ins of ours."""

from __future__ import annotations

import base64
import json
import time

import pytest

from buildkit_client import AzblobCache, BuildGraph, Client, GhaCache, S3Cache
from buildkit_client.options import DockerfileFrontend
from tests.support.cloud_stores import cloud_store, runtime_token
from tests.support.own_buildkitd import OwnBuildkitd

KEY = base64.b64encode(b"stand-in").decode()


@pytest.fixture(scope="module")
def own(services, tmp_path_factory):
    with OwnBuildkitd(services, tmp_path_factory.mktemp("own")) as daemon:
        yield daemon


@pytest.fixture
def store():
    with cloud_store() as store:
        yield store


@pytest.fixture
def folder(services, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        f"FROM {services.base_image} AS build\nRUN echo {time.time_ns()} > /made\n"
        f"FROM {services.base_image}\nCOPY --from=build /made /made\nRUN cat /made\n"
    )
    return tmp_path


def s3(store):
    return S3Cache(
        bucket="bucket", region="here", names=("app", "other"), prefix="some/", endpoint_url=store.url,
        use_path_style=True, access_key_id="id", secret_access_key="key", mode="max",
    )  # fmt: skip


def azblob(store):
    return AzblobCache(
        account_url=store.url, account_name="account", container="box", names="app", secret_access_key=KEY, mode="max"
    )


def gha(store, version):
    url = f"{store.url}/"  # as GitHub's addresses end; older daemons add no slash
    urls = {"url": url} if version == 1 else {"url_v2": url}
    return GhaCache(scope="app", token=runtime_token(), version=version, mode="max", **urls)


CACHES = {
    "s3": s3,
    "azblob": azblob,
    "gha 1": lambda store: gha(store, 1),
    "gha 2": lambda store: gha(store, 2),
}


def build(own, folder, **options):
    graph = BuildGraph()
    with Client(own.address) as client:
        client.solve(DockerfileFrontend(context=folder), on_status=graph.apply, **options)
    return {name for name in graph.cache_summary().run_cached if " RUN " in name}


@pytest.mark.parametrize("kind", ["s3", "azblob", "gha 1", pytest.param("gha 2", marks=pytest.mark.buildkit(">=0.20"))])
def test_round_trip_on_an_emptied_builder(own, folder, store, kind):
    cache = CACHES[kind](store)
    assert build(own, folder, cache_exports=[cache]) == set()
    assert store.objects or store.entries
    with Client(own.address) as client:
        list(client.prune(all=True))
    assert len(build(own, folder, cache_imports=[cache])) == 2
    with Client(own.address) as client:
        list(client.prune(all=True))
    assert build(own, folder) == set()  # it was the cache that made the difference


def test_s3_keys_lie_where_the_options_say(own, folder, store):
    build(own, folder, cache_exports=[s3(store)])
    manifests = {path for path in store.objects if "manifests" in path}
    assert manifests == {"/bucket/some/manifests/app", "/bucket/some/manifests/other"}
    layers = json.loads(store.objects["/bucket/some/manifests/app"])["layers"]
    assert layers
    assert {f"/bucket/some/blobs/{layer['blob']}" for layer in layers} == set(store.objects) - manifests
