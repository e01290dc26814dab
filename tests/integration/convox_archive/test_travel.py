"""Builds that travel: between racks, through every kind of registry, and to and from what Convox runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit_client.oci import ImageLayout, write_oci_archive
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox
from tests.integration.convox_archive.conftest import Tools
from tests.support.exports import plain_export
from tests.support.go_tools import GoToolMissingError, go_tool
from tests.support.images import add_platforms
from tests.support.services import Services

pytestmark = pytest.mark.services

MANIFEST = "services:\n  web:\n    build: .\n  worker:\n    build: worker\n"
IMPORTED = re.compile(r"Importing build\.\.\. OK, (R[A-Z]{10})\n")


@pytest.fixture
def built(services: Services, convox: Convox, make_app: MakeApp) -> str:
    """A build of two services on the rack ``local``; returns its id."""
    dockerfile = f'FROM {services.base_image}\nRUN echo worker > /worker\nENTRYPOINT ["/bin/work", "it hard"]\n'
    folder = make_app("RUN echo web > /web\n", manifest=MANIFEST, worker__Dockerfile=dockerfile)
    return convox.ok("build", str(folder), "-a", "app", "-d", "the first").ids[0]


def new_app() -> str:
    return f"app-{uuid.uuid4().hex[:12]}"


def imported(convox: Convox, *words: str, rack: str = "local") -> tuple[str, dict[str, str]]:
    """Import, and return the new build's id and its digests by service."""
    match = IMPORTED.fullmatch(convox.ok("builds", "import", *words, "-r", rack).stdout)
    assert match is not None
    app = words[words.index("-a") + 1]
    store = convox.store(rack)
    record = store.get_build(app, store.get_release(app, match[1]).build)
    store.close()
    return record.id, dict(record.images)


def test_through_every_kind_of_registry(services: Services, convox: Convox, built: str, tools: Tools) -> None:
    """Local, then registries with htpasswd, with tokens and without a login, and back; nothing changes on the way."""
    first = convox.build("app", built)
    places = {
        "basic": (services.registry_htpasswd, services.htpasswd_user, services.htpasswd_password),
        "token": (services.registry_token, services.token_user, services.token_password),
        "open": (services.registry, "", ""),
    }
    export = convox.config.parent / "export.tgz"
    convox.ok("builds", "export", built, "-a", "app", "-f", str(export))
    archives: dict[str, bytes] = {}
    for rack, (host, user, password) in places.items():
        app = new_app()
        params = [f"registry={host}"] + ([f"registry_username={user}", f"registry_password={password}"] if user else [])
        convox.ok("rack", "install", "aws", rack, *params)
        build_id, images = imported(convox, "-f", str(export), "-a", app, rack=rack)
        assert images == dict(first.images)
        for service, digest in images.items():
            login = ["--creds", f"{user}:{password}"] if user else []
            assert tools.digest(f"docker://{host}/{app}:{service}.{build_id}", *login) == digest
        assert convox.ok("builds", "logs", build_id, "-a", app, "-r", rack).stdout == convox.log("app", built)
        export = convox.config.parent / f"export-{rack}.tgz"
        convox.ok("builds", "export", build_id, "-a", app, "-r", rack, "-f", str(export))
        folder = tools.unpack(export, convox.config.parent / f"unpacked-{rack}")
        for path in folder.glob("*.tar"):
            service = path.name.partition(".")[0]
            assert archives.setdefault(service, path.read_bytes()) == path.read_bytes()
        assert not list(convox.rack_path(rack).glob("transfers/*"))
    _, images = imported(convox, "-f", str(export), "-a", "back")
    assert images == dict(first.images)
    record = convox.builds("back")[0]
    assert (record.description, record.entrypoint, record.manifest) == ("the first", first.entrypoint, MANIFEST)
    assert first.entrypoint == "/bin/work 'it hard'"


def test_skopeo_copies_what_we_export(convox: Convox, built: str, tools: Tools, tmp_path: Path) -> None:
    convox.ok("builds", "export", built, "-a", "app", "-f", str(tmp_path / "export.tgz"))
    folder = tools.unpack(tmp_path / "export.tgz", tmp_path / "unpacked")
    assert sorted(path.name for path in folder.iterdir()) == [
        "build.json",
        "build.log",
        "releases.json",
        f"web.{built}.tar",
        f"worker.{built}.tar",
    ]
    record = json.loads((folder / "build.json").read_text())
    for service, digest in record["images"].items():
        archive = f"oci-archive:{folder}/{service}.{built}.tar"
        target = f"docker://{tools.services.registry}/{new_app()}:{service}"
        # What a rack of Convox runs when it imports.
        tools.skopeo("copy", "--dest-tls-verify=false", archive, target)
        assert tools.digest(target) == digest
        tools.skopeo("copy", archive, f"oci:{tmp_path}/layout:{service}")
        assert tools.digest(f"oci:{tmp_path}/layout:{service}") == digest


