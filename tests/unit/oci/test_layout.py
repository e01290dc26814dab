from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from buildkit_client.errors import BlobNotFoundError, LayoutError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex, ImageManifest
from buildkit_client.oci.layout import ImageLayout
from tests.support.images import add_image, add_index, add_platforms

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "images")


def _age_all(layout: ImageLayout, seconds: float = 7200) -> None:
    moment = time.time() - seconds
    for info in layout.blobs():
        os.utime(layout.blob_path(info.digest), (moment, moment))


def test_create_makes_an_empty_layout(layout: ImageLayout) -> None:
    assert json.loads((layout.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout.path / "index.json").read_bytes())
    assert index == {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
    assert sorted(path.name for path in layout.path.iterdir()) == ["index.json", "ingest", "oci-layout"]
    assert ImageLayout(layout.path).read_index().manifests == ()


def test_create_leaves_what_is_there(layout: ImageLayout) -> None:
    layout.add_image(add_image(layout), ["app:1"])
    before = (layout.path / "index.json").read_bytes()
    ImageLayout.create(layout.path)
    assert (layout.path / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no image layout"),
        (b"", "not JSON"),
        (b"[]", "object"),
        (b"{}", "version ''"),
        (b'{"imageLayoutVersion": "2.0.0"}', "2.0.0"),
        (b'{"imageLayoutVersion": 1}', "damaged"),
    ],
)
def test_refuses_what_is_no_layout(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / "oci-layout").write_bytes(content)
    with pytest.raises(LayoutError, match=complaint):
        ImageLayout(tmp_path)


def test_refuses_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LayoutError, match="no image layout"):
        ImageLayout(tmp_path / "file")
    with pytest.raises(LayoutError, match="cannot make"):
        ImageLayout.create(tmp_path / "file")


def test_missing_index_is_empty(layout: ImageLayout) -> None:
    (layout.path / "index.json").unlink()
    assert layout.read_index().manifests == ()


@pytest.mark.parametrize("content", [b"", b"{", b'{"schemaVersion": 2, "manifests": [{}]}', b"\xff"])
def test_damaged_index(layout: ImageLayout, content: bytes) -> None:
    (layout.path / "index.json").write_bytes(content)
    with pytest.raises(LayoutError, match=r"index\.json|entry"):
        layout.read_index()


def test_names_are_written_as_buildctl_writes_them(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    layout.add_image(descriptor, ["localhost:5000/app:web.B1", "docker.io/library/x:latest"])
    layout.add_image(descriptor, tag="buildcache")
    index = json.loads((layout.path / "index.json").read_bytes())
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {IMAGE_NAME: "localhost:5000/app:web.B1", REF_NAME: "web.B1"},
        {IMAGE_NAME: "docker.io/library/x:latest", REF_NAME: "latest"},
        {REF_NAME: "buildcache"},
    ]
    assert {entry["digest"] for entry in index["manifests"]} == {descriptor.digest}


def test_find(layout: ImageLayout) -> None:
    one, two, three = add_image(layout, [b"1"]), add_image(layout, [b"2"]), add_image(layout, [b"3"])
    layout.add_image(one, ["docker.io/library/app:latest"])
    layout.add_image(two, ["host:5000/app:latest"])
    layout.add_image(three)

    def found(name: str) -> Digest | None:
        descriptor = layout.find(name)
        return descriptor.digest if descriptor else None

    assert found("docker.io/library/app:latest") == one.digest
    assert found("app") == one.digest
    assert found("host:5000/app") == two.digest
    assert found("host:5000/app:latest") == two.digest
    assert found("latest") == one.digest  # the first with that tag
    assert found("nothing") is None
    assert found("not a name!") is None


def test_one_name_means_one_image(layout: ImageLayout) -> None:
    one, two = add_image(layout, [b"1"]), add_image(layout, [b"2"])
    layout.add_image(one, ["app:1", "app:2"])
    layout.add_image(one)
    layout.add_image(two, ["app:1"])
    layout.add_image(two)
    assert [entry.digest for entry in layout.read_index().manifests] == [one.digest, two.digest, two.digest]


