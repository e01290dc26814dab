from __future__ import annotations

import json
from typing import Any

import pytest

from buildkit_client.errors import ImageFormatError
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import (
    ImageConfig,
    ImageIndex,
    ImageManifest,
    guess_media_type,
    parse_index,
    parse_manifest,
    walk_image,
)

CONFIG = Descriptor(media_types.OCI_CONFIG, Digest.of(b"config"), 6)
LAYER = Descriptor(media_types.OCI_LAYER_GZIP, Digest.of(b"layer"), 5)
MANIFEST = ImageManifest(CONFIG, (LAYER, LAYER), annotations={"a": "b"}, subject=LAYER, artifact_type="x/y")
INDEX = ImageIndex((CONFIG, LAYER), annotations={"a": "b"}, subject=LAYER, artifact_type="x/y")


def _json(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def test_manifest_both_ways() -> None:
    assert parse_manifest(MANIFEST.to_bytes(), media_types.OCI_IMAGE_MANIFEST) == MANIFEST
    assert parse_manifest(INDEX.to_bytes(), media_types.OCI_INDEX) == INDEX
    assert MANIFEST.children == (CONFIG, LAYER, LAYER)
    assert INDEX.children == (CONFIG, LAYER)


def test_docker_types_are_taken() -> None:
    data = _json(mediaType=media_types.DOCKER_MANIFEST_LIST, manifests=[LAYER.to_json()])
    assert isinstance(parse_manifest(data, media_types.DOCKER_MANIFEST_LIST), ImageIndex)


def test_missing_lists_are_empty() -> None:
    parsed = parse_manifest(_json(config=CONFIG.to_json(), layers=None), media_types.OCI_IMAGE_MANIFEST)
    assert parsed == ImageManifest(CONFIG, (), media_type="")
    assert parse_index(_json(manifests=None)).manifests == ()


@pytest.mark.parametrize(
    ("data", "media_type", "complaint"),
    [
        (b"", media_types.OCI_INDEX, "not JSON"),
        (b"\xff\xfe{}", media_types.OCI_INDEX, "not JSON"),
        (b"[]", media_types.OCI_INDEX, "no.*object"),
        (b"{" * 10, media_types.OCI_INDEX, "not JSON"),
        (b'{"a":' * 100_000, media_types.OCI_INDEX, "not readable|not JSON"),
        (b'{"schemaVersion": NaN}', media_types.OCI_INDEX, "not JSON"),
        (b'{"schemaVersion": ' + b"9" * 5000 + b"}", media_types.OCI_INDEX, "not JSON"),
        (b'{"manifests": []}', media_types.OCI_INDEX, "schemaVersion None"),
        (_json(schemaVersion=1, manifests=[]), media_types.OCI_INDEX, "schemaVersion 1"),
        (_json(schemaVersion=True), media_types.OCI_INDEX, "schemaVersion True"),
        (_json(manifests={}), media_types.OCI_INDEX, "damaged"),
        (_json(manifests=[{}]), media_types.OCI_INDEX, "damaged"),
        (_json(), media_types.OCI_IMAGE_MANIFEST, "no config"),
        (_json(), "text/plain", "text/plain"),
        (_json(), media_types.DOCKER_SCHEMA1_SIGNED, "schema 1"),
        (_json(mediaType=media_types.OCI_INDEX, config={}), media_types.OCI_IMAGE_MANIFEST, "calls itself"),
    ],
)
def test_refuses_damaged_documents(data: bytes, media_type: str, complaint: str) -> None:
    with pytest.raises(ImageFormatError, match=complaint):
        parse_manifest(data, media_type)


@pytest.mark.parametrize(
    ("media_type", "fields"),
    [
        (media_types.OCI_INDEX, {"manifests": [], "layers": []}),
        (media_types.OCI_INDEX, {"manifests": [], "config": CONFIG.to_json()}),
        (media_types.OCI_IMAGE_MANIFEST, {"config": CONFIG.to_json(), "manifests": []}),
        (media_types.OCI_IMAGE_MANIFEST, {"config": CONFIG.to_json(), "fsLayers": []}),
    ],
)
def test_a_document_is_of_one_kind(media_type: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ImageFormatError, match="ambiguous"):
        parse_manifest(_json(**fields), media_type)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"mediaType": "x/y"}, "x/y"),
        ({"manifests": []}, media_types.OCI_INDEX),
        ({"config": {}}, media_types.OCI_IMAGE_MANIFEST),
        ({"schemaVersion": 1, "fsLayers": []}, media_types.DOCKER_SCHEMA1),
    ],
)
def test_media_type_can_be_guessed(document: dict[str, Any], expected: str) -> None:
    assert guess_media_type(json.dumps(document).encode()) == expected


