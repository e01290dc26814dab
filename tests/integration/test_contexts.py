"""Contexts and attestations on a real daemon: what is served, what the build gets, and what buildctl gets."""

from __future__ import annotations

import functools
import http.server
import io
import json
import subprocess
import tarfile
import threading
from pathlib import Path
from shutil import rmtree

import pytest

from buildkit_client import Client, SolveError
from buildkit_client.errors import LayoutError
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.options import (
    DockerfileFrontend,
    DockerfileText,
    GatewayFrontend,
    GitContext,
    HttpContext,
    ImageContext,
    ImageExporter,
    LocalExporter,
    OciExporter,
    OciLayoutContext,
    OutputLayout,
    Provenance,
    SourcePolicy,
    TarContext,
    TarExporter,
)


@pytest.fixture
def app(services, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY hello /hello\n# {services.base_image}\n")
    (folder / "hello").write_text(f"hello {tmp_path}")
    return folder


@pytest.fixture
def build(services, tmp_path):
    """Build a frontend and return what came out: text by name."""

    def run(frontend, **options):
        dest = tmp_path / "out"
        with Client(services.buildkit_host) as client:
            rmtree(dest, ignore_errors=True)  # mode="delete" needs a newer daemon than contexts do
            client.solve(frontend, exporters=[LocalExporter(dest=dest)], **options)
        return {path.name: path.read_text() for path in dest.iterdir() if path.is_file()}

    return run


def archive_of(folder, mode):
    stream = io.BytesIO()
    # The daemon looks for an archive's first header in 1,024 bytes, which those of the PAX format may exceed.
    with tarfile.open(fileobj=stream, mode=mode, format=tarfile.GNU_FORMAT) as archive:
        archive.add(folder, ".")
    stream.seek(0)
    return stream


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_from_a_stream(app, build, mode):
    assert build(DockerfileFrontend(context=TarContext(archive_of(app, mode)))) == {
        "hello": (app / "hello").read_text()
    }


def test_a_folder_of_an_archive(app, build, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    app.rename(outer / "app")
    context = TarContext(archive_of(outer, "w"))
    assert set(build(DockerfileFrontend(context=context, context_subdir="app", filename="app/Dockerfile"))) == {"hello"}


def test_a_dockerfile_alone(build, services):
    text = DockerfileText(
        f"FROM {services.base_image} AS b\nRUN echo made > /made\nFROM scratch\nCOPY --from=b /made /\n"
    )
    assert build(DockerfileFrontend(context=text)) == {"made": "made\n"}


def test_a_dockerfile_beside_a_directory(app, build):
    frontend = DockerfileFrontend(context=app, dockerfile=DockerfileText("FROM scratch\nCOPY hello /other\n"))
    assert set(build(frontend)) == {"other"}
    named = DockerfileFrontend(context=app, dockerfile=DockerfileText("FROM scratch\nCOPY hello /n\n"), filename="X.df")
    assert set(build(named)) == {"n"}


def test_directories_and_images_by_name(app, build, services, tmp_path):
    files, other = tmp_path / "files", tmp_path / "other"
    for folder in (files, other):
        folder.mkdir()
        (folder / "f").write_text(folder.name)
    text = (
        "FROM alpine AS b\nRUN echo ran > /ran\nFROM scratch\nCOPY --from=b /ran /ran\n"
        "COPY --from=files f /f\nCOPY --from=context f /main\nCOPY hello /hello\n"
    )
    frontend = DockerfileFrontend(
        context=app,
        dockerfile=DockerfileText(text),
        contexts={
            "docker.io/library/alpine:latest": ImageContext(services.base_image),
            "files": files,
            "context": other,
        },
    )
    built = build(frontend)
    assert built == {"ran": "ran\n", "f": "files", "main": "other", "hello": (app / "hello").read_text()}


@pytest.mark.parametrize("tag", ["", "v1"])
def test_an_image_layout_by_name(app, build, services, tmp_path, tag):
    path = tmp_path / "layout"
    with Client(services.buildkit_host) as client:
        exporter = OciExporter(dest=OutputLayout(path), name=f"example.com/app:{tag or 'latest'}")
        client.solve(DockerfileFrontend(context=app), exporters=[exporter])
    layout = ImageLayout(path)
    layout.add_image(layout.find(f"example.com/app:{tag or 'latest'}"), tag=tag or "latest")
    frontend = DockerfileFrontend(
        context=app,
        dockerfile=DockerfileText("FROM scratch\nCOPY --from=base /hello /again\n"),
        contexts={"base": OciLayoutContext(path, tag=tag)},
    )
    assert build(frontend) == {"again": (app / "hello").read_text()}


@pytest.mark.parametrize("broken", ["no layout", "no tag", "no blob"])
def test_an_image_layout_that_is_broken_is_an_error_of_ours(app, build, tmp_path, broken):
    path = tmp_path / "layout"
    digest = f"sha256:{'0' * 64}" if broken == "no blob" else ""
    if broken != "no layout":
        ImageLayout.create(path)
    frontend = DockerfileFrontend(context=app, contexts={"base": OciLayoutContext(path, digest=digest)})
    with pytest.raises(LayoutError) as caught:
        build(frontend)
    assert str(path) in str(caught.value)


@pytest.fixture
def server(tmp_path):
    """An HTTP server of a folder; the daemon runs on this machine."""
    root = tmp_path / "www"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def git(*words, cwd):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *identity, *words], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.buildkit(">=0.24")
def test_a_repository_with_ref_folder_and_commit(app, build, server):
    root, url = server
    (app / "sub").mkdir()
    (app / "sub" / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    git("init", cwd=app)
    git("add", ".", cwd=app)
    git("commit", "-m", "first", cwd=app)
    git("tag", "v1", cwd=app)
    commit = git("rev-parse", "HEAD", cwd=app)
    (app / "hello").write_text("second")
    git("commit", "-am", "second", cwd=app)
    git("clone", "--bare", ".", str(root / "app.git"), cwd=app)
    git("update-server-info", cwd=root / "app.git")
    address = f"{url}/app.git"
    assert build(DockerfileFrontend(context=GitContext(url=address)))["hello"] == "second"
    assert build(DockerfileFrontend(context=GitContext(url=address, ref="v1")))["hello"] != "second"
    assert set(build(DockerfileFrontend(context=GitContext(url=address, ref="v1", subdir="sub")))) == {"Dockerfile"}
    checked = GitContext(url=address, ref="v1", checksum=commit)
    assert build(DockerfileFrontend(context=checked))["hello"] != "second"
    with pytest.raises(SolveError, match="checksum"):
        build(DockerfileFrontend(context=GitContext(url=address, ref="main", checksum=commit)))
    with pytest.raises(SolveError, match="none-such"):
        build(DockerfileFrontend(context=GitContext(url=address, ref="none-such")))
    named = DockerfileText("FROM scratch\nCOPY --from=repo hello /named\n")
    frontend = DockerfileFrontend(
        context=app, dockerfile=named, contexts={"repo": GitContext(url=address, checksum=commit, ref="v1")}
    )
    assert set(build(frontend)) == {"named"}


def test_a_dockerfile_of_ours_for_a_repository(app, build, server, tmp_path):
    root, url = server
    git("init", cwd=app)
    git("add", ".", cwd=app)
    git("commit", "-m", "first", cwd=app)
    git("clone", "--bare", ".", str(root / "app.git"), cwd=app)
    git("update-server-info", cwd=root / "app.git")
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "Dockerfile").write_text("FROM scratch\nCOPY hello /ours\n")
    assert set(build(DockerfileFrontend(context=GitContext(url=f"{url}/app.git"), dockerfile=ours))) == {"ours"}


@pytest.mark.buildkit(">=0.30")
def test_an_archive_and_a_file_from_a_server(app, build, server):
    root, url = server
    (root / "app.tar.gz").write_bytes(archive_of(app, "w:gz").read())
    (root / "page").write_text("page")
    assert set(build(DockerfileFrontend(context=HttpContext(f"{url}/app.tar.gz")))) == {"hello"}
    text = DockerfileText("FROM scratch\nCOPY --from=page context /page\n")
    frontend = DockerfileFrontend(context=app, dockerfile=text, contexts={"page": HttpContext(f"{url}/page")})
    assert build(frontend) == {"page": "page"}


@pytest.mark.buildkit(">=0.30")
def test_a_gateway_with_the_daemons_own_frontend(app, build):
    assert set(build(GatewayFrontend(source="dockerfile.v0", context=app))) == {"hello"}


@pytest.mark.buildkit(">=0.31")
def test_limits_reach_a_step(build, services):
    text = DockerfileText(
        f"FROM {services.base_image} AS b\n"
        "RUN cat /sys/fs/cgroup/memory.max > /memory 2>/dev/null "
        "|| cat /sys/fs/cgroup/memory/memory.limit_in_bytes > /memory; hostname > /host; ulimit -n > /files\n"
        "FROM scratch\nCOPY --from=b /memory /host /files /\n"
    )
    frontend = DockerfileFrontend(
        context=text, memory_bytes=64 << 20, hostname="box", ulimits={"nofile": "77:77"}, no_cache=True
    )
    built = build(frontend)
    assert (built["host"], built["files"]) == ("box\n", "77\n")
    assert built["memory"].strip() in (str(64 << 20), "")


def provenance_of(path):
    layout = ImageLayout(path)
    (image,) = layout.read_index().manifests
    (attestation,) = (one for one in layout.read_manifest(image).manifests if one.is_attestation)
    (layer,) = layout.read_manifest(attestation).layers
    return json.loads(layout.read_small_blob(layer.digest, limit=1 << 20)), layer


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("version", "kind"),
    [pytest.param("v1", "/v1", marks=pytest.mark.buildkit(">=0.23")), ("v0.2", "/v0.2")],
)
def test_provenance(app, services, tmp_path, mode, version, kind):
    path = tmp_path / "layout"
    frontend = DockerfileFrontend(
        context=app,
        attestations=[Provenance(mode=mode, version=version, builder_id="https://ci.example.com/1")],
        vcs_revision="abc",
    )
    with Client(services.buildkit_host) as client:
        client.solve(frontend, exporters=[OciExporter(dest=OutputLayout(path))])
    statement, layer = provenance_of(path)
    assert statement["predicateType"].endswith(kind)
    assert layer.annotations["in-toto.io/predicate-type"] == statement["predicateType"]
    text = json.dumps(statement)
    assert "https://ci.example.com/1" in text
    assert ('"llbDefinition"' in text) == (mode == "max")


