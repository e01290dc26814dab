"""Where images and caches go, by what a rack says."""

from __future__ import annotations

from pathlib import Path

import pytest

from convox.errors import RackError
from convox.images import LayoutImages, RegistryImages, image_store
from convox.plan import PlannedImage
from convox.rack import Rack

REPOSITORY = "registry.example.com:5000/team/app"
IMAGE = PlannedImage(
    services=("web", "worker"),
    context_path=Path("/app"),
    dockerfile="Dockerfile",
    tags=(f"{REPOSITORY}:web.B1", f"{REPOSITORY}:worker.B1"),
    cache_refs=(f"{REPOSITORY}:web.buildcache", f"{REPOSITORY}:worker.buildcache"),
)


def store(**params: str) -> LayoutImages | RegistryImages:
    found = image_store(Rack(name="test", path=Path("/rack"), params=params), "app")
    assert isinstance(found, LayoutImages | RegistryImages)
    return found


def attrs(images: LayoutImages | RegistryImages) -> dict[str, str]:
    [exporter] = images.exporters(IMAGE)
    return exporter.to_attrs()


def test_rack_without_a_registry_keeps_images_itself() -> None:
    images = store()
    assert isinstance(images, LayoutImages)
    assert (images.repository, images.layout_path) == ("localhost/app", Path("/rack/images"))
    assert attrs(images)["name"] == ",".join(IMAGE.tags)
    assert images.caches(IMAGE) == ((), ())


def test_registry_gets_every_tag() -> None:
    images = store(registry="registry.example.com:5000/team")
    assert (images.repository, images.layout_path) == (REPOSITORY, None)
    pushed = attrs(images)
    assert (pushed["name"], pushed["push"]) == (",".join(IMAGE.tags), "true")
    assert "registry.insecure" not in pushed


def test_every_service_has_a_cache_of_its_own() -> None:
    imports, exports = store(registry="registry.example.com:5000/team").caches(IMAGE)
    assert [one.to_import_attrs() for one in imports] == [{"ref": ref} for ref in IMAGE.cache_refs]
    assert [one.to_export_attrs() for one in exports] == [
        {
            "ref": ref,
            "mode": "max",
            "image-manifest": "true",
            "oci-mediatypes": "true",
            "compression": "gzip",
            "ignore-error": "true",
        }
        for ref in IMAGE.cache_refs
    ]


def test_insecure_registry() -> None:
    images = store(registry="registry.example.com:5000/team", registry_insecure="true")
    imports, exports = images.caches(IMAGE)
    assert attrs(images)["registry.insecure"] == "true"
    assert all(one.to_import_attrs()["registry.insecure"] == "true" for one in imports)
    assert all(one.to_export_attrs()["registry.insecure"] == "true" for one in exports)


def test_inline_cache_is_in_the_newest_image() -> None:
    images = store(registry="registry.example.com:5000/team", cache="inline")
    imports, exports = images.caches(IMAGE)
    assert attrs(images)["name"] == f"{','.join(IMAGE.tags)},{REPOSITORY}:web.latest"
    assert [one.to_import_attrs()["ref"] for one in imports] == [f"{REPOSITORY}:web.latest"]
    assert [one.type for one in exports] == ["inline"]


def test_no_cache() -> None:
    assert store(registry="registry.example.com", cache="none").caches(IMAGE) == ((), ())


@pytest.mark.parametrize("compression", ["gzip", "zstd", "estargz", "uncompressed"])
def test_cache_is_compressed_as_the_image(compression: str) -> None:
    images = store(registry="registry.example.com", compression=compression)
    _, exports = images.caches(IMAGE)
    assert attrs(images)["compression"] == compression
    assert {one.to_export_attrs()["compression"] for one in exports} == {compression}


@pytest.mark.parametrize(
    ("compression", "wanted"),
    [("", None), ("gzip", None), ("uncompressed", None), ("zstd", "true"), ("estargz", "true")],
)
def test_media_types_that_have_a_name_for_the_compression(compression: str, wanted: str | None) -> None:
    images = store(registry="registry.example.com", **({"compression": compression} if compression else {}))
    assert attrs(images).get("oci-mediatypes") == wanted


def test_unknown_compression() -> None:
    with pytest.raises(RackError, match="invalid value for param 'compression': lzma"):
        attrs(store(registry="registry.example.com", compression="lzma"))
