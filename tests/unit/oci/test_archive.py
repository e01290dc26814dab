from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from buildkit_client.errors import BlobNotFoundError, LayoutError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.archive import ArchiveLimits, OciArchive, import_oci_archive, write_oci_archive
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex, ImageManifest
from buildkit_client.oci.layout import ImageLayout
from tests.support.images import add_image, add_index, add_platforms, layer_tar
from tests.support.tars import END, file, header, padded, pax, tar

SCHEMA1 = {"mediaType": media_types.DOCKER_SCHEMA1, "digest": Digest.of(b""), "size": 0}
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "target")


def export(layout: ImageLayout, descriptor: Descriptor, *names: str) -> bytes:
    out = io.BytesIO()
    write_oci_archive(layout, descriptor, names, out)
    return out.getvalue()


def blob(data: bytes, name: str = "") -> bytes:
    return file(name or f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data)


def index_file(*entries: Descriptor | dict[str, Any]) -> bytes:
    manifests = [entry.to_json() if isinstance(entry, Descriptor) else entry for entry in entries]
    return file("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())


def members_of(layout: ImageLayout, descriptor: Descriptor) -> dict[Digest, bytes]:
    return {part.digest: b"".join(layout.read_blob(part.digest)) for part in layout.walk(descriptor)}


def refuse(target: ImageLayout, data: bytes, complaint: str, **limits: int) -> None:
    """Import must fail with one clear error in little time and leave nothing behind, inside or outside."""
    outside = sorted(path for path in target.path.parent.rglob("*") if target.path not in path.parents)
    started = time.process_time()
    with pytest.raises(LayoutError) as caught:
        import_oci_archive(io.BytesIO(data), target, ArchiveLimits(**limits))
    assert time.process_time() - started < 1
    text = f"{caught.value}: {caught.value.why}"
    assert complaint in text, text
    assert list(target.blobs()) == []
    assert list((target.path / "ingest").iterdir()) == []
    assert sorted(path for path in target.path.parent.rglob("*") if target.path not in path.parents) == outside


# --- writing ---


def test_order_and_headers(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    data = export(layout, descriptor, "localhost:5000/app:web.B1")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        infos = archive.getmembers()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    names = [info.name for info in infos]
    assert names[:4] == ["oci-layout", "index.json", "blobs", "blobs/sha256"]
    assert names[4:] == sorted(f"blobs/sha256/{part.digest.hex}" for part in layout.walk(descriptor))
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in infos} == {(0, 0, 0, "", "")}
    assert {info.mode for info in infos if info.isfile()} == {0o644}
    assert {info.mode for info in infos if info.isdir()} == {0o755}
    (entry,) = index["manifests"]
    assert entry["digest"] == descriptor.digest
    assert entry["annotations"] == {
        "io.containerd.image.name": "localhost:5000/app:web.B1",
        "org.opencontainers.image.ref.name": "web.B1",
    }


def test_same_image_gives_same_bytes(tmp_path: Path) -> None:
    archives = []
    for name in ("a", "b"):
        layout = ImageLayout.create(tmp_path / name)
        if name == "b":
            layout.put_blob(b"something else")
        archives.append(export(layout, add_platforms(layout), "app:1"))
    assert archives[0] == archives[1]


def test_size_is_known_before(layout: ImageLayout) -> None:
    layout.put_blob(b"x" * 512)
    for descriptor in (add_platforms(layout), add_image(layout, [os.urandom(512 * n) for n in range(4)])):
        archive = OciArchive(layout, descriptor, ["app:1", "app:2"])
        out = io.BytesIO()
        archive.write(out)
        assert len(out.getvalue()) == archive.size_bytes


def test_sha512_blobs(layout: ImageLayout, target: ImageLayout) -> None:
    config = b"{}"
    data = ImageManifest(Descriptor(media_types.OCI_CONFIG, layout.put_blob(config, "sha512"), 2), ()).to_bytes()
    descriptor = Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(data, "sha512"), len(data))
    (image,) = import_oci_archive(io.BytesIO(export(layout, descriptor)), target)
    assert image.descriptor == descriptor
    target.verify(descriptor)


