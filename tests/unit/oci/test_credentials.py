"""Where registry logins come from, and whom they are given to."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
import time
import traceback
from pathlib import Path

import pytest

from buildkit_client.errors import BuildKitError, CredentialsError, OptionError
from buildkit_client.oci.credentials import (
    CACHE_S,
    DOCKER_HUB_HOSTS,
    ChainCredentials,
    Credentials,
    DockerConfig,
    DockerHubCredentials,
    StaticCredentials,
    default_docker_config_path,
    normalize_host,
)

CANARY = "s3cr3tcanary"
BOB = Credentials("bob", CANARY)


def basic(username: str = "bob", password: str = CANARY) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def shown(error: BuildKitError) -> str:
    return "\n".join(["".join(traceback.format_exception(error)), repr(error), error.why, error.hint])


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Home:
    """A folder with a config file and credential helpers that write down what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "config.json"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "calls"
        self.clock = Clock()
        self.env = {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def write(self, document: object) -> None:
        self.path.write_text(document if isinstance(document, str) else json.dumps(document))

    def config(self, document: object = None, *, timeout_s: float = 10.0) -> DockerConfig:
        if document is not None:
            self.write(document)
        return DockerConfig(self.path, env=self.env, helper_timeout_s=timeout_s, clock=self.clock)

    def helper(self, script: str, name: str = "test") -> None:
        path = self.bin / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\nserver=$(cat)\necho "{name} $# $* $server" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def answer(username: str = "bob", secret: str = CANARY) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': username, 'Secret': secret})}'"


def failure(config: DockerConfig, host: str = "registry.test") -> CredentialsError:
    with pytest.raises(CredentialsError) as caught:
        config.lookup(host)
    return caught.value


# -- hosts


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("Registry.Example.COM", "registry.example.com"),
        ("registry.example.com.", "registry.example.com"),
        ("registry.example.com.:5000", "registry.example.com:5000"),
        ("localhost:5000", "localhost:5000"),
        ("my_registry", "my_registry"),
        ("[::1]:5000", "[::1]:5000"),
        ("[0:0::1]", "[::1]"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("Registry-1.docker.io.", "docker.io"),
        ("registry-1.docker.io:443", "registry-1.docker.io:443"),
        ("auth.docker.io", "auth.docker.io"),
        ("evil-docker.io", "evil-docker.io"),
    ],
)
def test_normalize_host(host: str, normal: str) -> None:
    assert normalize_host(host) == normal


@pytest.mark.parametrize(
    "host",
    ["", ".", "a b", "a\n", "a\nb", "a/b", "https://a", "a:b", "a:", ":5000", "u@a", "[zz]", "[::1", "a\0", "x" * 301,
     "\N{KELVIN SIGN}elvin.test", "é.test", "-a\r\nb"],
)  # fmt: skip
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(CredentialsError, match="not a registry host"):
        normalize_host(host)


# -- explicit logins


def test_a_login_is_for_its_host_only() -> None:
    provider = StaticCredentials({"registry.example.com": BOB, "other.example.com:5000": BOB})
    for host in ("registry.example.com", "REGISTRY.example.com", "registry.example.com.", "other.example.com:5000"):
        assert provider.lookup(host) == BOB, host
    for host in (
        "registry.example.com.evil.org", "registry.example.com:5000", "registry.example.com:443", "example.com",
        "evil-registry.example.com", "xregistry.example.com", "registryxexample.com", "other.example.com",
        "other.example.com:50001", "other.example.com:500", "registry.example.com..",
    ):  # fmt: skip
        assert provider.lookup(host) is None, host


def test_docker_hub_login_is_for_docker_hub_only() -> None:
    for provider in (
        DockerHubCredentials("bob", CANARY), StaticCredentials({"https://index.docker.io/v1/": BOB}),
        StaticCredentials({"registry-1.docker.io": BOB}), StaticCredentials(dict.fromkeys(DOCKER_HUB_HOSTS, BOB)),
    ):  # fmt: skip
        assert [provider.lookup(host) for host in sorted(DOCKER_HUB_HOSTS)] == [BOB, BOB, BOB]
        for host in (
            "ghcr.io",
            "docker.io.evil.org",
            "evil.docker.io",
            "auth.docker.io",
            "docker.io:5000",
            "xdocker.io",
        ):
            assert provider.lookup(host) is None, host


