"""The services are what other tests take them for: registries that demand what they should, and a real builder.

A test of ours that passes against a registry that lets everybody in proves nothing; these tests would fail then.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.services import Services
from tests.support.token_server import ZERO_USER

pytestmark = pytest.mark.services

BASE = "/v2/library/busybox/manifests/latest"
BASE_SCOPE = "repository:library/busybox:pull"
ACCEPT = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


def ask(
    host: str, path: str, *, method: str = "GET", authorization: str = "", form: dict[str, str] | None = None
) -> Answer:
    connection = HTTPConnection(host, timeout=10)
    headers = {"Accept": ACCEPT}
    if authorization:
        headers["Authorization"] = authorization
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, body=urlencode(form) if form is not None else None, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def token_url(services: Services) -> tuple[str, str]:
    """Host and path of the token server, as the registry's challenge names them."""
    challenge = ask(services.registry_token, "/v2/").headers["www-authenticate"]
    realm = challenge.split('realm="', 1)[1].split('"', 1)[0]
    url = urlsplit(realm)
    return url.netloc, url.path


def get_token(services: Services, token_url: tuple[str, str], scope: str, authorization: str) -> Answer:
    host, path = token_url
    query = urlencode({"service": services.registry_token, "scope": scope})
    return ask(host, f"{path}?{query}", authorization=authorization)


def post_token(services: Services, token_url: tuple[str, str], **form: str) -> Answer:
    host, path = token_url
    fields = {"service": services.registry_token, "client_id": "tests", "scope": BASE_SCOPE, **form}
    return ask(host, path, method="POST", form=fields)


def test_open_registry_lets_everybody_in(services: Services) -> None:
    assert ask(services.registry, "/v2/").status == 200
    assert ask(services.registry, BASE).status == 200


class TestHtpasswdRegistry:
    def test_demands_a_login(self, services: Services) -> None:
        answer = ask(services.registry_htpasswd, BASE)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")

    def test_refuses_a_wrong_password_and_a_wrong_user(self, services: Services) -> None:
        for wrong in (basic(services.htpasswd_user, "wrong"), basic("wrong", services.htpasswd_password)):
            assert ask(services.registry_htpasswd, BASE, authorization=wrong).status == 401

    def test_takes_the_right_one(self, services: Services) -> None:
        right = basic(services.htpasswd_user, services.htpasswd_password)
        assert ask(services.registry_htpasswd, BASE, authorization=right).status == 200


