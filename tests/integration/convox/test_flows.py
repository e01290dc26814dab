"""A build's whole way, as a person goes it, with what every command of it prints."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from convox.models import Build
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import STEPS, Convox
from tests.support.own_registry import token_registry
from tests.support.services import Services
from tests.support.token_server import Account, TokenServer

pytestmark = pytest.mark.services

MANIFEST = "services:\n  cache:\n    image: {image}\n  web:\n    build: .\n  same:\n    build: .\n"
AGO = r"(?:now|\d+ seconds? ago|1 minute ago)"


def new_app() -> str:
    return f"app-{uuid.uuid4().hex[:12]}"


def digest(services: Services, image: str, login: tuple[str, str]) -> str:
    """Return an image's digest in a registry, as skopeo sees it."""
    command = [str(services.skopeo), "inspect", "--tls-verify=false", "--creds", ":".join(login), f"docker://{image}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)["Digest"]
    assert isinstance(value, str)
    return value


def newest(convox: Convox, rack: str, app: str) -> Build:
    store = convox.store(rack)
    try:
        return store.list_builds(app, limit=1)[0]
    finally:
        store.close()


def add_login(convox: Convox, rack: str, host: str, login: tuple[str, str]) -> None:
    words = ("registries", "add", host, login[0], "--password-stdin", "-r", rack)
    done = convox.run(*words, stdin=f"{login[1]}\n")
    assert (done.code, done.stdout, done.stderr) == (0, "Adding registry... OK\n", "")


def test_from_one_rack_to_another(services: Services, convox: Convox, make_app: MakeApp, tmp_path: Path) -> None:
    """Build, look at it, export it, import it into a second app and on a second rack: registries agree on each image.

    The first rack's registry takes a password, the second one's gives out tokens.
    """
    places = {
        "first": (services.registry_htpasswd, (services.htpasswd_user, services.htpasswd_password)),
        "second": (services.registry_token, (services.token_user, services.token_password)),
    }
    for rack, (host, login) in places.items():
        assert convox.ok("rack", "install", "do", rack, f"registry={host}").stdout == "Installing rack... OK\n"
        add_login(convox, rack, host, login)
    assert convox.ok("switch", "fir").stdout == "Switched to first\n"

    app = new_app()
    folder = make_app(
        'RUN echo web > /web\nENTRYPOINT ["/web", "--on"]\n', manifest=MANIFEST.format(image=services.base_image)
    )
    result = convox.ok("build", str(folder), "-a", app, "-d", "the first")
    assert result.stderr == ""
    assert result.stdout.startswith(STEPS)
    build_id, release_id = result.ids
    built = newest(convox, "first", app)
    assert (built.id, built.release, built.entrypoint) == (build_id, release_id, "/web --on")
    assert built.images["web"] == built.images["same"] != built.images["cache"]

    listing = convox.ok("builds", "-a", app).stdout
    row = rf"{build_id}  complete  {release_id}  {AGO} +\d+s +the first"
    assert re.fullmatch(rf"ID +STATUS +RELEASE +STARTED +ELAPSED +DESCRIPTION\n{row}\n", listing), listing
    info = convox.ok("builds", "info", build_id, "-a", app).stdout
    assert re.fullmatch(
        rf"Id           {build_id}\nStatus       complete\nRelease      {release_id}\nDescription  the first\n"
        rf"Started      {AGO}\nElapsed      \d+s\n",
        info,
    ), info
    record = json.loads(convox.ok("builds", "info", build_id, "-a", app, "--output", "json").stdout)
    assert record == built.to_json()
    log = convox.ok("builds", "logs", build_id, "-a", app).stdout
    assert log == result.log

    export = tmp_path / "build.tgz"
    assert convox.ok("builds", "export", build_id, "-a", app, "-f", str(export)).stdout == "Exporting build... OK\n"
    for rack, target in (("first", new_app()), ("second", new_app())):
        words = ("builds", "import", "-f", str(export), "-a", target, "-r", rack)
        match = re.fullmatch(r"Importing build\.\.\. OK, (R[A-Z]{10})\n", convox.ok(*words).stdout)
        assert match is not None
        copy = newest(convox, rack, target)
        assert (copy.release, copy.description, copy.git_sha) == (match[1], "the first", built.git_sha)
        assert dict(copy.images) == dict(built.images)
        host, login = places[rack]
        for service, expected in built.images.items():
            assert digest(services, f"{host}/{target}:{service}.{copy.id}", login) == expected
            if rack == "first":
                assert digest(services, f"{host}/{app}:{service}.{build_id}", login) == expected
        assert convox.ok("builds", "logs", copy.id, "-a", target, "-r", rack).stdout == log
        promoted = convox.ok("releases", "promote", "-a", target, "-r", rack)
        assert promoted.stdout == f"Promoting {copy.release}... \nOK\n"
        assert re.search(
            rf"^{copy.release}  active  {copy.id}  {AGO} +the first$",
            convox.ok("releases", "-a", target, "-r", rack).stdout,
            re.MULTILINE,
        )


LIFETIME_S = 10
BYTES_PER_S = 250_000
LAYER_BYTES = 3_500_000  # takes longer than a token lives


@pytest.fixture
def short_tokens(services: Services, tmp_path: Path) -> Iterator[tuple[str, TokenServer]]:
    account = Account(services.token_user, services.token_password, services.token_identity)
    with token_registry(tmp_path / "registry", account, lifetime_s=LIFETIME_S, bytes_per_s=BYTES_PER_S) as running:
        yield running


@pytest.mark.parametrize("kind", ["login", "identity token"])
def test_tokens_that_end_during_a_push(
    services: Services,
    convox: Convox,
    make_app: MakeApp,
    tmp_path: Path,
    short_tokens: tuple[str, TokenServer],
    kind: str,
) -> None:
    """The push of a build takes longer than its token lives, and so does an import; both ask for another one."""
    host, tokens = short_tokens
    login = (services.token_user, services.token_password)
    convox.set_params(registry=host)
    if kind == "login":
        add_login(convox, "local", host, login)
    else:
        docker = tmp_path / "docker"
        docker.mkdir()
        entry = {"auth": base64.b64encode(f"{login[0]}:".encode()).decode(), "identitytoken": services.token_identity}
        (docker / "config.json").write_text(json.dumps({"auths": {host: entry}}))
        convox.environ["DOCKER_CONFIG"] = str(docker)
    app = new_app()
    folder = make_app(f"RUN head -c {LAYER_BYTES} /dev/urandom > /large\n")
    began = time.monotonic()
    build_id, _ = convox.ok("build", str(folder), "-a", app).ids
    assert time.monotonic() - began > LIFETIME_S
    assert digest(services, f"{host}/{app}:web.{build_id}", login) == convox.build(app, build_id).images["web"]
    assert_asked_twice(tokens, app)

    # A layer that the registry does not have yet, in a file.
    convox.ok("build", str(folder), "-a", "local", "--no-push", "--no-cache")
    export = tmp_path / "build.tgz"
    convox.ok("builds", "export", convox.build("local").id, "-a", "local", "-f", str(export))
    copy = new_app()
    began = time.monotonic()
    convox.ok("builds", "import", "-f", str(export), "-a", copy)
    assert time.monotonic() - began > LIFETIME_S
    imported = convox.build(copy)
    assert digest(services, f"{host}/{copy}:web.{imported.id}", login) == imported.images["web"]
    assert_asked_twice(tokens, copy)


def assert_asked_twice(tokens: TokenServer, app: str) -> None:
    """Check that more than one token was given for pushing an app's images."""
    pushes = [
        request
        for request in tokens.requests
        if request.status == 200 and any(f"{app}:" in scope and "push" in scope for scope in request.scopes)
    ]
    assert len(pushes) > 1, tokens.requests
