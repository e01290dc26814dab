"""HTTP to one registry: the right scheme, logins, redirects, repetitions, and errors that say what to do.

A login is sent to the registry's own origin alone; a redirect to another host, as blob stores are reached, goes without
it. Requests that may be repeated are repeated when the connection breaks or the registry is busy.

Reference: OCI distribution-spec, "Determining Support", "Error Codes"; RFC 9110 sections 10.2.3, 15.4.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import urllib3
from urllib3 import exceptions as http_errors

from buildkit_client.errors import RegistryError, RegistryUnreachableError
from buildkit_client.oci.http_pool import NO_TLS_REASONS, explain, open_pool, retry_after_s
from buildkit_client.oci.realm import is_loopback, is_metadata_address
from buildkit_client.oci.token import HostSecurity, HttpOptions

if TYPE_CHECKING:
    from buildkit_client.oci.reference import Reference
    from buildkit_client.oci.registry_auth import RegistryAuth

MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
"""A registry that asks for a longer wait is taken for unavailable."""
MAX_ERROR_BYTES = 64 << 10

_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FIRST_DELAY_S = 0.5
_SHOWN_CHARS = 500
_MAX_POOLS = 16
_DEFAULT_PORTS = {"http": 80, "https": 443}

Body = bytes | Callable[[], Iterable[bytes]]
"""A request's body: bytes, or a function that gives its chunks from the start each time it is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the registry.

    Attributes:
        what: What it does, for errors: ``pull manifest docker.io/library/alpine:latest``.
        method: HTTP method.
        url: Path from the root, or a full URL that the registry gave.
        scopes: What it needs a token for.
        headers: Header fields, without ``Authorization``.
        body: Or None.
        body_bytes: Length of a body that comes in chunks.
        accepted: Statuses that are an answer rather than an error.
        repeatable: Whether it may be sent again when the connection breaks or the registry is busy.
    """

    what: str
    method: str
    url: str
    scopes: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = field(default=None, repr=False)
    body_bytes: int = 0
    accepted: frozenset[int] = frozenset({200})
    repeatable: bool = True


class Answer:
    """A registry's answer; its body is read by :meth:`read` or :meth:`chunks`, or dropped by :meth:`close`.

    Attributes:
        status: The HTTP status.
        headers: Header fields; names in any case.
        challenge: All ``WWW-Authenticate`` headers together.
        url: Where the answer came from.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, fail: Callable[[str], RegistryError]) -> None:
        self._response = response
        self._fail = fail
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.challenge = ", ".join(response.headers.getlist("WWW-Authenticate"))
        self.url = url

    def chunks(self, chunk_bytes: int) -> Iterable[bytes]:
        """Yield the body.

        Raises:
            BodyBrokenError: The connection broke before its end.
        """
        try:
            while chunk := self._response.read(chunk_bytes, decode_content=False):
                yield chunk
        except (http_errors.HTTPError, OSError) as exc:
            raise BodyBrokenError(explain(exc)[0]) from exc
        finally:
            self.close()

    def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            RegistryError: It is longer than the limit.
            BodyBrokenError: The connection broke before its end.
        """
        data = bytearray()
        for chunk in self.chunks(64 << 10):
            data += chunk
            if len(data) > limit:
                raise self._fail(f"its answer is longer than {limit} bytes")
        return bytes(data)

    def close(self) -> None:
        """Give the connection back, or close it when more than a little is left to read in it."""
        left = self._response.length_remaining
        if left is not None and left <= MAX_ERROR_BYTES:
            self._response.drain_conn()
        elif not self._response.closed:
            self._response.close()
        self._response.release_conn()


class _UnreachableError(Exception):
    """No answer came."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class BodyBrokenError(Exception):
    """A body ended too early; a repetition may help."""