def test_static_keys_are_checked() -> None:
    with pytest.raises(OptionError, match="not a registry host"):
        StaticCredentials({"a b": BOB})
    with pytest.raises(OptionError, match=r"two different logins for registry docker\.io"):
        StaticCredentials({"docker.io": BOB, "index.docker.io": Credentials("eve", "x")})


def test_chain_takes_the_first_hit_and_asks_no_further(home: Home) -> None:
    first, second = (
        StaticCredentials({"a.test": BOB}),
        StaticCredentials({"a.test": Credentials("eve", "x"), "b.test": BOB}),
    )
    chain = ChainCredentials(first, second, home.config("this is not JSON"))
    found = chain.lookup("a.test")
    assert found is not None
    assert (found.username, found.source) == ("bob", "given explicitly")
    assert chain.lookup("b.test") == BOB
    with pytest.raises(CredentialsError, match="docker config"):
        chain.lookup("c.test")


def test_login_pair() -> None:
    assert BOB.login == ("bob", CANARY)
    assert Credentials("bob", "pw", identity_token="id").login == ("", "id")
    assert Credentials("bob").is_empty
    assert not Credentials(registry_token="t").is_empty


def test_secrets_do_not_show_in_reprs() -> None:
    credentials = Credentials("bob", CANARY, CANARY, CANARY, source="here")
    assert repr(credentials) == "Credentials(username='bob', source='here')"
    with pytest.raises(OptionError) as caught:
        Credentials("bob", "\ud800" + CANARY)
    assert CANARY not in str(caught.value)


# -- docker's config file


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (basic(), BOB),
        (basic(password="a:b:c"), Credentials("bob", "a:b:c")),
        ({"auth": base64.b64encode(b"bob:pw\0\0").decode()}, Credentials("bob", "pw")),
        ({"auth": "Ym9i\nOnB3\r\n"}, Credentials("bob", "pw")),
        ({"username": "bob", "password": CANARY}, BOB),
        ({"username": "eve", "password": "x", **basic()}, BOB),
        ({"identitytoken": "id"}, Credentials(identity_token="id")),
        ({**basic("0000", ""), "identitytoken": "id"}, Credentials("0000", identity_token="id")),
        ({"registrytoken": "rt"}, Credentials(registry_token="rt")),
        ({"IdentityToken": "id", "Username": "x"}, Credentials("x", identity_token="id")),
        ({}, None),
        (basic(password=""), None),
        ({"auth": "", "email": "x"}, None),
        ({"auth": None}, None),
    ],
)
def test_entries(home: Home, entry: object, expected: Credentials | None) -> None:
    found = home.config({"auths": {"registry.test": entry}}).lookup("registry.test")
    assert found == expected
    if found is not None:
        assert found.source == f"docker config {home.path}"


@pytest.mark.parametrize(
    "key",
    ["registry.test", "Registry.Test.", "https://registry.test", "https://registry.test/", "http://registry.test/v1/",
     "https://registry.test/v2/", "registry.test/v1/", "https://user@registry.test/"],
)  # fmt: skip
def test_keys_are_hosts_or_urls(home: Home, key: str) -> None:
    config = home.config({"auths": {key: basic()}})
    assert config.lookup("registry.test") == BOB
    assert config.lookup("registry.test:5000") is None
    assert config.lookup("registry.test.evil.org") is None


@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1",
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "https://registry-1.docker.io/v2/",
    ],
)
@pytest.mark.parametrize("host", sorted(DOCKER_HUB_HOSTS))
def test_docker_hub_under_all_names(home: Home, key: str, host: str) -> None:
    assert home.config({"auths": {key: basic()}}).lookup(host) == BOB


