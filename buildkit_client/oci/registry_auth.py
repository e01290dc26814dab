"""Logging in to one registry: challenges read, logins and tokens turned into ``Authorization`` headers.

Nothing is sent before the registry asks for it. A token is kept per set of scopes and renewed before it ends, and once
more when the registry refuses it all the same. The login itself is asked for again as it ages, or when it is refused,
so a transfer may last longer than a login from a credential helper lives. Threads that need one token at the same time
fetch it once.

Reference: RFC 9110 section 11.6.1; distribution-spec token authentication.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_client.errors import CredentialsError
from buildkit_client.oci.credentials import CACHE_S
from buildkit_client.oci.token import HttpOptions, fetch_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from buildkit_client.oci.credentials import Credentials, CredentialsProvider

_RENEW_AT = 0.9  # of a token's life, as the daemon does
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|$)\s*')
_SCHEME = re.compile(r"([A-Za-z0-9-]+)(?:\s+|$|(?=,))")
_MAX_HEADER_CHARS = 8192
_MIN_SECRET_CHARS = 4


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a registry offers.

    Attributes:
        scheme: In lower case, for example ``bearer``.
        parameters: Keys in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_challenges(header: str) -> list[Challenge]:
    """Read a ``WWW-Authenticate`` header; what cannot be read is left out."""
    challenges: list[Challenge] = []
    position = 0
    text = header[:_MAX_HEADER_CHARS].strip()
    while position < len(text):
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            break
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text, position):
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        challenges.append(Challenge(scheme[1].lower(), parameters))
        while text[position : position + 1] in (",", " ") and position < len(text):
            position += 1
    return challenges


@dataclass(frozen=True, slots=True)
class _Kept:
    header: str = field(repr=False)
    renew_at_s: float


class RegistryAuth:
    """Gives the ``Authorization`` header for requests to one registry; may be used from several threads.

    Args:
        host: The registry, with port where it has one.
        provider: Knows the login, or None for anonymous access.
        http: How token servers are reached.
        clock: Monotonic seconds; for tests.
    """

    def __init__(
        self,
        host: str,
        provider: CredentialsProvider | None,
        http: HttpOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._provider = provider
        self._http = http
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], _Kept] = {}
        self._clock = clock
        self._credentials: Credentials | None = None
        self._ask_again_at_s = float("-inf")
        self._logins: list[Credentials] = []  # all so far: texts may still hold an old one

    @property
    def is_anonymous(self) -> bool:
        """Whether no login for the registry is known, as far as anyone asked."""
        return self._credentials is None

    @property
    def is_challenged(self) -> bool:
        """Whether the registry has asked for a login in a way that is known."""
        return self._challenge is not None

    def header(self, scopes: frozenset[str]) -> str:
        """Return the value of the ``Authorization`` header, empty when the registry has not asked for one.

        Args:
            scopes: What the request needs, for example ``repository:library/alpine:pull``.

        Raises:
            CredentialsError: The login cannot be had, or the token server refuses it.
            RegistryError: The token server cannot be used.
        """
        with self._lock:
            return self._header(scopes)

    def learn(self, header: str) -> None:
        """Take note of what a ``WWW-Authenticate`` header asks for, without asking for a token yet."""
        with self._lock:
            self._challenge = _choose(parse_challenges(header)) or self._challenge

    def challenged(self, header: str, scopes: frozenset[str], refused: str) -> str:
        """Take a 401's ``WWW-Authenticate`` header and return what to send now.

        Args:
            header: May be empty.
            scopes: What the request needs.
            refused: The ``Authorization`` header that the request had; empty for none.

        Returns:
            The next ``Authorization`` header; empty when there is nothing else to try.

        Raises:
            CredentialsError: The login cannot be had, or the token server refuses it.
            RegistryError: The token server cannot be used.
        """
        with self._lock:
            challenge = _choose(parse_challenges(header))
            if challenge is None:
                return ""
            self._challenge = challenge
            kept = self._tokens.get(scopes)
            if kept is not None and kept.header == refused:
                del self._tokens[scopes]
            if refused:
                self._ask_again_at_s = float("-inf")
            asked = frozenset(challenge.parameters.get("scope", "").split())
            value = self._header(scopes, asked - scopes)
            return "" if value == refused else value

    def scrub(self, text: str) -> str:
        """Return a text with every secret of this login and every token blotted out."""
        with self._lock:
            logins = list(self._logins)
            secrets = [kept.header.partition(" ")[2] for kept in self._tokens.values()]
        for credentials in logins:
            secrets += [credentials.password, credentials.identity_token, credentials.registry_token]
            secrets.append(_basic(credentials))
        for secret in secrets:
            if len(secret) >= _MIN_SECRET_CHARS:
                text = text.replace(secret, "***")
        return text

    def _header(self, scopes: frozenset[str], extra_scopes: frozenset[str] = frozenset()) -> str:
        if self._challenge is None:
            return ""
        credentials = self._login()
        if self._challenge.scheme == "basic":
            return f"Basic {_basic(credentials)}" if credentials is not None and credentials.password else ""
        kept = self._tokens.get(scopes)
        if kept is None or kept.renew_at_s <= self._clock():
            kept = self._fetch(self._challenge, sorted(scopes | extra_scopes), credentials)
            self._tokens[scopes] = kept
        return kept.header

    def _fetch(self, challenge: Challenge, scopes: Sequence[str], credentials: Credentials | None) -> _Kept:
        started_s = self._clock()
        token = fetch_token(
            challenge.parameters["realm"],
            registry=self._host,
            service=challenge.parameters.get("service", ""),
            scopes=scopes,
            credentials=credentials,
            http=self._http,
        )
        return _Kept(f"Bearer {token.token}", started_s + _RENEW_AT * token.expires_in_s)

    def _login(self) -> Credentials | None:
        if self._clock() >= self._ask_again_at_s:
            found = self._provider.lookup(self._host) if self._provider is not None else None
            if found is not None and not found.is_empty and ":" in found.username:
                raise CredentialsError(
                    f"the login for {self._host} cannot be used", why="a user name must not have a colon"
                )
            self._credentials = None if found is None or found.is_empty else found
            self._ask_again_at_s = self._clock() + CACHE_S
            if self._credentials is not None and self._credentials not in self._logins:
                self._logins.append(self._credentials)
        return self._credentials


def _choose(challenges: Sequence[Challenge]) -> Challenge | None:
    """Return the challenge to meet: Bearer where it names a token server, else Basic."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return next((challenge for challenge in challenges if challenge.scheme == "basic"), None)


def _basic(credentials: Credentials) -> str:
    return base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