def test_media_type_cannot_be_guessed_from_nothing() -> None:
    with pytest.raises(ImageFormatError):
        guess_media_type(b"{}")


def _entry(text: str, *, annotations: dict[str, str] | None = None) -> Descriptor:
    os, architecture, *variant = text.split("/")
    platform = Platform(os, architecture, *variant)
    return Descriptor("m", Digest.of(text.encode()), 1, annotations or {}, platform)


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        (["linux/amd64", "linux/arm64"], "linux/arm64", 1),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm", 1),
        (["linux/arm64/v8", "linux/arm64"], "linux/arm64", 0),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3", 1),
        (["linux/amd64"], "linux/amd64/v3", 0),
        (["linux/amd64/v3"], "linux/amd64/v2", None),
        (["windows/amd64", "linux/arm64"], "linux/amd64", None),
        (["unknown/unknown", "linux/arm64"], None, 1),
        (["unknown/unknown"], None, None),
    ],
)
def test_select(offered: list[str], wanted: str | None, expected: int | None) -> None:
    index = ImageIndex(tuple(_entry(text) for text in offered))
    platform = None if wanted is None else Platform.parse(wanted)
    assert index.select(platform) == (None if expected is None else index.manifests[expected])


def test_select_takes_an_entry_without_platform_last() -> None:
    bare = Descriptor("m", Digest.of(b"bare"), 1)
    amd64 = _entry("linux/amd64")
    assert ImageIndex((bare, amd64)).select(Platform("linux", "amd64")) == amd64
    assert ImageIndex((bare, amd64)).select(Platform("linux", "arm64")) == bare


def test_config() -> None:
    document = {
        "architecture": "arm64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["C=d"], "WorkingDir": "/w", "Labels": {"l": "v"}},
        "rootfs": {"diff_ids": ["sha256:x"]},
    }
    config = ImageConfig.from_bytes(json.dumps(document).encode())
    assert config == ImageConfig(
        Platform("linux", "arm64"),
        ("/a",),
        ("b",),
        ("C=d",),
        "/w",
        {"l": "v"},
        ("sha256:x",),
        "2026-01-01T00:00:00Z",
        document,
    )
    assert ImageConfig.from_bytes(b'{"config": null}').entrypoint == ()


@pytest.mark.parametrize("data", [b"[]", b'{"config": [1]}', b'{"config": {"Entrypoint": "x"}}'])
def test_config_with_wrong_types(data: bytes) -> None:
    with pytest.raises(ImageFormatError):
        ImageConfig.from_bytes(data)


def _chain(depth: int) -> tuple[Descriptor, dict[Digest, ImageIndex]]:
    documents: dict[Digest, ImageIndex] = {}
    child = LAYER
    for _ in range(depth):
        index = ImageIndex((child,))
        child = Descriptor.of(media_types.OCI_INDEX, index.to_bytes())
        documents[child.digest] = index
    return child, documents


def test_walk_gives_parents_first_and_each_once() -> None:
    one = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST.to_bytes())
    index = ImageIndex((one, one, LAYER))
    root = Descriptor.of(media_types.OCI_INDEX, index.to_bytes())
    documents = {one.digest: MANIFEST, root.digest: index}
    assert list(walk_image(root, lambda d: documents[d.digest])) == [root, one, CONFIG, LAYER]


def test_walk_allows_some_nesting_only() -> None:
    root, documents = _chain(8)
    assert len(list(walk_image(root, lambda d: documents[d.digest]))) == 9
    root, documents = _chain(50)
    with pytest.raises(ImageFormatError, match="nested"):
        list(walk_image(root, lambda d: documents[d.digest]))


