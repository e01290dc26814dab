"""Logins at real registries: Basic authentication as DigitalOcean's, tokens as Azure's; pulls, pushes, wrong ones."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid

import pytest

from buildkit_client import Client, CredentialsError, DockerfileFrontend, ImageExporter, SolveError
from buildkit_client.oci.credentials import ChainCredentials, Credentials, DockerConfig, StaticCredentials
from tests.support.own_buildkitd import OwnBuildkitd


@pytest.fixture
def own(services, tmp_path):
    """A daemon that nobody has logged in to a registry with: daemons remember tokens."""
    with OwnBuildkitd(services, tmp_path) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def logins(services):
    """Each way to log in, with the registry it is for."""
    user, password = services.token_user, services.token_password
    return {
        "basic": (services.registry_htpasswd, Credentials(services.htpasswd_user, services.htpasswd_password)),
        "token": (services.registry_token, Credentials(user, password)),
        "identity": (services.registry_token, Credentials(identity_token=services.token_identity)),
    }


WAYS = ("basic", "token", "identity")


def solve(address, tmp_path, text, credentials, *, push="", on_status=None):
    (tmp_path / "Dockerfile").write_text(text)
    exporters = [ImageExporter(name=push, push=True)] if push else []
    with Client(address) as client:
        return client.solve(
            DockerfileFrontend(),
            local_dirs={"dockerfile": tmp_path, "context": tmp_path},
            exporters=exporters,
            credentials=credentials,
            on_status=on_status,
        )


def pushed_digest(services, tmp_path, name, login):
    """Ask another program what lies in the registry."""
    user, secret = login
    auth = base64.b64encode(f"{user}:{secret}".encode()).decode()
    authfile = tmp_path / "authfile.json"
    authfile.touch(mode=0o600)
    authfile.write_text(json.dumps({"auths": {name.split("/")[0]: {"auth": auth}}}))
    done = subprocess.run(
        [services.skopeo, "inspect", "--tls-verify=false", "--authfile", authfile, f"docker://{name}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["Digest"]


@pytest.mark.parametrize("way", WAYS)
def test_pull_and_push(own, services, logins, tmp_path, way):
    registry, login = logins[way]
    name = f"{registry}/tests/credentials:{uuid.uuid4().hex}"
    text = f"FROM {registry}/library/busybox\nRUN echo {name} > /name\n"
    seen = []
    result = solve(
        own.address,
        tmp_path,
        text,
        StaticCredentials({registry: login}),
        push=name,
        on_status=lambda update: seen.extend(vertex.name for vertex in update.vertexes),
    )
    assert result.digest.startswith("sha256:")
    reader = {"basic": (services.htpasswd_user, services.htpasswd_password)}.get(
        way, (services.token_user, services.token_password)
    )
    assert pushed_digest(services, tmp_path, name, reader) == result.digest
    assert any(line.startswith("[auth] ") and registry in line for line in seen)
    assert not any(login.password and login.password in line for line in seen)


@pytest.mark.parametrize("way", WAYS)
def test_wrong_logins_are_refused(own, logins, tmp_path, way):
    registry, login = logins[way]
    wrong = Credentials(identity_token="not-a-token") if way == "identity" else Credentials(login.username, "wrong")
    for text, push in (
        (f"FROM {registry}/library/busybox\n", ""),
        ("FROM scratch\nCOPY Dockerfile /\n", f"{registry}/tests/refused:latest"),
    ):
        with pytest.raises(SolveError if way == "basic" else CredentialsError) as caught:
            solve(own.address, tmp_path, text, StaticCredentials({registry: wrong}), push=push)
        error = caught.value
        assert registry in f"{error}{error.why}"
        assert error.hint
        if isinstance(error, SolveError):
            assert error.kind == "auth"
        else:
            assert error.host == registry
            assert "refused" in str(error)


@pytest.mark.parametrize("way", ["basic", "token"])
def test_without_a_login_nothing_goes(own, logins, tmp_path, way):
    registry, _ = logins[way]
    with pytest.raises(SolveError if way == "basic" else CredentialsError) as caught:
        solve(own.address, tmp_path, f"FROM {registry}/library/busybox\n", StaticCredentials({}))
    assert registry in f"{caught.value}{caught.value.why}"


def test_a_docker_config_serves_several_registries_in_one_build(own, services, logins, tmp_path):
    """Pull from one registry, copy from another, push to the first: each gets its own login and no other."""
    asked = []

    class Recorded:
        def __init__(self, inner):
            self.inner = inner

        def lookup(self, host):
            asked.append(host)
            return self.inner.lookup(host)

    def auth(login):
        return {"auth": base64.b64encode(f"{login.username}:{login.password}".encode()).decode()}

    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {registry: auth(login) for registry, login in
                                            (logins["basic"], logins["token"])}}))  # fmt: skip
    first, second = services.registry_htpasswd, services.registry_token
    name = f"{first}/tests/credentials:{uuid.uuid4().hex}"
    text = f"FROM {first}/library/busybox\nCOPY --from={second}/library/busybox /bin/busybox /copied\n"
    result = solve(own.address, tmp_path, text, Recorded(DockerConfig(config)), push=name)
    assert (
        pushed_digest(services, tmp_path, name, (services.htpasswd_user, services.htpasswd_password)) == result.digest
    )
    assert set(asked) == {first, second}


def test_a_later_session_without_login_does_not_profit_from_an_earlier_one(own, logins, tmp_path):
    """The daemon remembers tokens; only who proves to have the login may use them."""
    registry, login = logins["token"]
    text = f"FROM {registry}/library/busybox\nRUN echo {time.time()}\n"
    assert solve(own.address, tmp_path, text, StaticCredentials({registry: login})).ref
    with pytest.raises(CredentialsError, match="wants a login"):
        solve(own.address, tmp_path, text.replace("busybox", "busybox:latest"), StaticCredentials({}))
    assert solve(own.address, tmp_path, text, StaticCredentials({registry: login})).ref


def test_the_first_of_several_sources_that_knows_the_host_wins(own, logins, tmp_path):
    registry, login = logins["basic"]
    other, _ = logins["token"]
    chain = ChainCredentials(
        StaticCredentials({other: Credentials("nobody", "nothing")}), StaticCredentials({registry: login})
    )
    assert solve(own.address, tmp_path, f"FROM {registry}/library/busybox\nRUN true\n", chain).ref