def test_bad_names_change_nothing(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    with pytest.raises(OptionError):
        layout.add_image(descriptor, ["app:1", "UPPER/../x"])
    with pytest.raises(OptionError):
        layout.add_image(descriptor, tag="a/b")
    assert layout.read_index().manifests == ()


def test_remove(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    layout.add_image(descriptor, ["app:1", "app:2"])
    assert layout.remove("app:1")
    assert not layout.remove("app:1")
    assert layout.find("app:1") is None
    assert layout.find("app:2") is not None


def test_other_fields_of_the_index_stay(layout: ImageLayout) -> None:
    document = {"schemaVersion": 2, "annotations": {"by": "someone"}, "manifests": []}
    (layout.path / "index.json").write_text(json.dumps(document))
    layout.add_image(add_image(layout), ["app:1"])
    written = json.loads((layout.path / "index.json").read_bytes())
    assert written["annotations"] == {"by": "someone"}
    assert "mediaType" not in written


def test_images_added_at_once_are_all_there(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    program = (
        "import sys; from buildkit_client.oci.layout import ImageLayout\n"
        "from buildkit_client.oci.descriptor import Descriptor\n"
        "from buildkit_client.oci.digest import Digest\n"
        "layout = ImageLayout(sys.argv[1])\n"
        "for n in range(20): layout.add_image(Descriptor('m', Digest(sys.argv[2]), 1), [f'app:{sys.argv[3]}-{n}'])\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, layout.path, descriptor.digest, str(number)])
        for number in range(3)
    ]
    threads = [
        threading.Thread(target=lambda number=number: layout.add_image(descriptor, [f"app:t-{number}"]))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(layout.read_index().manifests) == 80
    assert not (layout.path / "index.json.lock").exists()


def test_waiting_for_the_lock_has_an_end(layout: ImageLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit_client.oci.layout.LOCK_TIMEOUT_S", 0.05)
    with (layout.path / "index.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LayoutError, match="cannot lock"):
            layout.add_image(add_image(layout), ["app:1"])
    layout.add_image(add_image(layout), ["app:1"])


def test_read_manifest(layout: ImageLayout) -> None:
    index = add_platforms(layout)
    parsed = layout.read_manifest(index)
    assert isinstance(parsed, ImageIndex)
    assert len(parsed.manifests) == 3
    assert isinstance(layout.read_manifest(parsed.manifests[0]), ImageManifest)


def test_read_manifest_trusts_no_size(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    wrong = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size_bytes + 1)
    with pytest.raises(LayoutError, match="damaged"):
        layout.read_manifest(wrong)


def test_read_manifest_of_another_kind(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    with pytest.raises(LayoutError):
        layout.read_manifest(Descriptor(media_types.OCI_INDEX, descriptor.digest, descriptor.size_bytes))
    huge = layout.put_blob(b"{}" + b" " * (4 << 20))
    with pytest.raises(LayoutError, match="too large"):
        layout.read_manifest(Descriptor(media_types.OCI_INDEX, huge, (4 << 20) + 2))


def test_read_config(layout: ImageLayout) -> None:
    index = add_platforms(layout)
    assert layout.read_config(index, Platform("linux", "arm64")).entrypoint == ("/arm",)
    assert layout.read_config(index).entrypoint == ("/bin/app",)
    assert layout.read_config(add_image(layout)).environment == ("A=b",)
    with pytest.raises(LayoutError) as caught:
        layout.read_config(index, Platform("linux", "riscv64"))
    assert "linux/amd64, linux/arm64" in caught.value.why


def test_walk_and_verify(layout: ImageLayout) -> None:
    index = add_platforms(layout)
    parts = list(layout.walk(index))
    assert parts[0] == index
    assert {part.digest for part in parts} == {info.digest for info in layout.blobs()}
    layout.verify(index)


def test_verify_sees_damage_and_loss(layout: ImageLayout) -> None:
    descriptor = add_image(layout)
    manifest = layout.read_manifest(descriptor)
    assert isinstance(manifest, ImageManifest)
    path = layout.blob_path(manifest.layers[1].digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LayoutError, match=manifest.layers[1].digest):
        layout.verify(descriptor)
    path.unlink()
    with pytest.raises(BlobNotFoundError):
        layout.verify(descriptor)


def test_verify_lets_foreign_layers_be_absent(layout: ImageLayout) -> None:
    foreign = Descriptor(media_types.DOCKER_FOREIGN_LAYER_PREFIX + ".gzip", Digest.of(b"elsewhere"), 9)
    config = b"{}"
    data = ImageManifest(Descriptor(media_types.OCI_CONFIG, layout.put_blob(config), 2), (foreign,)).to_bytes()
    layout.verify(Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(data), len(data)))


def test_prune_deletes_what_nothing_leads_to(layout: ImageLayout) -> None:
    kept, gone = add_platforms(layout), add_image(layout, [b"base", b"gone"])
    layout.add_image(kept, ["app:1"])
    layout.add_image(gone, ["app:2"])
    alone = layout.put_blob(b"alone")
    shared = {part.digest for part in layout.walk(kept)}
    expected = {part.digest for part in layout.walk(gone)} - shared | {alone}
    assert len(expected) == 4  # the base layer is shared
    layout.remove("app:2")
    _age_all(layout)
    assert layout.prune() == sorted(expected)
    assert {info.digest for info in layout.blobs()} == shared
    layout.verify(kept)
    assert layout.prune() == []


def test_prune_spares_what_is_young(layout: ImageLayout) -> None:
    """Blobs are written before the index names them, so a prune in between must not touch them."""
    descriptor = add_image(layout)
    assert layout.prune() == []
    _age_all(layout)
    parts = list(layout.walk(descriptor))
    for part in parts:
        assert layout.keep_blob(part.digest)
    assert layout.prune() == []
    assert len(layout.prune(min_age_s=0)) == len(parts)


def test_prune_does_not_guess(layout: ImageLayout) -> None:
    """With a damaged manifest nobody can tell what belongs to the image: nothing is deleted."""
    descriptor = add_image(layout)
    layout.add_image(descriptor, ["app:1"])
    layout.put_blob(b"alone")
    path = layout.blob_path(descriptor.digest)
    path.write_bytes(b"x" * descriptor.size_bytes)
    _age_all(layout)
    count = len(list(layout.blobs()))
    with pytest.raises(LayoutError):
        layout.prune()
    assert len(list(layout.blobs())) == count


def test_prune_takes_an_index_of_which_parts_were_never_there(layout: ImageLayout) -> None:
    absent = Descriptor(media_types.OCI_IMAGE_MANIFEST, Digest.of(b"absent"), 6)
    index = add_index(layout, add_image(layout), absent)
    layout.add_image(index, ["app:1"])
    _age_all(layout)
    assert layout.prune() == []


def test_leftovers_go_when_a_layout_is_opened(layout: ImageLayout) -> None:
    writer = layout.begin_blob()
    moment = time.time() - 2 * 24 * 3600
    os.utime(writer._path, (moment, moment))
    ImageLayout(layout.path)
    assert not writer._path.exists()
    writer.abort()


def test_lock_file_that_another_tool_left_does_not_matter(layout: ImageLayout) -> None:
    (layout.path / "index.json.lock").write_text("")
    layout.add_image(add_image(layout), ["app:1"])
    assert layout.find("app:1") is not None
