"""What the tests know of their services: from the environment alone, with a reason when something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.services import Services, ServicesMissingError


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "secret"
    secret.write_text("very-secret\n")
    return {
        "BUILDKIT_HOST": "unix:///run/b.sock",
        "BUILDCTL": "/bin/buildctl",
        "SKOPEO": "/bin/skopeo",
        "TEST_REGISTRY": "127.0.0.1:5000",
        "TEST_REGISTRY_HTPASSWD": "127.0.0.1:5001",
        "TEST_REGISTRY_HTPASSWD_USER": "docker",
        "TEST_REGISTRY_HTPASSWD_PASSWORD_FILE": str(secret),
        "TEST_REGISTRY_TOKEN": "127.0.0.1:5002",
        "TEST_REGISTRY_TOKEN_USER": "builder",
        "TEST_REGISTRY_TOKEN_PASSWORD_FILE": str(secret),
        "TEST_REGISTRY_TOKEN_IDENTITY_FILE": str(secret),
        "TEST_BASE_IMAGE": "127.0.0.1:5000/library/busybox:latest",
        "TEST_BUILDKIT_TLS_ADDR": "",
        "TEST_BUILDKIT_TLS_DIR": "",
    }


def test_secrets_are_read_from_their_files_and_never_shown(environment: dict[str, str]) -> None:
    services = Services.from_environment(environment)
    assert services.htpasswd_password == services.token_password == services.token_identity == "very-secret"
    assert "very-secret" not in repr(services)


def test_tls_of_a_foreign_daemon_is_unknown(environment: dict[str, str]) -> None:
    assert Services.from_environment(environment).tls_addr is None
    assert Services.from_environment(environment).tls_dir is None


@pytest.mark.parametrize("name", ["BUILDKIT_HOST", "TEST_REGISTRY_TOKEN", "TEST_REGISTRY_TOKEN_IDENTITY_FILE"])
def test_a_missing_variable_is_named(environment: dict[str, str], name: str) -> None:
    del environment[name]
    with pytest.raises(ServicesMissingError, match=f"{name} is not set"):
        Services.from_environment(environment)


def test_a_missing_file_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    environment["TEST_REGISTRY_TOKEN_PASSWORD_FILE"] = str(tmp_path / "gone")
    with pytest.raises(ServicesMissingError, match="gone, named by TEST_REGISTRY_TOKEN_PASSWORD_FILE"):
        Services.from_environment(environment)


def test_a_daemon_that_cannot_be_asked_is_missing(environment: dict[str, str], tmp_path: Path) -> None:
    environment["BUILDCTL"] = str(tmp_path / "no-such-buildctl")
    with pytest.raises(ServicesMissingError, match=r"unix:///run/b\.sock cannot be asked"):
        Services.from_environment(environment).buildkit_version()


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [("v0.34.2", ">=0.13", True), ("v0.12.5", ">=0.13", False), ("v0.13.0-rc2", ">=0.13", True)],
)
def test_versions_are_compared(
    environment: dict[str, str], tmp_path: Path, version: str, specifier: str, fits: bool
) -> None:
    buildctl = tmp_path / "buildctl"
    buildctl.write_text(f"#!/bin/sh\necho '{version} '\n")
    buildctl.chmod(0o755)
    environment["BUILDCTL"] = str(buildctl)
    assert Services.from_environment(environment).buildkit_satisfies(specifier) is fits
