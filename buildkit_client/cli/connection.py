"""The connection that the global flags ask for.

Reference: cmd/buildctl/common/common.go, ResolveClient.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.client import Client
from buildkit_client.errors import BuildKitError, ConnectError, OptionError
from buildkit_client.transport.address import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_client.cli.flags import Invocation
    from buildkit_client.transport.tls import TlsConfig

_HELPER_SCHEMES = frozenset(EXAMPLES) - {"unix", "tcp", "docker"}
_NO_TIMEOUT_S = 365 * 24 * 3600.0
_RETRY_INTERVAL_S = 1.0


def open_client(
    invocation: Invocation,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Client:
    """Make the client that ``--addr``, ``--tls…`` and ``--timeout`` describe; with ``--wait``, wait for the daemon.

    Args:
        invocation: The command line.
        clock: Seconds of a clock that never goes back.
        sleep: Waits for some seconds.

    Raises:
        OptionError: The TLS flags do not fit together, or a file cannot be read.
        ConnectError: The address is malformed.
        BuildKitError: The same, in the reference's words where it has some. With ``--wait``: the daemon did not come
            within the timeout.
    """
    timeout_s = invocation.number("timeout")
    try:
        client = Client(
            invocation.text("addr"),
            tls=_tls_config(invocation),
            connect_timeout_s=timeout_s if timeout_s > 0 else _NO_TIMEOUT_S,
        )
    except ConnectError as exc:
        if exc.phase == "address" and _is_refused_by_reference(exc):
            raise BuildKitError(exc.why, hint=exc.hint) from exc
        raise
    if invocation.is_set("wait"):
        _wait(client, clock() + (timeout_s if timeout_s > 0 else _NO_TIMEOUT_S), clock, sleep)
    return client


def _is_refused_by_reference(error: ConnectError) -> bool:
    """Whether the reference has words of its own for an address; it tries to connect to all others.

    Reference: client/connhelper/*, SpecFromURL; net/url, Parse.
    """
    scheme = error.address.partition("://")[0]
    return error.why.startswith("parse ") or scheme == "npipe" or scheme in _HELPER_SCHEMES


def _wait(client: Client, deadline: float, clock: Callable[[], float], sleep: Callable[[float], object]) -> None:
    """Ask until the daemon answers; any answer counts."""
    while True:
        try:
            client.info()
        except ConnectError as exc:
            if clock() + _RETRY_INTERVAL_S > deadline:
                raise BuildKitError("context deadline exceeded", why=f"{exc}: {exc.why}") from exc
            sleep(_RETRY_INTERVAL_S)
        except BuildKitError:
            return
        else:
            return


def _tls_config(invocation: Invocation) -> TlsConfig | None:
    files = {name: invocation.text(f"tls{name}") for name in ("cacert", "cert", "key")}
    folder = invocation.text("tlsdir")
    if folder:
        if any(files.values()):
            raise OptionError("cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time")
        files = {
            "cacert": _one_of(Path(folder), "ca.pem", "ca.crt"),
            "cert": _one_of(Path(folder), "cert.pem", "tls.crt"),
            "key": _one_of(Path(folder), "key.pem", "tls.key"),
        }
    if not any(files.values()):
        return None
    from buildkit_client.transport.tls import TlsConfig  # noqa: PLC0415 - most connections do without

    paths = {name: Path(text) if text else None for name, text in files.items()}
    return TlsConfig(
        ca=paths["cacert"], cert=paths["cert"], key=paths["key"], server_name=invocation.text("tlsservername")
    )


def _one_of(folder: Path, first: str, second: str) -> str:
    for name in (first, second):
        if (folder / name).exists():
            return str(folder / name)
    raise OptionError(f"directory did not contain one of the needed files: {first} or {second}")
