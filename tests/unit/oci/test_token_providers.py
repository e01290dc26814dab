"""Answers of token servers in the shape that each provider's has, by its documentation."""

from __future__ import annotations

import pytest

from buildkit_client.oci.credentials import Credentials
from buildkit_client.oci.token import HttpOptions, Token, fetch_token
from tests.support.fake_token_server import FakeTokenServer, Reply

ISSUED = "2026-03-01T10:00:00Z"
ISSUED_AT = 1772359200

ANSWERS = {
    "Docker Hub": ({"token": "t", "access_token": "t", "expires_in": 300, "issued_at": ISSUED}, 300, ISSUED_AT),
    "Azure": ({"access_token": "t"}, 60, 0),
    "DigitalOcean": ({"token": "t", "expires_in": 3600}, 3600, 0),
    "Google": ({"token": "t", "expires_in": 43200, "issued_at": ISSUED}, 43200, ISSUED_AT),
    "GitHub": ({"token": "t"}, 60, 0),
    "Harbor": ({"token": "t", "access_token": "", "expires_in": 1800, "issued_at": ISSUED}, 1800, ISSUED_AT),
    "Quay": ({"token": "t"}, 60, 0),
    "GitLab": ({"token": "t", "access_token": None, "expires_in": None}, 60, 0),
}


@pytest.mark.parametrize("provider", ANSWERS)
@pytest.mark.parametrize("has_login", [False, True])
def test_a_token_is_found(provider: str, *, has_login: bool) -> None:
    document, expires_in_s, issued_at = ANSWERS[provider]
    # Google, GitHub and Quay know no POST.
    refusals = [Reply(404)] if has_login and provider in ("Google", "GitHub", "Quay") else []
    with FakeTokenServer(*refusals, Reply(document=document)) as server:
        token = fetch_token(
            server.realm,
            registry="127.0.0.1:5000",
            service="registry.test",
            scopes=("repository:app:pull",),
            credentials=Credentials("bob", "pa55word") if has_login else None,
            http=HttpOptions(sleep=lambda _: None),
        )
    assert token == Token("t", expires_in_s, issued_at)
    assert server.methods == [*(["POST"] if has_login else []), *(["GET"] if refusals or not has_login else [])]
