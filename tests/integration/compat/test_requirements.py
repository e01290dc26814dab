"""What the daemon's release lacks is refused before anything is sent; what it has is taken. Runs on every release."""

from __future__ import annotations

import io

import pytest

from buildkit_client import Client
from buildkit_client.errors import BuildKitError, OptionError
from buildkit_client.image_relay import pull_image
from buildkit_client.oci import ImageLayout
from buildkit_client.options import (
    DockerfileFrontend,
    DockerfileText,
    ImageExporter,
    LocalExporter,
    OutputStream,
    Provenance,
    RawExporter,
    TarExporter,
)
from buildkit_client.options.cloud_caches import GhaCache
from buildkit_client.requirements import (
    HISTORY_FILTERS,
    HISTORY_FINALIZE,
    HISTORY_LIMIT,
    OF_BUILDS,
    PRUNE_DESCRIPTION,
    PRUNE_LIMITS,
    Feature,
)
from buildkit_client.session.policy import PolicyAllow

FROM_SCRATCH = DockerfileText("FROM scratch\nLABEL a=b\n")
PLAIN = DockerfileFrontend(context=FROM_SCRATCH)


def builds(folder):
    """What each feature looks like for a caller: frontend and options by the feature's name."""
    tar = TarExporter(dest=OutputStream(io.BytesIO()))
    gha = GhaCache(url="http://127.0.0.1:1/", token="t", version="2")
    with_provenance = DockerfileFrontend(context=FROM_SCRATCH, attestations=[Provenance(version="v1")])
    return {
        "more than one exporter": (PLAIN, {"exporters": [ImageExporter(), tar]}),
        "rewrite-timestamp": (PLAIN, {"exporters": [ImageExporter(rewrite_timestamp=True, source_date_epoch=0)]}),
        "attestations as OCI artifacts": (PLAIN, {"exporters": [ImageExporter(oci_artifact=True)]}),
        "a GitHub cache of version 2": (PLAIN, {"cache_imports": [gha]}),
        "danging-name-empty-only": (PLAIN, {"exporters": [RawExporter("image", {"danging-name-empty-only": "true"})]}),
        "choosing exporters when the result is known": (PLAIN, {"choose_exporters": lambda *_: []}),
        "provenance of version v1": (with_provenance, {"exporters": [ImageExporter()]}),
        "a policy callback": (PLAIN, {"policy": lambda _: PolicyAllow()}),
        "a local export with mode=delete": (
            PLAIN,
            {"exporters": [LocalExporter(dest=folder / "out", mode="delete")]},
        ),
        "limiting the processors and memory of steps": (
            DockerfileFrontend(context=FROM_SCRATCH, memory_bytes=64 << 20),
            {},
        ),
        "the network proxy": (PLAIN, {"proxy_network": True}),
        "a compatibility version": (PLAIN, {"compatibility_version": 20}),
    }


def test_every_feature_has_a_build(tmp_path):
    assert set(builds(tmp_path)) == {feature.name for feature in OF_BUILDS}


def refused(feature: Feature):
    return pytest.raises(OptionError, match=f"^{feature.name} needs buildkitd {feature.release} or newer$")


@pytest.mark.parametrize("feature", OF_BUILDS, ids=lambda feature: feature.name.replace(" ", "-"))
def test_builds(services, tmp_path, feature):
    frontend, options = builds(tmp_path)[feature.name]
    with Client(services.buildkit_host) as client:
        if not services.buildkit_satisfies(f">={feature.release}"):
            with refused(feature):
                client.solve(frontend, **options)
            assert not (tmp_path / "out").exists()
            return
        try:
            client.solve(frontend, **options)
        except OptionError:
            raise
        except BuildKitError:
            # No cache answers at the address, and the proxy has to be switched on in the daemon's configuration.
            assert feature.name in {"a GitHub cache of version 2", "the network proxy"}


@pytest.mark.parametrize(
    ("feature", "call"),
    [
        (PRUNE_LIMITS, lambda client: list(client.prune(filters=["id==none"], max_used_bytes=1 << 60))),
        (PRUNE_LIMITS, lambda client: list(client.prune(filters=["id==none"], min_free_bytes=1))),
        (PRUNE_DESCRIPTION, lambda client: list(client.prune(filters=["id==none,description~=x"]))),
        (HISTORY_FILTERS, lambda client: client.history.list(["status==error"])),
        (HISTORY_LIMIT, lambda client: client.history.list(limit=1)),
        (HISTORY_FINALIZE, lambda client: client.history.finalize("no-such-build")),
    ],
)
def test_calls(services, feature, call):
    with Client(services.buildkit_host) as client:
        if not services.buildkit_satisfies(f">={feature.release}"):
            with refused(feature):
                call(client)
            return
        call(client)


def test_images_through_the_builder(services, tmp_path):
    """No feature of the list, since builders say themselves whether they read blobs of images."""
    layout = ImageLayout.create(tmp_path)
    with Client(services.buildkit_host) as client:
        if services.buildkit_satisfies(">=0.28"):
            assert layout.has_blob(pull_image(client, services.base_image, layout).digest)
            return
        with pytest.raises(OptionError, match=r"^this builder cannot read an image's blobs for us$") as caught:
            pull_image(client, services.base_image, layout)
    assert caught.value.why == "its BuildKit is too old: it has no source.imageblob"
    assert not layout.read_index().manifests


def test_what_every_release_has_is_not_asked_about(services):
    with Client(services.buildkit_host) as client:
        assert list(client.prune(filters=["id==none"], reserved_bytes=1 << 60)) == []
        assert client.solve(PLAIN, exporters=[ImageExporter()]).digest.startswith("sha256:")
