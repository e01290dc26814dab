"""Caches as the wire has them, for import and for export."""

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import RawCache, RegistryCache

REF = "registry.example.com/app:web.buildcache"


def test_a_registry_cache_needs_only_its_ref():
    cache = RegistryCache(ref=REF)
    assert cache.type == "registry"
    assert cache.to_import_attrs() == {"ref": REF}
    assert cache.to_export_attrs() == {"ref": REF, "mode": "min"}


def test_every_option_of_a_registry_cache_has_its_key():
    cache = RegistryCache(
        ref=REF,
        mode="max",
        image_manifest=True,
        oci_media_types=True,
        compression="zstd",
        compression_level=0,
        force_compression=True,
        insecure=True,
        ignore_error=True,
    )
    assert cache.to_export_attrs() == {
        "ref": REF,
        "mode": "max",
        "image-manifest": "true",
        "oci-mediatypes": "true",
        "compression": "zstd",
        "compression-level": "0",
        "force-compression": "true",
        "registry.insecure": "true",
        "ignore-error": "true",
    }
    assert cache.to_import_attrs() == {"ref": REF, "registry.insecure": "true"}


def test_false_differs_from_not_set():
    assert RegistryCache(ref=REF, image_manifest=False).to_export_attrs()["image-manifest"] == "false"
    assert RegistryCache(ref=REF, oci_media_types=False).to_export_attrs()["oci-mediatypes"] == "false"


@pytest.mark.parametrize("options", [{"ref": ""}, {"ref": REF, "image_manifest": True, "oci_media_types": False}])
def test_what_cannot_work_is_refused(options):
    with pytest.raises(OptionError):
        RegistryCache(**options)


def test_a_raw_cache_gets_the_mode_that_buildctl_sends():
    cache = RawCache("gha", {"scope": "main", "token": "hunter2"})
    assert cache.to_import_attrs() == {"scope": "main", "token": "hunter2"}
    assert cache.to_export_attrs() == {"mode": "min", "scope": "main", "token": "hunter2"}
    assert RawCache("s3", {"mode": "max"}).to_export_attrs() == {"mode": "max"}
    assert "hunter2" not in repr(cache)
