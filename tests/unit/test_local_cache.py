"""Local caches: the index read before a build and written after it; what is missing costs a warning."""

import json
import os
import time

import pytest

from buildkit_client.errors import ImageFormatError, LayoutError, OptionError
from buildkit_client.local_cache import prepare_caches
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.options import LocalCache, RawCache, RegistryCache


def put_cache(layout, content=b"layer", tag=None):
    """Write a cache manifest with one layer; give it a name where there is a tag."""
    layer = Descriptor(media_types.OCI_LAYER_GZIP, layout.put_blob(content), len(content))
    config = Descriptor(media_types.BUILDKIT_CACHE_CONFIG, layout.put_blob(b"{}"), 2)
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_IMAGE_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json()],
        }
    ).encode()
    descriptor = Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(data), len(data))
    if tag:
        layout.add_image(descriptor, tag=tag)
    return descriptor


def response_for(descriptor):
    return {"cache.manifest": json.dumps(descriptor.to_json())}


def tags(path):
    entries = json.loads((path / "index.json").read_text())["manifests"]
    return {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in entries}


def blobs(layout):
    return {info.digest for info in layout.blobs()}


def age(layout, seconds=60):
    for info in layout.blobs():
        os.utime(layout.blob_path(info.digest), (time.time() - seconds,) * 2)


def test_other_caches_pass_unchanged():
    cache = RegistryCache(ref="example.com/a:cache")
    prepared = prepare_caches([cache], [cache])
    assert (prepared.imports, prepared.exports) == ((cache,), (cache,))
    assert not prepared.stores
    prepared.finish(response_for(Descriptor("x/y", Digest.of(b"a"), 1)))