def test_no_attestations_unless_asked_for(app, services, tmp_path):
    path = tmp_path / "layout"
    with Client(services.buildkit_host) as client:
        client.solve(DockerfileFrontend(context=app), exporters=[OciExporter(dest=OutputLayout(path))])
    layout = ImageLayout(path)
    (image,) = layout.read_index().manifests
    assert not hasattr(layout.read_manifest(image), "manifests")


def test_annotations_go_where_they_belong(app, services, tmp_path):
    path = tmp_path / "layout"
    exporter = OciExporter(
        dest=OutputLayout(path),
        annotations={"bare": "1", "annotation-index.index": "2", "annotation-manifest-descriptor.entry": "3"},
    )
    frontend = DockerfileFrontend(context=app, multi_platform=True)
    with Client(services.buildkit_host) as client:
        client.solve(frontend, exporters=[exporter])
    layout = ImageLayout(path)
    (entry,) = layout.read_index().manifests
    index = layout.read_manifest(entry)
    document = json.loads(layout.read_small_blob(entry.digest, limit=1 << 20))
    assert document["annotations"] == {"index": "2"}
    assert index.manifests[0].annotations["entry"] == "3"
    manifest = json.loads(layout.read_small_blob(index.manifests[0].digest, limit=1 << 20))
    assert manifest["annotations"]["bare"] == "1"


