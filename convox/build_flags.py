"""What ``convox build`` takes in buildctl's words: secrets, SSH, caches, platforms.

A cache may have ``{service}`` in any of its values. Each image is built on its own, and two that write one cache would
leave only what the slower one had.

Reference: cmd/buildctl/build (secret.go, ssh.go, importcache.go, exportcache.go) of moby/buildkit.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.errors import UsageError
from convox.regular_files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from buildkit_client.options import Cache, Secret, SshSource

MAX_SECRET_BYTES = 500 * 1024
"""Size of the largest secret that a builder takes; session/secrets of moby/buildkit."""

SERVICE = "{service}"
"""What stands in a cache for the name of the service."""

_PLATFORM = re.compile(r"[a-z0-9]+(?:/[a-z0-9_]+(?:/[a-z0-9._]+)?)?")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True)
class CacheFlag:
    """One ``--cache-from`` or ``--cache-to``.

    Attributes:
        text: As given; may hold a token, so it is not shown.
        is_export: Whether it is a ``--cache-to``.
        environ: Completes ``type=gha`` from the variables of GitHub's runners.
    """

    text: str = field(repr=False)
    is_export: bool = False
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def flag(self) -> str:
        """The flag's name."""
        return "--cache-to" if self.is_export else "--cache-from"

    @property
    def is_for_one_image(self) -> bool:
        """Whether two images must not both write it."""
        return self.is_export and SERVICE not in self.text and self.cache("x").type != "inline"

    def cache(self, service: str) -> Cache:
        """Return the cache of a service.

        Raises:
            UsageError: The text cannot be read.
            OptionError: It is no reference, or the type or an attribute is not known.
        """
        from buildkit_client.oci import Reference  # noqa: PLC0415 (not needed by every command)
        from buildkit_client.options import RawCache  # noqa: PLC0415 (not needed by every command)

        text = self.text.replace(SERVICE, service)
        if "=" not in text:
            Reference.parse(text)  # a reference alone; refuses what is none
            return self._checked(RawCache("registry", {"ref": text}))
        attrs = _fields(text, self.flag)
        kind = attrs.pop("type", "")
        if not kind:
            raise UsageError(f"{self.flag} requires type=<type>")
        if kind == "gha":
            attrs = _with_github(attrs, self.environ)
        return self._checked(RawCache(kind, attrs))

    def _checked(self, cache: Cache) -> Cache:
        cache.to_export_attrs() if self.is_export else cache.to_import_attrs()
        return cache


def caches_of(flags: Iterable[CacheFlag], services: Iterable[str]) -> list[Cache]:
    """Return the caches of an image that is for some services, each once."""
    texts: dict[str, Cache] = {}
    for flag in flags:
        for service in services:
            texts.setdefault(flag.text.replace(SERVICE, service), flag.cache(service))
    return list(texts.values())


def check_cache_exports(flags: Sequence[CacheFlag], images: Sequence[Sequence[str]]) -> None:
    """Refuse a cache that several images would write.

    Args:
        flags: Of ``--cache-to``.
        images: The services of each image.

    Raises:
        UsageError: There are several images, and a cache that is for one.
    """
    if len(images) > 1 and any(flag.is_for_one_image for flag in flags):
        raise UsageError(
            f"--cache-to names one cache for {len(images)} images",
            why="each of them would replace what the others wrote",
            hint=f"write {SERVICE} where the name of the service shall stand, or build one with --service",
        )


@dataclass(frozen=True, slots=True)
class GivenSecrets:
    """What the ``--secret`` flags mean.

    Attributes:
        secrets: Secret by id.
        values: What must not be shown.
    """

    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    values: Sequence[str] = field(default=(), repr=False)


def read_secrets(items: Iterable[str], *, cwd: Path, environ: Mapping[str, str]) -> GivenSecrets:
    """Read ``--secret`` values: ``id=token,src=token.txt``, ``id=token,env=TOKEN``, or ``id=token`` for either.

    Files are read now, so that their content can be kept out of the log.

    Raises:
        UsageError: One cannot be read, or has no value. The text never has the value.
    """
    from buildkit_client.options import SecretValue  # noqa: PLC0415 (not needed by every command)

    found: dict[str, Secret] = {}
    values: list[str] = []
    for item in items:
        secret_id, value = _read_secret(item, cwd, environ)
        if secret_id in found:
            raise UsageError(f"secret {secret_id} is given twice")
        found[secret_id] = SecretValue(value)
        values.append(value.decode("utf-8", "surrogateescape"))
    return GivenSecrets(found, values)