def test_docker_desktops_own_entries_are_no_registry_logins(home: Home) -> None:
    auths = {
        "https://index.docker.io/v1/access-token": basic("a", "x"),
        "https://index.docker.io/v1/refresh-token": basic("b", "x"),
    }
    assert home.config({"auths": auths}).lookup("docker.io") is None
    home.clock.now += CACHE_S
    assert home.config({"auths": {**auths, "https://index.docker.io/v1/": basic()}}).lookup("docker.io") == BOB


def test_the_best_spelling_of_a_key_wins(home: Home) -> None:
    auths = {"https://registry.test/v1/": basic("url"), "REGISTRY.test": basic("case"), "registry.test": basic("exact")}
    found = home.config({"auths": auths}).lookup("registry.test")
    assert found is not None
    assert found.username == "exact"


def test_top_level_keys_in_any_case(home: Home) -> None:
    assert home.config({"Auths": {"registry.test": basic()}}).lookup("registry.test") == BOB


@pytest.mark.parametrize(
    "text", ["", "  \n", "{}", '\ufeff{"auths": {}}', '{"auths": null, "credHelpers": null, "credsStore": null}']
)
def test_files_without_logins(home: Home, text: str) -> None:
    assert home.config(text).lookup("registry.test") is None


def test_missing_file(home: Home) -> None:
    assert home.config().lookup("registry.test") is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "5", '"x"', '{"auths": []}', '{"auths": {}, "credsStore": 5}', '{"credHelpers": ["a"]}', "[" * 100_000,
     f'{{"auths": {{"registry.test": {{"auth": "{CANARY}"', f'"{CANARY}'],
)  # fmt: skip
def test_damaged_files(home: Home, text: str) -> None:
    error = failure(home.config(text))
    assert str(home.path) in str(error)
    assert error.why
    assert CANARY not in shown(error)


def test_file_that_cannot_be_read(home: Home) -> None:
    home.path.mkdir()
    assert failure(home.config()).why == "Is a directory"


@pytest.mark.parametrize(
    "entry",
    [5, "x", {"auth": CANARY}, {"auth": "!!!" + CANARY}, {"auth": base64.b64encode(CANARY.encode()).decode()},
     {"auth": 5}, {"auth": base64.b64encode(f":{CANARY}".encode()).decode()},
     {"auth": base64.b64encode(b"b:\xff").decode()},
     {"username": ["bob"]}, {"username": "bob", "password": "\ud800" + CANARY}],
)  # fmt: skip
def test_a_damaged_entry_fails_its_own_registry_only(home: Home, entry: object) -> None:
    config = home.config({"auths": {"bad.test": entry, "good.test": basic()}})
    assert config.lookup("good.test") == BOB
    error = failure(config, "bad.test")
    assert "bad.test" in str(error)
    assert error.host == "bad.test"
    assert CANARY not in shown(error)
    assert base64.b64encode(CANARY.encode()).decode() not in shown(error)


def test_the_file_is_read_late_and_again_after_a_while(home: Home) -> None:
    config = home.config("not JSON yet")
    home.write({"auths": {"registry.test": basic("first")}})
    names = []
    for seconds, username in ((0, "second"), (CACHE_S - 1, "third"), (2, "fourth")):
        home.clock.now += seconds
        found = config.lookup("registry.test")
        assert found is not None
        names.append(found.username)
        home.write({"auths": {"registry.test": basic(username)}})
    assert names == ["first", "first", "third"]


def test_config_from_text() -> None:
    found = DockerConfig.from_text(json.dumps({"auths": {"registry.test": basic()}})).lookup("registry.test")
    assert found == BOB
    assert found is not None
    assert found.source == "DOCKER_AUTH_CONFIG"
    with pytest.raises(CredentialsError, match="cannot use DOCKER_AUTH_CONFIG"):
        DockerConfig.from_text("{").lookup("registry.test")


