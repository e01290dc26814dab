"""BuildKit's own tests of its command, with a link to ours in the place of ``buildctl``.

Reference: cmd/buildctl/buildctl_test.go, build_test.go, diskusage_test.go, prune_test.go. Its containerd tests need a
daemon with containerd's worker, whose image store is then asked; the metadata is checked here without it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit_client import llb
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

Buildctl = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def buildctl(services: Services, tmp_path: Path) -> Buildctl:
    """Run ``buildctl``, as the shell finds it on PATH, and fail when it fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "buildctl").symlink_to(Path(sys.executable).with_name("buildkit-client"))
    environ = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def run(line: str, *, stdin: llb.State | None = None, address: str = "") -> subprocess.CompletedProcess[bytes]:
        data = stdin.marshal(platform="linux/amd64").to_bytes() if stdin is not None else b""
        done = subprocess.run(
            ["sh", "-c", f"buildctl {line}"],
            env={**environ, "BUILDKIT_HOST": address or services.buildkit_host},
            input=data,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done

    return run


def test_usage(buildctl: Buildctl) -> None:
    for line in ("", "--help"):
        assert b"disk usage" in buildctl(line).stdout


def test_disk_usage(buildctl: Buildctl) -> None:
    assert b"Total:" in buildctl("du").stdout


def test_prune(buildctl: Buildctl, services: Services, tmp_path: Path) -> None:
    with OwnBuildkitd(services, tmp_path) as own:
        assert b"Total:" in buildctl("prune", address=own.address).stdout


def test_build_with_local_files(buildctl: Buildctl, services: Services, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "foo").write_text("bar")
    made = llb.image(services.base_image).run(["sh", "-c", "echo -n bar > foo2"]).root()
    graph = made.run(
        ["sh", "-c", "cmp -s /mnt/foo foo2"], mounts=[llb.Mount("/mnt", llb.local("src"), readonly=True)]
    ).root()
    buildctl(f"build --progress=plain --local src={folder}", stdin=graph)


def test_build_local_exporter(buildctl: Buildctl, services: Services, tmp_path: Path) -> None:
    out = tmp_path / "out"
    step = llb.image(services.base_image).run(
        ["sh", "-c", "echo -n bar > /out/foo"], mounts=[llb.Mount("/out", llb.scratch())]
    )
    buildctl(f"build --progress=plain --output type=local,dest={out}", stdin=step.get_mount("/out"))
    assert (out / "foo").read_text() == "bar"


@pytest.mark.parametrize("attribute", ["push=false", "unpack=true"])
def test_build_metadata_file(buildctl: Buildctl, services: Services, tmp_path: Path, attribute: str) -> None:
    name = "example.com/moby/metadata:test"
    path = tmp_path / "metadata.json"
    graph = llb.image(services.base_image).run(["sh", "-c", "echo -n bar > /foo"]).root()
    buildctl(f"build --progress=plain --output type=image,name={name},{attribute} --metadata-file {path}", stdin=graph)
    metadata = json.loads(path.read_text())
    assert metadata["image.name"] == name
    descriptor = metadata["containerimage.descriptor"]
    assert descriptor["digest"] == metadata["containerimage.digest"]
    assert descriptor["mediaType"]


def test_build_push_progress(buildctl: Buildctl, services: Services) -> None:
    name = f"{services.registry}/foo/bar:latest"
    graph = llb.scratch().file(llb.mkfile("foo", b"data", mode=0o600))
    done = buildctl(f"build --progress=plain --output type=image,name={name},push=true", stdin=graph)
    shown = (done.stdout + done.stderr).decode()
    assert "pushing layers" in shown
    assert f"pushing manifest for {name}@" in shown
