"""The token server without a registry: what it grants, what it refuses, what it keeps to itself."""

from __future__ import annotations

import base64
import datetime
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.support.token_server import MAX_FORM_BYTES, ZERO_USER, Account, Scope, TokenServer, TokenSigner

ACCOUNT = Account("builder", "right-password", "identity-token")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def make_signer() -> TokenSigner:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + datetime.timedelta(days=1))
    ).sign(KEY, hashes.SHA256())
    return TokenSigner(KEY, certificate)


SIGNER = make_signer()


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer(SIGNER, ACCOUNT, lifetime_s=123) as running:
        yield running


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(url: str, *, authorization: str = "", form: dict[str, str] | None = None) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(url, data=urlencode(form).encode() if form is not None else None)
    if authorization:
        request.add_header("Authorization", authorization)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def claims_of(token: object) -> dict[str, Any]:
    """Check the signature and return the claims."""
    signed, _, signature = str(token).rpartition(".")
    KEY.public_key().verify(decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    claims = json.loads(decode(signed.split(".")[1]))
    assert isinstance(claims, dict)
    return claims


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_get_grants_the_scopes_asked_for(server: TokenServer) -> None:
    query = "service=s&scope=repository:a/b:pull,push&scope=registry:catalog:*&offline_token=true"
    status, body = ask(f"{server.realm}?{query}", authorization=basic("builder", "right-password"))
    claims = claims_of(body["token"])
    assert status == 200
    assert body["token"] == body["access_token"]
    assert body["refresh_token"] == "identity-token"
    assert body["expires_in"] == 123
    assert (claims["aud"], claims["sub"]) == ("s", "builder")
    assert claims["access"] == [
        {"type": "repository", "name": "a/b", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]


def test_posts_take_scopes_in_one_field(server: TokenServer) -> None:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": "identity-token",
        "scope": "repository:a:pull repository:b:pull",
    }
    status, body = ask(server.realm, form=form)
    assert status == 200
    assert [entry["name"] for entry in claims_of(body["access_token"])["access"]] == ["a", "b"]
    assert "token" not in body


def test_a_form_may_come_in_chunks(server: TokenServer) -> None:
    """skopeo 1.9 sends it so."""
    url = urlsplit(server.realm)
    connection = HTTPConnection(url.netloc, timeout=10)
    chunks = [b"grant_type=refresh_token&refresh", b"_token=identity-token"]
    connection.request("POST", url.path, body=iter(chunks), encode_chunked=True)
    with connection.getresponse() as response:
        assert response.status == 200
    connection.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_form_that_is_too_long_is_refused(server: TokenServer, chunked: bool) -> None:
    url = urlsplit(server.realm)
    connection = HTTPConnection(url.netloc, timeout=10)
    connection.putrequest("POST", url.path)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(MAX_FORM_BYTES + 1))
    connection.endheaders(b"%x\r\n" % (MAX_FORM_BYTES + 1) if chunked else None)
    with connection.getresponse() as response:
        assert response.status == 413
    connection.close()


def test_a_refresh_token_is_given_only_when_asked_for(server: TokenServer) -> None:
    login = {"grant_type": "password", "username": "builder", "password": "right-password"}
    assert "refresh_token" not in ask(server.realm, form=login)[1]
    assert ask(server.realm, form={**login, "access_type": "offline"})[1]["refresh_token"] == "identity-token"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic("builder", "wrong"),
        basic("wrong", "right-password"),
        basic(ZERO_USER, "right-password"),
        "Basic !",
        "Bearer x",
    ],
)
def test_a_get_without_the_right_login_is_refused(server: TokenServer, authorization: str) -> None:
    status, body = ask(server.realm, authorization=authorization)
    assert status == 401
    assert "token" not in body


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"grant_type": "password", "username": "builder", "password": "wrong"}, 401),
        ({"grant_type": "refresh_token", "refresh_token": "wrong"}, 401),
        ({"grant_type": "refresh_token"}, 401),
        ({"grant_type": "client_credentials"}, 400),
        ({}, 400),
    ],
)
def test_a_post_without_the_right_grant_is_refused(server: TokenServer, form: dict[str, str], expected: int) -> None:
    assert ask(server.realm, form=form)[0] == expected


def test_the_zero_user_stands_for_the_identity_token(server: TokenServer) -> None:
    assert ask(server.realm, authorization=basic(ZERO_USER, "identity-token"))[0] == 200


def test_anonymous_tokens_are_for_pulling_alone() -> None:
    with TokenServer(SIGNER, ACCOUNT, anonymous_pull=True) as server:
        status, body = ask(f"{server.realm}?scope=repository:a:pull,push&scope=registry:catalog:*")
    assert status == 200
    assert claims_of(body["token"])["access"] == [{"type": "repository", "name": "a", "actions": ["pull"]}]


def test_other_paths_are_not_served(server: TokenServer) -> None:
    assert ask(server.realm.removesuffix("/oauth2/token") + "/other")[0] == 404


def test_requests_are_kept_without_secrets(server: TokenServer) -> None:
    ask(f"{server.realm}?service=s&scope=repository:a:pull", authorization=basic("builder", "right-password"))
    ask(server.realm, form={"grant_type": "refresh_token", "refresh_token": "identity-token"})
    assert [(r.method, r.grant, r.scopes, r.status) for r in server.requests] == [
        ("GET", "basic", ("repository:a:pull",), 200),
        ("POST", "refresh_token", (), 200),
    ]
    told = repr(server.requests) + repr(ACCOUNT)
    assert "right-password" not in told
    assert "identity-token" not in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repository:a/b:pull,push", Scope("repository", "a/b", ("pull", "push"))),
        ("repository:localhost:5000/a:pull", Scope("repository", "localhost:5000/a", ("pull",))),
        ("registry:catalog:*", Scope("registry", "catalog", ("*",))),
    ],
)
def test_scopes_are_read_and_written(text: str, expected: Scope) -> None:
    assert Scope.parse(text) == expected
    assert str(expected) == text
