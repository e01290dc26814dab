"""Secrets of every kind, and every command there is: nothing shows one but what is asked to, and few files know one."""

from __future__ import annotations

import base64
import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox, Result
from tests.integration.convox.test_secrets import check_absent, watching_processes
from tests.support.exports import contents_as_they_are
from tests.support.services import Services

pytestmark = pytest.mark.services

KNOWING = {"params.json": ("registry", "hub"), "registries.json": ("other",), "store.db": ("env",)}
"""Which secrets a file may have; those of the store also lie in what SQLite has beside it."""

DOCKERFILE = """\
ARG API_TOKEN
RUN echo token=$API_TOKEN
RUN --mount=type=secret,id=npm cat /run/secrets/npm; echo; sleep 0.3
"""


@pytest.fixture
def canaries(services: Services) -> dict[str, str]:
    """A secret of each kind, by what it is for; the registry's is one that works."""
    made = {name: f"{name}-canary-{uuid.uuid4().hex}" for name in ("hub", "other", "env", "npm", "wrong")}
    return {"registry": services.htpasswd_password, **made}


@pytest.fixture
def app(
    services: Services, convox: Convox, make_app: MakeApp, canaries: dict[str, str], tmp_path: Path
) -> Iterator[Path]:
    """An app on a rack that has all of them, none of which was an argument or in the environment."""
    (tmp_path / "npm").write_text(canaries["npm"])
    with watching_processes(convox.config, list(canaries.values())):
        for name, secret in (("registry_password", "registry"), ("docker_hub_password", "hub")):
            fed(convox, canaries[secret], "rack", "params", "set", f"{name}=-")
        words = [f"registry={services.registry_htpasswd}", f"registry_username={services.htpasswd_user}"]
        convox.ok("rack", "params", "set", "docker_hub_username=me", *words)
        fed(convox, canaries["other"], "registries", "add", services.registry_token, "me", "--password-stdin")
        fed(convox, f"API_TOKEN={canaries['env']}\n", "env", "set", "-a", "app")
    yield make_app(DOCKERFILE)


def fed(convox: Convox, secret: str, *words: str) -> None:
    """Run a command that reads a secret from stdin, must succeed, and says nothing of it."""
    done = convox.run(*words, stdin=secret)
    assert (done.code, done.stderr) == (0, ""), done.stderr
    check_absent([secret.strip().partition("=")[2] or secret], done.stdout)