class TestTokenRegistry:
    def test_challenge_names_realm_service_and_scope(self, services: Services) -> None:
        answer = ask(services.registry_token, BASE)
        assert answer.status == 401
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="http://127.0.0.1:')
        assert f'service="{services.registry_token}"' in challenge
        assert f'scope="{BASE_SCOPE}"' in challenge

    def test_password_is_not_taken_in_place_of_a_token(self, services: Services) -> None:
        direct = basic(services.token_user, services.token_password)
        assert ask(services.registry_token, BASE, authorization=direct).status == 401

    def test_every_way_to_a_token_opens_the_registry(self, services: Services, token_url: tuple[str, str]) -> None:
        login = basic(services.token_user, services.token_password)
        as_zero_user = basic(ZERO_USER, services.token_identity)
        answers = {
            "GET": get_token(services, token_url, BASE_SCOPE, login),
            "GET, identity token": get_token(services, token_url, BASE_SCOPE, as_zero_user),
            "POST password": post_token(
                services,
                token_url,
                grant_type="password",
                username=services.token_user,
                password=services.token_password,
            ),
            "POST refresh_token": post_token(
                services, token_url, grant_type="refresh_token", refresh_token=services.token_identity
            ),
        }
        opened = {}
        for way, answer in answers.items():
            assert answer.status == 200, way
            bearer = f"Bearer {answer.json['access_token']}"
            opened[way] = ask(services.registry_token, BASE, authorization=bearer).status
        assert opened == dict.fromkeys(answers, 200)

    def test_wrong_credentials_get_no_token(self, services: Services, token_url: tuple[str, str]) -> None:
        user = services.token_user
        statuses = [
            get_token(services, token_url, BASE_SCOPE, "").status,
            get_token(services, token_url, BASE_SCOPE, basic(user, "wrong")).status,
            get_token(services, token_url, BASE_SCOPE, basic(ZERO_USER, services.token_password)).status,
            post_token(services, token_url, grant_type="password", username=user, password="wrong").status,
            post_token(services, token_url, grant_type="refresh_token", refresh_token="wrong").status,
        ]
        assert statuses == [401] * 5

    def test_token_is_good_for_its_scope_alone(self, services: Services, token_url: tuple[str, str]) -> None:
        login = basic(services.token_user, services.token_password)
        answer = get_token(services, token_url, "repository:another/name:pull,push", login)
        bearer = f"Bearer {answer.json['token']}"
        refused = ask(services.registry_token, BASE, authorization=bearer)
        assert refused.status == 401
        assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]

    def test_registry_checks_the_signature(self, services: Services, token_url: tuple[str, str]) -> None:
        login = basic(services.token_user, services.token_password)
        token = str(get_token(services, token_url, BASE_SCOPE, login).json["token"])
        header, claims, signature = token.split(".")
        flipped = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
        assert ask(services.registry_token, BASE, authorization=f"Bearer {token}").status == 200
        forged = f"Bearer {header}.{claims}.{flipped}"
        assert ask(services.registry_token, BASE, authorization=forged).status == 401

    def test_token_says_when_it_ends(self, services: Services, token_url: tuple[str, str]) -> None:
        answer = get_token(services, token_url, BASE_SCOPE, basic(services.token_user, services.token_password)).json
        claims_part = str(answer["token"]).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(claims_part + "=" * (-len(claims_part) % 4)))
        assert claims["exp"] - claims["iat"] == answer["expires_in"]
        assert abs(claims["iat"] - time.time()) < 60
        assert claims["aud"] == services.registry_token


def login_for(services: Services, kind: str) -> tuple[str, dict[str, object]]:
    """Host of a registry and the docker configuration that opens it."""
    match kind:
        case "htpasswd":
            host = services.registry_htpasswd
            entry = {"auth": basic(services.htpasswd_user, services.htpasswd_password).removeprefix("Basic ")}
        case "token":
            host = services.registry_token
            entry = {"auth": basic(services.token_user, services.token_password).removeprefix("Basic ")}
        case "identity":
            host = services.registry_token
            entry = {"auth": basic(ZERO_USER, "").removeprefix("Basic "), "identitytoken": services.token_identity}
        case _:
            return services.registry, {}
    return host, {"auths": {host: entry}}


@pytest.mark.parametrize("kind", ["open", "htpasswd", "token", "identity"])
def test_a_real_build_runs_and_is_pushed(services: Services, tmp_path: Path, kind: str) -> None:
    host, config = login_for(services, kind)
    docker_config = tmp_path / "docker"
    docker_config.mkdir()
    (docker_config / "config.json").write_text(json.dumps(config))
    context = tmp_path / "context"
    context.mkdir()
    marker = uuid.uuid4().hex
    (context / "Dockerfile").write_text(f"FROM {services.base_image}\nRUN echo {marker} | tee /marker\n")
    image = f"{host}/services-test/{kind}:{marker}"

    built = buildctl(services, context, f"type=image,name={image},push=true", docker_config)
    assert built.returncode == 0, built.stderr
    assert f" {marker}\n" in built.stderr  # the step's output: RUN did run

    inspect = [str(services.skopeo), "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{image}"]
    with_login = [*inspect, "--authfile", str(docker_config / "config.json")]
    found = subprocess.run(with_login, capture_output=True, text=True, check=True).stdout.strip()
    assert found.startswith("sha256:")
    if kind != "open":
        assert subprocess.run([*inspect, "--no-creds"], capture_output=True, check=False).returncode != 0
        (docker_config / "config.json").write_text("{}")
        refused = buildctl(services, context, f"type=image,name={image}-2,push=true", docker_config)
        assert refused.returncode != 0


