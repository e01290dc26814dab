"""The session's content service with a real daemon: layouts as export target, cache, and image source."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from buildkit_client._proto import control_pb2
from buildkit_client.errors import SolveError
from buildkit_client.oci import Descriptor, ImageIndex, ImageLayout, ImageManifest
from buildkit_client.oci.digest import Digest
from buildkit_client.session.content import ContentService, ContentStore
from buildkit_client.session.filesync import FileSyncService
from buildkit_client.session.session import Session
from buildkit_client.transport.address import parse_address
from buildkit_client.transport.channel import Channel
from tests.support.images import add_image
from tests.support.services import Services

SOLVE = "/moby.buildkit.v1.Control/Solve"
PRUNE = "/moby.buildkit.v1.Control/Prune"


class Builder:
    """Solves Dockerfiles with hand-made requests over a session of ours."""

    def __init__(self, channel: Channel, folder: Path) -> None:
        self.channel, self.folder = channel, folder

    def solve(
        self,
        dockerfile: str,
        stores: Mapping[str, ContentStore],
        *,
        attrs: Mapping[str, str] | None = None,
        exporters: list[control_pb2.Exporter] | None = None,
        cache: control_pb2.CacheOptions | None = None,
    ) -> dict[str, str]:
        (self.folder / "Dockerfile").write_text(dockerfile)
        files = FileSyncService({"context": self.folder, "dockerfile": self.folder})
        streaming = {**files.methods(), **ContentService(stores).methods()}
        with Session(self.channel.session_stream, unary={}, streaming=streaming) as session:
            request = control_pb2.SolveRequest(
                Ref=os.urandom(8).hex(),
                Session=session.id,
                Frontend="dockerfile.v0",
                FrontendAttrs=attrs or {},
                Exporters=exporters or [],
                Cache=cache or control_pb2.CacheOptions(),
            )
            for exporter in exporters or ():  # daemons before 0.13 know only these two fields
                request.ExporterDeprecated = exporter.Type
                request.ExporterAttrsDeprecated.update(exporter.Attrs)
            with self.channel.translated():
                response = self.channel.unary_future(SOLVE, request, control_pb2.SolveResponse.FromString).result()
        return dict(response.ExporterResponse)

    def forget(self, marker: str) -> int:
        """Have the daemon drop the steps with a word in them; return how many it had."""
        request = control_pb2.PruneRequest(all=True, filter=[f"description~={marker}"])
        with self.channel.translated():
            return len(list(self.channel.server_stream(PRUNE, request, control_pb2.UsageRecord.FromString)))


@pytest.fixture
def builder(services: Services, tmp_path: Path) -> Iterator[Builder]:
    channel = Channel(parse_address(services.buildkit_host))
    (tmp_path / "context").mkdir()
    yield Builder(channel, tmp_path / "context")
    channel.close()


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "layout")


def exported(response: Mapping[str, str]) -> Descriptor:
    return Descriptor.from_json(json.loads(base64.b64decode(response["containerimage.descriptor"])))


def to_layout(kind: str = "oci", **attrs: str) -> control_pb2.Exporter:
    return control_pb2.Exporter(Type=kind, Attrs={"tar": "false", **attrs})


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_export_into_a_layout(builder: Builder, layout: ImageLayout, compression: str) -> None:
    (builder.folder / "large").write_bytes(os.urandom(9 << 20))
    (builder.folder / "small").write_bytes(os.urandom(10))
    dockerfile = 'FROM scratch\nCOPY small /\nCOPY large /\nENTRYPOINT ["/x"]\n'
    exporter = to_layout(name="team/app:1", compression=compression)
    stores = {"export": ContentStore(layout, writable=True)}
    descriptor = exported(builder.solve(dockerfile, stores, exporters=[exporter]))
    layout.add_image(descriptor, ["docker.io/team/app:1"])
    layout.verify(descriptor)
    assert layout.read_config(descriptor).entrypoint == ("/x",)
    assert {info.digest for info in layout.blobs()} == {part.digest for part in layout.walk(descriptor)}
    assert list((layout.path / "ingest").iterdir()) == []
    again = exported(builder.solve(dockerfile, stores, exporters=[exporter]))  # every blob exists already
    assert again.digest == descriptor.digest


def test_export_replaces_a_damaged_blob(builder: Builder, layout: ImageLayout) -> None:
    (builder.folder / "file").write_bytes(os.urandom(1000))
    stores = {"export": ContentStore(layout, writable=True)}
    descriptor = exported(builder.solve("FROM scratch\nCOPY file /\n", stores, exporters=[to_layout()]))
    for part in layout.walk(descriptor):
        if isinstance(part, Descriptor) and "layer" in part.media_type:
            layout.blob_path(part.digest).write_bytes(b"cut")
    builder.solve("FROM scratch\nCOPY file /\n", stores, exporters=[to_layout()])
    layout.verify(descriptor)


def test_read_only_store_takes_no_export(builder: Builder, layout: ImageLayout) -> None:
    (builder.folder / "file").write_bytes(os.urandom(10))
    with pytest.raises(SolveError, match="read-only"):
        builder.solve("FROM scratch\nCOPY file /\n", {"export": ContentStore(layout)}, exporters=[to_layout()])
    assert list(layout.blobs()) == []


@pytest.mark.buildkit(">=0.14")  # pruning by description
def test_local_cache_out_and_in(builder: Builder, layout: ImageLayout, services: Services) -> None:
    marker = f"mark{os.urandom(6).hex()}"
    (builder.folder / marker).write_bytes(os.urandom(100))
    dockerfile = f"FROM {services.base_image}\nCOPY {marker} /\nRUN cat /{marker} /proc/sys/kernel/random/uuid > /id\n"
    store_id = f"local:{layout.path}"
    export = control_pb2.CacheOptionsEntry(Type="local", Attrs={"dest": str(layout.path), "mode": "max"})
    first_image = ImageLayout.create(layout.path.parent / "first")
    response = builder.solve(
        dockerfile,
        {store_id: ContentStore(layout, writable=True), "export": ContentStore(first_image, writable=True)},
        cache=control_pb2.CacheOptions(Exports=[export]),
        exporters=[to_layout()],
    )
    cached = Descriptor.from_json(json.loads(response["cache.manifest"]))
    layout.add_image(cached)
    assert layout.find("latest") is not None
    layout.verify(cached)
    assert builder.forget(marker) >= 2
    attrs = {"src": str(layout.path), "digest": str(cached.digest)}
    second_image = ImageLayout.create(layout.path.parent / "second")
    again = builder.solve(
        dockerfile,
        {store_id: ContentStore(layout), "export": ContentStore(second_image, writable=True)},
        attrs={"cache-imports": json.dumps([{"Type": "local", "Attrs": attrs}])},
        exporters=[to_layout()],
    )
    # The step prints a new id each time it runs: equal layers mean that it came from the cache.
    assert layers(first_image, exported(response)) == layers(second_image, exported(again))


def layers(layout: ImageLayout, descriptor: Descriptor) -> list[Digest]:
    return [layer.digest for layer in layout.select_manifest(descriptor)[1].layers]


def test_base_image_from_a_layout(builder: Builder, layout: ImageLayout) -> None:
    base = add_image(layout, [b"from the layout", os.urandom(5 << 20)])
    target = ImageLayout.create(layout.path.parent / "target")
    response = builder.solve(
        "FROM base AS stage\nFROM scratch\nCOPY --from=stage /file0 /\n",
        {"oci:ours": ContentStore(layout), "export": ContentStore(target, writable=True)},
        attrs={"context:base": f"oci-layout://ours@{base.digest}"},
        exporters=[to_layout()],
    )
    manifest = target.select_manifest(exported(response))[1]
    assert isinstance(manifest, ImageManifest)
    assert len(manifest.layers) == 1


def test_layout_that_was_not_offered_is_not_there(builder: Builder, layout: ImageLayout) -> None:
    base = add_image(layout)
    with pytest.raises(SolveError, match="unknown store oci:other"):
        builder.solve(
            "FROM base\n",
            {"oci:ours": ContentStore(layout)},
            attrs={"context:base": f"oci-layout://other@{base.digest}"},
            exporters=[to_layout()],
        )


def test_attestations_go_into_the_layout(builder: Builder, layout: ImageLayout) -> None:
    (builder.folder / "file").write_bytes(os.urandom(10))
    descriptor = exported(
        builder.solve(
            "FROM scratch\nCOPY file /\n",
            {"export": ContentStore(layout, writable=True)},
            attrs={"attest:provenance": "mode=min"},
            exporters=[to_layout()],
        )
    )
    index = layout.read_manifest(descriptor)
    assert isinstance(index, ImageIndex)
    assert [entry.is_attestation for entry in index.manifests] == [False, True]
    assert index.select() == index.manifests[0]
    layout.verify(descriptor)