@pytest.mark.parametrize("name", ["all.tar", "all.tgz", "all.tar.zst"])
@pytest.mark.parametrize("from_registry", [False, True])
def test_an_image_layout_of_all_services(
    services: Services, convox: Convox, built: str, tools: Tools, tmp_path: Path, name: str, from_registry: bool
) -> None:
    """skopeo finds each service by its name, in the archive and in the folder that it unpacks to; and it comes back."""
    app, rack, build = "app", "local", built
    if from_registry:
        convox.ok("rack", "install", "aws", "open", f"registry={services.registry}")
        convox.ok("builds", "export", built, "-a", "app", "-f", str(tmp_path / "first.tgz"))
        app, rack = new_app(), "open"
        build, _ = imported(convox, "-f", str(tmp_path / "first.tgz"), "-a", app, rack=rack)
    export = tmp_path / name
    convox.ok("builds", "export", build, "-a", app, "-r", rack, "--format", "oci", "-f", str(export))
    images = dict(convox.build("app", built).images)
    folder = tools.unpack(export, tmp_path / "layout")
    (folder / "build.json").unlink()
    for service, digest in images.items():
        assert tools.digest(f"oci-archive:{export}:{service}") == digest
        assert tools.digest(f"oci:{folder}:{service}") == digest
        target = f"docker://{services.registry}/{new_app()}:{service}"
        tools.skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{export}:{service}", target)
        assert tools.digest(target) == digest
    assert imported(convox, "-f", str(export), "-a", "back")[1] == images
    assert convox.log("back", convox.builds("back")[0].id) == convox.log("app", built)


def test_an_image_layout_made_by_hand(convox: Convox, built: str, tools: Tools, tmp_path: Path) -> None:
    """skopeo copies each service into one folder, which is packed with the record."""
    images = dict(convox.build("app", built).images)
    folder = tmp_path / "folder"
    for service in images:
        tools.skopeo("copy", f"oci:{convox.layout_path}:{service}.{built}", f"oci:{folder}:{service}")
    record = convox.ok("builds", "info", built, "-a", "app", "--output", "json").stdout
    (folder / "build.json").write_text(record)
    tools.tar("cf", str(tmp_path / "all.tar"), "-C", str(folder), ".")
    assert imported(convox, "-f", str(tmp_path / "all.tar"), "-a", "back")[1] == images


@pytest.mark.parametrize("packing", ["czf", "cf", "--zstd"])
def test_an_export_made_by_hand(
    services: Services, convox: Convox, built: str, tools: Tools, tmp_path: Path, packing: str
) -> None:
    """As a rack of Convox makes it: skopeo for each image, and the whole folder packed, itself included."""
    app = new_app()
    convox.ok("rack", "install", "aws", "open", f"registry={services.registry}")
    convox.ok("builds", "export", built, "-a", "app", "-f", str(tmp_path / "ours.tgz"))
    build_id, images = imported(convox, "-f", str(tmp_path / "ours.tgz"), "-a", app, rack="open")
    folder = tmp_path / "by-hand"
    folder.mkdir()
    for service in images:
        source = f"docker://{services.registry}/{app}:{service}.{build_id}"
        target = f"oci-archive:{folder}/{service}.{build_id}.tar"
        tools.skopeo("copy", "--src-tls-verify=false", source, target)
    record = json.loads(convox.ok("builds", "info", build_id, "-a", app, "-r", "open", "--output", "json").stdout)
    del record["images"]  # Convox has none
    (folder / "build.json").write_text(json.dumps(record, indent=2))
    export = tmp_path / "by-hand.file"
    words = [packing, str(export)] if packing != "--zstd" else ["--zstd", "-cf", str(export)]
    tools.tar(*words, "-C", str(folder), ".")
    _, again = imported(convox, "-f", str(export), "-a", "by-hand")
    assert again == images
    names = [*(path.name for path in folder.iterdir())]
    tools.tar(*words, "-C", str(folder), *names)
    assert imported(convox, "-f", str(export), "-a", "by-hand")[1] == images


