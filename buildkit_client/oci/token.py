"""Bearer tokens: asking a registry's token server for one.

A registry answers 401 and names a realm, the URL of its token server. We ask there, with the login if there is one,
and get a short-lived token for some scopes. The realm is input: it comes from the registry, through the daemon. So it
is checked before a login goes there, and what comes back is checked before it becomes a header.

The order of attempts follows the reference: a registry token from the config is taken as it is; a login goes by POST
(OAuth2), and by GET with Basic where the server does not know POST; without a login, an anonymous GET.

This module imports no HTTP library; :mod:`buildkit_client.oci.token_http` does, at the first request.

Reference: buildkit session/auth/authprovider/authprovider.go, FetchToken; containerd core/remotes/docker/auth/fetch.go;
distribution-spec token authentication, "Requesting a Token" and "Getting a Token" (OAuth2).
"""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.parse
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from buildkit_client.errors import CredentialsError, OptionError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from buildkit_client.oci.credentials import Credentials
    from buildkit_client.oci.token_http import Answer

CLIENT_ID = "buildkit-client"
DEFAULT_EXPIRY_S = 60  # authprovider.go, defaultExpiration

_MAX_EXPIRY_S = 366 * 24 * 3600
_TOKEN_PATTERN = re.compile(r"[\x21-\x7e]+")
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token.

    Attributes:
        token: Goes into ``Authorization: Bearer``.
        expires_in_s: Seconds it lives from ``issued_at``; 60 when the server does not say.
        issued_at: Unix seconds by the server's clock, or 0 when it does not say.
    """

    token: str = field(repr=False)
    expires_in_s: int = DEFAULT_EXPIRY_S
    issued_at: int = 0


@dataclass(frozen=True, slots=True)
class HostSecurity:
    """How one host is reached.

    Attributes:
        ca_path: PEM file of authorities to trust next to the system's, or None.
        cert_path: PEM file of a client certificate, or None.
        key_path: PEM file of its key; None when it is in ``cert_path``.
        insecure: Certificates are not verified, and a registry's realm may be plain HTTP on any host.
        more_ca_paths: Further files like ``ca_path``.
    """

    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None
    insecure: bool = False
    more_ca_paths: tuple[Path, ...] = ()

    @property
    def ca_paths(self) -> tuple[Path, ...]:
        """All files of authorities."""
        return self.more_ca_paths if self.ca_path is None else (self.ca_path, *self.more_ca_paths)

    def merged(self, other: HostSecurity) -> HostSecurity:
        """Return what both say together: the authorities of both, no verification when one wants none.

        Raises:
            OptionError: Both have a client certificate; a host is shown one.

        Reference: buildkit cmd/buildctl/build/registryauthtlscontext.go, ParseRegistryAuthTLSContext.
        """
        if self.cert_path is not None and other.cert_path is not None:
            raise OptionError("a registry can be shown one client certificate only")
        owner = self if self.cert_path is not None else other
        return HostSecurity(
            None, owner.cert_path, owner.key_path, self.insecure or other.insecure, (*self.ca_paths, *other.ca_paths)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How token servers are reached.

    Attributes:
        hosts: By registry or token server, ``host`` or ``host:port``. A token server without an entry takes its
            registry's.
        proxies: Proxy URL by scheme (``http``, ``https``), and under ``no_proxy`` the hosts and ranges of addresses
            that need none, with commas between. Hosts of this machine never go through a proxy.
        connect_timeout_s: For one connection to stand.
        read_timeout_s: For the next bytes of an answer.
        total_timeout_s: For a whole request with redirects and repetitions; the daemon gives up after 60 s.
        attempts: How often a request is made when the server is busy or the connection breaks.
        sleep: Waits that many seconds; for tests.
    """

    hosts: Mapping[str, HostSecurity] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 20.0
    total_timeout_s: float = 50.0
    attempts: int = 4
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], *, hosts: Mapping[str, HostSecurity] | None = None
    ) -> HttpOptions:
        """Return the defaults with the proxies that the environment names.

        Args:
            environ: ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` count, in upper case or else in lower case. A web
                server sets ``HTTP_PROXY`` from a header of whoever asks, so in a CGI program it does not count.
            hosts: See the class.

        Reference: Go net/http ProxyFromEnvironment (golang.org/x/net/http/httpproxy).
        """
        names = {"https": "HTTPS_PROXY", "http": "HTTP_PROXY", "no_proxy": "NO_PROXY"}
        proxies = {key: environ.get(name) or environ.get(name.lower()) or "" for key, name in names.items()}
        if "REQUEST_METHOD" in environ:
            proxies["http"] = ""
        return cls(hosts=hosts or {}, proxies={key: value for key, value in proxies.items() if value})


