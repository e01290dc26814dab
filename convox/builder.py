"""A rack's builder: how to reach it, and which credentials its builds may use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convox.errors import RackError
from convox.rack_params import is_masked

if TYPE_CHECKING:

    from buildkit_client import Client
    from buildkit_client.oci import CredentialsProvider
    from convox.rack import Rack

DEFAULT_ADDRESS = "unix:///run/buildkit/buildkitd.sock"
"""Where buildkitd listens when nothing else is said."""


def connect(rack: Rack, *, buildkit_host: str) -> Client:
    """Return a client of the first of the rack's builders that answers.

    Args:
        rack: Names the builders and the TLS files.
        buildkit_host: Address to use when the rack names none; empty takes the platform's default.

    Raises:
        ConnectError: None of them answers; the error is the last one's.
        OptionError: A TLS file cannot be read.
    """
    from buildkit_client import Client, ConnectError, TlsConfig  # noqa: PLC0415 (not needed by every command)

    addresses = rack.builders or (buildkit_host or DEFAULT_ADDRESS,)
    files = {name: Path(rack.param(f"tls_{name}")) for name in ("ca", "cert", "key") if rack.param(f"tls_{name}")}
    tls = TlsConfig(**files, server_name=rack.param("tls_server_name")) if files else None
    for address in addresses:
        client = Client(address, tls=tls)
        try:
            client.info()
        except ConnectError:
            client.close()
            if address == addresses[-1]:
                raise
        else:
            return client
    raise RackError(
        "the rack names no builder", hint="convox rack params set builder=unix:///run/buildkit/buildkitd.sock"
    )


def credentials(rack: Rack, *, docker_config_path: Path) -> CredentialsProvider:
    """Return where the rack's builds find registry credentials.

    The rack's own come first: Docker Hub's for all names of the hub and no other host, the registry's for its host.
    After them, docker's configuration.

    Args:
        rack: Has the logins.
        docker_config_path: Docker's ``config.json``; may be missing.

    Raises:
        RackError: Only one of a user name and its password is set.
    """
    from buildkit_client.oci import (  # noqa: PLC0415 (not needed by every command)
        ChainCredentials,
        Credentials,
        DockerConfig,
        DockerHubCredentials,
        StaticCredentials,
    )

    providers: list[CredentialsProvider] = []
    if hub := _login(rack, "docker_hub"):
        providers.append(DockerHubCredentials(*hub, source="rack param docker_hub_username"))
    if (login := _login(rack, "registry")) and rack.param("registry"):
        host = rack.param("registry").split("/", 1)[0]
        providers.append(StaticCredentials({host: Credentials(*login)}, source="rack param registry_username"))
    return ChainCredentials(*providers, DockerConfig(docker_config_path))


def secrets(rack: Rack) -> list[str]:
    """Return the rack's values that must not be shown."""
    return [value for name, value in rack.params.items() if is_masked(name)]


def _login(rack: Rack, prefix: str) -> tuple[str, str] | None:
    username, password = rack.param(f"{prefix}_username"), rack.param(f"{prefix}_password")
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise RackError(
            f"the rack has no param {prefix}_{missing}",
            why="a user name and its password are only of use together",
            hint=f"convox rack params set {prefix}_{missing}=…",
        )
    return (username, password) if username else None