def test_platforms_and_attestations_survive(services: Services, convox: Convox, tools: Tools, tmp_path: Path) -> None:
    """An index that skopeo made of two platforms and an attestation, in and out again."""
    layout = ImageLayout.create(tmp_path / "layout")
    index = add_platforms(layout)
    with (tmp_path / "index.tar").open("wb") as out:
        write_oci_archive(layout, index, [], out)
    archive = tmp_path / "all.tar"
    tools.skopeo("copy", "--all", f"oci-archive:{tmp_path}/index.tar", f"oci-archive:{archive}")
    (tmp_path / "in.tgz").write_bytes(plain_export(archive.read_bytes()))
    convox.ok("rack", "install", "aws", "open", f"registry={services.registry}")
    app = new_app()
    build_id, images = imported(convox, "-f", str(tmp_path / "in.tgz"), "-a", app, rack="open")
    assert images == {"web": index.digest}
    convox.ok("builds", "export", build_id, "-a", app, "-r", "open", "-f", str(tmp_path / "out.tgz"))
    folder = tools.unpack(tmp_path / "out.tgz", tmp_path / "unpacked")
    raw = tools.skopeo("inspect", "--raw", f"oci-archive:{folder}/web.{build_id}.tar")
    assert raw.encode() == layout.read_small_blob(index.digest, limit=10_000)
    assert len(json.loads(raw)["manifests"]) == 3
    # The platform is chosen where the image is copied on.
    tools.skopeo(
        "--override-arch", "arm64", "copy", f"oci-archive:{folder}/web.{build_id}.tar", f"oci:{tmp_path}/one:arm"
    )
    config = json.loads(tools.skopeo("inspect", "--config", f"oci:{tmp_path}/one:arm"))
    assert config["config"]["Entrypoint"] == ["/arm"]


def test_images_in_docker_s_own_format(
    services: Services, convox: Convox, built: str, tools: Tools, tmp_path: Path
) -> None:
    """A registry may hold images of docker's older types; they travel as they are."""
    convox.ok("rack", "install", "aws", "open", f"registry={services.registry}")
    archive = tmp_path / "docker.tar"
    tag = f"web.{built}"
    tools.skopeo("copy", "--format", "v2s2", f"oci:{convox.layout_path}:{tag}", f"docker-archive:{archive}:app:web")
    (tmp_path / "in.tgz").write_bytes(plain_export(archive.read_bytes()))
    app = new_app()
    build_id, images = imported(convox, "-f", str(tmp_path / "in.tgz"), "-a", app, rack="open")
    assert tools.digest(f"docker://{services.registry}/{app}:web.{build_id}") == images["web"]

    source = f"docker://{services.registry}/{app}:v2s2"
    tools.skopeo("copy", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{convox.layout_path}:{tag}", source)
    digest = tools.digest(source)
    assert digest != convox.build("app", built).images["web"]
    tools.skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false", source, source.replace(":v2s2", f":{tag}")
    )
    store = convox.store("open")
    record = replace(
        convox.build("app", built), app=app, repository=f"{services.registry}/{app}", images={"web": digest}
    )
    store.create_build(record)
    store.close()
    convox.ok("builds", "export", built, "-a", app, "-r", "open", "-f", str(tmp_path / "out.tgz"))
    folder = tools.unpack(tmp_path / "out.tgz", tmp_path / "unpacked")
    tools.skopeo("copy", f"oci-archive:{folder}/{tag}.tar", f"oci:{tmp_path}/layout:web")
    assert imported(convox, "-f", str(tmp_path / "out.tgz"), "-a", "other")[1] == {"web": digest}


def test_a_rack_that_moved_to_a_registry_still_exports_its_older_builds(
    services: Services, convox: Convox, built: str, tmp_path: Path
) -> None:
    convox.set_params(registry=services.registry)
    convox.ok("builds", "export", built, "-a", "app", "-f", str(tmp_path / "export.tgz"))
    app = new_app()
    build_id, _ = imported(convox, "-f", str(tmp_path / "export.tgz"), "-a", app)
    convox.ok("rack", "params", "set", "registry=")
    convox.ok("builds", "export", build_id, "-a", app, "-f", str(tmp_path / "export-2.tgz"))


def test_a_wrong_password(services: Services, convox: Convox, built: str, tmp_path: Path) -> None:
    convox.ok("builds", "export", built, "-a", "app", "-f", str(tmp_path / "export.tgz"))
    login = ["registry_username=docker", "registry_password=CANARYPASSWORD"]
    convox.ok("rack", "install", "aws", "basic", f"registry={services.registry_htpasswd}", *login)
    result = convox.run("builds", "import", "-f", str(tmp_path / "export.tgz"), "-a", "app", "-r", "basic")
    assert result.code == 4
    assert "CANARY" not in result.stdout + result.stderr
    store = convox.store("basic")
    assert [build.status for build in store.list_builds("app")] in ([], ["failed"])
    assert store.list_releases("app") == []
    store.close()


def test_a_registry_that_is_gone(convox: Convox, built: str, tmp_path: Path) -> None:
    convox.ok("builds", "export", built, "-a", "app", "-f", str(tmp_path / "export.tgz"))
    convox.ok("rack", "install", "aws", "gone", "registry=127.0.0.1:1")
    result = convox.run("builds", "import", "-f", str(tmp_path / "export.tgz"), "-a", "app", "-r", "gone")
    assert result.code == 5
    assert result.stderr.startswith("ERROR: ")
    store = convox.store("gone")
    assert [build.status for build in store.list_builds("app")] in ([], ["failed"])
    store.close()


