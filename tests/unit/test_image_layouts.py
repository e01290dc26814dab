"""Image layouts as named contexts: from a tag to the digest that the wire wants."""

import pytest

from buildkit_client.errors import LayoutError, OptionError
from buildkit_client.image_layouts import find_image, resolve_layout_contexts
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.layout import ImageLayout


def put(layout, data, *names, tag="latest"):
    descriptor = Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(data), len(data))
    layout.add_image(descriptor, names, tag=tag)
    return descriptor.digest


@pytest.fixture
def layout(tmp_path):
    return ImageLayout.create(tmp_path / "images")


def resolve(value, layout):
    return resolve_layout_contexts({"context:base": value}, {"store": layout.path})["context:base"]


def test_other_attributes_stay_as_they_are(layout):
    attrs = {"target": "x", "context:a": "local:a", "build-arg:A": "oci-layout://store", "context": "oci-layout://b"}
    assert resolve_layout_contexts(attrs, {"store": layout.path}) == attrs


def test_a_tag_becomes_a_digest(layout):
    latest, first = put(layout, b"2"), put(layout, b"1", tag="v1")
    assert resolve("oci-layout://store", layout) == f"oci-layout://store@{latest}"
    assert resolve("oci-layout://store:v1", layout) == f"oci-layout://store:v1@{first}"
    assert resolve(f"oci-layout://store:v1@{latest}", layout) == f"oci-layout://store:v1@{latest}"


def test_a_store_may_be_called_like_a_repository(layout):
    digest = put(layout, b"1", tag="v1")
    name = "localhost:5000/team/app"
    resolved = resolve_layout_contexts({"context:a": f"oci-layout://{name}:v1"}, {name: layout.path})
    assert resolved == {"context:a": f"oci-layout://{name}:v1@{digest}"}


def test_the_only_image_needs_no_tag(layout):
    digest = put(layout, b"1", "example.com/app:3")
    assert resolve("oci-layout://store", layout) == f"oci-layout://store@{digest}"
    put(layout, b"2", "example.com/app:4")
    with pytest.raises(LayoutError) as caught:
        resolve("oci-layout://store", layout)
    assert caught.value.hint == "it has example.com/app:3, example.com/app:4"


def test_a_tag_that_is_asked_for_is_not_replaced_by_the_only_image(layout):
    put(layout, b"1", tag="v1")
    with pytest.raises(LayoutError, match="v2"):
        find_image(layout, "v2")


def test_an_image_that_is_not_there(layout):
    with pytest.raises(LayoutError, match="latest") as caught:
        resolve("oci-layout://store", layout)
    assert "names no image" in caught.value.hint
    put(layout, b"1")
    absent = Digest.of(b"absent")
    with pytest.raises(LayoutError, match=absent):
        resolve(f"oci-layout://store@{absent}", layout)


@pytest.mark.parametrize("value", ["oci-layout://other", "oci-layout://store@sha256:1", "oci-layout://store@latest"])
def test_what_cannot_work_is_refused(layout, value):
    with pytest.raises(OptionError):
        resolve(value, layout)


def test_a_folder_that_is_no_layout(tmp_path):
    with pytest.raises(LayoutError):
        resolve_layout_contexts({"context:a": "oci-layout://s"}, {"s": tmp_path})


def test_a_long_index_is_not_listed_whole(layout):
    for number in range(7):
        put(layout, b"%d" % number, tag=f"v{number}")
    with pytest.raises(LayoutError) as caught:
        resolve("oci-layout://store:none", layout)
    assert caught.value.hint.endswith("v4 and 2 more")


def test_a_layout_without_an_index_says_so(layout):
    (layout.path / "index.json").unlink(missing_ok=True)
    with pytest.raises(LayoutError, match="has no index"):
        resolve("oci-layout://store", layout)


@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_a_manifest_that_is_damaged_is_found_before_the_build(layout, damage):
    digest = put(layout, b"right")
    path = layout.blob_path(digest)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(LayoutError, match=f"context base: the image {digest} in .* is damaged") as caught:
        resolve("oci-layout://store", layout)
    assert caught.value.why
