"""Which registries are tried, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_client.oci import LoginCheck, RateLimit
from convox.errors import UsageError
from convox.logins import rack_credentials
from convox.rack import Rack
from convox.registries import Registry, add_registry
from convox.registry_check import check_registries, check_to_json, describe_limit, describe_status, known_hosts
from tests.support.fake_registry import FakeRegistry


def test_the_registries_that_builds_may_use(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path, params={"registry": "r.example.com:5000/team"})
    for server in ("quay.io", "https://index.docker.io/v1/", "r.example.com:5000"):
        add_registry(rack, Registry(server=server, username="u", password="p"))
    assert known_hosts(rack) == ["docker.io", "r.example.com:5000", "quay.io"]


def test_each_registry_gets_its_own_login(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path)
    with FakeRegistry() as one, FakeRegistry() as two:
        for registry, login in ((one, ("one", "first-canary")), (two, ("two", "second-canary"))):
            registry.auth, registry.login = "basic", login
            add_registry(rack, Registry(server=registry.host, username=login[0], password=login[1]))
        logins = rack_credentials(rack, docker_config_path=tmp_path / "none")
        checks = check_registries(rack, logins, [two.host, one.host, two.host])
        assert [(check.host, check.status, check.username) for check in checks] == [
            (two.host, "accepted", "two"),
            (one.host, "accepted", "one"),
        ]
        assert {check.source for check in checks} == {"convox registries"}
        sent = [{seen.headers.get("authorization", "") for seen in registry.seen} for registry in (one, two)]
        assert [len(values) for values in sent] == [2, 2]
        assert sent[0] & sent[1] == {""}


def test_a_server_that_is_none(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path)
    with pytest.raises(UsageError, match="not a registry host"):
        check_registries(rack, rack_credentials(rack, docker_config_path=tmp_path / "none"), ["a b"])


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (LoginCheck(host="h", status="accepted"), "works"),
        (LoginCheck(host="h", status="refused", why="HTTP 401"), "refused: HTTP 401"),
        (LoginCheck(host="h", status="anonymous"), "none"),
        (LoginCheck(host="h", status="anonymous", why="a login is needed"), "none: a login is needed"),
        (LoginCheck(host="h", status="open"), "not asked for"),
        (LoginCheck(host="h", status="unreachable", why="no connection"), "not reached: no connection"),
    ],
)
def test_words(check: LoginCheck, text: str) -> None:
    assert describe_status(check) == text


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (None, ""),
        (RateLimit(remaining=3), "3"),
        (RateLimit(remaining=76, limit=100, window_s=21600), "76 of 100 in 6h"),
        (RateLimit(remaining=76, limit=100, window_s=90), "76 of 100 in 90s"),
    ],
)
def test_limits(limit: RateLimit | None, text: str) -> None:
    assert describe_limit(limit) == text


def test_records() -> None:
    limit = RateLimit(remaining=76, limit=100, window_s=21600, source="203.0.113.5")
    record = check_to_json(LoginCheck(host="docker.io", status="accepted", username="u", source="s", rate_limit=limit))
    assert record == {
        "server": "docker.io",
        "status": "accepted",
        "username": "u",
        "source": "s",
        "why": "",
        "limit": {"limit": 100, "remaining": 76, "window": 21600, "source": "203.0.113.5"},
    }