def test_registry_lets_manifests_be_deleted(services: Services, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {services.base_image}\nLABEL unique={uuid.uuid4()}\n")
    repository = f"services-test/deleted-{uuid.uuid4().hex}"
    pushed = buildctl(
        services,
        tmp_path,
        f"type=image,name={services.registry}/{repository}:1,push=true,oci-mediatypes=true",
        tmp_path,
    )
    assert pushed.returncode == 0, pushed.stderr
    tagged = ask(services.registry, f"/v2/{repository}/manifests/1")
    digest = tagged.headers["docker-content-digest"]
    assert ask(services.registry, f"/v2/{repository}/manifests/{digest}", method="DELETE").status == 202
    assert ask(services.registry, f"/v2/{repository}/manifests/1").status == 404


def test_base_image_is_the_same_in_every_registry(services: Services, token_url: tuple[str, str]) -> None:
    token = get_token(services, token_url, BASE_SCOPE, basic(services.token_user, services.token_password)).json[
        "token"
    ]
    answers = [
        ask(services.registry, BASE),
        ask(services.registry_htpasswd, BASE, authorization=basic(services.htpasswd_user, services.htpasswd_password)),
        ask(services.registry_token, BASE, authorization=f"Bearer {token}"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({answer.headers["docker-content-digest"] for answer in answers}) == 1


def test_base_image_has_every_applet_and_the_usual_files(services: Services, tmp_path: Path) -> None:
    """The step ends with an error when a link points nowhere or /tmp is not for everybody."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM {services.base_image}\n"
        "RUN set -eu; count=0; for path in $(busybox --list-full | grep /); do "
        '[ -x "/$path" ] || { echo "no $path"; exit 1; }; count=$((count+1)); done; [ $count -gt 200 ]\n'
        'RUN [ "$(stat -c %a /tmp)" = 1777 ] && [ "$(id -un)" = root ] && [ "$(id -un nobody)" = nobody ]\n'
        "USER nobody\nRUN echo x > /tmp/x\n"
    )
    done = buildctl(services, tmp_path, "type=image", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.buildkit(">=0.17")
def test_tls_address_demands_the_client_certificate(services: Services) -> None:
    if services.tls_addr is None or services.tls_dir is None:
        pytest.skip("the buildkitd in use is not ours: nothing is known of its TLS")
    ca = ["--tlscacert", f"{services.tls_dir}/ca.pem"]
    own = ["--tlscert", f"{services.tls_dir}/cert.pem", "--tlskey", f"{services.tls_dir}/key.pem"]
    command = [str(services.buildctl), "--addr", services.tls_addr]
    ask_workers = ["debug", "workers"]
    welcome = subprocess.run([*command, *ca, *own, *ask_workers], capture_output=True, text=True, check=False)
    assert welcome.returncode == 0, welcome.stderr
    stranger = subprocess.run([*command, *ca, *ask_workers], capture_output=True, text=True, check=False)
    assert stranger.returncode != 0  # the certificate is the only difference
    assert "PLATFORMS" in welcome.stdout
    assert "PLATFORMS" not in stranger.stdout


@pytest.mark.buildkit(">=0.12")
def test_daemon_is_new_enough(services: Services) -> None:
    assert services.buildkit_satisfies(">=0.12")
    assert not services.buildkit_satisfies("<0.12")


def buildctl(services: Services, context: Path, output: str, docker_config: Path) -> subprocess.CompletedProcess[str]:
    """Build a folder with the Dockerfile frontend."""
    local = [f"--local={name}={context}" for name in ("context", "dockerfile")]
    return subprocess.run(
        [services.buildctl, "build", "--progress=plain", "--frontend=dockerfile.v0", *local, "--output", output],
        env={"BUILDKIT_HOST": services.buildkit_host, "DOCKER_CONFIG": str(docker_config), "HOME": str(docker_config)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
