"""Caches as the wire has them, for import and for export."""

from pathlib import Path

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import AzblobCache, GhaCache, InlineCache, LocalCache, RawCache, RegistryCache, S3Cache
from buildkit_client.options.known import CACHE_EXPORT_KEYS, CACHE_IMPORT_KEYS

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


@pytest.mark.parametrize(
    "options",
    [
        {"ref": ""},
        {"ref": REF, "image_manifest": True, "oci_media_types": False},
        {"ref": REF, "mode": "maximum"},
        {"ref": REF, "compression": "zstd", "oci_media_types": False},
        {"ref": REF, "compression": "gzip", "compression_level": 22},
    ],
)
def test_what_cannot_work_is_refused(options):
    with pytest.raises(OptionError):
        RegistryCache(**options)


def test_a_raw_cache_gets_the_mode_that_buildctl_sends():
    cache = RawCache("gha", {"scope": "main", "token": "hunter2"})
    assert cache.to_import_attrs() == {"scope": "main", "token": "hunter2"}
    assert cache.to_export_attrs() == {"mode": "min", "scope": "main", "token": "hunter2"}
    assert RawCache("s3", {"mode": "max"}).to_export_attrs() == {"mode": "max"}
    assert "hunter2" not in repr(cache)


def test_a_raw_cache_is_checked_unless_told_otherwise():
    for kind, attrs in (("registri", {}), ("registry", {"ref": REF, "mod": "max"}), ("s3", {"buckt": "b"})):
        raw = RawCache(kind, attrs)
        with pytest.raises(OptionError):
            raw.to_import_attrs()
        with pytest.raises(OptionError):
            raw.to_export_attrs()
        assert RawCache(kind, attrs, unchecked=True).to_import_attrs() == attrs
        assert RawCache(kind, attrs, unchecked=True).to_export_attrs() == {"mode": "min", **attrs}


def test_an_inline_cache_is_only_exported():
    assert (InlineCache().type, InlineCache().to_export_attrs()) == ("inline", {})
    with pytest.raises(OptionError) as caught:
        InlineCache().to_import_attrs()
    assert "RegistryCache" in caught.value.hint
    with pytest.raises(OptionError) as caught:
        RawCache("inline").to_import_attrs()
    assert "registry cache" in caught.value.hint


def test_a_local_cache_names_its_directory():
    cache = LocalCache(path=Path("some/cache"))
    assert cache.to_import_attrs() == {"src": "some/cache", "tag": "latest"}
    assert cache.to_export_attrs() == {"dest": "some/cache", "tag": "latest", "mode": "min"}
    full = LocalCache(
        path=Path("/c"),
        tag="web",
        digest="sha256:1",
        reset=True,
        mode="max",
        image_manifest=False,
        oci_media_types=False,
        compression="uncompressed",
        force_compression=True,
        ignore_error=True,
    )
    assert full.to_import_attrs() == {"src": "/c", "tag": "web", "digest": "sha256:1"}
    assert full.to_export_attrs() == {
        "dest": "/c",
        "tag": "web",
        "reset": "true",
        "mode": "max",
        "image-manifest": "false",
        "oci-mediatypes": "false",
        "compression": "uncompressed",
        "force-compression": "true",
        "ignore-error": "true",
    }
    for options in ({"path": Path()}, {"path": Path("c"), "tag": ""}):
        with pytest.raises(OptionError):
            LocalCache(**options)


def test_a_github_cache_takes_what_is_missing_from_the_runner():
    runner = {
        "ACTIONS_RESULTS_URL": "https://results",
        "ACTIONS_CACHE_URL": "https://v1",
        "ACTIONS_RUNTIME_TOKEN": "tok",
    }
    done = GhaCache(scope="web").completed(runner)
    assert done.to_import_attrs() == {"scope": "web", "url": "https://v1", "token": "tok"}
    done = GhaCache().completed({**runner, "ACTIONS_CACHE_SERVICE_V2": "True"})
    assert done.to_import_attrs() == {"url": "https://v1", "url_v2": "https://results", "token": "tok"}
    done = GhaCache(version=2, url="https://mine", token="own").completed(runner)
    assert done.to_import_attrs() == {
        "url": "https://mine",
        "url_v2": "https://results",
        "token": "own",
        "version": "2",
    }
    assert GhaCache().completed({"ACTIONS_RESULTS_URL": "https://r", "ACTIONS_RUNTIME_TOKEN": "t"}).url == "https://r"
    full = GhaCache(url="u", token="t", mode="max", timeout="1m", repository="o/n", github_token="g", ignore_error=True)
    assert full.to_export_attrs() == {
        "url": "u",
        "token": "t",
        "timeout": "1m",
        "mode": "max",
        "repository": "o/n",
        "ghtoken": "g",
        "ignore-error": "true",
    }


