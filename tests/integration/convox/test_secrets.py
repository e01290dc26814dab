"""Passwords of a rack are nowhere but in its parameters: not in what is shown, kept, built or started."""

from __future__ import annotations

import base64
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox, Result
from tests.support.fake_registry import FakeRegistry
from tests.support.services import Services

pytestmark = pytest.mark.services


@pytest.fixture
def hub_password() -> str:
    return f"hub-canary-{uuid.uuid4().hex}"


def forms(secret: str) -> list[bytes]:
    """Return a secret as it would be found: in clear, and as part of a basic login."""
    found = [secret.encode()]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode())
        found.append(encoded[(offset * 8 + 5) // 6 : (offset + len(secret)) * 8 // 6])
    return found


def check_absent(secrets: list[str], *texts: str | bytes) -> None:
    for text in texts:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        for secret in secrets:
            for form in forms(secret):
                assert form not in data


def check_folder(secrets: list[str], folder: Path) -> None:
    """Check every file but the parameters, which alone may know."""
    seen = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "params.json":
            check_absent(secrets, path.read_bytes(), path.name)
            seen += 1
    assert seen


@contextmanager
def watching_processes(config: Path, secrets: list[str]) -> Iterator[None]:
    """Look at the command line and the environment of the command and all it starts, again and again.

    They are known by the config folder in their environment; other tests' processes may show what they like.
    """
    found: list[str] = []
    looks = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal looks
        while not stop.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    environ, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
                    if f"CONVOX_CONFIG={config}\0".encode() in environ:
                        looks += 1
                        found.extend(repr(command) for secret in secrets if secret.encode() in environ + command)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert looks > 5
    assert found == []


def set_secret(convox: Convox, name: str, value: str) -> None:
    result = convox.run("rack", "params", "set", f"{name}=-", stdin=value)
    assert (result.code, result.stderr) == (0, "")


def set_logins(convox: Convox, services: Services, registry_password: str, hub_password: str) -> None:
    set_secret(convox, "registry_password", registry_password)
    set_secret(convox, "docker_hub_password", hub_password)
    convox.set_params(registry_username=services.htpasswd_user, docker_hub_username="somebody")


def run_everything(convox: Convox, app: Path, secrets: list[str]) -> Result:
    """Build, and ask every command about it; return the build's result."""
    with watching_processes(convox.config, secrets):
        result = convox.run("build", str(app), "-a", "app")
    check_absent(secrets, result.stdout, result.stderr)
    build_id = convox.build("app").id
    for words in (
        ["builds", "-a", "app"],
        ["builds", "info", build_id, "--output", "json", "-a", "app"],
        ["builds", "logs", build_id, "-a", "app"],
        ["releases", "-a", "app"],
        ["rack", "params", "--output", "json"],
    ):
        shown = convox.run(*words)
        check_absent(secrets, shown.stdout, shown.stderr)
    check_folder(secrets, convox.config)
    return result


@pytest.mark.parametrize("debug", ["", "1"])
def test_build_that_uses_a_login(
    services: Services, convox: Convox, make_app: MakeApp, hub_password: str, debug: str
) -> None:
    convox.environ["CONVOX_DEBUG"] = debug
    secrets = [services.htpasswd_password, hub_password]
    set_logins(convox, services, *secrets)
    convox.set_params(registry=services.registry_htpasswd)
    assert run_everything(convox, make_app("RUN sleep 0.3\n"), secrets).code == 0


@pytest.mark.parametrize("debug", ["", "1"])
def test_login_that_is_refused(convox: Convox, make_app: MakeApp, hub_password: str, debug: str) -> None:
    convox.environ["CONVOX_DEBUG"] = debug
    wrong = f"registry-canary-{uuid.uuid4().hex}"
    set_logins(convox, convox.services, wrong, hub_password)
    with FakeRegistry() as registry:
        registry.auth = "bearer"
        registry.expect_violations = True
        convox.set_params(registry=registry.host)
        result = run_everything(convox, make_app("RUN sleep 0.3\n"), [wrong, hub_password])
        assert registry.scopes_asked, "the login was not tried"
    assert result.code == 4
    assert ("Traceback" in result.stderr) is bool(debug)


def test_image_layout_knows_nothing(services: Services, convox: Convox, make_app: MakeApp, hub_password: str) -> None:
    secrets = [services.htpasswd_password, hub_password]
    set_logins(convox, services, *secrets)
    run_everything(convox, make_app("RUN sleep 0.3\n"), secrets)
    assert convox.layout_path.is_dir()


class TestPrinted:
    """What a Dockerfile itself says or prints is hidden as well."""

    def test_password(self, convox: Convox, make_app: MakeApp, hub_password: str) -> None:
        set_logins(convox, convox.services, "another-secret", hub_password)
        half = len(hub_password) // 2
        lines = f"RUN echo {hub_password}\n"
        lines += f"RUN printf '%s' before-{hub_password[:half]}; sleep 0.3; echo {hub_password[half:]}-after\n"
        lines += f"RUN echo basic $(echo -n u:{hub_password} | base64 -w0)\n"
        result = convox.ok("build", str(make_app(lines)), "-a", "app")
        check_absent([hub_password], result.stdout, convox.log("app", result.ids[0]))
        assert "] RUN echo ***\n" in result.log
        assert " before-***-after\n" in result.log
        assert convox.ok("builds", "logs", result.ids[0], "-a", "app").stdout == result.log

    def test_password_in_a_command_that_fails(self, convox: Convox, make_app: MakeApp, hub_password: str) -> None:
        set_logins(convox, convox.services, "another-secret", hub_password)
        result = convox.run("build", str(make_app(f"RUN echo {hub_password}; exit 3\n")), "-a", "app")
        record = convox.build("app")
        check_absent([hub_password], result.stdout, result.stderr, record.reason, convox.log("app", record.id))
        assert ">>> RUN echo ***; exit 3\n" in result.stderr
        assert record.reason == "service web: RUN echo ***; exit 3 ended with exit code 3"

    def test_build_argument_with_the_name_of_a_secret(self, convox: Convox, make_app: MakeApp) -> None:
        """The builder shows commands with the values of their arguments."""
        token = f"npm-canary-{uuid.uuid4().hex}"
        app = make_app("ARG NPM_TOKEN\nARG COLOUR\nRUN echo $NPM_TOKEN $COLOUR; exit 4\n")
        args = ["--build-args", f"NPM_TOKEN={token}", "--build-args", "COLOUR=darkblue"]
        result = convox.run("build", str(app), "-a", "app", *args)
        record = convox.build("app")
        check_absent([token], result.stdout, result.stderr, record.reason, convox.log("app", record.id))
        assert " *** darkblue\n" in result.stdout
        assert record.reason == "service web: RUN echo *** darkblue; exit 4 ended with exit code 4"
