"""Passwords of Amazon's registries: signatures, renewal, and what goes wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from buildkit_client import CredentialsError
from convox.ecr import ECR_HOST, AwsKeys, EcrCredentials, sign
from tests.support.fake_ecr import TARGET, FakeEcr

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
MOMENT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)


@pytest.fixture
def ecr() -> Iterator[FakeEcr]:
    with FakeEcr() as fake:
        yield fake


def keys_for(ecr: FakeEcr, **changes: str) -> AwsKeys:
    key_id, secret = next(iter(ecr.keys.items()))
    values = {"access_key_id": key_id, "secret_access_key": secret, "endpoint": ecr.url, "source": "a test", **changes}
    return AwsKeys(**values)


@pytest.mark.parametrize(
    ("url", "headers", "body", "session_token", "region", "service", "signature"),
    [
        # get-vanilla of the test suite that Amazon publishes with the specification.
        (
            "https://example.amazonaws.com/",
            {},
            b"",
            "",
            "us-east-1",
            "service",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        # The others as botocore signs the same request.
        (
            "https://api.ecr.eu-west-1.amazonaws.com",
            {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": TARGET},
            b'{"registryIds": ["123456789012"]}',
            "session+token/=",
            "eu-west-1",
            "ecr",
            "96e09b40e86627bd57770d060faeb5e86e0b0af2b3bbcb8f60d759507639c353",
        ),
        (
            "http://127.0.0.1:4566/a b/~x",
            {"Content-Type": "application/x-amz-json-1.1"},
            b"{}",
            "",
            "eu-west-1",
            "ecr",
            "ca42f56dd065087a19b23c175422d4b2d6574aa2e92b0ff525d8114c3ed1001e",
        ),
    ],
)
def test_signatures(
    url: str, headers: dict[str, str], body: bytes, session_token: str, region: str, service: str, signature: str
) -> None:
    keys = AwsKeys(access_key_id="AKIDEXAMPLE", secret_access_key=SECRET, session_token=session_token)
    method = "POST" if body else "GET"
    sent = sign(method, url, headers, body, keys=keys, region=region, service=service, moment=MOMENT)
    assert sent["Authorization"].endswith(f"Signature={signature}")
    assert SECRET not in repr(sent) + repr(keys)


def test_a_key_buys_a_password(ecr: FakeEcr) -> None:
    found = EcrCredentials(keys_for(ecr)).lookup(HOST)
    assert found is not None
    assert (found.username, found.password, found.source) == ("AWS", "ecr-password-1", "a test (ECR token)")
    assert ecr.asked == [("eu-west-1", ["123456789012"])]
    assert ecr.refused == []


def test_temporary_keys_come_with_their_token(ecr: FakeEcr) -> None:
    key_id = next(iter(ecr.keys))
    ecr.session_tokens[key_id] = "a+session/token="
    assert EcrCredentials(keys_for(ecr, session_token="a+session/token=")).lookup(HOST) is not None
    with pytest.raises(CredentialsError) as caught:
        EcrCredentials(keys_for(ecr)).lookup(HOST)
    assert caught.value.why == "HTTP 400: ExpiredTokenException: The request cannot be taken."


def test_a_password_is_asked_for_again_when_it_ages(ecr: FakeEcr) -> None:
    ecr_now = time.time()
    clock = [ecr_now]
    provider = EcrCredentials(keys_for(ecr), clock=lambda: clock[0])
    passwords = []
    for after_s in (0, 3600, 11.7 * 3600, 11.8 * 3600, 24 * 3600):
        clock[0] = ecr_now + after_s
        found = provider.lookup(HOST)
        assert found is not None
        passwords.append(found.password)
    # Kept until a quarter of an hour before its end, which is at 11.75 hours.
    assert passwords == ["ecr-password-1", "ecr-password-1", "ecr-password-1", "ecr-password-2", "ecr-password-3"]


def test_a_password_that_is_short_lived_is_used_for_half_of_its_life(ecr: FakeEcr) -> None:
    ecr.lifetime_s = 10
    clock = [time.time()]
    provider = EcrCredentials(keys_for(ecr), clock=lambda: clock[0])
    provider.lookup(HOST)
    clock[0] += 4
    provider.lookup(HOST)
    assert len(ecr.asked) == 1
    clock[0] += 2
    provider.lookup(HOST)
    assert len(ecr.asked) == 2


def test_accounts_and_regions_have_passwords_of_their_own(ecr: FakeEcr) -> None:
    provider = EcrCredentials(keys_for(ecr))
    for host in (HOST, HOST.upper(), HOST.replace("eu-west-1", "us-east-2"), HOST.replace("1234", "9999")):
        assert provider.lookup(host) is not None
    assert ecr.asked == [
        ("eu-west-1", ["123456789012"]),
        ("us-east-2", ["123456789012"]),
        ("eu-west-1", ["999956789012"]),
    ]


@pytest.mark.parametrize(
    "host",
    [
        "docker.io",
        "public.ecr.aws",
        f"{HOST}.evil.example",
        f"evil.{HOST}",
        f"{HOST}:5000",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil",
        "123456789012.dkr.ecr.eu-west-1.evil.com",
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.127.0.0.1/x.amazonaws.com",
    ],
)
def test_nobody_else_gets_one(ecr: FakeEcr, host: str) -> None:
    assert EcrCredentials(keys_for(ecr)).lookup(host) is None
    assert (ecr.asked, ecr.refused) == ([], [])


def test_keys_of_one_registry_are_for_that_one(ecr: FakeEcr) -> None:
    provider = EcrCredentials(keys_for(ecr), host=HOST)
    assert provider.lookup(HOST) is not None
    assert provider.lookup(HOST.replace("1234", "9999")) is None


def test_amazons_hosts() -> None:
    for host, region in (
        (HOST, "eu-west-1"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ):
        match = ECR_HOST.fullmatch(host)
        assert match is not None
        assert match["region"] == region


def test_a_refusal_is_told_once_and_without_the_secret(ecr: FakeEcr) -> None:
    provider = EcrCredentials(keys_for(ecr, secret_access_key="canary"))
    for _ in range(2):
        with pytest.raises(CredentialsError, match=f"no password for {HOST} from Amazon ECR") as caught:
            provider.lookup(HOST)
    assert caught.value.why == "HTTP 400: InvalidSignatureException: The request cannot be taken."
    assert "canary" not in repr(caught.value) + repr(provider) + repr(vars(provider))
    assert ecr.refused == ["InvalidSignatureException"]


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"", {}),
        (200, b"[]", {}),
        (200, b'{"authorizationData": []}', {}),
        (200, b'{"authorizationData": [{"authorizationToken": "!", "expiresAt": 1}]}', {}),
        (200, b'{"authorizationData": [{"authorizationToken": "QVdT", "expiresAt": 1}]}', {}),
        (200, b'{"authorizationData": [{"authorizationToken": "QVdTOng=", "expiresAt": "soon"}]}', {}),
        (500, b"<html>", {}),
        (503, b'{"__type": 1}', {}),
        (307, b"", {"Location": "http://127.0.0.1:1/"}),
    ],
)
def test_answers_that_are_none(ecr: FakeEcr, answer: tuple[int, bytes, dict[str, str]]) -> None:
    ecr.answer = answer
    with pytest.raises(CredentialsError, match="no password for") as caught:
        EcrCredentials(keys_for(ecr)).lookup(HOST)
    assert caught.value.why


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        keys = AwsKeys(access_key_id="AKIAX", secret_access_key="x", endpoint=endpoint)
        with pytest.raises(CredentialsError) as caught:
            EcrCredentials(keys).lookup(HOST)
    assert "Connection refused" in caught.value.why


def test_keys_of_the_environment() -> None:
    both = {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_SESSION_TOKEN": "canary"}
    keys = AwsKeys.from_environment({**both, "AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_ECR": "http://ecr"})
    assert keys is not None
    assert (keys.access_key_id, keys.session_token, keys.endpoint) == ("AKIAX", "canary", "http://ecr")
    assert "canary" not in repr(keys)
    assert AwsKeys.from_environment({"AWS_ACCESS_KEY_ID": "AKIAX"}) is None