def test_default_path() -> None:
    assert default_docker_config_path({"DOCKER_CONFIG": "/x", "HOME": "/h"}) == Path("/x/config.json")
    assert default_docker_config_path({"HOME": "/h", "DOCKER_CONFIG": ""}) == Path("/h/.docker/config.json")


# -- credential helpers


def test_helper_is_asked_on_stdin_once_per_registry(home: Home) -> None:
    home.helper(answer())
    config = home.config({"credHelpers": {"registry.test": "test"}, "auths": {"plain.test": basic("plain")}})
    for _ in range(3):
        found = config.lookup("registry.test")
        assert found == BOB
    assert found is not None
    assert found.source == f"docker-credential-test (docker config {home.path})"
    config.lookup("plain.test")
    config.lookup("unrelated.test")
    config.lookup("registry.test.evil.org")
    config.lookup("registry.test:5000")
    assert home.calls == ["test 1 get registry.test"]
    home.clock.now += CACHE_S - 1
    config.lookup("registry.test")
    assert len(home.calls) == 1
    home.clock.now += 1
    config.lookup("registry.test")
    assert len(home.calls) == 2


def test_helper_is_asked_once_by_many_threads(home: Home) -> None:
    home.helper("sleep 0.1; " + answer())
    config = home.config({"credsStore": "test"})
    found: list[Credentials | None] = []
    threads = [threading.Thread(target=lambda: found.append(config.lookup("registry.test"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BOB] * 8
    assert len(home.calls) == 1


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io"])
def test_helper_is_asked_for_docker_hub_by_its_url(home: Home, key: str) -> None:
    home.helper(answer())
    assert home.config({"credHelpers": {key: "test"}}).lookup("registry-1.docker.io") == BOB
    assert home.calls == ["test 1 get https://index.docker.io/v1/"]


def test_own_helper_wins_over_the_general_one_and_an_empty_one_over_both(home: Home) -> None:
    home.helper(answer("general"), "general")
    home.helper(answer("own"), "own")
    config = home.config(
        {
            "credsStore": "general",
            "credHelpers": {"own.test": "own", "file.test": ""},
            "auths": {"file.test": basic("file"), "own.test": basic("unused"), "any.test": {}},
        }
    )
    users = [found.username for host in ("own.test", "any.test", "file.test") if (found := config.lookup(host))]
    assert users == ["own", "general", "file"]
    assert [line.split()[0] for line in home.calls] == ["own", "general"]


def test_helper_with_an_identity_token(home: Home) -> None:
    home.helper(answer("<token>"))
    assert home.config({"credsStore": "test"}).lookup("registry.test") == Credentials(identity_token=CANARY)


def test_registry_token_of_the_file_counts_next_to_a_helper(home: Home) -> None:
    home.helper(answer())
    config = home.config({"credsStore": "test", "auths": {"registry.test": {**basic("file"), "registrytoken": "rt"}}})
    assert config.lookup("registry.test") == Credentials("bob", CANARY, registry_token="rt")


@pytest.mark.parametrize(
    "script",
    ["echo 'credentials not found in native keychain'; exit 1",
     "echo debug; echo 'credentials not found in native keychain'; exit 1",
     answer("", ""), answer("bob", "")],
)  # fmt: skip
def test_helper_without_a_login(home: Home, script: str) -> None:
    home.helper(script)
    assert home.config({"credsStore": "test", "auths": {"registry.test": basic()}}).lookup("registry.test") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'session expired, log in again'; exit 1", "it ended with code 1: session expired, log in again"),
        ("exit 3", "it ended with code 3"),
        ("echo noise >&2; exit 1", "it ended with code 1"),
        (f"echo 'secret: {CANARY}'; exit 1", "it ended with code 1"),
        (answer() + "; exit 1", "it ended with code 1"),
        ("kill -9 $$", "signal 9 ended it"),
        (f"echo debug {CANARY}; {answer()}", "its output is not one JSON object with Username and Secret"),
        (f"echo {CANARY}", "its output is not one JSON object with Username and Secret"),
        ("echo '{}'", "its output is not one JSON object with Username and Secret"),
        ("echo '[]'", "its output is not one JSON object with Username and Secret"),
        (
            f"""echo '{{"Username": 5, "Secret": "{CANARY}"}}'""",
            "its output is not one JSON object with Username and Secret",
        ),
        ("", "its output is not one JSON object with Username and Secret"),
        ("printf '\\377'", "its output is not one JSON object with Username and Secret"),
        ("yes | head -c 1100000", "it wrote more than 1048576 bytes"),
    ],
)
def test_broken_helpers(home: Home, script: str, why: str) -> None:
    home.helper(script)
    error = failure(home.config({"credsStore": "test"}))
    assert str(error) == "credential helper docker-credential-test failed for registry registry.test"
    assert (error.why, error.host) == (why, "registry.test")
    assert CANARY not in shown(error)


def test_a_json_answer_may_be_followed_by_text_and_written_in_any_case(home: Home) -> None:
    home.helper(f"""echo ' {{"username": "bob", "SECRET": "{CANARY}"}} bye'""")
    assert home.config({"credsStore": "test"}).lookup("registry.test") == BOB


def test_slow_helper_is_ended_with_its_children(home: Home, tmp_path: Path) -> None:
    home.helper(f"sleep 30 & echo $! > {tmp_path}/child; wait")
    start = time.monotonic()
    error = failure(home.config({"credsStore": "test"}, timeout_s=0.3))
    assert time.monotonic() - start < 5
    assert error.why == "it gave no answer within 0.3 s"
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the helper's child still runs")


def test_helper_that_leaves_a_child_with_its_output_open(home: Home) -> None:
    home.helper(f"sleep 5 & {answer()}")
    start = time.monotonic()
    assert home.config({"credsStore": "test"}).lookup("registry.test") == BOB
    assert time.monotonic() - start < 3


def test_helper_that_does_not_read(home: Home) -> None:
    path = home.bin / "docker-credential-deaf"
    path.write_text(f"#!/bin/sh\n{answer()}\n")
    path.chmod(0o755)
    assert home.config({"credsStore": "deaf"}).lookup("registry.test") == BOB


def test_missing_helper(home: Home) -> None:
    error = failure(home.config({"credsStore": "desktop"}))
    assert "docker-credential-desktop" in str(error)
    assert error.why == "it is not installed"
    assert "credsStore" in error.hint


def test_helper_that_cannot_be_run(home: Home) -> None:
    path = home.bin / "docker-credential-test"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(stat.S_IRWXU)
    assert failure(home.config({"credsStore": "test"})).why.startswith("it cannot be run: ")


@pytest.mark.parametrize("name", ["../evil", "a/b", "a b", "/bin/true", "a\0b"])
def test_helper_names_are_names(home: Home, name: str) -> None:
    assert "not the name of a credential helper" in failure(home.config({"credsStore": name})).why


def test_a_broken_helper_fails_its_own_registry_only(home: Home) -> None:
    home.helper("exit 1", "broken")
    config = home.config({"credHelpers": {"bad.test": "broken"}, "auths": {"good.test": basic()}})
    failure(config, "bad.test")
    assert config.lookup("good.test") == BOB
    assert config.lookup("anonymous.test") is None


def test_a_failure_is_shared_for_seconds_only(home: Home) -> None:
    home.helper("exit 1")
    config = home.config({"credsStore": "test"})
    first, second = failure(config), failure(config)
    assert len(home.calls) == 1
    assert first is not second
    assert (str(first), first.why, first.hint) == (str(second), second.why, second.hint)
    home.helper(answer())
    home.clock.now += 10
    assert config.lookup("registry.test") == BOB


def test_host_with_a_line_feed_never_reaches_a_helper(home: Home) -> None:
    home.helper(answer())
    config = home.config({"credsStore": "test"})
    with pytest.raises(CredentialsError, match="not a registry host"):
        config.lookup("registry.test\nother.test")
    assert home.calls == []
