"""The services that integration tests run against, as ``scripts/services.sh env`` names them.

Tests take the fixture ``services`` of ``tests/conftest.py``; this module reads the environment for it and knows which
buildkitd answers. Nothing is guessed: what is not named in the environment is not there.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from packaging.specifiers import SpecifierSet
from packaging.version import Version


class ServicesMissingError(Exception):
    """The environment does not name the services; the text says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses and credentials. Registries are "host:port" and speak plain HTTP."""

    buildkit_host: str
    buildctl: Path
    skopeo: Path
    registry: str
    registry_htpasswd: str
    htpasswd_user: str
    htpasswd_password: str = field(repr=False)
    registry_token: str
    token_user: str
    token_password: str = field(repr=False)
    token_identity: str = field(repr=False)
    base_image: str
    tls_addr: str | None
    """tcp:// address of the same buildkitd, which demands a client certificate; None when the daemon is not ours."""
    tls_dir: Path | None
    """Folder with ca.pem, cert.pem and key.pem for ``tls_addr``."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read what ``scripts/services.sh env`` exports.

        Raises:
            ServicesMissingError: A variable is not set, or a file that one names is not there.
        """

        def value(name: str) -> str:
            if not environ.get(name):
                raise ServicesMissingError(f'{name} is not set; try: eval "$(scripts/services.sh env)"')
            return environ[name]

        def content(name: str) -> str:
            path = Path(value(name))
            if not path.is_file():
                raise ServicesMissingError(f"{path}, named by {name}, is not there; try: scripts/services.sh up")
            return path.read_text().strip()

        tls_dir = environ.get("TEST_BUILDKIT_TLS_DIR")
        return cls(
            buildkit_host=value("BUILDKIT_HOST"),
            buildctl=Path(value("BUILDCTL")),
            skopeo=Path(value("SKOPEO")),
            registry=value("TEST_REGISTRY"),
            registry_htpasswd=value("TEST_REGISTRY_HTPASSWD"),
            htpasswd_user=value("TEST_REGISTRY_HTPASSWD_USER"),
            htpasswd_password=content("TEST_REGISTRY_HTPASSWD_PASSWORD_FILE"),
            registry_token=value("TEST_REGISTRY_TOKEN"),
            token_user=value("TEST_REGISTRY_TOKEN_USER"),
            token_password=content("TEST_REGISTRY_TOKEN_PASSWORD_FILE"),
            token_identity=content("TEST_REGISTRY_TOKEN_IDENTITY_FILE"),
            base_image=value("TEST_BASE_IMAGE"),
            tls_addr=environ.get("TEST_BUILDKIT_TLS_ADDR") or None,
            tls_dir=Path(tls_dir) if tls_dir else None,
        )

    def buildkit_version(self) -> str:
        """Return the daemon's version, for example "v0.34.2".

        Raises:
            ServicesMissingError: The daemon does not answer.
        """
        return _daemon_version(self.buildctl, self.buildkit_host)

    def buildkit_satisfies(self, specifier: str) -> bool:
        """Say whether the daemon's version fits, for example ">=0.13"; release candidates count as their release."""
        version = Version(self.buildkit_version().removeprefix("v"))
        return Version(version.base_version) in SpecifierSet(specifier)


@functools.cache
def _daemon_version(buildctl: Path, address: str) -> str:
    template = "{{range .}}{{.BuildkitVersion.Version}} {{end}}"
    command = [str(buildctl), "--addr", address, "debug", "workers", "--format", template]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ServicesMissingError(f"buildkitd at {address} cannot be asked for its version: {exc}") from exc
    if done.returncode or not done.stdout.strip():
        raise ServicesMissingError(f"no buildkitd answers at {address}: {done.stderr.strip()}")
    return done.stdout.split()[0]
