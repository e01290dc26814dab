"""The registries a rack has logins for: ``convox registries`` lists, adds and removes them.

They lie in the rack's folder, ``registries.json``, in the form of docker's ``config.json``. A login belongs to one
host, port included, and counts for pulls, pushes and caches there. All names of Docker Hub are one host.

Reference: convox/convox provider/k8s/registry.go; pkg/cli/registries.go.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.errors import NotFoundError, RackError, UsageError
from convox.private_files import locked_folder, make_private_folder, read_private_file, write_private_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from convox.rack import Rack

_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A login for one registry.

    Attributes:
        server: Its host as it was given; may be a URL as in docker's ``config.json``.
        username: The account.
        password: Its password, token or key.
    """

    server: str
    username: str
    password: str = field(repr=False)

    @property
    def host(self) -> str:
        """The one spelling of its host, with port where it has one."""
        return registry_host(self.server)


def registry_host(server: str) -> str:
    """Return the one spelling of a registry's host; every name of Docker Hub gives ``docker.io``.

    Args:
        server: A host, with port where it has one, or a URL such as ``https://index.docker.io/v1/``.

    Raises:
        UsageError: It names no registry, or only a part of one.
    """
    from buildkit_client import CredentialsError  # noqa: PLC0415 (not needed by every command)
    from buildkit_client.oci import normalize_host  # noqa: PLC0415 (not needed by every command)

    scheme, separator, rest = server.rpartition("://")
    authority, _, path = rest.partition("/")
    if "@" in authority:
        raise UsageError("a registry is named without an account", hint="convox registries add SERVER USERNAME")
    try:
        host = normalize_host(authority)
    except CredentialsError as exc:
        raise UsageError(str(exc), why=exc.why, hint="for example registry.example.com:5000, or docker.io") from None
    if (separator and scheme not in ("http", "https")) or path.strip("/") not in ("", "v1", "v2"):
        raise UsageError(
            f"not a registry host: {server[:100]!a}", why="a login is for a registry as a whole", hint=host
        )
    return host


def list_registries(rack: Rack) -> list[Registry]:
    """Return the rack's registries, sorted by server.

    Raises:
        RackError: They cannot be read.
    """
    return sorted(_read(rack), key=lambda registry: registry.server)


def add_registry(rack: Rack, registry: Registry) -> None:
    """Add a login; one that the rack has for the same host is replaced.

    Raises:
        UsageError: The server names no registry, or user and password cannot be a login.
        RackError: It cannot be written.
    """
    host = registry.host
    if not registry.username or ":" in registry.username or not registry.username.isprintable():
        raise UsageError("a user name must not be empty, and have no colon and no line break")
    if not registry.password:
        raise UsageError("the password is empty")
    with _changing(rack) as registries:
        registries[:] = [one for one in registries if one.host != host] + [registry]


def remove_registry(rack: Rack, server: str) -> None:
    """Take a login away.

    Raises:
        UsageError: The server names no registry.
        NotFoundError: The rack has no login for it.
        RackError: It cannot be written.
    """
    host = registry_host(server)
    with _changing(rack) as registries:
        left = [one for one in registries if one.host != host]
        if len(left) == len(registries):
            raise NotFoundError(f"no such registry: {server}", hint="convox registries lists them")
        registries[:] = left


@contextlib.contextmanager
def _changing(rack: Rack) -> Iterator[list[Registry]]:
    """Hold the rack's registries while they are changed; they are written when the block ends well."""
    try:
        make_private_folder(rack.path.parent)
        make_private_folder(rack.path)
        with locked_folder(rack.path):
            registries = _read(rack)
            yield registries
            write_private_file(_path(rack), _encode(registries))
    except OSError as exc:
        why = exc.strerror or str(exc)
        raise RackError(f"cannot change the registries of rack {rack.name}", why=why) from exc


def _path(rack: Rack) -> Path:
    return rack.path / "registries.json"


def _encode(registries: Sequence[Registry]) -> bytes:
    auths = {one.server: {"auth": encode_auth(one.username, one.password)} for one in registries}
    return f"{json.dumps({'auths': auths}, indent=2, sort_keys=True)}\n".encode()


def encode_auth(username: str, password: str) -> str:
    """Return a login as docker's ``config.json`` has it: ``user:password`` in base64."""
    return base64.b64encode(f"{username}:{password}".encode("utf-8", "surrogateescape")).decode()


def _read(rack: Rack) -> list[Registry]:
    path = _path(rack)
    try:
        data = read_private_file(path, limit_bytes=_MAX_BYTES)
    except NotADirectoryError:
        return []
    except OSError as exc:
        raise RackError(f"cannot read {path}", why=exc.strerror or str(exc)) from exc
    if data is None:
        return []
    try:
        entries = json.loads(data)["auths"].items()
        return [_registry(server, entry["auth"]) for server, entry in entries]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        # Not chained: the exception may show what could not be read.
        raise RackError(
            f"cannot read {path}", why="it is not a list of logins", hint="correct it, or delete it to start anew"
        ) from None


def _registry(server: str, auth: str) -> Registry:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except binascii.Error:
        raise ValueError("not base64") from None
    if not colon:
        raise ValueError("no colon")
    return Registry(server=server, username=username, password=password)
