"""HTTP as token requests need it: bounded in time and size, and careful where a login goes.

One :class:`TokenHttp` makes the requests for one registry. Every URL, the realm and each redirect alike, passes
:func:`check_url`, and every connection is checked again by the address it really reached: a name can be written in many
ways and can resolve to anything. A login crosses to another origin neither as a header nor as a body.

Connections are not kept: tokens are fetched a few times per build, and nothing has to be closed later.

Reference: RFC 9110 sections 10.2.3 (Retry-After), 15.4 (redirects), 11.6.2 (Authorization).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import urllib3
import urllib3.exceptions as http_errors
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from buildkit_client.errors import RegistryError
from buildkit_client.oci.credentials import normalize_host
from buildkit_client.oci.http_pool import PoolClasses, TlsConnection, explain, open_pool, retry_after_s
from buildkit_client.oci.realm import (
    check_url,
    hostname_of,
    is_loopback,
    is_metadata_address,
    may_keep_login,
    netloc_of,
)
from buildkit_client.oci.token import HostSecurity, HttpOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_ANSWER_BYTES = 1 << 20
MAX_REDIRECTS = 5
MAX_WAIT_S = 30.0

_BUSY = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FIRST_DELAY_S = 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    """A token server's answer.

    Attributes:
        status: HTTP status.
        server: Host that sent it, with port where the URL has one.
        body: At most 1 MiB.
        note: Why the request was not repeated, or empty.
    """

    status: int
    server: str
    body: bytes = field(repr=False)
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Reply:
    """One response before redirects are followed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    note: str = ""


class _Watch:
    """Ends a connection when the whole request takes too long, even while single bytes keep coming."""

    def __init__(self, registry: str, remaining_s: float) -> None:
        self.registry = registry
        self.has_expired = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(remaining_s, self._expire)
        self._timer.daemon = True

    def opened(self, connection: HTTPConnection) -> None:
        """Check where a new connection leads, and take it under watch."""
        sock = connection.sock
        if sock is None:
            return
        if connection.proxy is None and is_metadata_address(str(sock.getpeername()[0])):
            raise RegistryError(
                f"registry {self.registry} names a token server that is not asked",
                host=self.registry,
                why=f"{connection.host} resolves to a link-local or metadata address",
            )
        self._socket = sock
        if self.has_expired:
            self._expire()

    def _expire(self) -> None:
        self.has_expired = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._outer = _watch.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._timer.cancel()
        _watch.reset(self._outer)


# Pools make connections on their own; this is how a connection finds the request it was made for.
_watch: ContextVar[_Watch] = ContextVar("token-request-watch")


class _HttpConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _watch.get().opened(self)


class _HttpsConnection(TlsConnection):
    def connect(self) -> None:
        super().connect()
        _watch.get().opened(self)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_WATCHED: PoolClasses = {"http": _HttpPool, "https": _HttpsPool}