class RegistryHttp:
    """Requests to one registry, over a pool of connections; may be used from several threads.

    Args:
        host: The registry, with port where it has one.
        auth: Gives the ``Authorization`` header.
        options: TLS, proxies, connect timeout, attempts.
        insecure: Whether certificates are not verified and plain HTTP is taken. A registry on this machine counts as
            insecure in any case, as docker has it.
        read_timeout_s: For the next bytes of an answer; a registry may take its time to store a large blob.
        connections: How many are kept open.
    """

    def __init__(
        self,
        host: str,
        auth: RegistryAuth,
        options: HttpOptions,
        *,
        insecure: bool,
        read_timeout_s: float,
        connections: int,
    ) -> None:
        self.host = host
        self._auth = auth
        self._options = options
        self._security = options.hosts.get(host, HostSecurity())
        hostname = urllib.parse.urlsplit(f"//{host}").hostname or ""
        self._may_be_plain = insecure or self._security.insecure or is_loopback(hostname)
        self._verify = not self._may_be_plain or (is_loopback(hostname) and self._security.ca_path is not None)
        self._timeout = urllib3.Timeout(connect=options.connect_timeout_s, read=read_timeout_s)
        self._connections = connections
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._base_lock = threading.Lock()
        self._base = ""

    def base_url(self) -> str:
        """Return the registry's scheme and host, found out by the first call.

        Raises:
            RegistryError: It cannot be reached, or is no registry.
            CredentialsError: Its login cannot be had.
        """
        with self._base_lock:
            if not self._base:
                self._base = self._find_base()
            return self._base

    def send(self, request: Request) -> Answer:
        """Make a request, with login, redirects and repetitions.

        Returns:
            An answer whose status is among the accepted ones.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
            CredentialsError: The login or token cannot be had.
        """
        url = urllib.parse.urljoin(self.base_url() + "/", request.url)
        return self._follow(request, url)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            self._close_pools()

    def _close_pools(self) -> None:
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()

    def location(self, answer: Answer, request: Request) -> str:
        """Return the full URL of an answer's ``Location``, which may be relative and have a query.

        A registry behind a proxy may name itself with plain HTTP; the scheme that reached it is kept then.

        Raises:
            RegistryError: There is none, or it must not be followed.
        """
        text = answer.headers.get("Location", "")
        if not text:
            raise self._error(request, answer.status, "the registry's answer has no Location")
        return self._checked_target(request, answer.url, text)

    # --- one request ---

    def _follow(self, request: Request, url: str) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._authorized(request, url)
            may_follow = request.method in ("GET", "HEAD") or answer.status in (307, 308)
            if answer.status in _REDIRECTS and may_follow and answer.headers.get("Location"):
                answer.close()
                url = self._checked_target(request, answer.url, answer.headers["Location"])
                continue
            if answer.status in request.accepted:
                return answer
            raise self._refusal(request, answer)
        raise self._error(request, 0, f"it redirects more than {MAX_REDIRECTS} times")

    def _authorized(self, request: Request, url: str) -> Answer:
        if _origin(url) != _origin(self._base or url):
            return self._repeated(request, url, "")
        authorization = self._auth.header(request.scopes)
        answer = self._repeated(request, url, authorization)
        for _ in range(2):  # once to log in, once more for a token that is refused
            if answer.status != 401:
                break
            following = self._auth.challenged(answer.challenge, request.scopes, authorization)
            if not following:
                break
            answer.close()
            authorization = following
            answer = self._repeated(request, url, authorization)
        return answer

    def _repeated(self, request: Request, url: str, authorization: str) -> Answer:
        """Make a request, again when the registry is busy or the connection breaks; any status is an answer."""
        try:
            return self._attempt(request, url, authorization)
        except _UnreachableError as exc:
            raise self._unreachable(request, exc.error) from exc.error

    def _attempt(self, request: Request, url: str, authorization: str, *, give_up_refused: bool = False) -> Answer:
        """Do the same, but raise an :class:`_UnreachableError` when there is no answer."""
        delay_s = _FIRST_DELAY_S
        attempts = self._options.attempts if request.repeatable else 1
        while True:
            attempts -= 1
            wait_s = delay_s
            try:
                answer = self._once(request, url, authorization)
            except (http_errors.HTTPError, OSError) as exc:
                is_final = give_up_refused and isinstance(exc, http_errors.NewConnectionError)
                if attempts <= 0 or is_final or not explain(exc)[1]:
                    raise _UnreachableError(exc) from exc
            else:
                wait_s = max(delay_s, retry_after_s(answer.headers.get("Retry-After", "")))
                if answer.status not in _BUSY or attempts <= 0 or wait_s > MAX_WAIT_S:
                    return answer
                answer.close()
            self._options.sleep(wait_s)
            delay_s *= 2

    def _once(self, request: Request, url: str, authorization: str) -> Answer:
        headers = {"User-Agent": "buildkit-client", "Accept-Encoding": "identity", **request.headers}
        if authorization:
            headers["Authorization"] = authorization
        body: bytes | Iterable[bytes] | None
        if callable(request.body):
            headers["Content-Length"] = str(request.body_bytes)
            body = request.body()
        else:
            body = request.body
        response = self._pool(url).request(
            request.method,
            url,
            body=body,
            headers=headers,
            timeout=self._timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        return Answer(response, url, lambda why: self._error(request, response.status, why))

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urllib.parse.urlsplit(url)
        own = _origin(url)[1:] == _origin(f"{parts.scheme}://{self.host}")[1:]
        key = (parts.scheme, parts.netloc)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                if len(self._pools) >= _MAX_POOLS:
                    self._close_pools()
                # A client certificate is the registry's affair; other hosts get none.
                security = self._security if own else replace(self._security, cert_path=None, key_path=None)
                pool = open_pool(url, security, self._options, verify=self._verify, connections=self._connections)
                self._pools[key] = pool
            return pool

    # --- where to ---

    def _find_base(self) -> str:
        request = Request(what=f"reach registry {self.host}", method="GET", url="/v2/")
        base = f"https://{self.host}"
        try:
            try:
                answer = self._attempt(request, base + "/v2/", "", give_up_refused=True)
            except _UnreachableError as exc:
                if not self._may_be_plain or not _may_speak_plain_http(exc.error):
                    raise
                base = f"http://{self.host}"
                answer = self._attempt(request, base + "/v2/", "", give_up_refused=True)
        except _UnreachableError as exc:
            raise self._unreachable(request, exc.error) from exc.error
        if answer.status in _BUSY or (answer.status == 400 and base.startswith("http:")):
            raise self._refusal(request, answer)  # 400: a TLS port that was spoken to without TLS
        if answer.status == 401:
            self._auth.learn(answer.challenge)
        answer.close()
        return base

    def _checked_target(self, request: Request, base: str, location: str) -> str:
        try:
            url = urllib.parse.urljoin(base, location)
            parts = urllib.parse.urlsplit(url)
            hostname = parts.hostname or ""
            _ = parts.port
        except ValueError:
            raise self._error(request, 0, "it names a URL that is malformed") from None
        old = urllib.parse.urlsplit(base)
        if parts.scheme not in _DEFAULT_PORTS or not hostname or "@" in parts.netloc or not url.isprintable():
            raise self._error(request, 0, "it names a URL that is not a full http or https URL")
        if is_metadata_address(hostname):
            raise self._error(request, 0, f"it redirects to {hostname}, a link-local or metadata address")
        if old.scheme == "https" and parts.scheme == "http":
            if hostname == old.hostname and parts.port in (None, 80, old.port):
                return old._replace(path=parts.path, query=parts.query).geturl()
            if not self._may_be_plain:
                raise self._error(request, 0, f"it redirects to {parts.netloc} without TLS")
        return parts._replace(fragment="").geturl()

    # --- errors ---

    def _refusal(self, request: Request, answer: Answer) -> RegistryError:
        try:
            why = _server_message(answer.read(MAX_ERROR_BYTES)) if request.method != "HEAD" else ""
        except (BodyBrokenError, RegistryError):
            why = ""
        finally:
            answer.close()
        status = answer.status
        host = urllib.parse.urlsplit(answer.url).netloc
        where = "" if host == self.host else f" from {host}"
        why = f"HTTP {status}{where}" + (f": {self._auth.scrub(why)}" if why else "")
        hint = ""
        if status in (401, 403):
            hint = (
                f"log in to {self.host}; no login for it was found"
                if self._auth.is_anonymous
                else f"check that the login for {self.host} may do this"
            )
        elif status == 404:
            hint = "check the name; some registries also say this when a login is missing"
        elif status == 429:
            hint = "the registry limits how often it may be asked; try again later, or log in"
        elif status in _BUSY:
            hint = "the registry has a problem; try again later"
        elif status == 400 and "https" in why.lower():
            hint = "the port speaks TLS; its certificate is perhaps not trusted"
        return self._error(request, status, why, hint)

    def _error(self, request: Request, status: int, why: str, hint: str = "") -> RegistryError:
        return RegistryError(f"cannot {request.what}", host=self.host, status=status, why=why, hint=hint)

    def _unreachable(self, request: Request, error: Exception) -> RegistryUnreachableError:
        why, hint = explain(error)[0], self._connection_hint(error)
        return RegistryUnreachableError(f"cannot {request.what}", host=self.host, why=why, hint=hint)

    def _connection_hint(self, error: Exception) -> str:
        if _speaks_no_tls(error):
            return f"if {self.host} speaks plain HTTP, mark it as insecure"
        if isinstance(error, http_errors.NewConnectionError):
            return f"check that a registry runs at {self.host}"
        if isinstance(error, http_errors.SSLError):
            return "give the registry's CA certificate, or mark it as insecure"
        return ""


def scopes_for(reference: Reference, *, push: bool = False) -> frozenset[str]:
    """Return the token scope that a request to a repository needs."""
    return frozenset({f"repository:{reference.path}:{'pull,push' if push else 'pull'}"})


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _speaks_no_tls(error: Exception) -> bool:
    """Whether a port answered a TLS handshake with something else."""
    cause = error.args[0] if isinstance(error, http_errors.SSLError) and error.args else None
    return isinstance(cause, ssl.SSLError) and cause.reason in NO_TLS_REASONS


def _may_speak_plain_http(error: Exception) -> bool:
    """Whether the other scheme is worth a try: not for a name that is unknown or a certificate that is wrong."""
    if isinstance(error, http_errors.NameResolutionError):
        return False
    cause = error.args[0] if isinstance(error, http_errors.SSLError) and error.args else None
    return not isinstance(cause, ssl.SSLCertVerificationError)


def _server_message(body: bytes) -> str:
    """Return what an error's body says, in one short printable line."""
    text = body.decode("utf-8", "replace")
    try:
        errors = json.loads(text)["errors"]
        parts = [": ".join(str(one[key]) for key in ("code", "message") if one.get(key)) for one in errors]
        text = "; ".join(part for part in parts if part)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        if "<" in text[:50]:  # a proxy's HTML page
            text = ""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:4096]).split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"