def fetch_token(
    realm: str,
    *,
    registry: str,
    service: str = "",
    scopes: Sequence[str] = (),
    credentials: Credentials | None = None,
    http: HttpOptions | None = None,
    client_id: str = CLIENT_ID,
) -> Token:
    """Get a token for a registry.

    Args:
        realm: URL of the token server, from the registry's challenge.
        registry: Host that the token is for, with port where it has one; the realm is judged by it.
        service: From the challenge; may be empty.
        scopes: For example ``repository:library/alpine:pull``; may be empty.
        credentials: The login for this registry, or None for an anonymous token.
        http: Timeouts, TLS and proxies.
        client_id: How we name ourselves to an OAuth2 server.

    Returns:
        The token; a registry token among the credentials is returned without asking anyone.

    Raises:
        CredentialsError: The token server refuses the login, or wants one.
        RegistryError: The realm must not be asked, the server cannot be reached, or its answer is unusable.
        OptionError: A file named in the options cannot be used.
    """
    if credentials is not None and credentials.registry_token:
        return Token(_checked_token(credentials.registry_token, registry, "the registry token of the config"))

    from buildkit_client.oci.token_http import TokenHttp  # noqa: PLC0415  (imports urllib3: only when it is needed)

    transport = TokenHttp(registry, http or HttpOptions())
    username, secret = credentials.login if credentials is not None else ("", "")
    if not secret:
        answer = transport.get(realm, _query(service, scopes), "")
        return _parse(answer, registry, "", "")
    answer = transport.post(realm, _form(service, scopes, client_id, username, secret))
    if _post_is_unknown(answer.status, username):
        basic = base64.b64encode(f"{username}:{secret}".encode()).decode("ascii")
        answer = transport.get(realm, _query(service, scopes), f"Basic {basic}")
    return _parse(answer, registry, username, secret)


def _post_is_unknown(status: int, username: str) -> bool:
    """Whether a POST's status means that the server may know GET only.

    GCR answers 404, Artifactory 401, others 405. A redirect that turns POST into GET would lose the login on its way
    and end in an anonymous token, so it counts as well.
    """
    return status in (404, 401, 301, 302, 303) or (status == 405 and username != "")


def _query(service: str, scopes: Sequence[str]) -> list[tuple[str, str]]:
    return [("service", service)] * bool(service) + [("scope", scope) for scope in scopes]


def _form(service: str, scopes: Sequence[str], client_id: str, username: str, secret: str) -> bytes:
    fields = [("service", service), ("client_id", client_id)]
    if scopes:
        fields.append(("scope", " ".join(scopes)))
    if username:
        fields += [("grant_type", "password"), ("username", username), ("password", secret)]
    else:
        fields += [("grant_type", "refresh_token"), ("refresh_token", secret)]
    return urllib.parse.urlencode(fields).encode("ascii")


def _parse(answer: Answer, registry: str, username: str, secret: str) -> Token:
    """Read a token server's final answer."""
    if not 200 <= answer.status < 300:
        raise _refusal(answer, registry, username, secret)
    document = _json_object(answer.body)
    what = f"token server {answer.server} of registry {registry} sent no usable token"
    if document is None:
        raise RegistryError(what, host=registry, status=answer.status, why="its answer is not a JSON object")
    # Both names mean the same; servers send either.
    token = document.get("access_token") or document.get("token")
    if not isinstance(token, str):
        raise RegistryError(
            what, host=registry, status=answer.status, why="its answer has no access_token and no token"
        )
    return Token(
        _checked_token(token, registry, "the token"),
        expires_in_s=_expiry_s(document.get("expires_in")),
        issued_at=_unix_seconds(document.get("issued_at")),
    )


def _checked_token(token: str, registry: str, name: str) -> str:
    """Refuse what could not stand in a header: the daemon puts it there unread."""
    if not _TOKEN_PATTERN.fullmatch(token):
        raise RegistryError(
            f"no usable token for registry {registry}", host=registry, why=f"{name} has characters no header may have"
        )
    return token


def _refusal(answer: Answer, registry: str, username: str, secret: str) -> CredentialsError | RegistryError:
    said = _server_message(answer.body, username, secret)
    why = f"HTTP {answer.status}: {said}" if said else f"HTTP {answer.status}"
    if answer.status in (401, 403):
        if not secret:
            return CredentialsError(
                f"registry {registry} wants a login",
                host=registry,
                why=why,
                hint=f"log in with `docker login {registry}`",
            )
        login = f"the login of {username}" if username else "the identity token"
        return CredentialsError(
            f"registry {registry} refused {login}", host=registry, why=why, hint="check user and password"
        )
    if answer.status == 429:
        hint = "wait, or log in for a higher limit" if not secret else "wait and try again"
        what = f"token server {answer.server} of registry {registry} limits requests"
        return RegistryError(what, host=registry, status=429, why=answer.note or why, hint=hint)
    return RegistryError(
        f"token server {answer.server} of registry {registry} failed", host=registry, status=answer.status, why=why
    )


def _server_message(body: bytes, username: str, secret: str) -> str:
    """Return the server's own words, one short line; nothing that it repeats of the login."""
    document = _json_object(body) or {}
    words: object = document.get("error_description") or document.get("details") or document.get("message")
    errors = document.get("errors")
    if not words and isinstance(errors, list) and errors and isinstance(errors[0], dict):
        words = errors[0].get("message") or errors[0].get("code")
    words = words or document.get("error")
    if not isinstance(words, str):
        return ""
    if secret:
        basic = base64.b64encode(f"{username}:{secret}".encode()).decode("ascii")
        for form in (secret, urllib.parse.quote_plus(secret), urllib.parse.quote(secret), basic):
            words = words.replace(form, "***")
    return "".join(char if char.isprintable() else " " for char in words)[:_SHOWN_CHARS].strip()


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _expiry_s(value: object) -> int:
    """Return seconds of life; 60 when the server says none or nonsense (Quay sends none)."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        return DEFAULT_EXPIRY_S
    return int(min(value, _MAX_EXPIRY_S))


def _unix_seconds(value: object) -> int:
    """Return an RFC 3339 time as Unix seconds; 0 when absent, unreadable or before 1970, as Go's zero time is."""
    if not isinstance(value, str):
        return 0
    try:
        moment = datetime.fromisoformat(value.strip())
        return max(0, int(moment.timestamp())) if moment.tzinfo is not None else 0
    except (ValueError, OverflowError):
        return 0