def test_incomplete_image_is_not_written(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    manifest = layout.read_manifest(descriptor)
    layout.delete_blob(manifest.children[1].digest)
    with pytest.raises(BlobNotFoundError):
        OciArchive(layout, descriptor)


def test_blob_of_wrong_size_is_not_written(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    layout.blob_path(layout.read_manifest(descriptor).children[1].digest).write_bytes(b"")
    with pytest.raises(LayoutError, match="damaged"):
        OciArchive(layout, descriptor)


def test_damaged_blob_is_seen_while_writing(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    path = layout.blob_path(layout.read_manifest(descriptor).children[1].digest)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(LayoutError, match="damaged"):
        export(layout, descriptor)


def test_bad_name(layout: ImageLayout) -> None:
    with pytest.raises(OptionError):
        OciArchive(layout, add_image(layout), ["not a name"])


# --- reading ---


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        zstandard.ZstdCompressor().compress,
        lambda d: gzip.compress(d[:999]) + gzip.compress(d[999:]),
    ],
)
def test_round_trip(layout: ImageLayout, target: ImageLayout, pack: Callable[[bytes], bytes]) -> None:
    descriptor = add_platforms(layout)
    (image,) = import_oci_archive(io.BytesIO(pack(export(layout, descriptor, "host:5000/app:1", "app:2"))), target)
    assert image.descriptor == descriptor
    assert image.names == ("host:5000/app:1", "app:2")
    assert members_of(target, descriptor) == members_of(layout, descriptor)
    assert target.read_index().manifests == ()
    assert list((target.path / "ingest").iterdir()) == []


def test_what_is_there_already_stays(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    data = export(layout, descriptor)
    before = {info.digest for info in layout.blobs()}
    (image,) = import_oci_archive(io.BytesIO(data), layout)
    assert image.descriptor == descriptor
    assert {info.digest for info in layout.blobs()} == before


def test_members_in_any_order_and_spelling(layout: ImageLayout, target: ImageLayout) -> None:
    descriptor = add_image(layout)
    blobs = [file(f"./blobs/sha256/{digest.hex}", data) for digest, data in members_of(layout, descriptor).items()]
    folders = [header("./", kind=b"5"), header("", kind=b"5"), header("blobs/", kind=b"5"), header("/", kind=b"5")]
    data = tar(*folders, *blobs, file("README", b"hello"), index_file(descriptor), file("oci-layout", OCI_LAYOUT))
    (image,) = import_oci_archive(io.BytesIO(data), target)
    assert (image.descriptor, image.names) == (descriptor, ())
    assert {info.digest for info in target.blobs()} == set(members_of(layout, descriptor))


def test_several_images(layout: ImageLayout, target: ImageLayout) -> None:
    one, two = add_image(layout, [b"1"]), add_image(layout, [b"2"])
    ref = media_types.ANNOTATION_REF_NAME
    data = tar(
        file("oci-layout", OCI_LAYOUT),
        index_file(one.with_annotations({ref: "v1", "keep": "me"}), two, one.with_annotations({ref: "v2"})),
        *(blob(data) for data in {**members_of(layout, one), **members_of(layout, two)}.values()),
    )
    images = import_oci_archive(io.BytesIO(data), target)
    assert [(image.descriptor.digest, image.names) for image in images] == [
        (one.digest, ("v1", "v2")),
        (two.digest, ()),
    ]
    assert images[0].descriptor.annotations == {"keep": "me"}


def test_blobs_that_nothing_names_are_dropped(layout: ImageLayout, target: ImageLayout) -> None:
    descriptor = add_image(layout)
    data = tar(
        file("oci-layout", OCI_LAYOUT),
        index_file(descriptor),
        blob(b"stray"),
        *map(blob, members_of(layout, descriptor).values()),
    )
    import_oci_archive(io.BytesIO(data), target)
    assert not target.has_blob(Digest.of(b"stray"))
    assert list((target.path / "ingest").iterdir()) == []


def test_foreign_layer_may_be_absent(layout: ImageLayout, target: ImageLayout) -> None:
    foreign = Descriptor(media_types.DOCKER_FOREIGN_LAYER_PREFIX + ".gzip", Digest.of(b"elsewhere"), 9)
    config = b"{}"
    data = ImageManifest(Descriptor(media_types.OCI_CONFIG, layout.put_blob(config), 2), (foreign,)).to_bytes()
    descriptor = Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(data), len(data))
    (image,) = import_oci_archive(io.BytesIO(export(layout, descriptor)), target)
    assert image.descriptor == descriptor


@pytest.mark.parametrize(
    "name",
    [
        "../x.tar",
        "/etc/x.tar",
        "a/../../x.tar",
        "C:\\x.tar",
        "c:/x.tar",
        "a\\b",
        "blobs/sha256/../../../x",
        "./../x",
        "a//b",
        "a/./b",
        "..",
        "./",
        "",
    ],
)
def test_unsafe_names(target: ImageLayout, name: str) -> None:
    refuse(target, tar(file("oci-layout", OCI_LAYOUT), file(name, b"x")), "file name that is not taken")


def test_other_unsafe_names(target: ImageLayout) -> None:
    refuse(target, tar(pax({"path": "a\0b"}), header("x")), "not taken")
    refuse(target, tar(file("n" * 5000)), "5000 bytes")
    refuse(target, tar(file(b"\xff")), "UTF-8")
    refuse(target, tar(header("/etc/", kind=b"5")), "not taken")
    refuse(target, tar(header("../", kind=b"5")), "not taken")


@pytest.mark.parametrize("kind", [b"1", b"3", b"4", b"6", b"S", b"X"])
def test_kinds_that_are_not_taken(layout: ImageLayout, target: ImageLayout, kind: bytes) -> None:
    refuse(target, tar(header("blobs/sha256/x", kind=kind, target=b"/etc/passwd")), "kind of file")


def test_symlinks_lead_nowhere(layout: ImageLayout, target: ImageLayout) -> None:
    descriptor = add_image(layout)
    hex_digits = descriptor.digest.hex
    rest = [blob(data) for digest, data in members_of(layout, descriptor).items() if digest != descriptor.digest]
    start = (file("oci-layout", OCI_LAYOUT), index_file(descriptor))
    link = header(f"blobs/sha256/{hex_digits}", kind=b"2", target=b"/etc/passwd")
    refuse(target, tar(*start, link, *rest), "symbolic link")
    folder = header("blobs", kind=b"2", target=str(target.path.parent).encode()[:99])
    refuse(target, tar(folder, *start, *map(blob, members_of(layout, descriptor).values())), "symbolic link")
    chain = [header(f"l{n}", kind=b"2", target=b"l%d" % (n + 1)) for n in range(50)]
    refuse(target, tar(*start, *chain), "symbolic link")


@pytest.mark.parametrize(
    "name",
    [
        "blobs/sha256/" + "A" * 64,
        "blobs/sha256/abc",
        "blobs/md5/" + "0" * 32,
        "blobs/sha256/" + "0" * 65,
        "blobs/sha512/" + "0" * 64,
    ],
)
def test_blob_names_that_are_no_digest(target: ImageLayout, name: str) -> None:
    refuse(target, tar(blob(b"x", name)), "named by no digest")


@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_flipped_bits(layout: ImageLayout, target: ImageLayout, place: float) -> None:
    descriptor = add_image(layout, [os.urandom(3000)])
    data = bytearray(export(layout, descriptor))
    layer = layout.read_manifest(descriptor).children[1]
    content = b"".join(layout.read_blob(layer.digest))
    data[bytes(data).index(content) + int((len(content) - 1) * place)] ^= 1
    refuse(target, bytes(data), "have the digest")


@pytest.mark.parametrize("change", [-1, 1])
def test_descriptor_with_wrong_size(layout: ImageLayout, target: ImageLayout, change: int) -> None:
    image = add_image(layout)
    wrong = Descriptor(image.media_type, image.digest, image.size_bytes + change)
    blobs = list(map(blob, members_of(layout, image).values()))
    refuse(target, tar(file("oci-layout", OCI_LAYOUT), index_file(wrong), *blobs), "its descriptor says")
    manifest = layout.read_manifest(image)
    assert isinstance(manifest, ImageManifest)
    layer = manifest.layers[0]
    bad = ImageManifest(
        manifest.config, (Descriptor(layer.media_type, layer.digest, layer.size_bytes + change),)
    ).to_bytes()
    entry = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, bad)
    refuse(target, tar(file("oci-layout", OCI_LAYOUT), index_file(entry), blob(bad), *blobs), "its descriptor says")