class TokenHttp:
    """Makes token requests for one registry.

    Args:
        registry: The registry's host, with port where it has one.
        options: See :class:`~buildkit_client.oci.token.HttpOptions`.
    """

    def __init__(self, registry: str, options: HttpOptions) -> None:
        self._registry = registry
        self._options = options
        self._hosts = {normalize_host(host): security for host, security in options.hosts.items()}
        self._security = self._hosts.get(normalize_host(registry), HostSecurity())
        self._is_insecure = self._security.insecure or is_loopback(hostname_of(registry))

    def get(self, url: str, query: Sequence[tuple[str, str]], authorization: str) -> Answer:
        """Ask by GET.

        Args:
            url: The realm; a query of its own is kept.
            query: Added to it.
            authorization: Value of the header, or empty.

        Raises:
            RegistryError: See :func:`~buildkit_client.oci.token.fetch_token`.
        """
        head, hash_sign, _ = url.partition("#")
        if query:
            head += ("&" if "?" in head else "?") + urllib.parse.urlencode(query)
        return self._send("GET", head + hash_sign, {"Authorization": authorization} if authorization else {}, None)

    def post(self, url: str, form: bytes) -> Answer:
        """Ask by POST with a form; a redirect that would drop the form is returned as the answer.

        Raises:
            RegistryError: See :func:`~buildkit_client.oci.token.fetch_token`.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return self._send("POST", url, headers, form)

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Make a request with redirects and repetitions."""
        deadline = time.monotonic() + self._options.total_timeout_s
        parts = check_url(url, self._registry, self._is_insecure)
        redirects = 0
        while True:
            reply = self._repeat(method, parts, headers, body, deadline)
            location = reply.headers.get("location", "")
            if reply.status not in _REDIRECTS or not location or (body is not None and reply.status not in (307, 308)):
                return Answer(reply.status, netloc_of(parts), reply.body, reply.note)
            redirects += 1
            if redirects > MAX_REDIRECTS:
                raise self._failure(parts, f"it redirects more than {MAX_REDIRECTS} times")
            target = check_url(urllib.parse.urljoin(parts.geturl(), location), self._registry, self._is_insecure)
            if parts.scheme == "https" and target.scheme == "http":
                raise self._failure(parts, f"it redirects to {netloc_of(target)} without TLS")
            if not may_keep_login(parts, target):
                if body is not None:
                    raise self._failure(parts, f"it redirects the login to another host, {netloc_of(target)}")
                headers = {}
            parts = target

    def _repeat(
        self,
        method: str,
        parts: urllib.parse.SplitResult,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
    ) -> _Reply:
        """Make one request, again when the server is busy or the connection breaks."""
        delay_s = _FIRST_DELAY_S
        attempts_left = self._options.attempts
        while True:
            attempts_left -= 1
            wait_s = delay_s
            try:
                reply = self._once(method, parts, headers, body, deadline)
            except _ConnectionBrokenError as exc:
                if attempts_left <= 0 or time.monotonic() + wait_s >= deadline:
                    raise self._failure(parts, exc.why) from exc.__cause__
            else:
                if reply.status not in _BUSY:
                    return reply
                asked_s = retry_after_s(reply.headers.get("retry-after", ""))
                wait_s = max(delay_s, asked_s)
                if attempts_left <= 0 or wait_s > MAX_WAIT_S or time.monotonic() + wait_s >= deadline:
                    return replace(
                        reply, note=f"HTTP {reply.status}: it asks to wait {asked_s:.0f} s" if asked_s else ""
                    )
            self._options.sleep(wait_s)
            delay_s *= 2

    def _once(
        self,
        method: str,
        parts: urllib.parse.SplitResult,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
    ) -> _Reply:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise self._failure(parts, self._too_long())
        timeout = urllib3.Timeout(
            connect=min(self._options.connect_timeout_s, remaining_s),
            read=min(self._options.read_timeout_s, remaining_s),
        )
        # Without "identity" a few bytes could unpack to many.
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", **headers}
        sent["User-Agent"] = "buildkit-client"
        watch = _Watch(self._registry, remaining_s)
        try:
            with watch, self._manager(parts) as manager:
                response = manager.request(
                    method,
                    parts._replace(fragment="").geturl(),
                    body=body,
                    headers=sent,
                    timeout=timeout,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
                try:
                    data = self._read(response, parts)
                finally:
                    response.close()
        except http_errors.HTTPError as exc:
            if watch.has_expired:
                raise self._failure(parts, self._too_long()) from exc
            why, may_repeat = explain(exc)
            if may_repeat:
                raise _ConnectionBrokenError(why) from exc
            raise self._failure(parts, why) from exc
        if watch.has_expired:  # a shutdown can look like the regular end of a body
            raise self._failure(parts, self._too_long())
        return _Reply(response.status, {key.lower(): value for key, value in response.headers.items()}, data)

    def _read(self, response: urllib3.BaseHTTPResponse, parts: urllib.parse.SplitResult) -> bytes:
        data = bytearray()
        while chunk := response.read(65536):
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise self._failure(parts, f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
        return bytes(data)

    def _manager(self, parts: urllib.parse.SplitResult) -> urllib3.PoolManager:
        """Return a manager for one request, directly or through the proxy for this URL."""
        security = self._hosts.get(netloc_of(parts)) or self._hosts.get(parts.hostname or "") or self._security
        return open_pool(
            parts.geturl(), security, self._options, verify=not security.insecure, connections=1, pools=_WATCHED
        )

    def _too_long(self) -> str:
        return f"it did not finish within {self._options.total_timeout_s:g} s"

    def _failure(self, parts: urllib.parse.SplitResult, why: str) -> RegistryError:
        return RegistryError(
            f"no token for registry {self._registry} from {netloc_of(parts)}", host=self._registry, why=why
        )


class _ConnectionBrokenError(Exception):
    """A request failed in a way that another attempt may cure."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