@pytest.fixture
def exportfile(request: pytest.FixtureRequest) -> Path:
    """Reads and writes files as a rack of Convox does, with Go's own packages."""
    try:
        return go_tool("exportfile")
    except GoToolMissingError as exc:
        if request.config.getoption("--require-services"):
            pytest.fail(str(exc), pytrace=False)
        pytest.skip(str(exc))


def test_go_reads_what_we_write(convox: Convox, built: str, tools: Tools, exportfile: Path, tmp_path: Path) -> None:
    export = tmp_path / "export.tgz"
    convox.ok("builds", "export", built, "-a", "app", "-f", str(export))
    done = subprocess.run([exportfile, "read"], input=export.read_bytes(), capture_output=True, check=True)
    folder = tools.unpack(export, tmp_path / "unpacked")
    assert json.loads(done.stdout) == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name not in ("build.log", "releases.json")  # which Convox passes over
    }


def test_we_read_what_go_writes(convox: Convox, built: str, tools: Tools, exportfile: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    expected = dict(convox.build("app", built).images)
    for service in expected:
        source = f"oci:{convox.layout_path}:{service}.{built}"
        tools.skopeo("copy", source, f"oci-archive:{images}/{service}.{built}.tar")
    record = json.loads(convox.ok("builds", "info", built, "-a", "app", "--output", "json").stdout)
    del record["images"]
    (tmp_path / "build.json").write_text(json.dumps(record))
    words = [exportfile, "write", tmp_path / "build.json", images]
    export = tmp_path / "export.tgz"
    export.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
    assert tools.tar("tzf", str(export)).splitlines()[:2] == ["build.json", ""]
    assert imported(convox, "-f", str(export), "-a", "other")[1] == expected


def test_an_image_of_a_registry_becomes_a_build(
    services: Services, convox: Convox, make_app: MakeApp, tools: Tools
) -> None:
    """From one registry to another that wants a login, and into a layout."""
    folder = make_app()
    digest = tools.digest(f"docker://{services.base_image}")
    login = [f"registry_username={services.htpasswd_user}", f"registry_password={services.htpasswd_password}"]
    convox.ok("rack", "install", "aws", "basic", f"registry={services.registry_htpasswd}", *login)
    app = new_app()
    for rack in ("basic", "local"):
        result = convox.ok("builds", "import-image", services.base_image, "-a", app, "-r", rack, cwd=folder)
        store = convox.store(rack)
        [build] = store.list_builds(app)
        store.close()
        assert dict(build.images) == {"web": digest}
        assert result.ids == (build.id, build.release)
        if rack == "basic":
            creds = ["--creds", f"{services.htpasswd_user}:{services.htpasswd_password}"]
            copy = f"docker://{services.registry_htpasswd}/{app}:web.{build.id}"
            assert tools.digest(copy, *creds) == digest
            words = ["--src-creds-user", services.htpasswd_user, "--src-creds-pass-env", "SOURCE"]
            convox.environ["SOURCE"] = services.htpasswd_password
            source = copy.removeprefix("docker://")
            convox.ok("builds", "import-image", source, "-a", "back", "-r", "local", *words, cwd=folder)
    assert dict(convox.builds("back")[0].images) == {"web": digest}


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[list[str]]:
    """The command ``ctr``, for a containerd of its own."""
    if os.geteuid() or not shutil.which("containerd") or not shutil.which("ctr"):
        pytest.skip("needs root and containerd")
    folder = Path(tempfile.mkdtemp(prefix="ctrd-"))  # a socket's path must be short
    address = str(folder / "sock")
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{address}"\n'
    )
    with (tmp_path / "containerd.log").open("wb") as log:
        process = subprocess.Popen(["containerd", "-c", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(["ctr", "-a", address, "version"], capture_output=True, check=False).returncode:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "containerd.log").read_text()
            time.sleep(0.1)
        yield ["ctr", "-a", address]
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def test_containerd_takes_an_image_layout(convox: Convox, built: str, containerd: list[str], tmp_path: Path) -> None:
    """A plain one: older ones of its command unpack nothing."""
    export = tmp_path / "all.tar"
    convox.ok("builds", "export", built, "-a", "app", "--format", "oci", "-f", str(export))
    subprocess.run([*containerd, "images", "import", "--no-unpack", str(export)], check=True, capture_output=True)
    listing = subprocess.run([*containerd, "images", "ls"], check=True, capture_output=True, text=True).stdout
    build = convox.build("app", built)
    for service, digest in build.images.items():
        [line] = [one for one in listing.splitlines() if one.startswith(f"{build.repository}:{service}.{built} ")]
        assert digest in line.split()
    subprocess.run([*containerd, "images", "check"], check=True, capture_output=True)
