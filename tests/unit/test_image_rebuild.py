"""What a builder is told so that it writes an image again, without a builder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from buildkit_client._proto import gateway_pb2, ops_pb2
from buildkit_client.errors import DigestChangedError, LayoutError
from buildkit_client.gateway import GatewayResult, Reference
from buildkit_client.image_rebuild import ImageRebuild
from buildkit_client.llb import Definition
from buildkit_client.oci import Descriptor, ImageIndex, ImageLayout, media_types
from tests.support.images import AMD64, ARM64, add_image, add_index, add_platforms


@dataclass
class FakeGateway:
    """Remembers what it solves; each tree is named after its source."""

    solved: list[str] = field(default_factory=list)

    def solve(self, build: Definition) -> GatewayResult:
        op = ops_pb2.Op.FromString(build.ops[0])
        self.solved.append(f"{op.source.identifier} {op.source.attrs['oci.store']} {op.platform.Architecture}")
        return GatewayResult(ref=Reference(self, gateway_pb2.Ref(id=str(len(self.solved)))))  # type: ignore[arg-type]


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path)


def entry(image: Descriptor, platform: object, **annotations: str) -> Descriptor:
    return Descriptor(image.media_type, image.digest, image.size_bytes, platform=platform, annotations=annotations)  # type: ignore[arg-type]


def test_one_image(layout: ImageLayout) -> None:
    image = add_image(layout)
    rebuild, gateway = ImageRebuild(layout, image), FakeGateway()
    result = rebuild.run(gateway)  # type: ignore[arg-type]
    assert gateway.solved == [f"oci-layout://relay/image@{image.digest} relay amd64"]
    config = layout.read_manifest(image).children[0]
    assert dict(result.metadata) == {"containerimage.config": b"".join(layout.read_blob(config.digest))}
    assert result.ref is not None and not result.refs
    assert rebuild.layouts == {"relay": layout.path}
    assert rebuild.exporter((), by_digest=True, insecure=False).to_attrs() == {
        "oci-mediatypes": "true",
        "store": "false",
    }
    assert rebuild.exporter(["r.test/a:b", "r.test/a:c"], by_digest=False, insecure=True).to_attrs() == {
        "name": "r.test/a:b,r.test/a:c",
        "push": "true",
        "registry.insecure": "true",
        "oci-mediatypes": "true",
        "store": "false",
    }


def test_an_index_keeps_order_and_annotations(layout: ImageLayout) -> None:
    arm = entry(add_image(layout, [b"arm"], platform=ARM64), ARM64, note="of the entry")
    amd = entry(add_image(layout, platform=AMD64), AMD64)
    data = ImageIndex((arm, amd), annotations={"note": "of the index"}).to_bytes()
    index = Descriptor(media_types.OCI_INDEX, layout.put_blob(data), len(data))
    rebuild, gateway = ImageRebuild(layout, index), FakeGateway()
    result = rebuild.run(gateway)  # type: ignore[arg-type]
    assert [line.rpartition(" ")[2] for line in gateway.solved] == ["arm64", "amd64"]
    assert list(result.refs) == ["linux/arm64", "linux/amd64"]
    assert [one["ID"] for one in json.loads(result.metadata["refs.platforms"])["Platforms"]] == list(result.refs)
    attrs = rebuild.exporter(["r.test/a"], by_digest=True, insecure=False).to_attrs()
    assert attrs["annotation-index.note"] == "of the index"
    assert attrs["annotation-manifest-descriptor[linux/arm64].note"] == "of the entry"
    assert attrs["push-by-digest"] == "true"


def test_what_no_exporter_writes_is_refused(layout: ImageLayout) -> None:
    image = add_image(layout)
    for index, why in (
        (add_platforms(layout), "attestations"),
        (add_index(layout, image), "one image for each platform"),
        (
            add_index(layout, entry(image, AMD64), entry(add_image(layout, [b"x"]), AMD64)),
            "one image for each platform",
        ),
        (add_index(layout, entry(add_index(layout, entry(image, AMD64)), AMD64)), "one image for each platform"),
    ):
        with pytest.raises(DigestChangedError) as caught:
            ImageRebuild(layout, index)
        assert why in caught.value.why and str(index.digest) in str(caught.value)


def test_a_damaged_image(layout: ImageLayout) -> None:
    image = add_image(layout)
    layout.blob_path(image.digest).write_bytes(b"x" * image.size_bytes)
    with pytest.raises(LayoutError):
        ImageRebuild(layout, image)