@pytest.mark.parametrize("given", [{}, {"url": "u"}, {"token": "t"}])
def test_a_github_cache_outside_of_a_runner_is_refused(given):
    with pytest.raises(OptionError, match=r"address|token") as caught:
        GhaCache(**given).completed({}).to_export_attrs()
    assert "environ" in caught.value.hint


def test_an_s3_cache_has_a_key_for_every_option():
    cache = S3Cache(
        bucket="b",
        region="r",
        names=["one", "two"],
        prefix="p/",
        blobs_prefix="",
        manifests_prefix="m/",
        endpoint_url="https://minio",
        access_key_id="id",
        secret_access_key="hunter2",
        session_token="hunter3",
        use_path_style=True,
        touch_refresh="1h",
        upload_parallelism=8,
        disable_accept_encoding=True,
        retry_mode="adaptive",
        retry_max_attempts=5,
        mode="max",
    )
    imported = {
        "bucket": "b",
        "region": "r",
        "name": "one;two",
        "prefix": "p/",
        "blobs_prefix": "",
        "manifests_prefix": "m/",
        "endpoint_url": "https://minio",
        "access_key_id": "id",
        "secret_access_key": "hunter2",
        "session_token": "hunter3",
        "use_path_style": "true",
        "disable_accept_encoding": "true",
        "retry_mode": "adaptive",
        "retry_max_attempts": "5",
    }
    assert cache.to_import_attrs() == imported
    assert cache.to_export_attrs() == {**imported, "touch_refresh": "1h", "upload_parallelism": "8", "mode": "max"}
    assert S3Cache(bucket="b").to_import_attrs() == {"bucket": "b"}
    assert set(imported) == CACHE_IMPORT_KEYS["s3"]
    assert set(S3Cache(ignore_error=True).to_export_attrs()) | set(cache.to_export_attrs()) == CACHE_EXPORT_KEYS["s3"]


@pytest.mark.parametrize(
    "options",
    [
        {"access_key_id": "id"},
        {"secret_access_key": "hunter2"},
        {"retry_mode": "often"},
        {"upload_parallelism": 0},
        {"retry_max_attempts": 0},
        {"mode": "most"},
    ],
)
def test_what_s3_cannot_have_is_refused(options):
    with pytest.raises(OptionError) as caught:
        S3Cache(**options)
    assert "hunter2" not in str(caught.value) + caught.value.why


def test_an_azure_cache_has_a_key_for_every_option():
    cache = AzblobCache(
        account_url="https://a.blob.core.windows.net",
        account_name="a",
        container="c",
        names="one",
        prefix="p",
        blobs_prefix="b",
        manifests_prefix="m",
        secret_access_key="hunter2",
        mode="max",
        ignore_error=True,
    )
    assert set(cache.to_import_attrs()) == CACHE_IMPORT_KEYS["azblob"]
    assert set(cache.to_export_attrs()) == CACHE_EXPORT_KEYS["azblob"]
    with pytest.raises(OptionError, match="semicolon"):
        AzblobCache(names=["a;b"]).to_import_attrs()


def test_keys_of_clouds_are_not_shown():
    for cache in (
        GhaCache(token="hunter2", github_token="hunter2"),
        S3Cache(access_key_id="hunter2", secret_access_key="hunter2", session_token="hunter2"),
        AzblobCache(secret_access_key="hunter2"),
    ):
        assert "hunter2" not in repr(cache)
