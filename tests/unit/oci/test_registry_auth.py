from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from buildkit_client.errors import CredentialsError
from buildkit_client.oci import registry_auth
from buildkit_client.oci.credentials import Credentials, StaticCredentials
from buildkit_client.oci.registry_auth import Challenge, RegistryAuth, parse_challenges
from buildkit_client.oci.token import HttpOptions, Token

HOST = "reg.test:5000"
PULL = frozenset({"repository:app:pull"})
BEARER = 'Bearer realm="https://auth.test/token",service="reg",scope="repository:app:pull"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        ("basic realm=plain", [("basic", {"realm": "plain"})]),
        (BEARER, [("bearer", {"realm": "https://auth.test/token", "service": "reg", "scope": "repository:app:pull"})]),
        ('BEARER Realm = "x" , Service = "y"', [("bearer", {"realm": "x", "service": "y"})]),
        (r'Bearer realm="a\"b\\c"', [("bearer", {"realm": 'a"b\\c'})]),
        (
            'Bearer realm="x",scope="a:b:pull,push c:d:pull"',
            [("bearer", {"realm": "x", "scope": "a:b:pull,push c:d:pull"})],
        ),
        (
            'Basic realm="a", Bearer realm="b",service="c"',
            [("basic", {"realm": "a"}), ("bearer", {"realm": "b", "service": "c"})],
        ),
        ('Negotiate, Basic realm="a"', [("negotiate", {}), ("basic", {"realm": "a"})]),
        ('Bearer realm=""', [("bearer", {"realm": ""})]),
        ("=,,,", []),
        ('Bearer realm="unclosed', [("bearer", {})]),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    parsed = parse_challenges(header)
    if "unclosed" in header:
        assert parsed[0].scheme == "bearer" and "realm" not in parsed[0].parameters
    else:
        assert parsed == [Challenge(scheme, parameters) for scheme, parameters in expected]


def test_a_huge_header_ends_soon() -> None:
    assert len(parse_challenges("a" * 1_000_000)) <= 1
    assert len(parse_challenges("," * 1_000_000)) == 0
    assert len(parse_challenges("Basic, " * 100_000)) < 2000


class Tokens:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, expires_in_s: int = 300) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.expires_in_s = expires_in_s
        monkeypatch.setattr(registry_auth, "fetch_token", self.fetch)

    def fetch(self, realm: str, *, scopes: Sequence[str], credentials: Credentials | None, **others: Any) -> Token:
        self.asked.append(tuple(scopes))
        return Token(f"token{len(self.asked)}", self.expires_in_s)


def auth(credentials: Credentials | None = None, clock: Callable[[], float] = time.monotonic) -> RegistryAuth:
    provider = None if credentials is None else StaticCredentials({HOST: credentials})
    return RegistryAuth(HOST, provider, HttpOptions(), clock=clock)


def test_nothing_is_sent_unasked() -> None:
    assert auth(Credentials("bob", "pw")).header(PULL) == ""


def test_basic() -> None:
    one = auth(Credentials("bob", "pw"))
    assert one.challenged('Basic realm="x"', PULL, "") == "Basic Ym9iOnB3"
    assert one.header(PULL) == "Basic Ym9iOnB3"
    assert one.challenged('Basic realm="x"', PULL, "Basic Ym9iOnB3") == ""


def test_basic_without_a_login() -> None:
    one = auth()
    assert one.challenged('Basic realm="x"', PULL, "") == ""
    assert one.is_anonymous


def test_user_name_with_colon_cannot_be_used() -> None:
    with pytest.raises(CredentialsError, match=HOST):
        auth(Credentials("a:b", "pw")).challenged("Basic", PULL, "")


def test_tokens_are_kept_by_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch)
    one = auth()
    one.learn(BEARER)
    push = frozenset({"repository:app:pull,push", "repository:base:pull"})
    assert [one.header(PULL), one.header(push), one.header(PULL)] == ["Bearer token1", "Bearer token2", "Bearer token1"]
    assert tokens.asked == [("repository:app:pull",), ("repository:app:pull,push", "repository:base:pull")]


def test_refused_token_is_renewed_once_with_the_scope_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch)
    one = auth()
    one.learn(BEARER)
    first = one.header(PULL)
    wider = BEARER.replace("app:pull", "app:pull,push")
    assert one.challenged(wider, PULL, first) == "Bearer token2"
    assert one.challenged(wider, PULL, first) == "Bearer token2"  # another thread renewed it already
    assert tokens.asked == [("repository:app:pull",), ("repository:app:pull", "repository:app:pull,push")]


def test_token_is_renewed_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    Tokens(monkeypatch, expires_in_s=60)
    one = auth(clock=lambda: now[0])
    one.learn(BEARER)
    assert one.header(PULL) == "Bearer token1"
    now[0] += 53
    assert one.header(PULL) == "Bearer token1"
    now[0] += 2
    assert one.header(PULL) == "Bearer token2"


class ShortLived:
    """A provider whose login is another one each time, as helpers give them that make tokens."""

    def __init__(self) -> None:
        self.lookups = 0

    def lookup(self, host: str) -> Credentials:
        self.lookups += 1
        return Credentials("bob", f"canary-{self.lookups}")


def test_a_login_is_asked_for_again_as_it_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A push of an hour outlives what a credential helper gave at its start."""
    now = [1000.0]
    provider = ShortLived()
    one = RegistryAuth(HOST, provider, HttpOptions(), clock=lambda: now[0])
    used: list[str] = []

    def fetch(_realm: str, *, credentials: Credentials, **_others: Any) -> Token:
        used.append(credentials.password)
        return Token(f"token{len(used)}", 60)

    monkeypatch.setattr(registry_auth, "fetch_token", fetch)
    one.learn(BEARER)
    for _ in range(60):
        one.header(PULL)
        now[0] += 60
    assert len(used) == 60  # a token a minute
    assert used[:6] == ["canary-1"] * 5 + ["canary-2"]
    assert provider.lookups == 12  # and a login each 290 s, as the first request after that
    assert one.scrub("canary-1 canary-12") == "*** ***2"


def test_a_refused_login_is_asked_for_again_at_once() -> None:
    provider = ShortLived()
    one = RegistryAuth(HOST, provider, HttpOptions())
    first = one.challenged("Basic", PULL, "")
    assert one.header(PULL) == first
    second = one.challenged("Basic", PULL, first)
    assert second not in ("", first)
    assert provider.lookups == 2


def test_threads_share_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(monkeypatch)
    one = auth()
    one.learn(BEARER)
    threads = [threading.Thread(target=one.header, args=(PULL,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.asked) == 1


def test_bearer_is_taken_before_basic_and_needs_a_realm(monkeypatch: pytest.MonkeyPatch) -> None:
    Tokens(monkeypatch)
    assert auth(Credentials("bob", "pw")).challenged(f'Basic realm="x", {BEARER}', PULL, "") == "Bearer token1"
    assert (
        auth(Credentials("bob", "pw")).challenged('Bearer service="x", Basic realm="y"', PULL, "").startswith("Basic")
    )
    assert auth().challenged("Digest", PULL, "") == ""
    assert auth().challenged("", PULL, "") == ""


def test_secrets_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    Tokens(monkeypatch)
    one = auth(Credentials("bob", "canary-pw", identity_token="canary-id"))
    one.challenged(BEARER, PULL, "")
    text = one.scrub("canary-pw token1 canary-id Ym9iOmNhbmFyeS1wdw== bob")
    assert text == "*** *** *** *** bob"