def test_missing_parts(layout: ImageLayout, target: ImageLayout) -> None:
    descriptor = add_platforms(layout)
    members = members_of(layout, descriptor)
    for missing in members:
        kept = [blob(data) for digest, data in members.items() if digest != missing]
        refuse(target, tar(file("oci-layout", OCI_LAYOUT), index_file(descriptor), *kept), f"{missing} is missing")


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (media_types.OCI_LAYER_GZIP, zstandard.compress(layer_tar({"a": b"b"}))),
        (media_types.OCI_LAYER_ZSTD, gzip.compress(layer_tar({"a": b"b"}), mtime=0)),
        (media_types.OCI_LAYER, gzip.compress(layer_tar({"a": b"b"}), mtime=0)),
        (media_types.DOCKER_LAYER_GZIP, layer_tar({"a": b"b"})),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_layers_that_are_not_what_they_are_called(
    layout: ImageLayout, target: ImageLayout, media_type: str, content: bytes
) -> None:
    config = Descriptor(media_types.OCI_CONFIG, layout.put_blob(b"{}"), 2)
    data = ImageManifest(config, (Descriptor(media_type, layout.put_blob(content), len(content)),)).to_bytes()
    descriptor = Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(data), len(data))
    refuse(target, export(layout, descriptor), "its bytes show compression")


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([], "neither index.json nor manifest.json"),
        ([file("oci-layout", OCI_LAYOUT)], "neither index.json nor manifest.json"),
        ([index_file()], "no file oci-layout"),
        ([index_file(), file("oci-layout", OCI_LAYOUT)], "empty"),
        ([file("index.json", b"{"), file("oci-layout", OCI_LAYOUT)], "not JSON"),
        ([file("index.json", b'{"a":' * 100_000), file("oci-layout", OCI_LAYOUT)], "index.json is not"),
        ([index_file(), file("oci-layout", b"{}")], "unknown version"),
        ([index_file(), file("oci-layout", b"x")], "not JSON"),
        ([index_file(), index_file(), file("oci-layout", OCI_LAYOUT)], "two files named 'index.json'"),
        ([blob(b"x"), blob(b"x")], "two files named"),
        ([index_file({}), file("oci-layout", OCI_LAYOUT)], "damaged"),
        (
            [index_file({"mediaType": "m", "digest": "sha256:../../x", "size": 1}), file("oci-layout", OCI_LAYOUT)],
            "not a digest",
        ),
        (
            [index_file({"mediaType": "text/x", "digest": Digest.of(b""), "size": 0}), file("oci-layout", OCI_LAYOUT)],
            "no image",
        ),
        ([index_file(SCHEMA1), file("oci-layout", OCI_LAYOUT), blob(b"")], "schema 1"),
    ],
)
def test_damaged_archives(target: ImageLayout, members: list[bytes], complaint: str) -> None:
    refuse(target, tar(*members), complaint)


