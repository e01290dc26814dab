"""What the daemon's messages mean; the texts were seen with buildkitd v0.34.2 and the registries they name."""

from __future__ import annotations

import pytest

from buildkit_client.transport.refusals import classify_solve_message, explain_message

UNRESOLVED = "r/x: failed to resolve source metadata for r/x:"
BLOB = "http://r/v2/x/blobs/sha256:4f"
MAY_NEED_LOGIN = "repository does not exist or may require authorization"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('process "/bin/sh -c exit 7" did not complete successfully: exit code: 7', "run"),
        ('process "/bin/sh -c echo 401 Unauthorized\nexit 1" did not complete successfully: exit code: 1', "run"),
        (f"{UNRESOLVED} unexpected status from HEAD request to {BLOB}: 401 Unauthorized", "auth"),
        (f"failed to fetch anonymous token: unexpected status from GET request to {BLOB}: 401 Unauthorized", "auth"),
        (f"failed to push r/x:y: unexpected status from HEAD request to {BLOB}: 401 Unauthorized", "auth"),
        (f"failed to push docker.io/library/x:y: push access denied, {MAY_NEED_LOGIN}", "auth"),
        (f"{UNRESOLVED} pull access denied, {MAY_NEED_LOGIN}: server message: insufficient_scope", "auth"),
        ("failed to push ecr/x: no basic auth credentials", "auth"),
        ("failed to push r/x:y: denied", "auth"),  # when the registry's text is the specification's own
        ("failed to push r/x:y: unauthorized", "auth"),
        ("failed to push r/x: failed to authorize: failed to fetch oauth token: unexpected status: 403", "auth"),
        (f'failed to push r/x:y: failed to do request: Head "{BLOB}": dial tcp r: connect: connection refused', "push"),
        (f"failed to push r:5003/x:y: unexpected status from HEAD request to {BLOB}: 501 Unsupported method", "push"),
        (f"error writing layer blob: unexpected status from HEAD request to {BLOB}: 500 Internal", "push"),
        (f"{UNRESOLVED} r/x: not found", "pull"),
        (f'{UNRESOLVED} failed to do request: Head "{BLOB}": dial tcp: lookup r on ::1: no such host', "pull"),
        ('failed to fetch anonymous token: Get "https://a/token": dial tcp 10.0.0.1:443: i/o timeout', "pull"),
        ("no active session for abc: context deadline exceeded", "connection"),
        ("DeadlineExceeded: no active session for abc: context deadline exceeded", "connection"),
        ("dockerfile parse error on line 2: unknown instruction: UNAUTHORIZED: 401 Unauthorized", "dockerfile"),
        ("failed to read dockerfile: open Dockerfile: no such file or directory", "dockerfile"),
        ("the Dockerfile cannot be empty", "dockerfile"),
        ('target stage "nope" could not be found', "dockerfile"),
        ('failed to compute cache key: failed to calculate checksum of ref abc::def: "/no": not found', "dockerfile"),
        ("secret x: not found", "other"),
        ('exporter "nope" could not be found', "other"),
        ("", "other"),
    ],
)
def test_whose_fault_it_is(message: str, kind: str) -> None:
    assert classify_solve_message(message) == kind


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            'failed to calculate checksum of ref abc::def: "/a: not found": not found',
            'there is no "/a: not found" to copy',
        ),
        ("failed to push r.example:5001/x:y: unexpected status: 401 Unauthorized", "r.example:5001 wants a login"),
        (
            "failed to fetch anonymous token: GET http://auth/token?scope=x&service=127.0.0.1%3A5002: 401 Unauthorized",
            "127.0.0.1:5002 wants",
        ),
        (
            'failed to do request: Head "https://r:5/v2": http: server gave HTTP response to HTTPS client',
            "r:5 speaks plain HTTP",
        ),
        (
            'failed to do request: Head "https://r:5/v2": tls: failed to verify certificate: x509: unknown authority',
            "certificate of r:5",
        ),
        (
            'failed to do request: Head "https://[::1]:5/v2": dial tcp [::1]:5: connect: connection refused',
            "nothing answers at [::1]:5",
        ),
        ("x: failed to resolve source metadata for docker.io/x: x: not found", "no such image"),
        ("r.example.com:5/x:none: r.example.com:5/x:none: not found", "no such image"),
        ("x: failed to copy: httpReadSeeker: failed open: unexpected status: 429 Too Many Requests", "rate limit"),
    ],
)
def test_why_names_the_thing(message: str, why: str) -> None:
    explanation = explain_message(message)
    assert why in explanation.why
    assert explanation.hint


@pytest.mark.parametrize(
    ("message", "kind", "hint"),
    [
        (
            'no image due to policy: source "docker-image://x" denied by policy: source denied by policy',
            "other",
            "policy",
        ),
        ('failed to read dockerfile: source "local://x" not allowed by policy: action DENY', "other", "policy"),
        ("failed to read dockerfile: failed to fetch remote https://h/x.git: git stderr:\nfatal: x", "pull", "address"),
        ('repository does not contain ref nope, output: ""', "pull", "ref"),
        ("failed to read dockerfile: no local sources enabled", "dockerfile", "folder"),
        ("the Dockerfile cannot be empty", "dockerfile", "only once"),
        ("failed to load LLB: network.host is not allowed", "other", "entitlement"),
        ("unknown entitlement network.hots", "other", "network.host"),
        ("job ID abc exists", "other", "ref of its own"),
        (
            "failed to commit: unexpected commit digest sha256:a, expected sha256:b: failed precondition",
            "other",
            "damaged",
        ),
        ("failed to compute cache key: NotFound: blob sha256:aa is not in /images", "other", "damaged"),
    ],
)
def test_what_to_try(message: str, kind: str, hint: str) -> None:
    explanation = explain_message(message)
    assert explanation.kind == kind
    assert hint in explanation.hint