def test_files_of_several_platforms(app, services, tmp_path):
    frontend = DockerfileFrontend(context=app, platforms=["linux/amd64", "linux/arm64"])
    with Client(services.buildkit_host) as client:
        client.solve(frontend, exporters=[LocalExporter(dest=tmp_path / "split")])
        client.solve(frontend, exporters=[TarExporter(dest=tmp_path / "split.tar")])
    assert {path.name for path in (tmp_path / "split").iterdir()} == {"linux_amd64", "linux_arm64"}
    with tarfile.open(tmp_path / "split.tar") as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {"linux_amd64", "linux_arm64"}


def test_a_policy_denies_and_converts(build, services):
    image = f"docker-image://{services.base_image}"
    deny = {"version": 1, "rules": [{"action": "DENY", "selector": {"identifier": image}}]}
    text = DockerfileText(f"FROM {services.base_image}\nRUN true\n")
    with pytest.raises(SolveError, match="denied by policy"):
        build(DockerfileFrontend(context=text), source_policy=SourcePolicy.from_json(json.dumps(deny)))
    convert = {
        "rules": [
            {
                "action": "CONVERT",
                "selector": {"identifier": r"docker-image://example\.invalid/(.*)", "match_type": "REGEX"},
                "updates": {"identifier": image},
            }
        ]
    }
    text = DockerfileText("FROM example.invalid/base:1 AS b\nRUN echo x > /x\nFROM scratch\nCOPY --from=b /x /\n")
    policy = SourcePolicy.from_json(json.dumps(convert))
    assert build(DockerfileFrontend(context=text), source_policy=policy) == {"x": "x\n"}