def test_an_export_makes_the_directory_and_writes_the_index(tmp_path):
    cache = LocalCache(path=tmp_path / "new" / "cache", tag="web")
    prepared = prepare_caches([], [cache])
    store = prepared.stores[f"local:{tmp_path}/new/cache"]
    assert store.writable
    descriptor = put_cache(store.blobs)
    prepared.finish(response_for(descriptor))
    assert tags(cache.path) == {"web": descriptor.digest}
    assert json.loads((cache.path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_an_export_replaces_its_own_tag_only(tmp_path):
    layout = ImageLayout.create(tmp_path)
    other = put_cache(layout, b"other", "other")
    put_cache(layout, b"old", "latest")
    prepared = prepare_caches([], [LocalCache(path=tmp_path)])
    new = put_cache(layout, b"new")
    prepared.finish(response_for(new))
    assert tags(tmp_path) == {"other": other.digest, "latest": new.digest}


def test_nothing_to_export_leaves_the_index_alone(tmp_path):
    before = put_cache(ImageLayout.create(tmp_path), tag="latest")
    prepare_caches([], [LocalCache(path=tmp_path)]).finish({})
    assert tags(tmp_path) == {"latest": before.digest}


def test_reset_deletes_what_nothing_leads_to(tmp_path):
    layout = ImageLayout.create(tmp_path)
    kept = put_cache(layout, b"kept", "kept")
    old = put_cache(layout, b"old", "latest")
    age(layout)
    prepared = prepare_caches([], [LocalCache(path=tmp_path, reset=True)])
    new = put_cache(layout, b"new")
    beside = layout.put_blob(b"of a build that runs at the same time")
    prepared.finish(response_for(new))
    left = blobs(layout)
    assert {kept.digest, new.digest, beside, Digest.of(b"kept"), Digest.of(b"new")} <= left
    assert not {old.digest, Digest.of(b"old")} & left


def test_without_reset_nothing_is_deleted(tmp_path):
    layout = ImageLayout.create(tmp_path)
    old = put_cache(layout, b"old", "latest")
    age(layout)
    prepared = prepare_caches([], [RawCache("local", {"dest": str(tmp_path), "reset": "0"})])
    prepared.finish(response_for(put_cache(layout, b"new")))
    assert old.digest in blobs(layout)


def test_a_clean_up_that_fails_is_a_warning(tmp_path):
    layout = ImageLayout.create(tmp_path)
    warnings = []
    prepared = prepare_caches([], [LocalCache(path=tmp_path, reset=True)], warn=warnings.append)
    descriptor = put_cache(layout)
    damaged = Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(b"no manifest"), 11)
    layout.add_image(damaged, tag="damaged")
    prepared.finish(response_for(descriptor))
    assert tags(tmp_path)["latest"] == descriptor.digest
    assert len(warnings) == 1
    assert "not cleaned up" in warnings[0]


def test_an_import_has_the_digest_of_its_tag(tmp_path):
    layout = ImageLayout.create(tmp_path)
    put_cache(layout, b"a", "latest")
    web = put_cache(layout, b"b", "web")
    prepared = prepare_caches([LocalCache(path=tmp_path, tag="web")], [])
    (cache,) = prepared.imports
    assert cache.type == "local"
    assert cache.to_import_attrs() == {"src": str(tmp_path), "tag": "web", "digest": web.digest}
    assert not prepared.stores[f"local:{tmp_path}"].writable
    assert not prepared.warnings


def test_a_full_name_wins_over_a_tag(tmp_path):
    layout = ImageLayout.create(tmp_path)
    put_cache(layout, b"a", "web")
    named = put_cache(layout, b"b")
    layout.update_index(
        lambda index: type(index)(
            (*index.manifests, named.with_annotations({media_types.ANNOTATION_IMAGE_NAME: "web"}))
        )
    )
    (cache,) = prepare_caches([LocalCache(path=tmp_path, tag="web")], []).imports
    assert cache.to_import_attrs()["digest"] == named.digest


def test_an_import_by_digest_needs_no_index(tmp_path):
    descriptor = put_cache(ImageLayout.create(tmp_path))
    (cache,) = prepare_caches([LocalCache(path=tmp_path, digest=descriptor.digest)], []).imports
    assert cache.to_import_attrs()["digest"] == descriptor.digest


def test_a_directory_may_be_both(tmp_path):
    layout = ImageLayout.create(tmp_path)
    put_cache(layout, tag="latest")
    cache = LocalCache(path=tmp_path)
    prepared = prepare_caches([cache], [cache])
    assert len(prepared.imports) == len(prepared.exports) == len(prepared.stores) == 1
    assert prepared.stores[f"local:{tmp_path}"].writable


def test_the_first_build_has_nothing_to_import(tmp_path):
    cache = LocalCache(path=tmp_path / "cache")
    prepared = prepare_caches([cache], [cache])
    assert not prepared.imports
    assert prepared.exports == (cache,)
    assert len(prepared.warnings) == 1


@pytest.mark.parametrize(
    "case", ["missing", "no layout", "no tag", "no manifest", "damaged index", "no blob of digest"]
)
def test_what_cannot_be_imported_is_left_out_with_a_warning(tmp_path, case):
    path = tmp_path / "cache"
    digest = ""
    if case == "no layout":
        path.mkdir()
    elif case != "missing":
        layout = ImageLayout.create(path)
        descriptor = put_cache(layout, tag="other" if case == "no tag" else "latest")
        if case == "no manifest":
            layout.delete_blob(descriptor.digest)
        if case == "damaged index":
            (path / "index.json").write_text("{")
        if case == "no blob of digest":
            digest = Digest.of(b"nothing")
    warnings = []
    kept = RegistryCache(ref="example.com/a:cache")
    prepared = prepare_caches([LocalCache(path=path, digest=digest), kept], [], warn=warnings.append)
    assert prepared.imports == (kept,)
    assert not prepared.stores
    assert prepared.warnings == tuple(warnings)
    assert str(path) in warnings[0]
    assert "not used" in warnings[0]


@pytest.mark.parametrize(
    ("imports", "exports"),
    [
        ([RawCache("local", {})], []),
        ([], [RawCache("local", {})]),
        ([RawCache("registry", {})], []),
        ([], [RawCache("registry", {"mode": "max"})]),
        ([RawCache("local", {"src": "{path}", "digest": "latest"})], []),
        ([RawCache("local", {"src": "{path}", "tag": ""})], []),
        ([], [RawCache("local", {"dest": "{path}", "tag": "not a tag"})]),
        ([], [RawCache("local", {"dest": "{path}", "reset": "perhaps"})]),
        ([], [RawCache("local", {"dest": "{path}"}), RawCache("local", {"dest": "{path}", "tag": "b"})]),
    ],
)
def test_what_cannot_work_is_refused_before_the_build(tmp_path, imports, exports):
    ImageLayout.create(tmp_path)

    def filled(caches):
        return [RawCache(one.type, {k: v.format(path=tmp_path) for k, v in one.attrs.items()}) for one in caches]

    with pytest.raises(OptionError):
        prepare_caches(filled(imports), filled(exports))


def test_a_directory_that_cannot_be_made_is_an_error_before_the_build(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(LayoutError):
        prepare_caches([], [LocalCache(path=tmp_path / "file" / "cache")])


def test_two_exports_of_which_the_daemon_names_one(tmp_path):
    caches = [LocalCache(path=tmp_path / "a"), LocalCache(path=tmp_path / "b")]
    warnings = []
    prepared = prepare_caches([], caches, warn=warnings.append)
    descriptor = put_cache(prepared.stores[f"local:{tmp_path}/b"].blobs)
    prepared.finish(response_for(descriptor))
    assert tags(tmp_path / "b") == {"latest": descriptor.digest}
    assert tags(tmp_path / "a") == {}
    assert len(warnings) == 1


@pytest.mark.parametrize("answer", ["{", "[]", "{}", '{"mediaType":"a/b","digest":"sha256:1","size":1}'])
def test_an_answer_that_is_no_descriptor_is_refused(tmp_path, answer):
    with pytest.raises(ImageFormatError):
        prepare_caches([], [LocalCache(path=tmp_path)]).finish({"cache.manifest": answer})
