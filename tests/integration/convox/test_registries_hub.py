"""``convox registries check`` and ``add`` for Docker Hub, against a stand-in under the hub's own names."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.convox.harness import Convox
from tests.integration.convox.hub import HUB_HOSTS, LOGIN, PRIVATE_IMAGE, RATE_LIMIT_PATH, Hub, hub
from tests.integration.convox.test_docker_hub import build, holds_password, set_login
from tests.support.services import Services

pytestmark = pytest.mark.services

USER, PASSWORD = LOGIN


@pytest.fixture(scope="module")
def stand_in(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with hub(services, folder, Convox(folder / "none", services)) as running:
        yield running


@pytest.fixture
def docker_hub(stand_in: Hub, tmp_path: Path) -> Hub:
    """The stand-in, with nothing asked yet, and the command with an empty config folder."""
    stand_in.forget()
    stand_in.convox.config = tmp_path / "config"
    return stand_in


def test_the_pulls_that_are_left(docker_hub: Hub) -> None:
    anonymous = docker_hub.convox.run("registries", "check")
    assert anonymous.code == 0
    assert anonymous.stdout == (
        "SERVER     LOGIN  USERNAME  SOURCE  PULLS LEFT\ndocker.io  none                     76 of 100 in 6h\n"
    )
    set_login(docker_hub, PASSWORD)
    with_login = docker_hub.convox.ok("registries", "check").stdout.splitlines()[1]
    assert with_login == (f"docker.io  works  {USER}  rack param docker_hub_username  187 of 200 in 6h")
    row = json.loads(docker_hub.convox.ok("registries", "check", "--output", "json").stdout)[0]
    assert row["limit"] == {"limit": 200, "remaining": 187, "window": 21600, "source": "203.0.113.5"}
    # Only questions that do not count as a pull, and no image; the password goes to the token server alone.
    asked = docker_hub.requests()
    registry = {one["path"] for one in asked if one["host"] == "registry-1.docker.io"}
    assert registry == {"/v2/", RATE_LIMIT_PATH}
    assert {one["host"] for one in asked if holds_password(one)} == {"auth.docker.io"}


def test_a_wrong_login(docker_hub: Hub) -> None:
    set_login(docker_hub, "wrong-canary")
    result = docker_hub.convox.run("registries", "check")
    assert result.code == 4
    assert "refused: HTTP 401" in result.stdout
    assert "canary" not in result.stdout + result.stderr


@pytest.mark.parametrize("server", ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"])
def test_a_login_that_was_added_pulls_under_every_name(docker_hub: Hub, tmp_path: Path, server: str) -> None:
    convox = docker_hub.convox
    assert convox.run("registries", "add", server, USER, "-", stdin=PASSWORD).code == 0
    result = build(docker_hub, tmp_path, PRIVATE_IMAGE)
    assert result.code == 0, result.stdout + result.stderr
    asked = docker_hub.requests()
    assert {one["host"] for one in asked if holds_password(one)} == {"auth.docker.io"}
    assert {one["host"] for one in asked} <= set(HUB_HOSTS)
    assert PASSWORD not in result.stdout + result.stderr
    row = json.loads(convox.ok("registries", "check", "--output", "json").stdout)[0]
    assert (row["server"], row["status"], row["source"]) == ("docker.io", "accepted", "convox registries")


def test_the_pull_secret_is_a_login_that_the_hub_takes(docker_hub: Hub) -> None:
    """What a node would send, as the kubelet reads the secret: user and password of the key that it looks up."""
    set_login(docker_hub, PASSWORD)
    secret = json.loads(docker_hub.convox.ok("rack", "pull-secret", "--output", "json").stdout)
    config = base64.b64decode(secret["data"][".dockerconfigjson"]).decode()
    folder = docker_hub.convox.config.parent / "node"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    docker_hub.convox.set_params(docker_hub_username="", docker_hub_password="")
    environ = dict(docker_hub.convox.environ)
    docker_hub.convox.environ["DOCKER_CONFIG"] = str(folder)
    try:
        row = json.loads(docker_hub.convox.ok("registries", "check", "--output", "json").stdout)[0]
    finally:
        docker_hub.convox.environ = environ
    assert (row["status"], row["username"], row["source"]) == ("accepted", USER, f"docker config {folder}/config.json")
