"""How a rack's login becomes the one that its kind of registry takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.oci import CredentialsProvider
from convox.errors import RackError
from convox.logins import rack_credentials
from convox.providers import ACR_TOKEN_USER, PROFILES, login, profile_for
from convox.rack import Rack
from convox.registries import Registry, add_registry
from tests.support.fake_ecr import FakeEcr

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
KEY = json.dumps({"type": "service_account", "private_key": "canary\n"})


@pytest.fixture
def ecr() -> Iterator[FakeEcr]:
    with FakeEcr() as fake:
        yield fake


def provider_of(path: Path, environ: dict[str, str] | None = None, **params: str) -> CredentialsProvider:
    rack = Rack(name="test", path=path, params=params)
    return rack_credentials(rack, docker_config_path=path / "none", environ=environ)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("acme.azurecr.io", "acr"),
        ("acme-h3fdg2hs.azurecr.io", "acr"),
        ("ACME.azurecr.cn", "acr"),
        ("acme.azurecr.io.evil.example", "plain"),
        ("azurecr.io", "plain"),
        ("registry.digitalocean.com", "docr"),
        ("registry.digitalocean.com:5000", "plain"),
        ("my.registry.digitalocean.com", "plain"),
        (ECR, "ecr"),
        ("public.ecr.aws", "plain"),
        ("europe-west1-docker.pkg.dev", "gar"),
        ("gcr.io", "gar"),
        ("eu.gcr.io", "gar"),
        ("evilgcr.io", "plain"),
        ("a.b.gcr.io", "plain"),
        ("harbor.example.com", "plain"),
        ("docker.io", "plain"),
        ("ghcr.io", "plain"),
    ],
)
def test_the_host_says_whose_it_is(host: str, name: str) -> None:
    assert profile_for(host).name == name


def test_every_profile_says_how_to_log_in() -> None:
    assert all(profile.login_hint and profile.title for profile in PROFILES)


@pytest.mark.parametrize(
    ("host", "given", "expected"),
    [
        ("acme.azurecr.io", ("client-id", "secret"), ("client-id", "secret")),
        ("acme.azurecr.io", (ACR_TOKEN_USER, "jwt"), ("", "jwt")),
        ("registry.digitalocean.com", ("", "dop_v1_x"), ("dop_v1_x", "dop_v1_x")),
        ("registry.digitalocean.com", ("me@example.com", "dop_v1_x"), ("me@example.com", "dop_v1_x")),
        ("europe-docker.pkg.dev", ("", KEY), ("_json_key", KEY)),
        ("europe-docker.pkg.dev", ("", "ya29.token"), ("oauth2accesstoken", "ya29.token")),
        ("gcr.io", ("oauth2accesstoken", "ya29.token"), ("oauth2accesstoken", "ya29.token")),
        ("harbor.example.com", ("robot$ci", "secret"), ("robot$ci", "secret")),
        (ECR, ("AWS", "password"), ("AWS", "password")),
    ],
)
def test_logins(host: str, given: tuple[str, str], expected: tuple[str, str]) -> None:
    assert login(host, *given).login == expected


def test_a_google_key_in_base64() -> None:
    packed = base64.b64encode(KEY.encode()).decode()
    assert login("gcr.io", "", packed).login == ("_json_key_base64", packed)


def test_an_identity_token_is_not_sent_as_a_password() -> None:
    found = login("acme.azurecr.io", ACR_TOKEN_USER, "jwt")
    assert (found.identity_token, found.password) == ("jwt", "")


def test_digitalocean_takes_the_token_that_the_rack_was_installed_with(tmp_path: Path) -> None:
    host = "registry.digitalocean.com"
    found = provider_of(tmp_path, registry=f"{host}/acme", provider="do", token="dop_v1_x").lookup(host)
    assert found is not None
    assert found.login == ("dop_v1_x", "dop_v1_x")
    assert provider_of(tmp_path, registry="else.example.com", token="x").lookup(host) is None
    assert provider_of(tmp_path, registry=f"{host}/acme").lookup(host) is None


def test_a_password_alone_is_enough_where_the_registry_needs_no_user(tmp_path: Path) -> None:
    found = provider_of(tmp_path, registry="gcr.io/acme", registry_password="ya29.x").lookup("gcr.io")
    assert found is not None
    assert found.login == ("oauth2accesstoken", "ya29.x")
    assert found.source == "rack param registry_password"
    with pytest.raises(RackError, match="registry_username"):
        provider_of(tmp_path, registry="harbor.example.com", registry_password="x")


def test_ecr_keys_of_the_rack_are_for_its_registry(tmp_path: Path, ecr: FakeEcr) -> None:
    key_id, secret = next(iter(ecr.keys.items()))
    provider = provider_of(
        tmp_path,
        {"AWS_ENDPOINT_URL_ECR": ecr.url},
        registry=f"{ECR}/acme",
        registry_username=key_id,
        registry_password=secret,
    )
    found = provider.lookup(ECR)
    assert found is not None
    assert found.login == ("AWS", "ecr-password-1")
    assert provider.lookup(ECR.replace("1234", "9999")) is None
    assert len(ecr.asked) == 1


def test_ecr_keys_of_convox_registries(tmp_path: Path, ecr: FakeEcr) -> None:
    key_id, secret = next(iter(ecr.keys.items()))
    rack = Rack(name="test", path=tmp_path)
    add_registry(rack, Registry(server=ECR, username=key_id, password=secret))
    found = provider_of(tmp_path, {"AWS_ENDPOINT_URL": ecr.url}).lookup(ECR)
    assert found is not None
    assert (found.login, found.source) == (("AWS", "ecr-password-1"), "convox registries (ECR token)")


def test_ecr_keys_of_the_environment_come_last(tmp_path: Path, ecr: FakeEcr) -> None:
    key_id, secret = next(iter(ecr.keys.items()))
    environ = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL_ECR": ecr.url}
    found = provider_of(tmp_path, environ).lookup(ECR)
    assert found is not None
    assert found.source == "AWS_ACCESS_KEY_ID (ECR token)"
    found = provider_of(tmp_path, environ, registry=ECR, registry_username="AWS", registry_password="p").lookup(ECR)
    assert found is not None
    assert found.login == ("AWS", "p")
    assert provider_of(tmp_path, environ).lookup("docker.io") is None
    assert provider_of(tmp_path).lookup(ECR) is None


def test_a_user_that_ecr_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(RackError, match="neither AWS nor the id of an access key") as caught:
        provider_of(tmp_path, registry=ECR, registry_username="me", registry_password="canary")
    assert "access key" in caught.value.hint
    assert "canary" not in f"{caught.value}{caught.value.hint}"


def test_the_order_of_sources(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path)
    for server in ("docker.io", "registry.example.com", "quay.io"):
        add_registry(rack, Registry(server=server, username="added", password="p"))
    auth = base64.b64encode(b"dockers:p").decode()
    hosts = ("https://index.docker.io/v1/", "registry.example.com", "quay.io", "ghcr.io")
    (tmp_path / "none").write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))
    provider = provider_of(
        tmp_path,
        docker_hub_username="hub",
        docker_hub_password="p",
        registry="registry.example.com/team",
        registry_username="rack",
        registry_password="p",
    )
    found = {
        host: provider.lookup(host) for host in ("docker.io", "registry.example.com", "quay.io", "ghcr.io", "x.io")
    }
    assert {host: one and (one.username, one.source.partition(" /")[0]) for host, one in found.items()} == {
        "docker.io": ("hub", "rack param docker_hub_username"),
        "registry.example.com": ("rack", "rack param registry_username"),
        "quay.io": ("added", "convox registries"),
        "ghcr.io": ("dockers", "docker config"),
        "x.io": None,
    }


def test_a_login_of_convox_registries_is_for_its_host_alone(tmp_path: Path) -> None:
    add_registry(
        Rack(name="test", path=tmp_path), Registry(server="registry.example.com:5000", username="u", password="p")
    )
    provider = provider_of(tmp_path)
    assert provider.lookup("REGISTRY.example.com.:5000") is not None
    for host in (
        "registry.example.com",
        "registry.example.com:5001",
        "registry.example.com.evil.org:5000",
        "evilregistry.example.com:5000",
        "docker.io",
    ):
        assert provider.lookup(host) is None, host
