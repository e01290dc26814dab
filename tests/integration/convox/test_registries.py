"""``convox registries``: logins for pulls, pushes and caches, tried against real registries."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest

from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox, outcome_of, write_app
from tests.integration.convox.test_registry import Remote
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

pytestmark = pytest.mark.services

RUN = "RUN echo $(date +%s%N) > /made"


def add(convox: Convox, server: str, user: str, password: str) -> None:
    result = convox.run("registries", "add", server, user, "--password-stdin", stdin=f"{password}\n")
    assert (result.code, result.stdout, result.stderr) == (0, "Adding registry... OK\n", "")


def add_services(convox: Convox, services: Services) -> None:
    add(convox, services.registry_htpasswd, services.htpasswd_user, services.htpasswd_password)
    add(convox, services.registry_token, services.token_user, services.token_password)


@pytest.mark.parametrize("kind", ["htpasswd", "token"])
def test_pull_push_and_cache(
    services: Services, convox: Convox, own_buildkitd: OwnBuildkitd, make_app: MakeApp, tmp_path: Path, kind: str
) -> None:
    """One app is pushed; another pulls it as its base; a builder that lost everything has its steps from the cache."""
    convox.environ["BUILDKIT_HOST"] = own_buildkitd.address
    is_token = kind == "token"
    host = services.registry_token if is_token else services.registry_htpasswd
    base, app = (f"app-{uuid.uuid4().hex[:12]}" for _ in range(2))
    convox.set_params(registry=host)
    folder = make_app(f"{RUN}\n")
    refused = convox.run("build", str(folder), "-a", base)
    assert refused.code == 4, refused.stderr
    add_services(convox, services)
    build_id, _ = convox.ok("build", str(folder), "-a", base).ids
    remote = Remote(services, base)
    remote.host = host
    remote.login = (
        f"{services.token_user}:{services.token_password}"
        if is_token
        else f"{services.htpasswd_user}:{services.htpasswd_password}"
    )
    assert remote.inspect(f"web.{build_id}")["Digest"] == convox.build(base).images["web"]
    cache = remote.inspect("web.buildcache", "--raw")
    assert cache["mediaType"] == "application/vnd.oci.image.manifest.v1+json"

    own_buildkitd.prune_all()
    second = write_app(
        tmp_path / "second",
        {
            "convox.yml": "services:\n  web:\n    build: .\n",
            "Dockerfile": f"FROM {host}/{base}:web.{build_id}\n{RUN}\n",
        },
    )
    convox.ok("build", str(second), "-a", app)
    own_buildkitd.prune_all()
    log = convox.ok("build", str(folder), "-a", base).log
    assert outcome_of(log, "web", RUN) == "CACHED"

    own_buildkitd.prune_all()
    convox.ok("registries", "remove", host)
    assert convox.run("build", str(second), "-a", app).code == 4
    for text in convox.config.parent.rglob("*.log"):
        assert services.htpasswd_password not in text.read_text()


def test_checking(services: Services, convox: Convox) -> None:
    open_host, htpasswd, token = services.registry, services.registry_htpasswd, services.registry_token
    add(convox, htpasswd, services.htpasswd_user, services.htpasswd_password)
    add(convox, token, services.token_user, "wrong-canary")
    result = convox.run("registries", "check", open_host, htpasswd, token, "127.0.0.1:1")
    assert result.code == 4
    assert result.stderr == ""
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[1:]] == [
        open_host,
        htpasswd,
        token,
        "127.0.0.1:1",
    ]
    rows = json.loads(convox.run("registries", "check", open_host, htpasswd, token, "--output", "json").stdout)
    assert [(row["server"], row["status"], row["source"]) for row in rows] == [
        (open_host, "open", ""),
        (htpasswd, "accepted", "convox registries"),
        (token, "refused", "convox registries"),
    ]
    assert "canary" not in result.stdout
    unreached = convox.run("registries", "check", "127.0.0.1:1")
    assert unreached.code == 1
    assert "not reached: no connection: Connection refused" in unreached.stdout
    add(convox, token, services.token_user, services.token_password)
    assert convox.run("registries", "check", htpasswd, token).code == 0


def test_checking_names_each_source(services: Services, convox: Convox, tmp_path: Path) -> None:
    htpasswd, token = services.registry_htpasswd, services.registry_token
    login = f"{services.htpasswd_user}:{services.htpasswd_password}"
    (tmp_path / "docker").mkdir()
    auths = {htpasswd: {"auth": base64.b64encode(login.encode()).decode()}}
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": auths, "credHelpers": {token: "fake"}}))
    helper = tmp_path / "bin/docker-credential-fake"
    helper.parent.mkdir()
    answer = {"ServerURL": token, "Username": services.token_user, "Secret": services.token_password}
    helper.write_text(f"#!/bin/sh\ncat <<'X'\n{json.dumps(answer)}\nX\n")
    helper.chmod(0o755)
    convox.environ |= {"DOCKER_CONFIG": str(tmp_path / "docker"), "PATH": f"{helper.parent}:/usr/bin:/bin"}
    rows = json.loads(convox.ok("registries", "check", htpasswd, token, "--output", "json").stdout)
    config = f"docker config {tmp_path}/docker/config.json"
    assert [(row["status"], row["source"]) for row in rows] == [
        ("accepted", config),
        ("accepted", f"docker-credential-fake ({config})"),
    ]
    convox.set_params(
        registry=htpasswd, registry_username=services.htpasswd_user, registry_password=services.htpasswd_password
    )
    row = json.loads(convox.ok("registries", "check", htpasswd, "--output", "json").stdout)[0]
    assert (row["status"], row["source"]) == ("accepted", "rack param registry_username")


def test_an_identity_token_as_azure_has_it(services: Services, convox: Convox) -> None:
    """The user of zeros: what ``az acr login --expose-token`` gives goes where a refresh token goes."""
    from buildkit_client.oci import RegistryClient, StaticCredentials
    from convox.providers import ACR_TOKEN_USER, login

    found = login("acme.azurecr.io", ACR_TOKEN_USER, services.token_identity)
    provider = StaticCredentials({services.registry_token: found})
    with RegistryClient(services.registry_token, provider) as registry:
        registry.ping()
        from buildkit_client.oci import check_login

    assert check_login(services.registry_token, provider).status == "accepted"
    # The same two texts, as a registry of another name gets them: the token server takes them as user and password.
    add(convox, services.registry_token, ACR_TOKEN_USER, services.token_identity)
    assert convox.run("registries", "check", services.registry_token).code == 0


def test_a_name_like_the_registrys_gets_nothing(services: Services, convox: Convox) -> None:
    add_services(convox, services)
    port = services.registry_htpasswd.rpartition(":")[2]
    rows = json.loads(convox.run("registries", "check", f"localhost:{port}", "--output", "json").stdout)
    assert [(row["status"], row["username"]) for row in rows] == [("anonymous", "")]
