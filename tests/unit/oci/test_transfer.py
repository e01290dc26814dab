"""Images between the strict registry and a layout on disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from buildkit_client.errors import BlobNotFoundError, BuildKitError, LayoutError, RegistryError
from buildkit_client.oci import media_types
from buildkit_client.oci.blob_store import BlobWriter
from buildkit_client.oci.credentials import Credentials, StaticCredentials
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex, ImageManifest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry import RegistryClient
from buildkit_client.oci.token import HttpOptions
from buildkit_client.oci.transfer import PushAhead, TransferProgress, pull_image, push_image, push_untagged, tag_image
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import add_image, add_index, add_platforms


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def client(registry: FakeRegistry) -> Iterator[RegistryClient]:
    options = HttpOptions(sleep=lambda _: None)
    login = StaticCredentials({registry.host: Credentials(*registry.login)})
    with RegistryClient(registry.host, login, http=options, read_timeout_s=10) as client:
        yield client


@pytest.fixture
def source(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "target")


@pytest.fixture
def ref(registry: FakeRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/app:1")


def content(layout: ImageLayout, descriptor: Descriptor) -> dict[Digest, bytes]:
    return {part.digest: b"".join(layout.read_blob(part.digest)) for part in layout.walk(descriptor)}


@pytest.mark.parametrize("auth", ["none", "basic", "bearer"])
def test_there_and_back(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, auth: str
) -> None:
    registry.auth = auth
    ref = Reference.parse(f"{registry.host}/app:1")
    descriptor = add_platforms(source)
    assert push_image(client, source, descriptor, ref, tags=["2", "latest"]).digest == descriptor.digest
    assert {tag for _, tag in registry.tags} == {"1", "2", "latest"}
    pulled = pull_image(client, ref.with_tag("2"), target)
    assert pulled == descriptor
    assert content(target, pulled) == content(source, descriptor)
    target.verify(pulled)


def test_one_platform(client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference) -> None:
    push_image(client, source, add_platforms(source), ref)
    pulled = pull_image(client, ref, target, platform=Platform("linux", "arm64"))
    assert pulled.platform == Platform("linux", "arm64")
    assert target.read_config(pulled).entrypoint == ("/arm",)
    assert {info.digest for info in target.blobs()} == {part.digest for part in source.walk(pulled)}
    with pytest.raises(RegistryError) as caught:
        pull_image(client, ref, target, platform=Platform("linux", "s390x"))
    assert "linux/amd64, linux/arm64" in caught.value.why


def test_what_the_target_has_is_not_sent_again(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    one, two = add_image(source, [b"base", b"1"]), add_image(source, [b"base", b"2"])
    push_image(client, source, one, ref)
    sent: list[TransferProgress] = []
    push_image(client, source, two, ref.with_tag("2"), on_progress=sent.append)
    base = source.read_manifest(one).children[1].digest
    assert [step.digest for step in sent if step.is_skipped] == [base]
    pull_image(client, ref, target)
    registry.seen.clear()
    got: list[TransferProgress] = []
    pull_image(client, ref.with_tag("2"), target, on_progress=got.append)
    assert [step.digest for step in got if step.is_skipped] == [base]
    assert len(registry.requests("GET", "/blobs/")) == 2
    registry.seen.clear()
    pull_image(client, ref.with_tag("2"), target)
    assert not registry.requests("GET", "/blobs/")


def test_progress_reaches_the_whole_size(
    client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    descriptor = add_image(source, [os.urandom(3 << 20)])
    last: dict[Digest, int] = {}
    push_image(client, source, descriptor, ref, on_progress=lambda step: last.update({step.digest: step.current}))
    sizes = {part.digest: part.size_bytes for part in source.walk(descriptor)}
    assert last == {digest: size for digest, size in sizes.items() if digest != descriptor.digest}
    last.clear()
    pull_image(client, ref, target, on_progress=lambda step: last.update({step.digest: step.current}))
    assert last == {digest: size for digest, size in sizes.items() if digest != descriptor.digest}


def test_mount(registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference) -> None:
    registry.auth = "bearer"
    descriptor = add_image(source)
    push_image(client, source, descriptor, ref)
    registry.seen.clear()
    push_image(client, source, descriptor, Reference(ref.domain, "copy", "1"), mount_from=ref)
    assert not registry.requests("PUT", "/blobs/")
    assert ("copy", "1") in registry.tags


def test_several_blobs_at_once(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    names: set[str] = set()
    push_image(
        client,
        source,
        add_image(source, [os.urandom(100_000) for _ in range(12)]),
        ref,
        on_progress=lambda _: names.add(threading.current_thread().name),
    )
    assert 1 < len(names) <= 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", "blobs", count=3, status=503),
        Fault("GET", "blobs", count=3, reset_after=10),
        Fault("GET", "manifests", count=2, status=429),
    ],
    ids=str,
)
def test_pull_from_a_bad_registry(
    registry: FakeRegistry,
    client: RegistryClient,
    source: ImageLayout,
    target: ImageLayout,
    *,
    fault: Fault,
) -> None:
    ref = Reference.parse(f"{registry.host}/app:1")
    descriptor = add_platforms(source)
    push_image(client, source, descriptor, ref)
    registry.faults.append(fault)
    assert content(target, pull_image(client, ref, target)) == content(source, descriptor)


def test_wrong_bytes_are_not_kept(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    descriptor = add_image(source)
    push_image(client, source, descriptor, ref)
    layer = source.read_manifest(descriptor).children[1]
    registry.blobs["app", layer.digest] = b"x" * layer.size_bytes
    with pytest.raises(BuildKitError) as caught:
        pull_image(client, ref, target)
    assert layer.digest in str(caught.value)
    assert not target.has_blob(layer.digest)


@pytest.fixture
def large(client: RegistryClient, source: ImageLayout, ref: Reference) -> Descriptor:
    """The layer, of 5 MiB, of an image in the registry."""
    descriptor = add_image(source, [os.urandom(5 << 20)])
    push_image(client, source, descriptor, ref)
    return source.read_manifest(descriptor).children[1]


def break_off(client: RegistryClient, ref: Reference, target: ImageLayout, large: Descriptor) -> Path:
    """Pull some 2 MiB of a layer; return where they wait."""

    def report(step: TransferProgress) -> None:
        if step.digest == large.digest and step.current >= 2 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        # Large blobs come first: one worker has begun no other, which it might still be writing.
        pull_image(client, ref, target, on_progress=report, workers=1)
    [left] = (target.path / "ingest").iterdir()
    assert left.stat().st_size == 2 << 20
    return left


def test_a_pull_goes_on_where_it_was_stopped(
    registry: FakeRegistry, client: RegistryClient, target: ImageLayout, ref: Reference, large: Descriptor
) -> None:
    break_off(client, ref, target, large)
    registry.seen.clear()
    again = ImageLayout(target.path)
    descriptor = pull_image(client, ref, again)
    again.verify(descriptor)
    [request] = registry.requests("GET", f"blobs/{large.digest}")
    assert request.headers["range"] == f"bytes={2 << 20}-"
    assert list((target.path / "ingest").iterdir()) == []


@pytest.mark.parametrize("change", ["flip", "longer", "whole", "gone"])
def test_a_beginning_that_is_none(
    client: RegistryClient, target: ImageLayout, ref: Reference, large: Descriptor, change: str
) -> None:
    left = break_off(client, ref, target, large)
    data = left.read_bytes()
    changed = {"flip": bytes([data[0] ^ 1]) + data[1:], "longer": bytes(6 << 20), "whole": bytes(large.size_bytes)}
    left.unlink() if change == "gone" else left.write_bytes(changed[change])
    target.verify(pull_image(client, ref, target))
    assert list((target.path / "ingest").iterdir()) == []


def test_two_pulls_of_one_image(client: RegistryClient, target: ImageLayout, ref: Reference, large: Descriptor) -> None:
    """They share nothing but the blob that both get; the second one finds the beginning in use."""
    with target.begin_blob(large.digest, large.size_bytes, resume=True) as writer:
        writer.write(b"x")
        target.verify(pull_image(client, ref, target))
    assert list((target.path / "ingest").iterdir()) == []


def test_several_images_without_a_tag(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    images = [add_image(source, [b"shared", b"web"]), add_platforms(source), add_image(source, [b"shared", b"api"])]
    sent: list[TransferProgress] = []
    push_untagged(client, source, images, ref, on_progress=sent.append)
    assert registry.tags == {}
    assert len(sent) == len({step.digest for step in sent})
    for number, image in enumerate(images):
        assert ("app", image.digest) in registry.manifests
        tag_image(client, ref.with_digest(image.digest), [f"{number}.a", f"{number}.b"])
    assert registry.tags == {("app", f"{n}.{x}"): image.digest for n, image in enumerate(images) for x in "ab"}
    with pytest.raises(RegistryError):
        tag_image(client, ref.with_digest(Digest.of(b"nothing")), ["x"])


def test_blobs_are_sent_ahead(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    image = add_image(source, [os.urandom(30_000) for _ in range(9)])
    layers = source.read_manifest(image).children
    reports: list[TransferProgress] = []
    ahead = PushAhead(client, ref, on_progress=reports.append)
    for layer in layers:
        ahead.push(layer, partial(source.read_blob, layer.digest))
    ahead.finish()
    assert {digest for _, digest in registry.blobs} == {layer.digest for layer in layers}
    assert len(reports) == len(layers) and not any(report.is_skipped for report in reports)
    assert registry.manifests == {}
    registry.seen.clear()
    push_untagged(client, source, [image], ref)
    assert registry.requests("POST", "uploads") == []


def test_a_blob_that_cannot_be_sent_ahead(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    layer = source.read_manifest(add_image(source)).children[1]
    registry.faults.append(Fault("POST", "uploads", count=50, status=403))
    ahead = PushAhead(client, ref)
    ahead.push(layer, partial(source.read_blob, layer.digest))
    with pytest.raises(RegistryError):
        ahead.finish()
    with pytest.raises(RegistryError):
        ahead.push(layer, partial(source.read_blob, layer.digest))


def test_sending_ahead_ends_when_it_is_stopped(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    layer = source.read_manifest(add_image(source)).children[1]
    reached, going_on = threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        reached.set()
        going_on.wait(10)
        yield from source.read_blob(layer.digest)

    ahead = PushAhead(client, ref)
    ahead.push(layer, chunks)
    assert reached.wait(10)
    ahead.stop()
    going_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("push-ahead-"):
            thread.join(10)
            assert not thread.is_alive()
    assert registry.blobs == {}


def test_missing_blob(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    descriptor = add_image(source)
    push_image(client, source, descriptor, ref)
    del registry.blobs["app", source.read_manifest(descriptor).children[0].digest]
    with pytest.raises(BlobNotFoundError):
        pull_image(client, ref, target)


def test_foreign_layers_stay_where_they_are(
    client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    foreign = Descriptor(
        media_types.DOCKER_FOREIGN_LAYER_PREFIX + ".gzip", Digest.of(b"elsewhere"), 9, urls=("https://x",)
    )
    data = ImageManifest(Descriptor(media_types.OCI_CONFIG, source.put_blob(b"{}"), 2), (foreign,)).to_bytes()
    descriptor = Descriptor(media_types.OCI_IMAGE_MANIFEST, source.put_blob(data), len(data))
    push_image(client, source, descriptor, ref)
    assert pull_image(client, ref, target) == descriptor


def test_damaged_layout_is_not_pushed(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    descriptor = add_image(source, [b"x" * 5000])
    path = source.blob_path(source.read_manifest(descriptor).children[1].digest)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(LayoutError, match="damaged"):
        push_image(client, source, descriptor, ref)
    assert registry.tags == {}


def test_first_error_stops_the_others(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, ref: Reference
) -> None:
    descriptor = add_image(source, [os.urandom(20_000) for _ in range(30)])
    registry.faults.append(Fault("POST", "uploads", count=1000, status=403))
    with pytest.raises(RegistryError) as caught:
        push_image(client, source, descriptor, ref)
    assert caught.value.status == 403
    assert len(registry.requests("POST", "uploads")) < 12


def test_interrupted_wait_leaves_at_once(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    """Ctrl-C in the thread that waits must not wait for transfers that hang."""
    push_image(client, source, add_image(source, [os.urandom(50_000)]), ref)
    release = threading.Event()

    def hang(step: TransferProgress) -> None:
        release.wait(20)

    def interrupt(step: TransferProgress) -> None:
        raise KeyboardInterrupt

    calls: list[Any] = []

    def report(step: TransferProgress) -> None:
        calls.append(step)
        (interrupt if len(calls) == 2 else hang)(step)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pull_image(client, ref, target, on_progress=report)
    assert time.monotonic() - started < 5
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("transfer-"):
            thread.join(10)
    assert list((target.path / "ingest").iterdir()) == []


def test_index_that_lies_about_a_size(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    image = add_image(source)
    push_image(client, source, image, ref.with_tag("image"))
    wrong = Descriptor(image.media_type, image.digest, image.size_bytes + 1, platform=Platform("linux", "amd64"))
    registry.add_manifest("app", ImageIndex((wrong,)).to_bytes(), media_types.OCI_INDEX, "1")
    for platform in (None, Platform("linux", "amd64")):
        with pytest.raises(RegistryError) as caught:
            pull_image(client, ref, target, platform=platform)
        assert "its descriptor says" in caught.value.why


def test_index_without_end(
    registry: FakeRegistry, client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    descriptor = add_image(source)
    push_image(client, source, descriptor, ref.with_tag("image"))
    for _ in range(20):
        data = ImageIndex((descriptor,)).to_bytes()
        descriptor = Descriptor.of(media_types.OCI_INDEX, data)
        registry.add_manifest("app", data, media_types.OCI_INDEX, "1")
    for platform in (None, Platform("linux", "amd64")):
        with pytest.raises(RegistryError) as caught:
            pull_image(client, ref, target, platform=platform)
        assert "nested" in caught.value.why


def test_nested_indexes_are_pushed_children_first(
    client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference
) -> None:
    """The strict registry refuses an index whose manifests it does not have."""
    image = add_image(source)
    descriptor = add_index(source, add_index(source, image, add_image(source, [b"other"])), image)
    push_image(client, source, descriptor, ref)
    assert content(target, pull_image(client, ref, target)) == content(source, descriptor)


def test_push_by_digest(client: RegistryClient, registry: FakeRegistry, source: ImageLayout, ref: Reference) -> None:
    descriptor = add_image(source)
    push_image(client, source, descriptor, ref.with_digest(descriptor.digest))
    assert ("app", descriptor.digest) in registry.manifests
    assert registry.tags == {}


def test_full_disk(
    client: RegistryClient, source: ImageLayout, target: ImageLayout, ref: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(client, source, add_image(source), ref)

    def full(self: BlobWriter, data: bytes) -> None:
        raise LayoutError("cannot write", why="No space left on device")

    monkeypatch.setattr(BlobWriter, "write", full)
    with pytest.raises(LayoutError):
        pull_image(client, ref, target)
    assert list((target.path / "ingest").iterdir()) == []
