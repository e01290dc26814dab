"""Which token server may be asked: the rules for realms and redirects.

A realm comes from outside, and a login may be sent there. So link-local addresses and the metadata services of clouds
are never asked, in whatever way their address is written, and plain HTTP is taken from the registry's own host only.

Reference: distribution-spec token authentication, "How to authenticate"; RFC 3927, RFC 4291 section 2.5.6.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import urllib.parse

from buildkit_client.errors import RegistryError
from buildkit_client.oci.credentials import normalize_host

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL_CHARS = re.compile(r"[\x21-\x7e]+")

# Where clouds serve secrets to whoever asks from inside a machine.
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
_METADATA_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # Google
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_loopback(hostname: str) -> bool:
    """Whether a host name or literal address means this machine."""
    name = hostname.rstrip(".").lower()
    address = _literal_address(name)
    return name == "localhost" or name.endswith(".localhost") or (address is not None and address.is_loopback)


def is_metadata_address(hostname: str) -> bool:
    """Whether a host name or literal address is link-local or a cloud's metadata service, in any spelling."""
    if hostname.rstrip(".").lower() in _METADATA_NAMES:
        return True
    address = _literal_address(hostname)
    if address is None:
        return False
    embedded: list[ipaddress.IPv4Address | ipaddress.IPv6Address | None] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        embedded += [address.ipv4_mapped, address.sixtofour]
        if address in _NAT64:
            embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return any(part in network for part in embedded if part is not None for network in _METADATA_NETWORKS)


def _literal_address(hostname: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address as resolvers do, which also know forms such as ``2852039166`` and ``0xa9.254.1``."""
    text = hostname.rstrip(".").strip("[]").partition("%")[0]
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(text)
    with contextlib.suppress(OSError, UnicodeError):
        return ipaddress.IPv4Address(socket.inet_aton(text))
    return None


def hostname_of(registry: str) -> str:
    """Return a registry's host without port, in one spelling.

    Raises:
        CredentialsError: The text is not a registry's host.
    """
    return urllib.parse.urlsplit(f"//{normalize_host(registry)}").hostname or ""


def netloc_of(parts: urllib.parse.SplitResult) -> str:
    """Return a URL's host, with port where it has one, and never with a login."""
    return parts.netloc.rpartition("@")[2]


def _origin(parts: urllib.parse.SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def may_keep_login(old: urllib.parse.SplitResult, new: urllib.parse.SplitResult) -> bool:
    """Whether a login may follow a redirect: same origin, or the same host's step from HTTP to HTTPS."""
    before, after = _origin(old), _origin(new)
    return before == after or (before[1] == after[1] and before[::2] == ("http", 80) and after[::2] == ("https", 443))


def check_url(url: str, registry: str, is_insecure: bool) -> urllib.parse.SplitResult:
    """Refuse a token server's URL that must not be asked.

    HTTP on the registry's own host is taken: who could forge that could forge the registry. HTTP on this machine, from
    a registry on this machine, is taken because such a registry counts as insecure.

    Args:
        url: The realm, or where it redirects to.
        registry: The registry that named it.
        is_insecure: Whether the registry itself is reached without protection; then HTTP is taken from any host.

    Raises:
        RegistryError: The URL is malformed, carries a login, leads to link-local or metadata addresses, or is plain
            HTTP on another host than the registry's.
    """

    def refuse(why: str) -> RegistryError:
        return RegistryError(f"registry {registry} names a token server that is not asked", host=registry, why=why)

    try:
        # urlsplit drops line feeds and tabs silently, so characters are checked first.
        parts = urllib.parse.urlsplit(url if _URL_CHARS.fullmatch(url) and "\\" not in url else "")
        port_is_valid = parts.port != 0
    except ValueError:
        raise refuse("its URL is malformed") from None
    hostname = parts.hostname or ""
    if parts.scheme not in _DEFAULT_PORTS or not hostname or not port_is_valid:
        raise refuse("its URL is not a full http or https URL")
    if "@" in parts.netloc:
        raise refuse(f"its URL for {netloc_of(parts)} carries a login")
    if is_metadata_address(hostname):
        raise refuse(f"{hostname} is a link-local or metadata address")
    if parts.scheme == "http" and hostname.rstrip(".") != hostname_of(registry) and not is_insecure:
        raise refuse(f"{netloc_of(parts)} is another host and not protected by TLS")
    return parts
