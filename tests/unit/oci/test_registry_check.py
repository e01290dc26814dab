"""Trying the login of a registry."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from buildkit_client.errors import CredentialsError
from buildkit_client.oci import Credentials, LoginCheck, RateLimit, StaticCredentials, check_login
from buildkit_client.oci.registry_check import _rate_limit
from tests.support.fake_registry import FakeRegistry, Fault


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


def check(registry: FakeRegistry, username: str = "", password: str = "canary") -> LoginCheck:
    logins = {registry.host: Credentials(username, password)} if username else {}
    return check_login(registry.host, StaticCredentials(logins, source="a test"))


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_login_that_works(registry: FakeRegistry, auth: str) -> None:
    registry.auth = auth
    assert check(registry, *registry.login) == LoginCheck(
        host=registry.host, status="accepted", username="bob", source="a test"
    )


@pytest.mark.parametrize(("auth", "why"), [("basic", "HTTP 401"), ("bearer", "HTTP 401: wrong password")])
def test_a_login_that_is_refused(registry: FakeRegistry, auth: str, why: str) -> None:
    registry.auth = auth
    found = check(registry, "bob")
    assert (found.status, found.username, found.source, found.why) == ("refused", "bob", "a test", why)
    assert "canary" not in repr(found)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_no_login(registry: FakeRegistry, auth: str) -> None:
    registry.auth = auth
    found = check(registry)
    assert (found.status, found.username, found.source) == ("anonymous", "", "")


def test_a_registry_that_asks_for_no_login_is_sent_none(registry: FakeRegistry) -> None:
    found = check(registry, "bob")
    assert found.status == "open"
    assert not any("authorization" in one.headers for one in registry.seen)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("GET", "/v2/", count=9, status=404), "HTTP 404: this is no registry"),
        (Fault("GET", "/v2/", count=9, status=503), "HTTP 503"),
        (Fault("GET", "/v2/", count=9, reset_after=-1), "the connection broke"),
    ],
)
def test_no_registry_answers(registry: FakeRegistry, fault: Fault, why: str) -> None:
    registry.faults = [fault]
    found = check(registry, "bob")
    assert (found.status, found.why) == ("unreachable", why)
    assert len(registry.seen) <= 2  # somebody waits for this: it is not tried for minutes


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = check_login(f"127.0.0.1:{taken.getsockname()[1]}")
    assert found.status == "unreachable"
    assert "refused" in found.why


def test_a_login_that_cannot_be_had(registry: FakeRegistry) -> None:
    class Broken:
        def lookup(self, host: str) -> Credentials | None:
            raise CredentialsError("the helper broke", why="it exited with 1")

    found = check_login(registry.host, Broken())
    assert (found.status, found.why) == ("refused", "it exited with 1")
    assert registry.seen == []


def test_texts_that_are_no_host() -> None:
    with pytest.raises(CredentialsError, match="not a registry host"):
        check_login("a b")


@pytest.mark.parametrize(
    ("headers", "is_spent", "limit"),
    [
        ({}, False, None),
        (
            {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600", "Docker-RateLimit-Source": "::1"},
            False,
            RateLimit(remaining=76, limit=100, window_s=21600, source="::1"),
        ),
        ({"RateLimit-Remaining": "5"}, False, RateLimit(remaining=5)),
        ({"RateLimit-Remaining": "-5;w=x"}, False, None),
        ({"RateLimit-Limit": "100;w=21600"}, True, RateLimit(remaining=0, limit=100, window_s=21600)),
        ({}, True, RateLimit(remaining=0)),
        (
            {"RateLimit-Remaining": "1", "Docker-RateLimit-Source": "\x1b[2J" + "x" * 200},
            False,
            RateLimit(remaining=1, source="[2J" + "x" * 97),
        ),
    ],
)
def test_what_docker_hub_says_of_its_limit(headers: dict[str, str], is_spent: bool, limit: RateLimit | None) -> None:
    assert _rate_limit(headers, is_spent=is_spent) == limit
