"""Opens connection pools to registries and token servers: TLS files, verification, proxies; words for their errors."""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import re
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3 import exceptions as http_errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from buildkit_client.errors import OptionError
from buildkit_client.oci.realm import is_loopback, netloc_of

if TYPE_CHECKING:
    import socket

    from buildkit_client.oci.token import HostSecurity, HttpOptions

NO_TLS_REASONS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""What OpenSSL calls an answer that is no TLS."""

SEND_TIMEOUT_S = 120.0
"""How long a chunk of at most 1 MiB may take to be sent."""

_BLOCK_BYTES = 256 << 10


class _PatientSending:
    """A connection on which a body may take longer to be sent than the connection to be made.

    The library has one limit for both; between the headers and the body is the place to set another.
    """

    sock: socket.socket

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        super().endheaders(message_body, encode_chunked=encode_chunked)  # type: ignore[misc]  # of the other base
        self.sock.settimeout(SEND_TIMEOUT_S)


class TlsConnection(HTTPSConnection):
    """A TLS connection that does not warn at each request when the caller wants no certificate checked."""

    def connect(self) -> None:
        """Connect, and count as verified whatever was checked."""
        super().connect()
        self.is_verified = True


class _PatientConnection(_PatientSending, HTTPConnection):
    pass


class _PatientTlsConnection(_PatientSending, TlsConnection):
    pass


class _PatientPool(HTTPConnectionPool):
    ConnectionCls = _PatientConnection


class _PatientTlsPool(HTTPSConnectionPool):
    ConnectionCls = _PatientTlsConnection


PoolClasses = Mapping[str, type[HTTPConnectionPool]]
"""Which pool makes the connections of a scheme, ``http`` or ``https``."""

_PATIENT: PoolClasses = {"http": _PatientPool, "https": _PatientTlsPool}


def open_pool(
    url: str,
    security: HostSecurity,
    options: HttpOptions,
    *,
    verify: bool,
    connections: int,
    pools: PoolClasses = _PATIENT,
) -> urllib3.PoolManager:
    """Open a pool for a host, directly or through the proxy for it.

    Args:
        url: Any URL of the host.
        security: TLS files.
        options: Proxies.
        verify: Whether its certificate is checked.
        connections: How many connections are kept.
        pools: What connections are made of.

    Raises:
        OptionError: A TLS file cannot be used, or the proxy is no URL.
    """
    parts = urllib.parse.urlsplit(url)
    context = tls_context(security, parts.netloc, verify=verify) if parts.scheme == "https" else None
    proxy = "" if _needs_no_proxy(parts, options) else options.proxies.get(parts.scheme, "")
    manager = (
        urllib3.PoolManager(num_pools=4, maxsize=connections, blocksize=_BLOCK_BYTES, ssl_context=context)
        if not proxy
        else _proxy_manager(proxy, context, connections)
    )
    manager.pool_classes_by_scheme = dict(pools)
    return manager


def tls_context(security: HostSecurity, name: str, *, verify: bool) -> ssl.SSLContext:
    """Return a TLS context for a host.

    Raises:
        OptionError: A file cannot be read or is not PEM.
    """
    context = ssl.create_default_context()
    path = None
    try:
        for path in security.ca_paths:
            context.load_verify_locations(path)
        if (path := security.cert_path) is not None:
            context.load_cert_chain(path, security.key_path)
    except OSError as exc:  # SSLError is one too
        why = "it is not PEM" if isinstance(exc, ssl.SSLError) else exc.strerror or type(exc).__name__
        raise OptionError(f"cannot use the TLS file {path} for {name}", why=why) from exc
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def explain(error: Exception) -> tuple[str, bool]:
    """Return why a request failed, in words without its URL, and whether another attempt may help."""
    match error:
        case http_errors.NameResolutionError():
            return "its name cannot be resolved", False
        case http_errors.ProxyError():
            return "the proxy cannot be used", False
        case http_errors.NewConnectionError():
            cause = error.__cause__
            return f"no connection: {(cause.strerror if isinstance(cause, OSError) else '') or 'refused'}", True
        case http_errors.ConnectTimeoutError():
            return "the connection timed out", False
        case http_errors.ReadTimeoutError():
            return "it gave no answer in time", True
        case http_errors.SSLError():
            cause = error.args[0] if error.args else None
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"its certificate is not trusted: {cause.verify_message}", False
            if getattr(cause, "reason", "") in NO_TLS_REASONS:
                return "the port does not speak TLS", False
            return f"TLS failed: {getattr(cause, 'reason', None) or 'unknown reason'}", False
        case http_errors.ProtocolError() | OSError():
            return "the connection broke", True
    return f"its answer cannot be read ({type(error).__name__})", False


def retry_after_s(value: str) -> float:
    """Read a ``Retry-After`` header, seconds or a date; 0 when absent or unreadable."""
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _needs_no_proxy(parts: urllib.parse.SplitResult, options: HttpOptions) -> bool:
    hostname = (parts.hostname or "").rstrip(".")
    if is_loopback(hostname):
        return True
    for entry in re.split(r"[,\s]+", options.proxies.get("no_proxy", "").lower()):
        name = entry.removeprefix("*").removeprefix(".")
        if entry == "*" or (name and (hostname == name or hostname.endswith(f".{name}") or netloc_of(parts) == name)):
            return True
        with contextlib.suppress(ValueError):  # a range of addresses, and a host that is one
            if ipaddress.ip_address(hostname) in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def _proxy_manager(proxy: str, context: ssl.SSLContext | None, connections: int) -> urllib3.ProxyManager:
    parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionError("the proxy is not an http or https URL", hint="SOCKS proxies are not supported here")
    headers = {}
    if parts.username is not None:
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(
        f"{parts.scheme}://{netloc_of(parts)}", proxy_headers=headers, ssl_context=context, maxsize=connections
    )