def _read_secret(text: str, cwd: Path, environ: Mapping[str, str]) -> tuple[str, bytes]:
    attrs = _fields(text, "--secret")
    kind, secret_id = attrs.pop("type", ""), attrs.pop("id", "")
    path, variable = attrs.pop("source", "") or attrs.pop("src", ""), attrs.pop("env", "")
    if attrs:
        raise UsageError(f"--secret has an unknown key {next(iter(attrs))}", hint="use id, src and env")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret has an unknown type {kind}", hint="use file or env")
    if not secret_id:
        raise UsageError("--secret has no id", hint="use --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE")
    if kind == "env" and not variable:
        variable, path = path, ""
    if not variable and not path:
        variable, path = (secret_id, "") if secret_id in environ else ("", secret_id)
    if variable:
        if variable not in environ:
            raise UsageError(f"secret {secret_id} has no value", why=f"the environment variable {variable} is not set")
        return secret_id, environ[variable].encode("utf-8", "surrogateescape")
    try:
        return secret_id, read_regular_file(cwd / path, limit_bytes=MAX_SECRET_BYTES)
    except OSError as exc:
        raise UsageError(f"secret {secret_id} cannot be read from {path}", why=exc.strerror or str(exc)) from exc


def read_ssh(items: Iterable[str], *, cwd: Path, environ: Mapping[str, str]) -> dict[str, SshSource]:
    """Read ``--ssh`` values: ``default``, ``id=/agent.sock``, ``id=key1,key2`` or ``id=/agent.sock,raw=true``.

    Raises:
        UsageError: One cannot be read, or no agent is known.
    """
    found: dict[str, SshSource] = {}
    for item in items:
        ssh_id, _, rest = item.partition("=")
        if ssh_id in found:
            raise UsageError(f"--ssh {ssh_id} is given twice")
        found[ssh_id] = _ssh_source(ssh_id, rest, cwd, environ)
    return found


def _ssh_source(ssh_id: str, text: str, cwd: Path, environ: Mapping[str, str]) -> SshSource:
    from buildkit_client.options import SshAgent, SshKeys  # noqa: PLC0415 (not needed by every command)

    if not ssh_id:
        raise UsageError("--ssh has no id", hint="use --ssh default, or --ssh ID=PATH")
    words = [word for word in text.split(",") if word]
    raw = [word.partition("=")[2] for word in words if word.startswith("raw=")]
    if raw and raw[-1] not in _TRUE | _FALSE:
        raise UsageError(f"--ssh {ssh_id} has an invalid value for raw", hint="use raw=true")
    is_raw = bool(raw) and raw[-1] in _TRUE
    paths = [cwd / word for word in words if not word.startswith("raw=")]
    if not paths:
        agent = environ.get("SSH_AUTH_SOCK", "")
        if not agent:
            raise UsageError(
                f"--ssh {ssh_id} names no agent, and none is running",
                why="SSH_AUTH_SOCK is not set",
                hint=f"start ssh-agent, or name a key: --ssh {ssh_id}=PATH",
            )
        paths = [cwd / agent]
    if len(paths) == 1 and (paths[0].is_socket() or not text):
        return SshAgent(paths[0], raw=is_raw)
    if is_raw:
        raise UsageError(f"--ssh {ssh_id} with raw=true needs the path of one socket")
    return SshKeys(tuple(paths))


def read_platforms(items: Iterable[str]) -> tuple[str, ...]:
    """Read ``--platform`` values, each one platform or several joined by commas; every platform once.

    Raises:
        UsageError: One does not look like a platform.
    """
    found: dict[str, None] = {}
    for item in items:
        for platform in item.split(","):
            if not _PLATFORM.fullmatch(platform.strip()):
                raise UsageError(f"invalid platform: {platform!r}", hint="for example linux/amd64,linux/arm64")
            found.setdefault(platform.strip())
    return tuple(found)


def _fields(text: str, flag: str) -> dict[str, str]:
    """Read ``key=value,key=value``, quoted where a value has a comma; keys in lower case."""
    try:
        [words] = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise UsageError(f"{flag} cannot be read", hint="write key=value,key=value") from None
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            # The word may be a secret that was meant to be the value of something.
            raise UsageError(f"{flag} cannot be read", why="a word has no '='", hint="write key=value,key=value")
        found[key.strip().lower()] = value
    return found


def _with_github(attrs: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    from buildkit_client.options import GhaCache  # noqa: PLC0415 (not needed by every command)

    known = GhaCache(
        url=attrs.get("url", ""),
        url_v2=attrs.get("url_v2", ""),
        token=attrs.get("token", ""),
        version=2 if attrs.get("version") == "2" else None,
    ).completed(environ)
    if not known.token or not (known.url or known.url_v2):
        raise UsageError(
            "a cache of type gha needs the address and a token of GitHub's cache",
            why="ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN are not both set",
            hint="a workflow's step sees them only when an action hands them on",
        )
    completed = {"url": known.url, "url_v2": known.url_v2, "token": known.token}
    return attrs | {name: value for name, value in completed.items() if value}
