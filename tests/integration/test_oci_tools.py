"""Layouts and archives: other tools read what we write, and we read what they write.

skopeo and umoci are the judges, each with its own idea of the formats; buildctl for the local cache and its layouts.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from buildkit_client.oci import (
    Credentials,
    Descriptor,
    ImageLayout,
    ImageManifest,
    Platform,
    Reference,
    RegistryClient,
    StaticCredentials,
    import_oci_archive,
    pull_image,
    push_image,
    write_oci_archive,
)
from buildkit_client.oci.digest import Digest
from tests.support.images import add_image, add_platforms
from tests.support.services import Services

Run = Callable[..., str]
INSECURE_POLICY = "--insecure-policy"


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """Run a tool that must be there and must succeed; return what it prints."""

    def run(program: str | Path, *arguments: str | Path) -> str:
        if shutil.which(program) is None:
            reason = f"{program} is not installed"
            if request.config.getoption("--require-services"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{program} {' '.join(map(str, arguments))}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "ours")


@pytest.fixture
def target(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "target")


def archive(layout: ImageLayout, descriptor: Descriptor, names: Sequence[str], path: Path) -> Path:
    with path.open("wb") as out:
        write_oci_archive(layout, descriptor, names, out)
    return path


# --- skopeo ---


def test_skopeo_reads_our_layout(run: Run, layout: ImageLayout) -> None:
    one, two = add_image(layout), add_image(layout, [b"other"])
    layout.add_image(one, ["localhost:5000/app:web.B1"])
    layout.add_image(two, ["localhost:5000/app:api.B1"])
    for tag, descriptor in (("web.B1", one), ("api.B1", two)):
        seen = json.loads(run("skopeo", "inspect", f"oci:{layout.path}:{tag}"))
        assert seen["Digest"] == descriptor.digest
        assert seen["Architecture"] == "amd64"


def test_skopeo_reads_our_archive(run: Run, layout: ImageLayout, tmp_path: Path) -> None:
    descriptor = add_image(layout, [b"one", b"two", b"three"])
    path = archive(layout, descriptor, ["localhost:5000/app:1"], tmp_path / "image.tar")
    assert json.loads(run("skopeo", "inspect", f"oci-archive:{path}"))["Digest"] == descriptor.digest
    run("skopeo", INSECURE_POLICY, "copy", f"oci-archive:{path}", f"oci:{tmp_path}/copy:1")
    copied = ImageLayout(tmp_path / "copy").find("1")
    assert copied is not None
    assert copied.digest == descriptor.digest
    ImageLayout(tmp_path / "copy").verify(copied)


def test_skopeo_reads_our_archive_of_several_platforms(run: Run, layout: ImageLayout, tmp_path: Path) -> None:
    descriptor = add_platforms(layout)
    path = archive(layout, descriptor, [], tmp_path / "image.tar")
    raw = run("skopeo", "inspect", "--raw", f"oci-archive:{path}")
    assert Digest.of(raw.encode()) == descriptor.digest


def test_we_read_skopeos_archive(run: Run, layout: ImageLayout, target: ImageLayout, tmp_path: Path) -> None:
    descriptor = add_image(layout, [b"one", b"two"])
    layout.add_image(descriptor, tag="v1")
    source = f"oci:{layout.path}:v1"
    run("skopeo", INSECURE_POLICY, "copy", source, f"oci-archive:{tmp_path}/plain.tar")
    run("skopeo", INSECURE_POLICY, "copy", source, f"oci-archive:{tmp_path}/named.tar:team/app:v7")
    plain, named = (tmp_path / "plain.tar").read_bytes(), (tmp_path / "named.tar").read_bytes()
    for data, names in ((plain, ()), (gzip.compress(plain), ()), (named, ("team/app:v7",))):
        (image,) = import_oci_archive(io.BytesIO(data), target)
        assert (image.descriptor.digest, image.names) == (descriptor.digest, names)
        target.verify(image.descriptor)


def test_we_read_skopeos_docker_archive(run: Run, layout: ImageLayout, target: ImageLayout, tmp_path: Path) -> None:
    descriptor = add_image(layout, [b"one", b"two"], entrypoint=["/entry"])
    layout.add_image(descriptor, tag="v1")
    run("skopeo", INSECURE_POLICY, "copy", f"oci:{layout.path}:v1", f"docker-archive:{tmp_path}/image.tar:team/app:v7")
    with (tmp_path / "image.tar").open("rb") as stream:
        (image,) = import_oci_archive(stream, target)
    assert image.names == ("docker.io/team/app:v7",)
    target.verify(image.descriptor)
    config = target.read_config(image.descriptor)
    assert config.entrypoint == ("/entry",)
    manifest = target.read_manifest(image.descriptor)
    assert isinstance(manifest, ImageManifest)
    assert [layer.digest for layer in manifest.layers] == list(config.diff_ids)
    target.add_image(image.descriptor, tag="back")
    assert json.loads(run("skopeo", "inspect", f"oci:{target.path}:back"))["Digest"] == image.descriptor.digest


# --- umoci ---


def test_umoci_reads_our_layout(run: Run, layout: ImageLayout) -> None:
    layout.add_image(add_image(layout, [b"one", b"two"]), ["localhost:5000/app:web.B1"])
    assert run("umoci", "list", "--layout", layout.path).split() == ["web.B1"]
    stat = json.loads(run("umoci", "stat", "--json", "--image", f"{layout.path}:web.B1"))
    assert [entry["created_by"] for entry in stat["history"]] == ["layer 0", "layer 1"]
    run("umoci", "unpack", "--rootless", "--image", f"{layout.path}:web.B1", layout.path.parent / "bundle")
    assert (layout.path.parent / "bundle" / "rootfs" / "file1").read_bytes() == b"two"


def test_umoci_and_we_work_on_one_layout(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "images"
    run("umoci", "init", "--layout", path)
    run("umoci", "new", "--image", f"{path}:empty")
    layout = ImageLayout(path)
    empty = layout.find("empty")
    assert empty is not None
    layout.verify(empty)
    layout.add_image(add_image(layout), tag="ours")
    run("umoci", "config", "--image", f"{path}:ours", "--tag", "changed", "--config.entrypoint", "/changed")
    changed = layout.find("changed")
    assert changed is not None
    assert layout.read_config(changed).entrypoint == ("/changed",)
    layout.remove("empty")
    for info in layout.blobs():
        os.utime(layout.blob_path(info.digest), (1, 1))
    layout.prune()
    run("umoci", "gc", "--layout", path)
    for name in ("ours", "changed"):
        found = layout.find(name)
        assert found is not None
        layout.verify(found)


# --- buildctl ---


def test_buildctls_layouts_and_ours_are_alike(run: Run, services: Services, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM scratch\nCOPY file /\nENTRYPOINT ["/file"]\n')
    (context / "file").write_text("content")
    cache, image = tmp_path / "cache", tmp_path / "image"
    build = [
        "--addr", services.buildkit_host, "build", "--frontend", "dockerfile.v0",
        "--local", f"context={context}", "--local", f"dockerfile={context}", "--no-cache",
        "--export-cache", f"type=local,dest={cache}", "--output", f"type=oci,tar=false,dest={image},name=team/app:1",
    ]  # fmt: skip
    run(services.buildctl, *build)
    theirs = ImageLayout(image)
    descriptor = theirs.find("docker.io/team/app:1")
    assert descriptor is not None
    assert theirs.find("team/app:1") == descriptor
    assert theirs.find("1") == descriptor
    theirs.verify(descriptor)
    assert theirs.read_config(descriptor).entrypoint == ("/file",)
    ours = ImageLayout.create(tmp_path / "ours")
    data = io.BytesIO()
    write_oci_archive(theirs, descriptor, ["docker.io/team/app:1"], data)
    data.seek(0)
    (imported,) = import_oci_archive(data, ours)
    ours.add_image(imported.descriptor, imported.names)
    entry, other = theirs.read_index().manifests[0], ours.read_index().manifests[0]
    assert (entry.digest, entry.media_type, entry.size_bytes) == (other.digest, other.media_type, other.size_bytes)
    names = {key: entry.annotations[key] for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name")}
    assert names.items() <= other.annotations.items()

    local_cache = ImageLayout(cache)
    cached = local_cache.find("latest")
    assert cached is not None
    local_cache.verify(cached)
    local_cache.add_image(cached)  # as the client does after an export
    run(services.buildctl, *build, "--import-cache", f"type=local,src={cache}")


def test_buildctl_writes_an_archive_that_we_read(run: Run, services: Services, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    (context / "file").write_text("content")
    layout = ImageLayout.create(tmp_path / "ours")
    digests = set()
    for kind in ("oci", "docker"):
        path = tmp_path / f"{kind}.tar"
        run(
            services.buildctl, "--addr", services.buildkit_host, "build", "--frontend", "dockerfile.v0",
            "--local", f"context={context}", "--local", f"dockerfile={context}",
            "--output", f"type={kind},dest={path},name=team/app:1,oci-mediatypes=true",
        )  # fmt: skip
        with path.open("rb") as stream:
            (image,) = import_oci_archive(stream, layout)
        assert image.names == ("docker.io/team/app:1",)
        layout.verify(image.descriptor)
        digests.add(image.descriptor.digest)
    assert digests


# --- registries ---


@pytest.fixture(params=["plain", "htpasswd", "token", "identity token"])
def registry(request: pytest.FixtureRequest, services: Services) -> tuple[str, Credentials | None]:
    match request.param:
        case "plain":
            return services.registry, None
        case "htpasswd":
            return services.registry_htpasswd, Credentials(services.htpasswd_user, services.htpasswd_password)
        case "token":
            return services.registry_token, Credentials(services.token_user, services.token_password)
    return services.registry_token, Credentials("", identity_token=services.token_identity)


def test_images_go_to_real_registries_and_come_back(
    run: Run, layout: ImageLayout, target: ImageLayout, registry: tuple[str, Credentials | None], tmp_path: Path
) -> None:
    host, login = registry
    descriptor = add_platforms(layout)
    unique = os.urandom(6).hex()
    reference = Reference.parse(f"{host}/oci-tools-{unique}:1")
    with RegistryClient(host, StaticCredentials({host: login} if login else {})) as client:
        assert push_image(client, layout, descriptor, reference, tags=["2"]).digest == descriptor.digest
        assert client.resolve(reference).digest == descriptor.digest
        assert sorted(client.list_tags(reference)) == ["1", "2"]
        assert pull_image(client, reference, target).digest == descriptor.digest
        target.verify(descriptor)
        copy = Reference.parse(f"{host}/oci-tools-{unique}-copy:1")
        push_image(client, layout, descriptor, copy, mount_from=reference)
        arm = pull_image(client, copy, target, platform=Platform("linux", "arm64"))
        assert client.read_config(copy.with_digest(arm.digest)).entrypoint == ("/arm",)
        large = add_image(layout, [os.urandom(20 << 20)])
        with RegistryClient(host, StaticCredentials({host: login} if login else {}), chunk_bytes=3 << 20) as chunked:
            push_image(chunked, layout, large, reference.with_tag("large"))
        assert pull_image(client, reference.with_tag("large"), target).digest == large.digest
    if login is not None and login.password:
        credentials = ["--src-creds", f"{login.username}:{login.password}"]
    elif login is None:
        credentials = []
    else:
        return  # skopeo takes identity tokens from files alone
    run(
        "skopeo", INSECURE_POLICY, "copy", "--src-tls-verify=false", *credentials, "--all",
        f"docker://{reference}", f"oci:{tmp_path}/copy:1",
    )  # fmt: skip
    found = ImageLayout(tmp_path / "copy").find("1")
    assert found is not None
    assert found.digest == descriptor.digest
