"""Amazon's registry end to end: a key pair buys a password, the registry and the builder take it, for cache as well.

The registry is a real one that knows the user ``AWS`` and one password; what sells that password speaks Amazon's
protocol. The registry's host is not one of Amazon's, so the provider is asked under Amazon's name and its answer used.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_client.oci import Credentials, check_login
from convox.ecr import AwsKeys, EcrCredentials
from tests.integration.convox.harness import Convox
from tests.support.fake_ecr import FakeEcr
from tests.support.services import Services

pytestmark = pytest.mark.services

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def test_a_password_that_was_bought_opens_a_registry(services: Services) -> None:
    with FakeEcr() as ecr:
        ecr.password = services.htpasswd_password
        key_id, secret = next(iter(ecr.keys.items()))
        keys = AwsKeys(access_key_id=key_id, secret_access_key=secret, endpoint=ecr.url)
        bought = EcrCredentials(keys).lookup(HOST)
        assert bought is not None
        password = bought.password

        class UnderAnotherName:
            def lookup(self, host: str) -> Credentials | None:
                return Credentials(services.htpasswd_user, password)

        assert check_login(services.registry_htpasswd, UnderAnotherName()).status == "accepted"


def test_the_command_buys_passwords_with_keys_of_the_environment(convox: Convox, tmp_path: Path) -> None:
    with FakeEcr() as ecr:
        key_id, secret = next(iter(ecr.keys.items()))
        convox.environ |= {
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL_ECR": ecr.url,
        }
        result = convox.run("registries", "check", HOST)
        # The registry itself is out of reach, but it was asked with what Amazon sold.
        assert "AWS_ACCESS_KEY_ID (ECR token)" in result.stdout
        assert secret not in result.stdout + result.stderr
        assert ecr.asked == [("eu-west-1", ["123456789012"])]
        convox.environ["AWS_SECRET_ACCESS_KEY"] = "wrong-canary"
        refused = convox.run("registries", "check", HOST)
        assert refused.code == 4
        assert "refused: HTTP 400: InvalidSignatureException" in refused.stdout
        assert "canary" not in refused.stdout + refused.stderr
