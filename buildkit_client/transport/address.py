"""Addresses of a daemon, as ``buildctl --addr`` takes them; no IO.

Reference: client/connhelper; cmd/buildctl/main.go, the ``addr`` flag; util/appdefaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from buildkit_client.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ADDRESS = "unix:///run/buildkit/buildkitd.sock"  # util/appdefaults/appdefaults_unix.go
ENVIRONMENT_ADDRESS = "BUILDKIT_HOST"

_EXAMPLES = "unix:///run/buildkit/buildkitd.sock or tcp://builder.example.com:1234"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon is.

    Attributes:
        text: As the caller gave it.
        scheme: ``unix`` or ``tcp``.
        path: The socket's path, for ``unix``.
        host: Name or number without brackets, for ``tcp``.
        port: For ``tcp``.
    """

    text: str
    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.text


def parse_address(text: str) -> Address:
    """Read an address.

    Args:
        text: ``unix:///path/to.sock`` or ``tcp://host:port``.

    Raises:
        ConnectError: The text is not such an address; phase ``address``.
    """
    if "://" not in text:
        raise _wrong(text, "it has no scheme")
    scheme, rest = text.split("://", 1)
    if scheme == "unix":
        if not rest.startswith("/"):
            raise _wrong(text, "a unix:// address needs an absolute path, so three slashes")
        if "\0" in rest or len(rest.encode("utf-8", "surrogateescape")) > 107:
            raise _wrong(text, "a socket's path has at most 107 bytes")
        return Address(text, "unix", path=rest)
    if scheme == "tcp":
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as exc:
            raise _wrong(text, str(exc)) from exc
        if not parts.hostname:
            raise _wrong(text, "it names no host")
        if port is None:
            raise _wrong(text, "a tcp:// address needs a port; there is no default")
        if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _wrong(text, "a tcp:// address is a host and a port, nothing else")
        return Address(text, "tcp", host=parts.hostname, port=port)
    raise _wrong(text, f"the scheme {scheme!r} is not known")


def default_address(environ: Mapping[str, str]) -> str:
    """Return ``BUILDKIT_HOST`` of an environment, or the platform's default address."""
    return environ.get(ENVIRONMENT_ADDRESS) or DEFAULT_ADDRESS


def _wrong(text: str, why: str) -> ConnectError:
    return ConnectError(
        f"{text[:200]!r} is not an address of a buildkitd",
        address=text,
        phase="address",
        why=why,
        hint=f"write it like {_EXAMPLES}",
    )
