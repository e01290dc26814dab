"""What the command writes is read by skopeo and umoci, and is an image layout as the specification has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit_client.oci import ImageLayout
from buildkit_client.oci.digest import Digest
from tests.support.services import Services
from tests.support.tree import File, Symlink, build_tree

Build = Callable[..., dict[str, Any]]
NAME = "example.com/app:v1"


def run(request: pytest.FixtureRequest, *command: str | Path) -> str:
    """Run a tool that must be there and must succeed; return what it prints."""
    if shutil.which(command[0]) is None:
        reason = f"{command[0]} is not installed"
        if request.config.getoption("--require-services"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def build(services: Services, tmp_path: Path) -> Build:
    """Build an image on the base image with our command, to an output."""
    context = build_tree(
        tmp_path / "context",
        {
            "Dockerfile": f'FROM {services.base_image}\nCOPY . /app/\nENV A=b\nCMD ["sh"]\n'.encode(),
            "tool": File(b"#!/bin/sh\n", mode=0o4755),
            "link": Symlink(b"tool"),
        },
    )

    def build(output: str, *flags: str) -> dict[str, Any]:
        program = Path(sys.executable).with_name("buildkit-client")
        metadata = tmp_path / "metadata.json"
        command: list[str | Path] = [program, "build", "--frontend=dockerfile.v0", f"--local=context={context}", *flags]
        command += [f"--local=dockerfile={context}", f"--output={output}", f"--metadata-file={metadata}"]
        environ = {**os.environ, "BUILDKIT_HOST": services.buildkit_host}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(metadata.read_text()))

    return build


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_skopeo_reads_the_oci_archive(
    request: pytest.FixtureRequest, build: Build, tmp_path: Path, compression: str
) -> None:
    path = tmp_path / "image.tar"
    metadata = build(f"type=oci,dest={path},name={NAME},compression={compression},force-compression=true")
    seen = json.loads(run(request, "skopeo", "inspect", f"oci-archive:{path}"))
    assert seen["Digest"] == metadata["containerimage.digest"]
    assert "A=b" in seen["Env"]
    run(
        request,
        "skopeo",
        "--insecure-policy",
        "copy",
        "--preserve-digests",
        f"oci-archive:{path}",
        f"oci:{tmp_path}/copy:v1",
    )
    copied = ImageLayout(tmp_path / "copy")
    found = copied.find("v1")
    assert found is not None
    assert found.digest == metadata["containerimage.digest"]


def test_skopeo_reads_the_docker_archive(request: pytest.FixtureRequest, build: Build, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    metadata = build(f"type=docker,dest={path},name={NAME}")
    seen = json.loads(run(request, "skopeo", "inspect", "--config", f"docker-archive:{path}"))
    assert seen["config"]["Cmd"] == ["sh"]
    run(request, "skopeo", "--insecure-policy", "copy", f"docker-archive:{path}", f"oci:{tmp_path}/copy:v1")
    raw = run(request, "skopeo", "inspect", "--config", "--raw", f"docker-archive:{path}")
    assert Digest.of(raw.encode()) == metadata["containerimage.config.digest"]


def test_umoci_unpacks_the_layout(request: pytest.FixtureRequest, build: Build, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    build(f"type=oci,tar=false,dest={layout},name={NAME}")
    rootless = ["--rootless"] if os.geteuid() else []
    run(request, "umoci", "unpack", *rootless, "--image", f"{layout}:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/app/tool").stat().st_mode & 0o7777 == 0o4755
    assert (tmp_path / "bundle/rootfs/app/link").readlink() == Path("tool")


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_umoci_unpacks_the_archive(request: pytest.FixtureRequest, build: Build, tmp_path: Path, kind: str) -> None:
    path, layout = tmp_path / "image.tar", tmp_path / "layout"
    build(f"type={kind},dest={path},name={NAME},oci-mediatypes=true")
    with tarfile.open(path) as archive:
        archive.extractall(layout, filter="data")
    rootless = ["--rootless"] if os.geteuid() else []
    run(request, "umoci", "unpack", *rootless, "--image", f"{layout}:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/app/tool").read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize("kind", ["oci", "docker"])
@pytest.mark.parametrize(
    "flags", [[], ["--opt=platform=linux/amd64", "--opt=attest:provenance=mode=max"]], ids=["plain", "attested"]
)
def test_the_layout_is_what_the_specification_says(build: Build, tmp_path: Path, kind: str, flags: list[str]) -> None:
    path = tmp_path / "layout"
    build(f"type={kind},tar=false,dest={path},name={NAME}", *flags)
    assert json.loads((path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((path / "index.json").read_text())
    assert index["schemaVersion"] == 2
    layout = ImageLayout(path)
    reached: set[str] = set()
    pending = list(index["manifests"])
    while pending:
        descriptor = pending.pop()
        assert {"mediaType", "digest", "size"} <= set(descriptor)
        blob = path / "blobs" / descriptor["digest"].replace(":", "/")
        assert blob.stat().st_size == descriptor["size"]
        data = blob.read_bytes()
        assert Digest.of(data) == descriptor["digest"]
        reached.add(blob.name)
        if "manifest" not in descriptor["mediaType"] and "index" not in descriptor["mediaType"]:
            continue
        document = json.loads(data)
        assert document["mediaType"] == descriptor["mediaType"]
        pending += document.get("manifests") or [document["config"], *document["layers"]]
    assert reached == {one.name for one in (path / "blobs/sha256").iterdir()}
    names = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]}
    assert names == {"v1"}
    for entry in layout.read_index().manifests:
        layout.verify(entry)
