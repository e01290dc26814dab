"""Which credentials a rack's builds have, and which builder they reach."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from buildkit_client.oci import CredentialsProvider
from convox.builder import connect, credentials
from convox.errors import BuilderError, ExitCode, RackError
from convox.rack import Rack

HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
OTHERS = (
    "127.0.0.1:5000",
    "docker.io.evil.example",
    "evildocker.io",
    "registry-1.docker.io.evil.example",
    "ghcr.io",
    "localhost",
    "notregistry.example.com:5000",
    "quay.io",
    "registry.example.com",
    "registry.example.com.evil.example:5000",
    "registry.example.com:50001",
    "registry.example.com:5001",
)


def rack(tmp_path: Path, **params: str) -> Rack:
    return Rack(name="test", path=tmp_path, params=params)


def secret_for(provider: CredentialsProvider, host: str) -> str:
    found = provider.lookup(host)
    return "" if found is None else found.login[1]


class TestCredentials:
    def test_hub_login_is_for_the_hub_alone(self, tmp_path: Path) -> None:
        provider = credentials(
            rack(tmp_path, docker_hub_username="u", docker_hub_password="hub-secret"),
            docker_config_path=tmp_path / "none",
        )
        assert [secret_for(provider, host) for host in HUB_NAMES] == ["hub-secret"] * len(HUB_NAMES)
        assert [secret_for(provider, host) for host in OTHERS] == [""] * len(OTHERS)

    def test_registry_login_is_for_its_host_and_port_alone(self, tmp_path: Path) -> None:
        provider = credentials(
            rack(
                tmp_path,
                registry="registry.example.com:5000/team",
                registry_username="docker",
                registry_password="registry-secret",
            ),
            docker_config_path=tmp_path / "none",
        )
        assert secret_for(provider, "registry.example.com:5000") == "registry-secret"
        assert [secret_for(provider, host) for host in (*HUB_NAMES, *OTHERS)] == [""] * len((*HUB_NAMES, *OTHERS))

    def test_login_without_a_registry_is_for_nobody(self, tmp_path: Path) -> None:
        provider = credentials(
            rack(tmp_path, registry_username="docker", registry_password="x"), docker_config_path=tmp_path / "none"
        )
        assert provider.lookup("docker.io") is None

    def test_racks_login_comes_before_dockers(self, tmp_path: Path) -> None:
        auth = base64.b64encode(b"u:dockers-secret").decode()
        hosts = ("https://index.docker.io/v1/", "other.example.com")
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))
        provider = credentials(
            rack(tmp_path, docker_hub_username="u", docker_hub_password="racks-secret"),
            docker_config_path=tmp_path / "config.json",
        )
        assert secret_for(provider, "docker.io") == "racks-secret"
        assert secret_for(provider, "other.example.com") == "dockers-secret"

    @pytest.mark.parametrize("prefix", ["docker_hub", "registry"])
    @pytest.mark.parametrize(("given", "missing"), [("username", "password"), ("password", "username")])
    def test_half_a_login(self, tmp_path: Path, prefix: str, given: str, missing: str) -> None:
        with pytest.raises(RackError, match=f"the rack has no param {prefix}_{missing}") as caught:
            credentials(rack(tmp_path, **{f"{prefix}_{given}": "canary"}), docker_config_path=tmp_path)
        assert "canary" not in f"{caught.value} {caught.value.why} {caught.value.hint}"

    def test_passwords_are_in_no_repr(self, tmp_path: Path) -> None:
        provider = credentials(
            rack(tmp_path, docker_hub_username="u", docker_hub_password="canary"), docker_config_path=tmp_path
        )
        assert "canary" not in repr(provider) + repr(vars(provider))


class TestConnect:
    def test_says_what_each_address_lacks(self, tmp_path: Path) -> None:
        builders = f"unix://{tmp_path}/one,somewhere"
        with pytest.raises(BuilderError) as caught:
            connect(rack(tmp_path, builder=builders), buildkit_host="unix:///ignored")
        lines = caught.value.why.splitlines()
        assert lines[0] == f"unix://{tmp_path}/one: there is no socket {tmp_path}/one"
        assert lines[1].startswith("somewhere: ")
        assert caught.value.exit_code is ExitCode.CONNECTION

    def test_environment_counts_without_a_param(self, tmp_path: Path) -> None:
        with pytest.raises(BuilderError, match=f"cannot reach buildkitd at unix://{tmp_path}/env"):
            connect(rack(tmp_path), buildkit_host=f"unix://{tmp_path}/env")

    def test_client_certificate_without_its_key(self, tmp_path: Path) -> None:
        with pytest.raises(BuilderError, match="needs both its certificate and its key"):
            connect(rack(tmp_path, builder="tcp://127.0.0.1:1", tls_cert="/x"), buildkit_host="")
