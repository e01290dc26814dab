"""Exports and imports that end before their time: killed anywhere, on a full disk, or large."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.oci import (
    Descriptor,
    Digest,
    ImageLayout,
    ImageManifest,
    Reference,
    RegistryClient,
    media_types,
    push_image,
    tar_header,
)
from convox.models import Build, BuildStatus, now
from tests.integration.convox.harness import Convox
from tests.support.services import Services

pytestmark = pytest.mark.services

KILLS = 20
SIZE_MB = 24
MEMORY_MB = 64


def add_large_build(convox: Convox, size_mb: int, rack: str = "local") -> Build:
    """Add a build with one image of random layers to a rack without a registry."""
    layout = ImageLayout.create(convox.rack_path(rack) / "images")
    layers = []
    for _ in range(3):
        with layout.begin_blob() as writer:
            for _ in range(size_mb // 3):
                writer.write(os.urandom(1 << 20))
            layers.append(Descriptor(media_types.OCI_LAYER, writer.commit(), writer.size_bytes))
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    layout.put_blob(config)
    document = ImageManifest(Descriptor.of(media_types.OCI_CONFIG, config), tuple(layers)).to_bytes()
    image = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, document)
    layout.put_blob(document)
    return add_record(convox, layout, image, rack)


def add_record(convox: Convox, layout: ImageLayout, image: Descriptor, rack: str = "local") -> Build:
    """Add the record of a complete build of one image."""
    build = Build(
        id="BLARGELARGE",
        app="app",
        status=BuildStatus.COMPLETE,
        repository="localhost/app",
        manifest="services:\n  web:\n    build: .\n",
        started=now(),
        ended=now(),
        images={"web": str(image.digest)},
    )
    layout.add_image(image, [f"localhost/app:web.{build.id}"])
    store = convox.store(rack)
    store.create_build(build)
    store.close()
    return build


@pytest.fixture
def large(convox: Convox) -> Build:
    convox.ok("racks")
    return add_large_build(convox, SIZE_MB)


def killed_at(convox: Convox, seconds: float, *words: str) -> int:
    """Start a command, kill it after a while, and return its exit code."""
    process = convox.start(*words)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    return process.returncode


def duration(convox: Convox, *words: str) -> float:
    started = time.monotonic()
    convox.ok(*words)
    return time.monotonic() - started


def test_an_export_that_is_killed(convox: Convox, large: Build, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    export = folder / "export.tgz"
    words = ("builds", "export", large.id, "-a", "app", "-f", str(export))
    whole_s = duration(convox, *words)
    whole = export.read_bytes()
    for attempt in range(KILLS):
        export.write_bytes(b"old")
        if killed_at(convox, random.uniform(0, whole_s * 1.1), *words) == 0:
            assert export.read_bytes() == whole
        else:
            assert export.read_bytes() in (b"old", whole), attempt
    convox.ok(*words)
    assert export.read_bytes() == whole
    assert list(folder.iterdir()) == [export]


@pytest.mark.parametrize("registry", [False, True])
def test_an_import_that_is_killed(
    services: Services, convox: Convox, large: Build, tmp_path: Path, registry: bool
) -> None:
    export = tmp_path / "export.tgz"
    convox.ok("builds", "export", large.id, "-a", "app", "-f", str(export))
    params = [f"registry={services.registry}"] if registry else []
    convox.ok("rack", "install", "aws", "other", *params)
    words = ("builds", "import", "-f", str(export), "-a", "app", "-r", "other")
    whole_s = duration(convox, *words)
    for _ in range(KILLS):
        if not registry:
            shutil.rmtree(convox.rack_path("other") / "images" / "blobs", ignore_errors=True)
        killed_at(convox, random.uniform(0, whole_s * 1.1), *words)
        convox.ok("builds", "-a", "app", "-r", "other")
        check_records(convox)
    convox.ok(*words)
    check_records(convox)
    rack = convox.rack_path("other")
    assert [*rack.glob("transfers/*"), *rack.glob("images/ingest/*")] == []


def check_records(convox: Convox) -> None:
    """Every build is whole or failed, and every release leads to a build that is there."""
    store = convox.store("other")
    builds = {build.id: build for build in store.list_builds("app", limit=100)}
    for build in builds.values():
        if build.status is BuildStatus.COMPLETE:
            assert build.images
            assert store.get_release("app", build.release).build == build.id
        else:
            assert build.status is BuildStatus.FAILED
            assert build.reason
    for release in store.list_releases("app", limit=100):
        assert release.build in builds
    store.close()


def test_an_interrupt(convox: Convox, large: Build, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    process = convox.start("builds", "export", large.id, "-a", "app", "-f", str(folder / "export.tgz"))
    deadline = time.monotonic() + 20
    while not any(folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    if process.returncode != 0:  # it may have been ready
        assert process.returncode == 130
        assert errors == "ERROR: cancelled\n"
        assert list(folder.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_an_export_to_a_full_disk(convox: Convox, large: Build, small_disk: Path) -> None:
    result = convox.run("builds", "export", large.id, "-a", "app", "-f", str(small_disk / "export.tgz"))
    assert result.code == 1
    assert "No space left on device" in result.stderr
    assert list(small_disk.iterdir()) == []


def test_an_import_to_a_full_disk(convox: Convox, large: Build, small_disk: Path, tmp_path: Path) -> None:
    export = tmp_path / "export.tgz"
    convox.ok("builds", "export", large.id, "-a", "app", "-f", str(export))
    convox.ok("rack", "install", "aws", "other")
    (convox.rack_path("other") / "images").symlink_to(small_disk)
    result = convox.run("builds", "import", "-f", str(export), "-a", "app", "-r", "other")
    assert result.code == 1
    assert "No space left on device" in result.stderr
    assert convox.run("builds", "-a", "app", "-r", "other").code == 1  # not even the app is there
    assert [path for path in small_disk.rglob("*") if path.suffix == ".part"] == []


def test_memory_does_not_grow_with_the_image(services: Services, convox: Convox, tmp_path: Path) -> None:
    """Peak of a process that exports or imports 192 MB, over that of one that only starts."""
    convox.ok("racks")
    build = add_large_build(convox, 192)
    export = str(tmp_path / "export.tgz")
    convox.ok("rack", "install", "aws", "open", f"registry={services.registry}")
    least = peak_mb(convox, "builds", "-a", "app")
    for words in (
        ("builds", "export", build.id, "-a", "app", "-f", export),
        ("builds", "import", "-a", "app", "-f", export),
        ("builds", "import", "-a", "app", "-r", "open", "-f", export),
    ):
        assert peak_mb(convox, *words) - least < MEMORY_MB, words
    store = convox.store("open")
    [taken] = store.list_builds("app")
    store.close()
    assert peak_mb(convox, "builds", "export", taken.id, "-a", "app", "-r", "open", "-f", export) - least < MEMORY_MB
    with gzip.open(export) as stream:
        assert stream.read(10) == b"build.json"


def test_memory_of_a_very_large_image(convox: Convox, tmp_path: Path) -> None:
    """Export and import of 2 GB, in both forms, stay in 64 MB altogether."""
    convox.ok("racks")
    build = add_sparse_build(convox, 2 << 30)
    export = tmp_path / "export.tgz"
    for form in ("convox", "oci"):
        words = ("builds", "export", build.id, "-a", "app", "--format", form, "-f", str(export))
        assert peak_mb(convox, *words) < MEMORY_MB, form
        convox.ok("rack", "install", "aws", form)
        assert peak_mb(convox, "builds", "import", "-a", "app", "-r", form, "-f", str(export)) < MEMORY_MB, form
        shutil.rmtree(convox.rack_path(form) / "images")


def add_sparse_build(convox: Convox, size_bytes: int) -> Build:
    """Add a build whose one layer is all zeros, which takes no room on the disk."""
    layout = ImageLayout.create(convox.rack_path() / "images")
    hasher = hashlib.sha256()
    for _ in range(size_bytes >> 24):
        hasher.update(bytes(1 << 24))
    layer = Digest(f"sha256:{hasher.hexdigest()}")
    layout.blob_path(layer).parent.mkdir(parents=True, exist_ok=True)
    with layout.blob_path(layer).open("wb") as file:
        file.truncate(size_bytes)
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    layout.put_blob(config)
    document = ImageManifest(
        Descriptor.of(media_types.OCI_CONFIG, config), (Descriptor(media_types.OCI_LAYER, layer, size_bytes),)
    ).to_bytes()
    image = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, document)
    layout.put_blob(document)
    return add_record(convox, layout, image)


def test_the_header_of_a_very_large_file(convox: Convox, tmp_path: Path) -> None:
    """20 GB, most of it a hole in the file; what a command needs beyond its start is next to nothing."""
    record = json.dumps({"id": "BAAAAAAAAAA", "app": "web", "description": "large"}).encode()
    export = tmp_path / "large.tar"
    with export.open("wb") as file:
        file.write(tar_header("build.json", len(record)) + record + bytes(-len(record) % 512))
        file.write(tar_header("web.BAAAAAAAAAA.tar", 20 << 30))
        file.truncate(file.tell() + (20 << 30) + 1024)
    took = []
    for _ in range(3):  # the quickest says what the command needs, the others how busy the machine is
        started = time.monotonic()
        shown = convox.ok("builds", "import", "--inspect", "-f", str(export)).stdout
        took.append(time.monotonic() - started)
        assert "Description  large\n" in shown
    assert min(took) < 1


def test_an_image_that_was_cut_off_is_fetched_from_there_on(services: Services, convox: Convox, tmp_path: Path) -> None:
    """A killed import-image leaves the beginning of a layer; the next one fetches the rest."""
    convox.ok("racks")
    layout = ImageLayout.create(tmp_path / "layout")
    with layout.begin_blob() as writer:
        for _ in range(96):
            writer.write(os.urandom(1 << 20))
        layer = Descriptor(media_types.OCI_LAYER, writer.commit(), writer.size_bytes)
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    layout.put_blob(config)
    document = ImageManifest(Descriptor.of(media_types.OCI_CONFIG, config), (layer,)).to_bytes()
    layout.put_blob(document)
    image = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, document)
    name = f"{services.registry}/large-{random.randrange(1 << 40):x}:1"
    with RegistryClient(services.registry) as client:
        push_image(client, layout, image, Reference.parse(name))
    (convox.config.parent / "convox.yml").write_text("services:\n  web:\n    build: .\n")
    words = ("builds", "import-image", name, "-a", "app")
    ingest = convox.rack_path() / "images" / "ingest"
    left = ingest / f"sha256-{layer.digest.hex}.part"
    process = convox.start(*words)
    deadline = time.monotonic() + 30
    while not (left.exists() and left.stat().st_size > 4 << 20):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    arrived = left.stat().st_size
    assert arrived < layer.size_bytes
    stamp = left.stat().st_ino
    convox.ok(*words)
    blob = convox.rack_path() / "images" / "blobs" / "sha256" / layer.digest.hex
    assert blob.stat().st_ino == stamp  # the same file, gone on with
    assert dict(convox.builds("app")[0].images) == {"web": image.digest}
    assert list(ingest.iterdir()) == []


def peak_mb(convox: Convox, *words: str) -> float:
    """Run a command and return the most memory it had."""
    script = (
        "import sys; from convox.cli.app import main; code = main(sys.argv[1:]);"
        "print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(code)"
    )
    environ = {**os.environ, "CONVOX_CONFIG": str(convox.config)}
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, env=environ, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    match = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert match is not None
    return int(match[1]) / 1024


def test_the_digests_of_a_large_build(convox: Convox, large: Build, tmp_path: Path) -> None:
    convox.ok("builds", "export", large.id, "-a", "app", "-f", str(tmp_path / "x.zst"))
    convox.ok("builds", "import", "-a", "other", "-f", str(tmp_path / "x.zst"))
    assert dict(convox.builds("other")[0].images) == dict(large.images)
    assert Digest(large.images["web"])
