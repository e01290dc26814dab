"""Racks whose images go to a registry: tags and caches are there, and a cache serves a builder that lost its own."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox, outcome_of, steps_of
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

pytestmark = pytest.mark.services

MANIFEST = "services:\n  web:\n    build: .\n  api:\n    build: api\n  worker:\n    build: .\n"
RUNS = ("RUN echo first > /first", "RUN sleep 0.1; echo second > /second")


@pytest.fixture
def three_services(services: Services, make_app: MakeApp) -> Path:
    """Two services that are the same, and one of its own; each Dockerfile has two stages with a RUN."""
    lines = f'{RUNS[0]}\nFROM {services.base_image}\nCOPY --from=0 /first /\n{RUNS[1]}\nENTRYPOINT ["/bin/app"]\n'
    folder = make_app(lines, manifest=MANIFEST)
    (folder / "api").mkdir()
    (folder / "api/Dockerfile").write_text((folder / "Dockerfile").read_text().replace("/bin/app", "/bin/api"))
    return folder


class Remote:
    """What an app has in a registry, as skopeo sees it."""

    def __init__(self, services: Services, app: str) -> None:
        self.skopeo = services.skopeo
        self.app = app
        self.host = services.registry
        self.login = ""

    def inspect(self, tag: str, *flags: str) -> dict[str, object]:
        command = [str(self.skopeo), "inspect", "--tls-verify=false", *flags]
        command += ["--creds", self.login] if self.login else []
        command.append(f"docker://{self.host}/{self.app}:{tag}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value

    def build(self, convox: Convox, folder: Path, *flags: str) -> str:
        """Build, find every tag and every cache, and return the log."""
        result = convox.ok("build", str(folder), "-a", self.app, *flags)
        assert result.stderr == ""
        print(result.log)  # shown when something is missing
        build_id, _ = result.ids
        record = convox.build(self.app, build_id)
        assert record.repository == f"{self.host}/{self.app}"
        for service, digest in record.images.items():
            assert self.inspect(f"{service}.{build_id}")["Digest"] == digest
            cache = self.inspect(f"{service}.buildcache", "--raw")
            assert cache["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert record.entrypoint == "/bin/app"
        assert not convox.layout_path.exists()
        return result.log


@pytest.fixture
def remote(services: Services) -> Remote:
    """An app with a name that is in no registry yet."""
    return Remote(services, f"app-{uuid.uuid4().hex[:12]}")


def test_open_registry_and_a_builder_that_lost_its_cache(
    convox: Convox, own_buildkitd: OwnBuildkitd, three_services: Path, remote: Remote
) -> None:
    convox.environ["BUILDKIT_HOST"] = own_buildkitd.address
    convox.set_params(registry=remote.host)
    first = remote.build(convox, three_services)
    for service in ("web,worker", "api"):
        # Nothing went wrong, so nothing says ERROR: that there is no cache yet is how it begins.
        lines = steps_of(first, service)
        if "the registry lost a blob" not in first:
            assert not [line for line in lines if "ERROR" in line or line.startswith("---")]
        assert any("importing cache manifest from" in line for line in lines)
        assert any(line.endswith("not found: this build makes it") for line in lines)
        assert [outcome_of(first, service, run) for run in RUNS] == ["DONE", "DONE"]

    own_buildkitd.prune_all()
    second = remote.build(convox, three_services)
    for service in ("web,worker", "api"):
        assert [outcome_of(second, service, run) for run in RUNS] == ["CACHED", "CACHED"]
    assert "not found" not in second

    # A service that stops being the same as another finds the cache under its own name.
    own_buildkitd.prune_all()
    (three_services / "convox.yml").write_text("services:\n  worker:\n    build: .\n")
    third = convox.ok("build", str(three_services), "-a", remote.app).log
    assert [outcome_of(third, "worker", run) for run in RUNS] == ["CACHED", "CACHED"]


def test_services_of_one_folder_each_find_their_own_cache(
    services: Services, convox: Convox, own_buildkitd: OwnBuildkitd, make_app: MakeApp, remote: Remote
) -> None:
    """Built all at once, only one of them would: BuildKit does not look into the others' caches for shared steps."""
    names = ("web", "worker", "cron")
    manifest = "services:\n" + "".join(f"  {name}: {{build: {{manifest: Dockerfile.{name}}}}}\n" for name in names)
    folder = make_app("", manifest=manifest)
    (folder / "source").write_text("the same for all")
    for name in names:
        lines = f"FROM {services.base_image}\nCOPY source /\nRUN echo all > /all\nRUN echo {name} > /{name}\n"
        (folder / f"Dockerfile.{name}").write_text(lines + 'ENTRYPOINT ["/bin/app"]\n')
    convox.environ["BUILDKIT_HOST"] = own_buildkitd.address
    convox.set_params(registry=remote.host)
    remote.build(convox, folder)
    own_buildkitd.prune_all()
    log = remote.build(convox, folder)
    for name in names:
        runs = [f"RUN echo {one} > /{one}" for one in ("all", name)]
        assert [outcome_of(log, name, run) for run in runs] == ["CACHED", "CACHED"], name


