"""Docker Hub's login reaches the daemon's pulls from Docker Hub, and nobody else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from convox.models import BuildStatus
from tests.integration.convox.harness import Convox, Result, write_app
from tests.integration.convox.hub import EVIL_HOST, HUB_HOSTS, LOGIN, PRIVATE_IMAGE, Hub, hub
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


def build(docker_hub: Hub, tmp_path: Path, image: str) -> Result:
    app = write_app(
        tmp_path / "app",
        {"convox.yml": "services:\n  web:\n    build: .\n", "Dockerfile": f"FROM {image}\nCOPY convox.yml /\n"},
    )
    return docker_hub.convox.run("build", str(app), "-a", "app")


def set_login(docker_hub: Hub, password: str) -> None:
    docker_hub.convox.set_params(docker_hub_username=USER, docker_hub_password=password)


def holds_password(request: dict[str, str]) -> bool:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return any(secret in text for secret in (PASSWORD, basic) for text in request.values())


def test_right_login_pulls(docker_hub: Hub, tmp_path: Path) -> None:
    set_login(docker_hub, PASSWORD)
    result = build(docker_hub, tmp_path, PRIVATE_IMAGE)
    assert result.code == 0, result.stdout + result.stderr
    asked = docker_hub.requests()
    # The password goes to where the hub's tokens come from, and there alone; the registry sees the token.
    assert {one["host"] for one in asked if holds_password(one)} == {"auth.docker.io"}
    assert {one["authorization"] for one in asked if one["host"] == "registry-1.docker.io"} == {"", "Bearer granted"}
    assert PASSWORD not in result.stdout + result.stderr
    assert PASSWORD.encode() not in docker_hub.daemon.log_path.read_bytes()


@pytest.mark.buildkit(">=0.22")
@pytest.mark.parametrize("password", ["wrong-password", ""], ids=["wrong", "none"])
def test_without_the_right_login_the_error_says_so(docker_hub: Hub, tmp_path: Path, password: str) -> None:
    if password:
        set_login(docker_hub, password)
    result = build(docker_hub, tmp_path, PRIVATE_IMAGE)
    assert result.code == 4
    assert "ERROR: build failed\n  why: service web: " in result.stderr
    assert "docker.io" in result.stderr
    assert "\n  try: convox rack params set docker_hub_username=… docker_hub_password=…" in result.stderr
    record = docker_hub.convox.build("app")
    assert record.status is BuildStatus.FAILED
    assert "docker.io" in record.reason
    assert "wrong-password" not in result.stdout + result.stderr + record.reason


def test_other_hosts_get_nothing(docker_hub: Hub, tmp_path: Path) -> None:
    """A host whose name begins as the hub's does, asking for a login."""
    set_login(docker_hub, PASSWORD)
    result = build(docker_hub, tmp_path, f"{EVIL_HOST}/acme/private")
    assert result.code == 4
    asked = docker_hub.requests()
    assert EVIL_HOST in {one["host"] for one in asked}
    assert not any(one["authorization"] or holds_password(one) for one in asked if one["host"] not in HUB_HOSTS)
    assert "docker_hub" not in result.stderr


def test_params_never_show_the_password(docker_hub: Hub) -> None:
    set_login(docker_hub, PASSWORD)
    for words in (["rack", "params"], ["rack", "params", "-g", "registry"], ["rack", "params", "--output", "json"]):
        shown = docker_hub.convox.ok(*words).stdout
        assert USER in shown
        assert PASSWORD not in shown
    assert PASSWORD in docker_hub.convox.ok("rack", "params", "--reveal").stdout