def test_no_command_shows_one(
    services: Services, convox: Convox, app: Path, canaries: dict[str, str], tmp_path: Path
) -> None:
    convox.environ["CONVOX_DEBUG"] = "1"  # with tracebacks
    secrets = list(canaries.values())

    def run(*words: str, stdin: str = "", env: dict[str, str] | None = None) -> Result:
        before = dict(convox.environ)
        convox.environ |= env or {}
        try:
            done = convox.run(*words, cwd=app, stdin=stdin)
        finally:
            convox.environ = before
        check_absent(secrets, done.stdout, done.stderr)
        return done

    secret_flag = f"id=npm,src={tmp_path}/npm"
    with watching_processes(convox.config, secrets):
        built = run("build", "-a", "app", "--secret", secret_flag)
        failed = run("build", "-a", "app", "--secret", "id=npm,env=NOT_SET")
    assert built.code == 0, built.stderr
    assert " ***\n" in built.stdout and "token=***\n" in built.stdout
    assert failed.code == 2
    first = convox.build("app").id
    changed = app / "Dockerfile"
    changed.write_text(changed.read_text() + "RUN exit 3\n")
    assert run("build", "-a", "app", "--secret", secret_flag).code == 1
    second = convox.build("app").id
    release = convox.build("app", first).release

    for words in (
        ["build", "--print", "--secret", secret_flag],
        ["builds"],
        ["builds", "info", second],
        ["builds", "logs", second],
        ["builds", "diff", first, second],
        ["builds", "cancel", first],
        ["releases"],
        ["releases", "info", release],
        ["releases", "manifest", release],
        ["releases", "promote", release],
        ["releases", "rollback", release],
        ["releases", "create-from", "--build-from", release, "--env-from", release],
        ["apps", "info"],
        ["apps", "params"],
        ["env"],
        ["env", "set", "ANOTHER=1"],
        ["env", "unset", "ANOTHER"],
        ["env", "get", "NOT_SET"],
    ):
        run(*words, "-a", "app")
        if words[:2] not in (["builds", "logs"], ["builds", "cancel"], ["releases", "manifest"], ["env", "get"]):
            json.loads(run(*words, "-a", "app", "--output", "json").stdout)
    for words in (
        ["apps"],
        ["racks"],
        ["rack"],
        ["rack", "params"],
        ["rack", "params", "-g", "security"],
        ["registries"],
        ["registries", "check", services.registry_htpasswd, services.registry_token],
        ["builder", "status"],
    ):
        run(*words)
        json.loads(run(*words, "--output", "json").stdout)

    # What goes wrong with one in its hands.
    wrong, image = canaries["wrong"], f"{services.registry_htpasswd}/app:web.{first}"
    for words, stdin in (
        (["rack", "params", "set", f"registry_password={wrong}", "bogus=1"], ""),
        (["rack", "params", "set", "registry_password=-"], f"{wrong}\n{wrong}"),
        (["rack", "params", "set", f"registry_password=@{wrong}"], ""),
        (["rack", "params", "set", f"store=postgresql://me:{wrong}@127.0.0.1:1/x", "bogus=1"], ""),
        (["rack", "install", "do", "second", f"token={wrong}", "bogus=1"], ""),
        (["registries", "add", f"me:{wrong}@registry.example.com", "me", "-"], wrong),
        (["registries", "add", "registry.example.com", "m:e", "-"], wrong),
        (["env", "set", "-a", "app"], f"not a name={wrong}"),
        (["env", "set", "-a", "app", wrong], ""),
        (["build", "--secret", f"id=x,{wrong}"], ""),
        (["build", "--build-args", f"1BAD={wrong}"], ""),
        (["build", "--cache-to", f"type=gha,token={wrong}"], ""),
        (["builds", "import-image", image, "--src-creds-user", "me", "--src-creds-pass-stdin"], wrong),
    ):
        assert run(*words, stdin=stdin).code != 0, words
    given = {"SOURCE_PASSWORD": wrong}
    words = ["builds", "import-image", image, "--src-creds-user", "me", "--src-creds-pass-env", "SOURCE_PASSWORD"]
    assert run(*words, env=given).code == 4

    export = tmp_path / "export.tgz"
    run("builds", "export", first, "-a", "app", "-f", str(export))
    # An image's history has the values of build arguments; a line in the build's log warns of that.
    check_absent([secret for name, secret in canaries.items() if name != "env"], gzip.decompress(export.read_bytes()))
    records = contents_as_they_are(export.read_bytes())
    check_absent(secrets, *(records[name] for name in ("build.json", "releases.json", "build.log")))
    assert "build argument API_TOKEN looks like a secret" in built.stdout
    run("builds", "import", "-f", str(export), "--inspect")
    assert run("builds", "import", "-f", str(export), "-a", "other").code == 0
    check_files(convox.config, canaries)

    # And what is asked to show one does, and only that one.
    for words, shown in (
        (["rack", "params", "--reveal"], {"registry", "hub"}),
        (["env", "--reveal", "-a", "app"], {"env"}),
        (["env", "get", "API_TOKEN", "-a", "app"], {"env"}),
        (["releases", "info", release, "--reveal", "-a", "app"], {"env"}),
    ):
        text = convox.ok(*words).stdout
        assert {name for name, secret in canaries.items() if secret in text} == shown, words
    for words, shown in (
        (["rack", "pull-secret"], {"hub"}),
        (["rack", "pull-secret", "--all"], {"hub", "registry", "other"}),
    ):
        data = json.loads(convox.ok(*words, "--output", "json").stdout)["data"][".dockerconfigjson"]
        auths = json.loads(base64.b64decode(data))["auths"].values()
        text = "\n".join(base64.b64decode(auth["auth"]).decode() for auth in auths)
        assert {name for name, secret in canaries.items() if secret in text} == shown, words


def check_files(folder: Path, canaries: dict[str, str]) -> None:
    """Check each file of the config folder for secrets that it has no business with."""
    names = set()
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.name.removesuffix("-wal").removesuffix("-shm")
            names.add(name)
            may = KNOWING.get(name, ())
            check_absent([secret for kind, secret in canaries.items() if kind not in may], path.read_bytes())
            assert path.stat().st_mode & 0o077 == 0 or "images" in path.parts, path
    assert names >= KNOWING.keys()
