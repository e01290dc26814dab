"""``convox builds import-image``: what is printed, which logins are used, and what is left when it fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.oci import Credentials, Descriptor, ImageLayout, Reference, RegistryClient, push_image
from buildkit_client.oci.credentials import StaticCredentials
from convox.models import Build, BuildStatus, Release, now
from tests.support.convox_cli import Result, open_local_store, run
from tests.support.exports import MANIFEST
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import add_image, add_platforms

PRINTED = re.compile(
    r"Creating build\.\.\. OK, (B[A-Z]{10})\n"
    r"Relaying image (\S+)\.\.\. OK\n"
    r"Waiting for import to complete\.\.\. OK\n"
    r"Creating release\.\.\. OK, (R[A-Z]{10})\n"
    r"Build:   (B[A-Z]{10})\n"
    r"Release: (R[A-Z]{10})\n"
)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "layout")


@pytest.fixture
def image(registry: FakeRegistry, layout: ImageLayout, config_path: Path) -> str:
    """An image for two platforms, in the registry; and a manifest of two services."""
    Path("convox.yml").write_text(MANIFEST)
    return pushed(registry, layout, add_platforms(layout), "team/image:1")


def pushed(registry: FakeRegistry, layout: ImageLayout, descriptor: Descriptor, name: str) -> str:
    login = StaticCredentials({registry.host: Credentials(*registry.login)})
    with RegistryClient(registry.host, login) as client:
        push_image(client, layout, descriptor, Reference.parse(f"{registry.host}/{name}"))
    return f"{registry.host}/{name}"


def newest(config_path: Path) -> Build:
    store = open_local_store(config_path)
    build = store.list_builds("web", limit=1)[0]
    store.close()
    return build


def ids(result: Result, image: str) -> tuple[str, str]:
    match = PRINTED.fullmatch(result.stdout.decode())
    assert match is not None, (result.stdout, result.stderr)
    assert match[2] == image
    assert (match[1], match[3]) == (match[4], match[5])
    return match[1], match[3]


def test_into_a_layout(image: str, layout: ImageLayout, config_path: Path) -> None:
    result = run("builds", "import-image", image)
    assert (result.code, result.stderr) == (0, b"7 blobs sent (1.13 kB), 0 already there (0 B)\n")
    build_id, release_id = ids(result, image)
    build = newest(config_path)
    digest = add_platforms(layout).digest
    assert (build.id, build.status, build.release) == (build_id, BuildStatus.COMPLETE, release_id)
    assert dict(build.images) == {"web": digest, "worker": digest}
    assert build.manifest == MANIFEST
    target = ImageLayout(config_path / "racks" / "local" / "images")
    for service in ("web", "worker"):
        found = target.find(f"localhost/web:{service}.{build_id}")
        assert found is not None and found.digest == digest
        target.verify(found)
    log = run("builds", "logs", build_id).stdout.decode()
    reference = image.rpartition(":")[0]
    assert log == f"web | {reference}@{digest}\nworker | {reference}@{digest}\n"
    assert run("releases", "manifest", release_id).stdout.decode().strip() == MANIFEST.strip()


def test_into_a_registry_without_a_copy_here(image: str, registry: FakeRegistry, config_path: Path) -> None:
    with FakeRegistry() as other:
        assert run("rack", "params", "set", f"registry={other.host}").code == 0
        registry.seen.clear()
        build_id, _ = ids(run("builds", "import-image", image), image)
        digest = registry.tags["team/image", "1"]
        assert other.tags == {("web", f"web.{build_id}"): digest, ("web", f"worker.{build_id}"): digest}
        blobs = [seen.path for seen in registry.requests("GET", "/blobs/")]
        assert len(blobs) == len(set(blobs)) > 0
    assert not (config_path / "racks" / "local" / "images").exists()


def test_blobs_are_shared_within_one_registry(image: str, registry: FakeRegistry) -> None:
    assert run("rack", "params", "set", f"registry={registry.host}").code == 0
    registry.seen.clear()
    ids(run("builds", "import-image", image), image)
    assert registry.requests("GET", "/blobs/") == []
    assert all("mount=" in seen.query for seen in registry.requests("POST", "/blobs/uploads/"))


def test_services_with_an_image_of_their_own(
    image: str, registry: FakeRegistry, layout: ImageLayout, config_path: Path
) -> None:
    own = pushed(registry, layout, add_image(layout, [b"own"]), "own:2")
    Path("other.yml").write_text(f"services:\n  web:\n    build: .\n  cache:\n    image: {own}\n")
    ids(run("builds", "import-image", image, "-m", "other.yml"), image)
    assert dict(newest(config_path).images) == {
        "web": registry.tags["team/image", "1"],
        "cache": registry.tags["own", "2"],
    }


def test_one_platform_where_the_rack_names_one(image: str, layout: ImageLayout, config_path: Path) -> None:
    assert run("rack", "params", "set", "platform=linux/arm64").code == 0
    ids(run("builds", "import-image", image), image)
    build = newest(config_path)
    target = ImageLayout(config_path / "racks" / "local" / "images")
    found = target.find(f"localhost/web:web.{build.id}")
    assert found is not None
    assert target.read_config(found).platform.architecture == "arm64"
    assert found.digest == build.images["web"] != add_platforms(layout).digest
    assert run("rack", "params", "set", "platform=linux/s390x").code == 0
    result = run("builds", "import-image", image)
    assert result.code == 5
    assert b"linux/s390x" in result.stderr


def test_the_environment_of_the_app(image: str, config_path: Path) -> None:
    Path("convox.yml").write_text("environment:\n  - NEEDED\n" + MANIFEST)
    result = run("builds", "import-image", image)
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"ERROR: required env: NEEDED\n")
    store = open_local_store(config_path)
    store.create_release(Release(id="RAAAAAAAAAA", app="web", env="NEEDED=1", created=now()))
    store.close()
    _, release_id = ids(run("builds", "import-image", image), image)
    store = open_local_store(config_path)
    assert store.get_release("web", release_id).env == "NEEDED=1"
    store.close()


# --- logins ---


@pytest.fixture
def private(image: str, registry: FakeRegistry) -> str:
    """The same image; the registry wants a login now."""
    registry.auth = "basic"
    return image


def test_a_password_from_the_environment(private: str, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    user, password = registry.login
    monkeypatch.setenv("SOURCE_PASSWORD", password)
    words = ["--src-creds-user", user, "--src-creds-pass-env", "SOURCE_PASSWORD"]
    ids(run("builds", "import-image", private, *words), private)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nsecond line\n"])
def test_a_password_from_stdin(private: str, registry: FakeRegistry, end: str) -> None:
    user, password = registry.login
    words = ["--src-creds-user", user, "--src-creds-pass-stdin"]
    ids(run("builds", "import-image", private, *words, stdin=(password + end).encode()), private)


def test_a_password_on_the_command_line(private: str, registry: FakeRegistry) -> None:
    user, password = registry.login
    result = run("builds", "import-image", private, f"--src-creds-user={user}", f"--src-creds-pass={password}")
    ids(result, private)
    assert result.stderr.startswith(b"WARNING: --src-creds-pass shows the password")
    assert password.encode() not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--src-creds-pass=CANARY", "--src-creds-pass-stdin"],
            "at most one of --src-creds-pass, --src-creds-pass-env",
        ),
        (["--src-creds-pass-env=A", "--src-creds-pass-stdin"], "at most one of --src-creds-pass, --src-creds-pass-env"),
        (["--src-creds-pass-env=NOT_SET_ANYWHERE"], "--src-creds-pass-env=NOT_SET_ANYWHERE: environment variable not"),
        (["--src-creds-pass-stdin"], "--src-creds-pass-stdin: no input received"),
        (["--src-creds-user=me"], "a user name and its password are only of use together"),
    ],
)
def test_logins_that_are_none(image: str, words: list[str], expected: str) -> None:
    result = run("builds", "import-image", image, *words)
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.decode().startswith(f"ERROR: {expected}")
    assert b"CANARY" not in result.stderr
    assert run("builds").code == 1


def test_a_login_goes_to_no_other_registry(private: str, registry: FakeRegistry, layout: ImageLayout) -> None:
    with FakeRegistry() as other:
        own = pushed(other, layout, add_image(layout), "own:2")
        Path("convox.yml").write_text(f"services:\n  web:\n    build: .\n  cache:\n    image: {own}\n")
        other.auth = "basic"
        other.login = ("somebody", "else")
        user, password = registry.login
        words = ["--src-creds-user", user, "--src-creds-pass-stdin"]
        result = run("builds", "import-image", private, *words, stdin=password.encode())
        assert result.code == 4
        assert all("Authorization" not in seen.headers for seen in other.seen if "own" in seen.path)


# --- failures ---


@pytest.mark.parametrize(
    "source", ["", "registry.example.com/UPPER:1", "a b", "x:y:z", "-x/y", "image@sha256:123", "../../x"]
)
def test_what_is_no_image(image: str, source: str) -> None:
    result = run("builds", "import-image", "--", source)
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"ERROR: not an image reference")
    assert run("builds").code == 1


def test_what_was_typed_is_looked_at_first(image: str) -> None:
    Path("convox.yml").unlink()
    result = run("builds", "import-image", "foo//bar")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"ERROR: not an image reference: 'foo//bar'\n")


def test_a_manifest_that_is_not_there(image: str) -> None:
    result = run("builds", "import-image", image, "-m", "nothing.yml")
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"ERROR: no such file: nothing.yml")
    assert run("builds").code == 1


def test_an_image_that_is_not_there(image: str, config_path: Path) -> None:
    result = run("builds", "import-image", image.replace(":1", ":2"))
    assert result.code == 5
    assert result.stdout.endswith(b"... ")
    build = newest(config_path)
    assert build.status is BuildStatus.FAILED
    assert result.stderr.decode().split("\n")[0].removeprefix("ERROR: ") in build.reason
    assert run("builds", "logs", build.id).stdout == f"ERROR: {build.reason}\n".encode()


def test_a_failure_in_the_middle(image: str, registry: FakeRegistry, config_path: Path) -> None:
    with FakeRegistry() as other:
        run("rack", "params", "set", f"registry={other.host}")
        other.faults.append(Fault("PUT", "/manifests/", count=50, status=400))
        assert run("builds", "import-image", image).code == 5
        assert other.tags == {}
    store = open_local_store(config_path)
    assert [build.status for build in store.list_builds("web")] == [BuildStatus.FAILED]
    assert store.list_releases("web") == []
    store.close()
