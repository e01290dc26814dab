"""Secrets of a build, and text that looks like credentials, never come through."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from convox.masking import MaskingWriter, mask, scrub

SECRET = 'pa/ss wörd+&1"x'


def shown(secrets: list[str], *chunks: bytes, flush: bool = True) -> bytes:
    out: list[bytes] = []
    writer = MaskingWriter(secrets, out.append)
    for chunk in chunks:
        writer.write(chunk)
    if flush:
        writer.flush()
    assert all(out)
    return b"".join(out)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").replace("%C3%B6", "%c3%b6").replace("%2F", "%2f").replace("%2B", "%2b"),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
    ],
)
def test_every_form_is_masked(form: str) -> None:
    assert mask(f"before {form} after", [SECRET]) in ("before *** after", "before ***== after")


@pytest.mark.parametrize("before", ["u:", "us:", "usr:", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
def test_a_secret_inside_longer_base64_is_masked(before: str, after: str) -> None:
    secret = "hunter2hunter2"
    text = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    masked = mask(f"auth: {text}", [secret])
    assert "***" in masked
    left = "".join(masked.removeprefix("auth: ").split("***"))
    assert len(left) <= 12  # what surrounds the secret, and single bits of its first and last letter


def test_a_secret_over_the_border_of_chunks_is_masked() -> None:
    for cut in range(len(b"x SECRETVALUE y")):
        data = b"x SECRETVALUE y"
        assert shown(["SECRETVALUE"], data[:cut], data[cut:]) == b"x *** y"


def test_only_what_may_be_a_secret_is_held_back() -> None:
    assert shown(["SECRET"], b"hello SEC", flush=False) == b"hello "
    assert shown(["SECRET"], b"hello SEC", b"OND\n", flush=False) == b"hello SECOND\n"
    assert shown(["SECRET"], b"hello SEC") == b"hello SEC"


def test_of_two_secrets_the_longer_wins_however_the_bytes_come() -> None:
    data = b"abcdefgh abcd"
    for cut in range(len(data)):
        assert shown(["abcd", "abcdefgh"], data[:cut], data[cut:]) == b"*** ***"


def test_secrets_that_overlap_leave_no_rest_of_the_first() -> None:
    data = b"xabcde"
    for cut in range(len(data)):
        assert shown(["xabc", "bcde"], data[:cut], data[cut:]) == b"***de"


def test_each_line_of_a_key_is_masked() -> None:
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nshort\n-----END KEY-----\n"
    assert mask("#5 0.1 MIIEpAIBAAKCAQEA\r\n", [key]) == "#5 0.1 ***\r\n"
    assert mask(f"<{key}>", [key]) == "<***>"
    assert mask("short", [key]) == "short"


def test_short_values_and_no_values_mask_nothing() -> None:
    assert mask("a true b 1", ["1", "", "b", "abc"]) == "a true b 1"
    assert shown([], b"", b"a", b"b") == b"ab"
    assert shown(["SECRET"], b"") == b""


def test_bytes_that_are_no_text_come_through() -> None:
    assert shown(["SECRET"], b"\xff\x00SECRET\xfe") == b"\xff\x00***\xfe"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET https://user:pass@host/v2/ failed", "GET https://***@host/v2/ failed"),
        ("https://user:p@ss@host:5000/x?y", "https://***@host:5000/x?y"),
        ("https://ghp_0123456789abcdefABCDEF@github.com/x", "https://***@github.com/x"),
        ("ssh://git@github.com/org/repo", "ssh://git@github.com/org/repo"),
        ("git@github.com:org/repo.git", "git@github.com:org/repo.git"),
        ("pull user:hunter2@registry.example.com/x", "pull ***@registry.example.com/x"),
        ("pull ~:hunter2@registry.example.com/x", "pull ***@registry.example.com/x"),
        ("nginx:1.25@sha256:0123", "nginx:1.25@sha256:0123"),
        ("localhost:5000/app:web@sha256:0123", "localhost:5000/app:web@sha256:0123"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("Bearer eyJhbGciOi.J9-_x==, scope", "Bearer ***, scope"),
        ("bearer  abcd.efgh", "bearer  ***"),
        ("Authorization: Basic dXNlcjpwYXNz\nnext", "Authorization: ***\nnext"),
        ("authorization: Bearer abc.def", "authorization: ***"),
        ('{"Authorization":"Basic dXNlcjpwYXNz","a":1}', '{"Authorization":***,"a":1}'),
        ("{'X-Registry-Auth': 'eyJ1c2Vy'}", "{'X-Registry-Auth': ***}"),
        ("X-Registry-Auth: eyJ1c2Vy rest", "X-Registry-Auth: *** rest"),
        ("Proxy-Authorization=abc", "Proxy-Authorization=***"),
        ("GET /x?token=abc&scope=pull", "GET /x?token=***&scope=pull"),
        ("s3?X-Amz-Signature=00ff&X-Amz-Date=1", "s3?X-Amz-Signature=***&X-Amz-Date=1"),
        ("the bearer of bad news", "the bearer of bad news"),
        (
            "push access denied, may require authorization: server message: insufficient_scope: authorization failed",
            "push access denied, may require authorization: server message: insufficient_scope: authorization failed",
        ),
        ("Authorization: server", "Authorization: ***"),
        ("authorization: server message: Bearer abc.def", "authorization: server message: Bearer ***"),
        ("Dockerfile:12 at 10:30:00", "Dockerfile:12 at 10:30:00"),
        ("", ""),
    ],
)
def test_credentials_are_scrubbed_and_nothing_else(text: str, expected: str) -> None:
    assert scrub(text) == expected


def test_known_secrets_are_scrubbed_too() -> None:
    assert scrub("failed with hunter2hunter2", ["hunter2hunter2"]) == "failed with ***"