def test_walk_sees_a_cycle() -> None:
    a = Descriptor(media_types.OCI_INDEX, Digest.of(b"a"), 1)
    b = Descriptor(media_types.OCI_INDEX, Digest.of(b"b"), 1)
    with pytest.raises(ImageFormatError, match="contains itself"):
        list(walk_image(a, lambda d: ImageIndex((b if d == a else a,))))


def test_walk_counts_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit_client.oci.image.MAX_BLOBS", 5)
    layers = tuple(Descriptor(media_types.OCI_LAYER, Digest.of(bytes([n])), 1) for n in range(6))
    root = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, b"")
    with pytest.raises(ImageFormatError, match="more than 5 blobs"):
        list(walk_image(root, lambda _: ImageManifest(CONFIG, layers)))


def test_a_manifest_cannot_hide_behind_another_media_type() -> None:
    """A blob that is named as a layer first and as a manifest later still has its parts walked."""
    hidden = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST.to_bytes())
    disguised = Descriptor(media_types.OCI_LAYER, hidden.digest, hidden.size_bytes)
    index = ImageIndex((disguised, hidden))
    root = Descriptor.of(media_types.OCI_INDEX, index.to_bytes())
    documents = {hidden.digest: MANIFEST, root.digest: index}
    assert CONFIG in list(walk_image(root, lambda d: documents[d.digest]))


def test_walk_refuses_schema_1() -> None:
    root = Descriptor(media_types.DOCKER_SCHEMA1_SIGNED, Digest.of(b"x"), 1)
    with pytest.raises(ImageFormatError, match="schema 1"):
        list(walk_image(root, lambda _: None))


def test_half_a_character_is_no_text() -> None:
    """JSON can name one; it could never be written again. Both halves together are a character."""
    for escape in ("\\ud800", "\\udfff", "\\udc00\\ud83d"):
        data = b'{"schemaVersion":2,"manifests":[],"annotations":{"k":"' + escape.encode() + b'"}}'
        with pytest.raises(ImageFormatError, match="is not JSON"):
            parse_index(data)
    index = parse_index(b'{"schemaVersion":2,"manifests":[],"annotations":{"k":"\\ud83d\\ude00 \\\\ud800"}}')
    assert index.annotations == {"k": "\U0001f600 \\ud800"}
    assert parse_index(index.to_bytes()) == index


def test_annotations_are_written_in_one_order() -> None:
    one, two = {"b": "1", "a": "2"}, {"a": "2", "b": "1"}
    entries = [Descriptor.of(media_types.OCI_IMAGE_MANIFEST, b"{}").with_annotations(texts) for texts in (one, two)]
    assert (
        ImageIndex((entries[0],), annotations=one).to_bytes() == ImageIndex((entries[1],), annotations=two).to_bytes()
    )
    manifests = [ImageManifest(entry, (entry,), annotations=entry.annotations) for entry in entries]
    assert manifests[0].to_bytes() == manifests[1].to_bytes()


def test_what_a_document_says_is_shown_short_and_printable() -> None:
    long = "\x1b[2J" + "x" * 50_000
    for document in ({"schemaVersion": long}, {"schemaVersion": 2, "mediaType": long}):
        with pytest.raises(ImageFormatError) as caught:
            parse_manifest(json.dumps(document).encode(), media_types.OCI_IMAGE_MANIFEST)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


def test_the_platforms_of_an_index_are_shown_short_and_printable() -> None:
    platforms = [Platform("\x1b[2J" + "x" * 5000, str(number)) for number in range(1000)]
    entries = [Descriptor(media_types.OCI_IMAGE_MANIFEST, LAYER.digest, 5, platform=one) for one in platforms]
    index = ImageIndex((*entries, Descriptor(media_types.OCI_IMAGE_MANIFEST, LAYER.digest, 5)))
    assert index.offered_platforms.isprintable()
    assert len(index.offered_platforms) < 10_000
    good = [Descriptor(media_types.OCI_IMAGE_MANIFEST, LAYER.digest, 5, platform=Platform.parse("linux/arm/v7"))]
    assert ImageIndex(tuple(good)).offered_platforms == "linux/arm/v7"
    assert ImageIndex(()).offered_platforms == "none"