def test_one_digest_described_in_two_ways(layout: ImageLayout, target: ImageLayout) -> None:
    image = add_image(layout)
    as_index = Descriptor(media_types.OCI_INDEX, image.digest, image.size_bytes)
    blobs = map(blob, members_of(layout, image).values())
    refuse(target, tar(file("oci-layout", OCI_LAYOUT), index_file(image, as_index), *blobs), "two ways")


def test_nesting(layout: ImageLayout, target: ImageLayout) -> None:
    descriptor = add_image(layout)
    for _ in range(5):
        descriptor = add_index(layout, descriptor)
    assert len(import_oci_archive(io.BytesIO(export(layout, descriptor)), target)) == 1
    blobs = list(map(blob, members_of(layout, descriptor).values()))
    other = ImageLayout.create(target.path.parent / "other")
    for _ in range(45):
        data = ImageIndex((descriptor,)).to_bytes()
        descriptor = Descriptor.of(media_types.OCI_INDEX, data)
        blobs.append(blob(data))
    refuse(other, tar(file("oci-layout", OCI_LAYOUT), index_file(descriptor), *blobs), "nested")


def test_limits(layout: ImageLayout, target: ImageLayout) -> None:
    data = export(layout, add_image(layout, [os.urandom(5000)]))
    refuse(target, data, "too large", total_bytes=2000)
    refuse(target, data, "too many", entries=3)
    refuse(target, gzip.compress(data), "too large", total_bytes=2000)


def test_many_empty_entries(target: ImageLayout) -> None:
    data = b"".join(header(f"f{number}") for number in range(300)) + END
    refuse(target, data, "too many files", entries=250)


