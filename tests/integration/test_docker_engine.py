"""Any Docker Engine is a builder: real builds through its API, and a buildkitd in one of its containers."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from buildkit_client import (
    BuildKitError,
    Client,
    ConnectError,
    DockerfileFrontend,
    OutputDirectory,
    OutputStream,
    RawExporter,
    SolveError,
)
from tests.support.docker_engine import DockerEngine, EngineMissingError


@pytest.fixture(scope="module")
def engine(request, tmp_path_factory):
    """A Docker Engine; a test that takes this is skipped without dockerd, or fails with ``--require-services``."""
    engine = DockerEngine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
    except EngineMissingError as exc:
        (pytest.fail if request.config.getoption("--require-services") else pytest.skip)(str(exc))
    try:
        yield engine
    finally:
        engine.__exit__()


@pytest.fixture
def folder(services, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM {services.base_image} AS run\nCOPY data /data\nRUN wc -c < /data/large > /count\n"
        "FROM scratch\nCOPY --from=run /count /count\nCOPY data /data\n"
    )
    (folder / "data").mkdir()
    (folder / "data/large").write_bytes(os.urandom(3_000_000))
    (folder / "data/small").write_text("hello\n")
    (folder / "data/link").symlink_to("small")
    return folder


def build(client, folder, exporter, **frontend):
    frontend.setdefault("network", "none")
    return client.solve(
        DockerfileFrontend(**frontend), local_dirs={"context": folder, "dockerfile": folder}, exporters=[exporter]
    )


def test_a_build_with_a_run_step_into_the_engines_image_store(engine, folder):
    with Client(engine.address) as client:
        assert [worker.id for worker in client.list_workers()] != []
        result = build(client, folder, RawExporter("moby", {"name": "tests/app:1"}))
    (image,) = json.loads(engine.docker("image", "inspect", "tests/app:1").stdout)
    assert result.digest in (image["Id"], *image.get("RepoDigests", ()))
    saved = subprocess.run(
        ["docker", "save", "tests/app:1"], env={**os.environ, "DOCKER_HOST": engine.host},
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        files = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as content:
                files |= {one.name: content.extractfile(one).read() for one in content if one.isfile()}
    assert files["count"].strip() == b"3000000"
    assert files["data/large"] == (folder / "data/large").read_bytes()


def test_results_come_back_to_us(engine, folder, tmp_path):
    out = tmp_path / "out"
    tar = io.BytesIO()
    with Client(engine.address) as client:
        build(client, folder, RawExporter("local", {}, OutputDirectory(out)))
        build(client, folder, RawExporter("tar", {}, OutputStream(tar)))
    assert (out / "count").read_text().strip() == "3000000"
    assert (out / "data/large").read_bytes() == (folder / "data/large").read_bytes()
    assert (out / "data/link").readlink().name == "small"
    tar.seek(0)
    with tarfile.open(fileobj=tar) as archive:
        assert archive.extractfile("data/small").read() == b"hello\n"


def test_a_context_without_base_image_and_many_builds_at_once(engine, tmp_path):
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
        (folder / "file").write_text(str(number) * 100_000)
    with Client(engine.address) as client:
        errors = []

        def run(number):
            try:
                output = OutputDirectory(tmp_path / f"out{number}")
                build(client, tmp_path / str(number), RawExporter("local", {}, output))
            except BuildKitError as exc:
                errors.append(exc)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert errors == []
    for number in range(4):
        assert (tmp_path / f"out{number}/file").read_text() == str(number) * 100_000


def test_a_step_that_fails_is_a_failed_build(engine, services, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {services.base_image}\nRUN echo oh no; exit 7\n")
    logs = []
    frontend = DockerfileFrontend(network="none", no_cache=True)
    with Client(engine.address) as client, pytest.raises(SolveError, match="exit 7"):
        client.solve(
            frontend,
            local_dirs={"context": tmp_path, "dockerfile": tmp_path},
            on_status=lambda update: logs.extend(log.data for log in update.logs),
        )
    assert b"oh no\n" in b"".join(logs)


def test_docker_host_names_the_engine(engine, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    done = subprocess.run(
        [sys.executable, "-m", "buildkit_client", "--addr", "docker://", "build", "--frontend", "dockerfile.v0",
         "--local", f"context={folder}", "--local", f"dockerfile={folder}", "--opt", "force-network-mode=none",
         "--output", f"type=local,dest={tmp_path}/out", "--progress", "plain"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/data/small").read_text() == "hello\n"


def test_the_build_cache_of_the_engine(engine, folder):
    with Client(engine.address) as client:
        build(client, folder, RawExporter("moby", {}))
        assert client.disk_usage() != []
        assert list(client.prune(all=True)) != []


# -- a buildkitd in a container of the engine


@pytest.fixture(scope="module")
def container(engine, services, tmp_path_factory):
    """A container with buildctl in it, and the socket of the services' daemon."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    subprocess.run(
        [services.skopeo, "--insecure-policy", "copy", "-q", "--src-tls-verify=false",
         f"docker://{services.base_image}", f"docker-archive:{archive}:tests/box:latest"], check=True,
    )  # fmt: skip
    engine.docker("load", "-i", str(archive))
    socket_path = services.buildkit_host.removeprefix("unix://")
    for name, more in (("box", ["-v", f"{services.buildctl}:/bin/buildctl:ro"]), ("empty", [])):
        engine.docker(
            "run", "-d", "--name", name, "--network", "none", *more,
            "-v", f"{Path(socket_path).parent}:/run/buildkit", "tests/box", "sleep", "600",
        )  # fmt: skip
    return "docker-container://box"


@pytest.fixture(params=["docker exec", "engine API"])
def way(request, engine, monkeypatch, tmp_path):
    """With the docker command on PATH, and without."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    if request.param == "engine API":
        monkeypatch.setenv("PATH", str(tmp_path))
    return request.param


def test_a_build_through_a_container(container, way, folder, tmp_path):
    out = tmp_path / "out"
    with Client(container) as client:
        assert client.info().version
        build(client, folder, RawExporter("local", {}, OutputDirectory(out)), no_cache=True)
    assert (out / "count").read_text().strip() == "3000000"
    assert (out / "data/large").read_bytes() == (folder / "data/large").read_bytes()


@pytest.mark.parametrize(("name", "why"), [("nobody", "No such container"), ("empty", "buildctl")])
def test_containers_that_lead_nowhere(container, way, name, why):
    with Client(f"docker-container://{name}") as client, pytest.raises(ConnectError) as caught:
        client.info()
    if name == "empty":
        # Now and then this engine ends the call before it says why.
        assert "executable file not found" in caught.value.why or re.search(
            "exit code 126|nothing answers in the container empty", caught.value.why
        )
        assert "buildctl" in caught.value.hint
    else:
        assert why in caught.value.why


def test_nothing_runs_on_in_the_container(container, way, engine):
    with Client(container) as client:
        client.info()
        assert "dial-stdio" in engine.docker("top", "box").stdout
    for _ in range(50):
        if "dial-stdio" not in engine.docker("top", "box").stdout:
            return
    pytest.fail(engine.docker("top", "box").stdout)
