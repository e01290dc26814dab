"""Registry credentials: explicit ones, docker's config file, and chains of both.

Every lookup names one host, and an answer belongs to that host only. So hosts are brought into one spelling first
(:func:`normalize_host`) and then compared whole, port included: there is no prefix, suffix or wildcard anywhere.
Docker Hub is the one registry with several names, and they count as one.

Nothing is read or run before a host needs it; a config file or helper that is broken fails only the hosts that it
serves.

Reference: docker/cli cli/config/configfile/file.go, cli/config/credentials; buildkit
session/auth/authprovider/authconfig.go.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from buildkit_client.errors import CredentialsError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCKER_HUB = "docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # authprovider.go, DockerHubConfigfileKey
DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

CACHE_S = 290.0
"""How long an answer is reused. Workload identity tokens of Google's registry live 300 s (authprovider.go)."""

_FAILURE_CACHE_S = 10.0  # callers that waited for a slow helper share its failure instead of each waiting again
_MAX_CONFIG_BYTES = 8 << 20
_TOKEN_USERNAME = "<token>"  # native_store.go: the secret is an identity token
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-][a-z0-9_.-]*?)\.?(:[0-9]{1,5})?\Z", re.ASCII)
_REGISTRY_PATHS = frozenset({"", "/v1", "/v2"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login for one registry; anonymous access is None instead.

    Attributes:
        username: The account; empty with an identity or registry token.
        password: Its password or access token.
        identity_token: A refresh token of the registry's token server; wins over the password.
        registry_token: A bearer token for the registry itself; wins over both where tokens are used.
        source: Where the login was found, in words, for example ``docker config /home/me/.docker/config.json``.

    Raises:
        OptionError: A text is not Unicode (it has lone surrogates), so it can be sent nowhere.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        texts = (self.username, self.password, self.identity_token, self.registry_token)
        if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
            raise OptionError("a registry login has characters that are not Unicode text")

    @property
    def login(self) -> tuple[str, str]:
        """User and secret as BuildKit passes them on: an identity token goes with an empty user.

        Reference: authprovider.go, toCredentials.
        """
        if self.identity_token:
            return "", self.identity_token
        return self.username, self.password

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that a registry could check."""
        return not (self.password or self.identity_token or self.registry_token)


class CredentialsProvider(Protocol):
    """Knows logins for registries; may be asked from several threads."""

    def lookup(self, host: str) -> Credentials | None:
        """Return the login for one registry.

        Args:
            host: The registry's host, with port where it has one; Docker Hub under any of its names.

        Returns:
            The login, or None for anonymous access.

        Raises:
            CredentialsError: There should be a login but it cannot be had.
        """


def normalize_host(host: str) -> str:
    """Return the one spelling of a registry's host, to compare hosts by.

    Lower case, no trailing dot, IPv6 addresses in their short form; all names of Docker Hub become ``docker.io``. A
    port stays: the same name with another port is another registry.

    Raises:
        CredentialsError: The text is not a host with or without a port.
    """
    # isascii first: lower() turns some letters beyond ASCII into ASCII ones.
    match = _HOST.match(host.lower()) if host.isascii() and len(host) <= 300 else None
    if match is None:
        raise CredentialsError(f"not a registry host: {host[:100]!a}", why="expected a name and perhaps a port")
    name, port = match[1], match[2] or ""
    if name.startswith("["):
        try:
            name = f"[{ipaddress.IPv6Address(name[1:-1])}]"
        except ValueError:
            raise CredentialsError(f"not a registry host: {host!a}", why="expected an IPv6 address") from None
    return DOCKER_HUB if not port and name in DOCKER_HUB_HOSTS else name + port


def _split_key(key: str) -> tuple[str, str]:
    """Split a key of a config file into normalised host and path without trailing slash; keys may be URLs.

    Reference: docker/cli cli/config/credentials/file_store.go, ConvertToHostname.
    """
    authority, slash, path = key.partition("://")[2 if "://" in key else 0].partition("/")
    return normalize_host(authority.rpartition("@")[2]), (slash + path).rstrip("/")


class StaticCredentials:
    """Logins that a caller gives, by registry.

    Args:
        logins: Login by host, with port where the registry has one; URLs as in docker's config file are taken too.
        source: How the logins are described, see :class:`Credentials`.

    Raises:
        OptionError: A key is not a registry, or two keys mean one registry and differ.
    """

    def __init__(self, logins: Mapping[str, Credentials], *, source: str = "given explicitly") -> None:
        self._logins: dict[str, Credentials] = {}
        for key, credentials in logins.items():
            try:
                host = _split_key(key)[0]
            except CredentialsError as exc:
                raise OptionError(str(exc), why=exc.why) from exc
            if self._logins.get(host, credentials) != credentials:
                raise OptionError(f"two different logins for registry {host}")
            self._logins[host] = replace(credentials, source=credentials.source or source)

    def lookup(self, host: str) -> Credentials | None:
        """Return the login given for exactly this registry; see :class:`CredentialsProvider`."""
        return self._logins.get(normalize_host(host))


class DockerHubCredentials(StaticCredentials):
    """A login for Docker Hub under each of its names, and for nothing else."""

    def __init__(self, username: str, password: str, *, source: str = "given for Docker Hub") -> None:
        super().__init__({DOCKER_HUB: Credentials(username, password)}, source=source)


class ChainCredentials:
    """Asks one provider after the other; the first that has a login wins, an error of one before it is raised."""

    def __init__(self, *providers: CredentialsProvider) -> None:
        self._providers = providers

    def lookup(self, host: str) -> Credentials | None:
        """Return the first login found; see :class:`CredentialsProvider`."""
        for provider in self._providers:
            if (credentials := provider.lookup(host)) is not None:
                return credentials
        return None


def default_docker_config_path(env: Mapping[str, str]) -> Path:
    """Return where docker keeps its config file.

    Args:
        env: The environment; ``DOCKER_CONFIG`` names the folder, else ``.docker`` in ``HOME``.

    Reference: docker/cli cli/config/config.go, Dir.
    """
    if folder := env.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    home = env.get("HOME")
    return (Path(home) if home else Path.home()) / ".docker" / "config.json"


class _Answer(NamedTuple):
    """A finished lookup and until when it counts."""

    expires_at: float
    credentials: Credentials | None = None
    error: CredentialsError | None = None


class _ConfigFile(NamedTuple):
    """The parts of a config file that say where logins are; entries of ``auths`` are checked when they are needed."""

    auths: Mapping[str, object]
    helpers: Mapping[str, object]
    store: str


class DockerConfig:
    """Logins as docker keeps them: ``auths``, ``credHelpers`` and ``credsStore`` of a ``config.json``.

    Answers are reused for :data:`CACHE_S`, then file and helper are asked again. A helper is asked once per registry
    in that time, and helpers run one at a time (some keychains hang otherwise).

    Differences from docker: hosts are compared without regard to case and trailing dots; Docker Hub is found under all
    its names; a damaged entry fails its own registry instead of all.

    Args:
        path: The file; a missing one is like an empty one. See :func:`default_docker_config_path`.
        env: Environment for helpers; None takes this process's.
        helper_timeout_s: How long a helper may take.
        clock: Monotonic seconds; for tests.
    """

    def __init__(
        self,
        path: Path,
        *,
        env: Mapping[str, str] | None = None,
        helper_timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"docker config {path}"
        self._path = path
        self._text: str | None = None
        self._env = env
        self._helper_timeout_s = helper_timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._helper_lock = threading.Lock()
        self._host_locks: dict[str, threading.Lock] = {}
        self._answers: dict[str, _Answer] = {}
        self._file: tuple[float, _ConfigFile] | None = None

    @classmethod
    def from_text(cls, text: str, *, name: str = "DOCKER_AUTH_CONFIG", env: Mapping[str, str] | None = None) -> Self:
        """Make one from the text of a config, as some CI systems hand it over in an environment variable.

        Args:
            text: JSON; parsed at the first lookup.
            name: What errors and ``source`` call it.
            env: Environment for helpers; None takes this process's.
        """
        config = cls(Path(), env=env)
        config.name = name
        config._text = text
        return config

    def lookup(self, host: str) -> Credentials | None:
        """Return the login that the config has for a registry; see :class:`CredentialsProvider`."""
        host = normalize_host(host)
        with self._lock:
            host_lock = self._host_locks.setdefault(host, threading.Lock())
        with host_lock:
            answer = self._answers.get(host)
            if answer is None or self._clock() >= answer.expires_at:
                answer = self._answers[host] = self._find(host)
        if answer.error is not None:
            # A fresh copy: one exception object raised in several threads would collect all their tracebacks.
            error = answer.error
            raise CredentialsError(str(error), host=error.host, why=error.why, hint=error.hint) from error.__cause__
        return answer.credentials

    def _find(self, host: str) -> _Answer:
        try:
            credentials = self._read_login(self._load(), host)
        except CredentialsError as exc:
            return _Answer(self._clock() + _FAILURE_CACHE_S, error=exc)
        except OptionError as exc:  # of Credentials
            return _Answer(self._clock() + _FAILURE_CACHE_S, error=self._damaged(host, str(exc)))
        return _Answer(self._clock() + CACHE_S, credentials)

    def _read_login(self, config: _ConfigFile, host: str) -> Credentials | None:
        server = DOCKER_HUB_KEY if host == DOCKER_HUB else host
        entries = _matching(config.auths, host)
        helpers = _matching(config.helpers, host)
        # An entry that is there but empty switches the general helper off for this registry.
        helper = config.store if not helpers else "" if helpers[0][1] is None else helpers[0][1]
        if not isinstance(helper, str):
            raise self._damaged(host, "its credential helper is not a name")
        if not helper:
            for key, entry in entries:
                login = self._parse_entry(host, key, entry)
                if not login.is_empty:
                    return replace(login, source=self.name)
            return None
        from buildkit_client.oci.credential_helper import PROGRAM_PREFIX, ask_helper  # noqa: PLC0415 - runs programs

        with self._helper_lock:
            answer = ask_helper(helper, server, env=self._env, timeout_s=self._helper_timeout_s)
        # Of the file's own entry only a registry token counts next to a helper, as with docker.
        registry_token = self._parse_entry(host, *entries[0]).registry_token if entries else ""
        login = Credentials(registry_token=registry_token, source=f"{PROGRAM_PREFIX}{helper} ({self.name})")
        if answer is not None and answer.username in ("", _TOKEN_USERNAME):
            login = replace(login, identity_token=answer.secret)
        elif answer is not None:
            login = replace(login, username=answer.username, password=answer.secret)
        return None if login.is_empty else login

    def _parse_entry(self, host: str, key: str, entry: object) -> Credentials:
        """Read one value of ``auths``.

        Reference: docker/cli cli/config/configfile/file.go, LoadFromReader, decodeAuth.
        """
        fields = _fold_keys(entry) if isinstance(entry, dict) else None
        if fields is None:
            raise self._damaged(host, f"its entry {key} is not an object")
        texts: dict[str, str] = {}
        for name in ("username", "password", "auth", "identitytoken", "registrytoken"):
            value = fields.get(name)
            if value is not None and not isinstance(value, str):
                raise self._damaged(host, f"{name} of its entry {key} is not a string")
            texts[name] = value or ""
        username, password = texts["username"], texts["password"]
        if texts["auth"]:
            try:
                decoded = base64.b64decode(re.sub(r"[\r\n]", "", texts["auth"]), validate=True).decode("utf-8")
            except (binascii.Error, ValueError):  # the exceptions show what they could not decode
                decoded = ""
            username, colon, password = decoded.partition(":")
            if not colon or not username:
                raise self._damaged(host, f"auth of its entry {key} is not user:password in base64")
            password = password.strip("\0")
        return Credentials(
            username, password, identity_token=texts["identitytoken"], registry_token=texts["registrytoken"]
        )

    def _load(self) -> _ConfigFile:
        with self._lock:
            if self._file is not None and self._clock() < self._file[0]:
                return self._file[1]
            config = self._parse(self._read())
            self._file = (self._clock() + CACHE_S, config)
            return config

    def _read(self) -> bytes:
        if self._text is not None:
            return self._text.encode("utf-8", "surrogateescape")
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise CredentialsError(f"cannot read {self.name}", why=exc.strerror or type(exc).__name__) from exc
        if len(data) > _MAX_CONFIG_BYTES:
            raise CredentialsError(f"cannot use {self.name}", why=f"it is longer than {_MAX_CONFIG_BYTES} bytes")
        return data

    def _parse(self, data: bytes) -> _ConfigFile:
        why = hint = ""
        document: object = {}
        try:
            text = data.decode("utf-8-sig")
            document = json.loads(text) if text.strip() else {}
        except json.JSONDecodeError as exc:
            # Not chained: a JSONDecodeError carries the whole document.
            why, hint = f"it is not JSON: {exc.msg}, line {exc.lineno}", "correct the file"
        except (ValueError, RecursionError):
            why = "it is not JSON in UTF-8"
        if not why and not isinstance(document, dict):
            why = "it is not a JSON object"
        if why or not isinstance(document, dict):
            raise CredentialsError(f"cannot use {self.name}", why=why, hint=hint)
        top = _fold_keys(document)
        auths, helpers, store = (empty if top.get(key) is None else top[key] for key, empty in _TOP_LEVEL.items())
        if not isinstance(auths, dict) or not isinstance(helpers, dict) or not isinstance(store, str):
            raise CredentialsError(f"cannot use {self.name}", why="auths, credHelpers or credsStore has a wrong type")
        return _ConfigFile(auths, helpers, store)

    def _damaged(self, host: str, why: str) -> CredentialsError:
        return CredentialsError(
            f"cannot use the login for registry {host} in {self.name}", host=host, why=why, hint="log in to it again"
        )


_TOP_LEVEL: Mapping[str, object] = {"auths": {}, "credhelpers": {}, "credsstore": ""}


def _fold_keys(document: Mapping[str, object]) -> dict[str, object]:
    """Lower the keys of an object: Go reads field names without regard to case, and Convox writes ``Auths``."""
    return {key.lower(): value for key, value in document.items()}


def _matching(entries: Mapping[str, object], host: str) -> list[tuple[str, object]]:
    """Return the entries for a host, best first: docker's own spelling, the bare host, then URLs in file order."""
    server = DOCKER_HUB_KEY if host == DOCKER_HUB else host
    found: list[tuple[int, str, object]] = []
    for key, value in entries.items():
        try:
            key_host, path = _split_key(key)
        except CredentialsError:
            continue  # not a registry, so not this one
        if key_host != host:
            continue
        # Docker Desktop keeps logins of its own under longer paths of Docker Hub's URL; they are no registry logins.
        if host == DOCKER_HUB and path not in _REGISTRY_PATHS:
            continue
        rank = 0 if key == server else 1 if "://" not in key and not path else 2 if path in _REGISTRY_PATHS else 3
        found.append((rank, key, value))
    return [(key, value) for rank, key, value in sorted(found, key=lambda entry: entry[0])]
