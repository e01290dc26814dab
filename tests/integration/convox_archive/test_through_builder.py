"""``--through-builder``: exports and imports where only the builder can reach the registry."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.errors import RegistryError
from buildkit_client.oci import (
    Credentials,
    ImageLayout,
    Reference,
    RegistryClient,
    StaticCredentials,
    write_oci_archive,
)
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox
from tests.integration.convox_archive.conftest import Tools
from tests.support.exports import plain_export
from tests.support.images import add_image
from tests.support.only_builder import only_builder, only_builder_daemon
from tests.support.services import Services

pytestmark = [pytest.mark.services, pytest.mark.buildkit(">=0.28")]

FLAG = "--through-builder"
MANIFEST = "services:\n  web:\n    build: .\n  worker:\n    build: worker\n"
IMPORTED = re.compile(r"Importing build\.\.\. OK, (R[A-Z]{10})\n")
UNREACHABLE = "its name cannot be resolved"


@pytest.fixture(scope="module")
def builder(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    registries = [services.registry, services.registry_htpasswd]
    with only_builder_daemon(services, tmp_path_factory.mktemp("builder"), registries) as daemon:
        yield daemon.address


@pytest.fixture
def app() -> str:
    return f"app-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def convox(convox: Convox, services: Services, builder: str) -> Convox:
    """The command, with a rack ``far`` whose registry needs a login and is the builder's alone."""
    convox.ok(
        "rack", "install", "aws", "far",
        f"registry={only_builder(services.registry_htpasswd)}", "registry_insecure=true", f"builder={builder}",
        f"registry_username={services.htpasswd_user}", f"registry_password={services.htpasswd_password}",
    )  # fmt: skip
    return convox


@pytest.fixture
def export(convox: Convox, services: Services, make_app: MakeApp) -> Path:
    """A file with a build of two services."""
    worker = f"FROM {services.base_image}\nRUN echo worker > /worker\n"
    folder = make_app("RUN echo web > /web\n", manifest=MANIFEST, worker__Dockerfile=worker)
    build = convox.ok("build", str(folder), "-a", "home").ids[0]
    convox.ok("builds", "export", build, "-a", "home", "-f", "home.tgz")
    return convox.config.parent / "home.tgz"


def record(convox: Convox, app: str, release: str = "") -> tuple[str, dict[str, str]]:
    """Return id and images of a release's build, or of the newest one."""
    store = convox.store("far")
    build = store.get_release(app, release).build if release else store.list_builds(app, limit=1)[0].id
    images = dict(store.get_build(app, build).images)
    store.close()
    return build, images


def test_there_and_back(services: Services, convox: Convox, export: Path, app: str, tools: Tools) -> None:
    first = convox.build("home")
    done = convox.ok("builds", "import", "-a", app, "-r", "far", "-f", str(export), FLAG)
    assert done.stderr.endswith("2 images pushed through the builder\n")
    match = IMPORTED.fullmatch(done.stdout)
    assert match is not None
    build, images = record(convox, app, match[1])
    assert images == dict(first.images)
    login = ["--creds", f"{services.htpasswd_user}:{services.htpasswd_password}"]
    for service, digest in images.items():
        assert tools.digest(f"docker://{services.registry_htpasswd}/{app}:{service}.{build}", *login) == digest
    for form in ("convox", "oci"):
        convox.ok("builds", "export", build, "-a", app, "-r", "far", "--format", form, "-f", f"{form}.tgz", FLAG)
        convox.ok("builds", "import", "-a", f"back-{form}", "-f", f"{form}.tgz")
        assert dict(convox.build(f"back-{form}").images) == dict(first.images)
    for path in (convox.config.parent / "home.tgz", convox.config.parent / "convox.tgz"):
        tools.unpack(path, path.with_suffix(".d"))
    for service in first.images:
        mine, theirs = (
            next((convox.config.parent / name).glob(f"{service}.*.tar")).read_bytes() for name in ("home.d", "convox.d")
        )
        assert mine == theirs
    assert not list(convox.rack_path("far").glob("transfers/*"))


def test_without_the_flag_the_error_names_it(convox: Convox, export: Path, app: str, make_app: MakeApp) -> None:
    imported = convox.run("builds", "import", "-a", app, "-r", "far", "-f", str(export))
    assert imported.code == 5 and UNREACHABLE in imported.stderr and FLAG in imported.stderr
    convox.ok("builds", "import", "-a", app, "-r", "far", "-f", str(export), FLAG)
    build = record(convox, app)[0]
    exported = convox.run("builds", "export", build, "-a", app, "-r", "far", "-f", "none.tgz")
    assert exported.code == 5 and UNREACHABLE in exported.stderr and FLAG in exported.stderr
    assert not (convox.config.parent / "none.tgz").exists()