def test_buildctl_takes_the_same_policy_file(services, app, tmp_path):
    """What we read as a policy is what buildctl reads as one."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"rules": [{"action": "DENY", "selector": {"identifier": "docker-image://*"}}]}))
    (app / "Dockerfile").write_text(f"FROM {services.base_image}\n")
    command = [
        services.buildctl, "--addr", services.buildkit_host, "build", "--frontend=dockerfile.v0",
        f"--local=context={app}", f"--local=dockerfile={app}", f"--source-policy-file={path}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "denied by policy" in done.stderr
    with Client(services.buildkit_host) as client, pytest.raises(SolveError) as caught:
        client.solve(DockerfileFrontend(context=app), source_policy=SourcePolicy.from_json(Path(path).read_text()))
    assert str(caught.value) in done.stderr


@pytest.mark.buildkit(">=0.31")
@pytest.mark.parametrize(("version", "media_type"), [(0, "vnd.oci.image"), (20, "vnd.docker.distribution")])
def test_a_build_as_older_releases_did_it(app, services, tmp_path, version, media_type):
    with Client(services.buildkit_host) as client:
        exporter = ImageExporter(name=f"{services.registry}/compatibility:{version}", push=True)
        frontend = DockerfileFrontend(context=app)
        result = client.solve(frontend, exporters=[exporter], compatibility_version=version)
    assert media_type in result.descriptor["mediaType"]


@pytest.mark.buildkit(">=0.30")
def test_a_compatibility_version_that_there_is_not(app, services):
    with Client(services.buildkit_host) as client, pytest.raises(SolveError, match="compatibility-version 11"):
        client.solve(DockerfileFrontend(context=app), compatibility_version=11)


@pytest.mark.buildkit(">=0.22")
def test_disk_usage_by_age(app, services):
    with Client(services.buildkit_host) as client:
        client.solve(DockerfileFrontend(context=app))

        def resting(**options):  # of other tests' builds, what is in use is listed whatever its age
            listed = client.disk_usage(**options)
            return [one for one in listed if not one.is_in_use and one.last_used_at_ns is not None]

        assert resting()
        assert resting(age_limit_s=10 * 365 * 86400) == []