def test_no_cache_imports_none_and_renews_it(
    services: Services, convox: Convox, three_services: Path, remote: Remote
) -> None:
    convox.set_params(registry=services.registry)
    remote.build(convox, three_services)
    log = remote.build(convox, three_services, "--no-cache")
    assert "importing cache" not in log
    assert "exporting cache to registry" in log
    assert outcome_of(log, "api", RUNS[1]) == "DONE"


def test_htpasswd_registry_with_the_racks_login(
    services: Services, convox: Convox, three_services: Path, remote: Remote
) -> None:
    convox.set_params(
        registry=services.registry_htpasswd,
        registry_username=services.htpasswd_user,
        registry_password=services.htpasswd_password,
    )
    remote.host = services.registry_htpasswd
    remote.login = f"{services.htpasswd_user}:{services.htpasswd_password}"
    remote.build(convox, three_services)


@pytest.mark.parametrize("kind", ["login", "identity token"])
def test_token_registry_with_dockers_login(
    services: Services, convox: Convox, three_services: Path, remote: Remote, kind: str
) -> None:
    remote.host = services.registry_token
    remote.login = f"{services.token_user}:{services.token_password}"
    entry = {"auth": base64.b64encode(remote.login.encode()).decode()}
    if kind == "identity token":
        entry = {"identitytoken": services.token_identity}
    (convox.config.parent / "docker").mkdir()
    (convox.config.parent / "docker/config.json").write_text(json.dumps({"auths": {services.registry_token: entry}}))
    convox.environ["DOCKER_CONFIG"] = str(convox.config.parent / "docker")
    convox.set_params(registry=services.registry_token)
    remote.build(convox, three_services)


def test_registry_with_a_path(services: Services, convox: Convox, make_app: MakeApp, remote: Remote) -> None:
    convox.set_params(registry=f"{services.registry}/team/images")
    remote.host += "/team/images"
    build_id, _ = convox.ok("build", str(make_app()), "-a", remote.app).ids
    assert remote.inspect(f"web.{build_id}")["Digest"]
    assert remote.inspect("web.buildcache", "--raw")


@pytest.mark.parametrize("cache", ["inline", "none"])
def test_other_caches(
    convox: Convox, own_buildkitd: OwnBuildkitd, make_app: MakeApp, remote: Remote, cache: str
) -> None:
    convox.environ["BUILDKIT_HOST"] = own_buildkitd.address
    convox.set_params(registry=remote.host, cache=cache)
    folder = make_app(f"{RUNS[0]}\n")
    convox.ok("build", str(folder), "-a", remote.app)
    own_buildkitd.prune_all()
    log = convox.ok("build", str(folder), "-a", remote.app).log
    assert outcome_of(log, "web", RUNS[0]) == ("CACHED" if cache == "inline" else "DONE")
    assert "buildcache" not in log


def test_compression_reaches_layers_and_cache(
    services: Services, convox: Convox, make_app: MakeApp, remote: Remote
) -> None:
    convox.set_params(registry=services.registry, compression="zstd")
    build_id, _ = convox.ok("build", str(make_app("RUN echo new > /new\n")), "-a", remote.app).ids
    for tag in (f"web.{build_id}", "web.buildcache"):
        manifest = remote.inspect(tag, "--raw")
        layers = manifest["layers"]
        assert isinstance(layers, list)
        # The base image's layer stays as it is, and a cache has its layers in no order.
        assert [one["mediaType"].rpartition("+")[2] for one in layers].count("zstd") == 1, layers