def test_what_the_builder_would_change_is_refused(convox: Convox, tmp_path: Path, app: str, services: Services) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    image = add_image(layout, [b"made by hand"])
    archive = io.BytesIO()
    write_oci_archive(layout, image, (), archive)
    (tmp_path / "hand.tgz").write_bytes(plain_export(archive.getvalue()))
    done = convox.run("builds", "import", "-a", app, "-r", "far", "-f", str(tmp_path / "hand.tgz"), FLAG)
    assert done.code == 1
    assert f"error: image {image.digest} cannot be pushed through the builder as it is\n" in done.stderr.lower()
    assert "its config is written differently" in done.stderr
    login = StaticCredentials(
        {services.registry_htpasswd: Credentials(services.htpasswd_user, services.htpasswd_password)}
    )
    with RegistryClient(services.registry_htpasswd, login) as registry, pytest.raises(RegistryError) as gone:
        registry.list_tags(Reference.parse(f"{services.registry_htpasswd}/{app}"))
    assert gone.value.status == 404
    assert not list(convox.rack_path("far").glob("transfers/*"))


@pytest.mark.parametrize("rack", ["far", "here"])
def test_import_image(
    services: Services, convox: Convox, builder: str, app: str, rack: str, make_app: MakeApp, tools: Tools
) -> None:
    """From a registry of the builder's, to such a registry or to this machine."""
    folder = make_app("RUN echo source > /source\n")
    convox.ok("rack", "install", "aws", "near", f"registry={services.registry}")
    build = convox.ok("build", str(folder), "-a", app, "-r", "near").ids[0]
    name = f"{app}:web.{build}"
    digest = tools.digest(f"docker://{services.registry}/{name}")
    if rack == "here":
        convox.ok("rack", "install", "aws", "here", f"builder={builder}")
    words = ["builds", "import-image", f"{only_builder(services.registry)}/{name}", "-a", app, "-r", rack]
    words += ["-m", str(folder / "convox.yml")]
    refused = convox.run(*words)
    assert refused.code == 5 and FLAG in refused.stderr
    new = convox.ok(*words, FLAG).ids[0]
    store = convox.store(rack)
    assert dict(store.get_build(app, new).images) == {"web": digest}
    store.close()
    if rack == "far":
        login = ["--creds", f"{services.htpasswd_user}:{services.htpasswd_password}"]
        assert tools.digest(f"docker://{services.registry_htpasswd}/{app}:web.{new}", *login) == digest


def test_it_is_refused_where_there_is_no_registry(convox: Convox, export: Path, builder: str) -> None:
    build = convox.build("home").id
    convox.environ["BUILDKIT_HOST"] = builder
    for words in (["export", build, "-f", "x.tgz"], ["import", "-f", str(export)]):
        done = convox.run("builds", *words, "-a", "home", FLAG)
        assert done.code == 2 and "--through-builder is of no use here" in done.stderr, done.stderr


def test_bad_places(services: Services, convox: Convox, export: Path, app: str, tmp_path: Path) -> None:
    """No builder, another login, no image: one error, no secret in it, and nothing left."""
    words = ["builds", "import", "-a", app, "-r", "far", "-f", str(export), FLAG]
    convox.ok("rack", "params", "set", "registry_password=CANARY-wrong", "-r", "far")
    done = convox.run(*words)
    assert done.code == 4 and "CANARY" not in done.stderr + done.stdout, done.stderr
    convox.ok("rack", "params", "set", f"registry_password={services.htpasswd_password}", "-r", "far")
    convox.ok(*words)
    build = record(convox, app)[0]
    store = convox.store("far")
    kept = store.get_build(app, build)
    store.update_build(app, build, images=dict.fromkeys(kept.images, "sha256:" + "0" * 64))
    store.close()
    done = convox.run("builds", "export", build, "-a", app, "-r", "far", "-f", "x.tgz", FLAG)
    assert done.code == 5 and "not found" in done.stderr and "through the builder" in done.stderr, done.stderr
    convox.ok("rack", "params", "set", f"builder=unix://{tmp_path}/none", "-r", "far")
    done = convox.run(*words)
    assert done.code == 3, done.stderr
    assert not list(convox.rack_path("far").glob("transfers/*"))
