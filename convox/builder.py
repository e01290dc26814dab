"""A rack's builder: how to reach it, and which credentials its builds may use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convox.build_errors import unreachable, unusable_tls
from convox.errors import BuilderError
from convox.settings import quieten_libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buildkit_client import Client
    from buildkit_client.oci import CredentialsProvider
    from convox.rack import Rack

DEFAULT_ADDRESS = "unix:///run/buildkit/buildkitd.sock"
"""Where buildkitd listens when nothing else is said."""

_DOCKERFILES = 'type==source.local,description~="for dockerfile"'  # source/local/source.go: local source for <name>


def connect(rack: Rack, *, buildkit_host: str, start_local: Callable[[], str] | None = None) -> Client:
    """Return a client of the first of the rack's builders that answers.

    Args:
        rack: Names the builders and the TLS files.
        buildkit_host: Address to use when the rack names none; empty takes the platform's default.
        start_local: Starts a builder of our own and returns its address; called when nobody named a builder and none
            answers at the platform's default address.

    Raises:
        BuilderError: None of them answers, or a TLS file cannot be used.
    """
    quieten_libraries()
    from buildkit_client import ConnectError, OptionError  # noqa: PLC0415 (imports gRPC)

    errors: list[ConnectError] = []
    named = rack.builders or ((buildkit_host,) if buildkit_host else ())
    for address in named or (DEFAULT_ADDRESS,):
        try:
            return _reach(rack, address)
        except ConnectError as exc:
            errors.append(exc)
        except OptionError as exc:
            raise unusable_tls(exc) from exc
    if named or start_local is None:
        raise unreachable(errors, is_named=bool(named)) from errors[-1]
    from convox.buildkitd_setup import ProgramsMissingError  # noqa: PLC0415 (few racks need one)

    try:
        return _reach(rack, start_local())
    except ProgramsMissingError as exc:
        raise BuilderError(
            "no builder answers, and none can be started here", why=f"{errors[-1].why}; {exc.why}", hint=exc.hint
        ) from exc


def _reach(rack: Rack, address: str) -> Client:
    """Return a client that has answered once."""
    from buildkit_client.startup import lean_imports  # noqa: PLC0415 (for builds alone)

    with lean_imports():
        from buildkit_client import Client, TlsConfig  # noqa: PLC0415 (imports gRPC)

    files = {name: Path(rack.param(f"tls_{name}")) for name in ("ca", "cert", "key") if rack.param(f"tls_{name}")}
    server_name = rack.param("tls_server_name")
    client = Client(address, tls=TlsConfig(**files, server_name=server_name) if files or server_name else None)
    try:
        client.info()
    except BaseException:
        client.close()
        raise
    return client


def is_new(client: Client) -> bool:
    """Tell whether a builder holds no Dockerfile of any build: it is new, or all its cache was pruned.

    The builder measures what it lists, which takes time for large folders; a Dockerfile's is a small one.

    Raises:
        BuildKitError: It does not answer.
    """
    return not client.disk_usage([_DOCKERFILES])


def credentials(
    rack: Rack, *, docker_config_path: Path, environ: Mapping[str, str] | None = None
) -> CredentialsProvider:
    """Return where the rack's builds find registry credentials; see :func:`convox.logins.rack_credentials`.

    Args:
        rack: Has the logins.
        docker_config_path: Docker's ``config.json``; may be missing.
        environ: The environment, for Amazon's keys; None for none.

    Raises:
        RackError: A login is not whole, or is none that its registry takes.
    """
    from convox.logins import rack_credentials  # noqa: PLC0415 (not needed by every command)

    return rack_credentials(rack, docker_config_path=docker_config_path, environ=environ)
