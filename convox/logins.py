"""Where a rack's builds find registry logins, and in which order.

1. the rack's Docker Hub account, for Docker Hub under all its names and for nobody else;
2. the login of the rack's registry, for that host alone;
3. ``convox registries add``;
4. docker's ``config.json`` with its credential helpers;
5. Amazon's keys in the environment, for Amazon's registries.

The first that knows a host answers for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convox.errors import RackError
from convox.providers import login_provider, profile_for
from convox.registries import list_registries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from buildkit_client.oci import CredentialsProvider
    from convox.rack import Rack


def rack_credentials(
    rack: Rack, *, docker_config_path: Path, environ: Mapping[str, str] | None = None
) -> CredentialsProvider:
    """Return where a rack's builds find registry logins.

    Args:
        rack: Has the logins.
        docker_config_path: Docker's ``config.json``; may be missing.
        environ: The environment, for Amazon's keys; None for none.

    Raises:
        RackError: A login is not whole, is none that its registry takes, or the rack's registries cannot be read.
    """
    from buildkit_client.oci import (  # noqa: PLC0415 (not needed by every command)
        ChainCredentials,
        DockerConfig,
        DockerHubCredentials,
    )

    environ = environ or {}
    providers: list[CredentialsProvider] = []
    if hub := docker_hub_login(rack):
        providers.append(DockerHubCredentials(*hub, source="rack param docker_hub_username"))
    if found := registry_login(rack):
        source = "rack param registry_username" if found[0] else "rack param registry_password"
        providers.append(login_provider(rack.registry_host, *found, source=source, environ=environ))
    providers += [
        login_provider(one.host, one.username, one.password, source="convox registries", environ=environ)
        for one in list_registries(rack)
    ]
    providers.append(DockerConfig(docker_config_path))
    if environ.get("AWS_ACCESS_KEY_ID"):
        from convox.ecr import AwsKeys, EcrCredentials  # noqa: PLC0415 (not needed by every command)

        if keys := AwsKeys.from_environment(environ):
            providers.append(EcrCredentials(keys))
    return ChainCredentials(*providers)


def docker_hub_login(rack: Rack) -> tuple[str, str] | None:
    """Return user name and token of the rack's Docker Hub account, None where it has none.

    Raises:
        RackError: Only one of the two is set.
    """
    return _both(rack, "docker_hub")


def registry_login(rack: Rack) -> tuple[str, str] | None:
    """Return user name and password for the rack's registry, None where it has none; the user name may be empty.

    Raises:
        RackError: Only one of the two is set, and the registry needs both.
    """
    host = rack.registry_host
    if not host:
        _both(rack, "registry")
        return None
    profile = profile_for(host)
    password = rack.param("registry_password")
    if not profile.needs_username and password:
        return rack.param("registry_username"), password
    if profile.name == "docr" and not password and not rack.param("registry_username") and rack.param("token"):
        return "", rack.param("token")  # what a rack on DigitalOcean is installed with opens its registry as well
    return _both(rack, "registry")


def _both(rack: Rack, prefix: str) -> tuple[str, str] | None:
    username, password = rack.param(f"{prefix}_username"), rack.param(f"{prefix}_password")
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise RackError(
            f"the rack has no param {prefix}_{missing}",
            why="a user name and its password are only of use together",
            hint=f"convox rack params set {prefix}_{missing}=…",
        )
    return (username, password) if username else None