def test_every_cut_is_seen(layout: ImageLayout, target: ImageLayout) -> None:
    data = export(layout, add_image(layout))
    packed = gzip.compress(data)
    for percent in range(0, 100, 3):
        refuse(target, data[: len(data) * percent // 100], "")
        refuse(target, packed[: len(packed) * percent // 100], "")


def test_memory_stays_flat(layout: ImageLayout, target: ImageLayout, tmp_path: Path) -> None:
    descriptor = add_image(layout, [os.urandom(16 << 20)])
    path = tmp_path / "archive.tar"
    with path.open("wb") as out:
        write_oci_archive(layout, descriptor, [], out)
    tracemalloc.start()
    try:
        with path.open("rb") as stream:
            import_oci_archive(stream, target)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# --- docker archives ---


def docker_archive(
    layers: list[bytes],
    *,
    diff_ids: list[str] | None = None,
    names: list[str] | None = None,
    extra: list[bytes] | None = None,
) -> bytes:
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/x"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [Digest.of(data) for data in layers] if diff_ids is None else diff_ids,
            },
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": config_name, "RepoTags": names, "Layers": layer_names}]
    return tar(
        *(file(name, data) for name, data in zip(layer_names, layers, strict=True)),
        *(extra or []),
        file(config_name, config),
        file("repositories", b"{}"),
        file("manifest.json", json.dumps(manifest).encode()),
    )


def test_docker_archive_becomes_an_oci_image(target: ImageLayout) -> None:
    layers = [layer_tar({"a": b"1"}), layer_tar({"b": b"2"})]
    (image,) = import_oci_archive(io.BytesIO(docker_archive(layers, names=["app:1"])), target)
    assert image.names == ("app:1",)
    manifest = target.read_manifest(image.descriptor)
    assert isinstance(manifest, ImageManifest)
    assert [layer.digest for layer in manifest.layers] == [Digest.of(data) for data in layers]
    assert {layer.media_type for layer in manifest.layers} == {media_types.OCI_LAYER}
    assert target.read_config(image.descriptor).entrypoint == ("/x",)
    target.verify(image.descriptor)


def test_docker_archive_with_links_between_layers(target: ImageLayout) -> None:
    layer = layer_tar({"a": b"1"})
    config = json.dumps({"rootfs": {"diff_ids": [Digest.of(layer), Digest.of(layer)]}}).encode()
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["one/layer.tar", "two/layer.tar"]}]
    data = tar(
        file("one/layer.tar", layer),
        header("two/layer.tar", kind=b"2", target=b"../one/layer.tar"),
        file("c.json", config),
        file("manifest.json", json.dumps(manifest).encode()),
    )
    (image,) = import_oci_archive(io.BytesIO(data), target)
    manifest_ = target.read_manifest(image.descriptor)
    assert [child.digest for child in manifest_.children[1:]] == [Digest.of(layer)] * 2


@pytest.mark.parametrize("link", [b"../../../etc/passwd", b"/etc/passwd", b"layer.tar", b"missing"])
def test_docker_archive_with_links_elsewhere(target: ImageLayout, link: bytes) -> None:
    manifest = [{"Config": "c.json", "Layers": ["x/layer.tar"]}]
    data = tar(
        header("x/layer.tar", kind=b"2", target=link),
        file("c.json", b"{}"),
        file("manifest.json", json.dumps(manifest).encode()),
    )
    refuse(target, data, "no file 'x/layer.tar'")


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        (b"{}", "no list"),
        (b"[", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "empty"),
        (b"[1]", "object"),
        (b'[{"Config": "missing.json", "Layers": []}]', "no file 'missing.json'"),
        (b'[{"Config": "../x", "Layers": []}]', "no file '../x'"),
        (b'[{"Config": "c.json", "Layers": ["missing"]}]', "no file 'missing'"),
        (b'[{"Config": "c.json", "Layers": ["c.json"]}]', "1 layers and 0 layer digests"),
        (b'[{"Config": 1}]', "not a string"),
    ],
)
def test_damaged_docker_archives(target: ImageLayout, manifest: bytes, complaint: str) -> None:
    refuse(target, tar(file("c.json", b"{}"), file("manifest.json", manifest)), complaint)


def test_docker_layer_that_the_config_does_not_know(target: ImageLayout) -> None:
    layer = layer_tar({"a": b"1"})
    refuse(target, docker_archive([layer], diff_ids=[Digest.of(b"other")]), "not 'sha256")


def test_content_of_padding_does_not_matter(layout: ImageLayout, target: ImageLayout) -> None:
    descriptor = add_image(layout)
    members = [file("oci-layout", OCI_LAYOUT), index_file(descriptor)]
    for digest, data in members_of(layout, descriptor).items():
        members.append(
            header(f"blobs/sha256/{digest.hex}", len(data)) + padded(data)[: len(data)] + b"\xff" * (-len(data) % 512)
        )
    assert len(import_oci_archive(io.BytesIO(tar(*members)), target)) == 1
