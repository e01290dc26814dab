"""Addresses of a daemon, as ``buildctl --addr`` takes them, and ``docker://`` for an engine; no IO.

What is wrong with an address is said in ``buildctl``'s words where it has some. A password in an address is never
repeated.

Reference: client/connhelper and the packages below it; cmd/buildctl/main.go, the ``addr`` flag; util/appdefaults.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from buildkit_client.errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# util/appdefaults/appdefaults_linux.go, appdefaults_unix_nolinux.go
DEFAULT_ADDRESS = f"unix://{'' if sys.platform == 'linux' else '/var'}/run/buildkit/buildkitd.sock"
ENVIRONMENT_ADDRESS = "BUILDKIT_HOST"

EXAMPLES: Mapping[str, str] = {
    "unix": "unix:///run/buildkit/buildkitd.sock",
    "tcp": "tcp://builder.example.com:1234",
    "docker": "docker:// or docker:///var/run/docker.sock",
    "docker-container": "docker-container://buildkitd",
    "podman-container": "podman-container://buildkitd",
    "nerdctl-container": "nerdctl-container://buildkitd?namespace=default",
    "kube-pod": "kube-pod://buildkitd-0?namespace=default",
    "ssh": "ssh://user@builder.example.com",
}
"""A right address of each scheme."""

_SOCKET_PATH_BYTES = 107  # sockaddr_un, without the zero at its end
_CONTAINER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # what container engines allow
_KUBE_NAME = re.compile(r"[-a-z0-9.]+")  # connhelper/kubepod/kubepod.go, validKubeIdentifier
_SSH_HOST = re.compile(r"[\w.:%-]+")  # ssh puts host and user into commands of its configuration, which a shell reads
_SSH_USER = re.compile(r"[\w.@+=,~-]+")
_REMOTE_PATH = re.compile(r"/[\w./@+=:,~-]*")  # and the remote shell reads the path
_LABEL_CHARS = 63  # RFC 1035 section 2.3.4; resolving a longer one fails in ways of its own
_PASSWORD = re.compile(r"(//[^/?#@:]*):.*@")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon is.

    Attributes:
        text: As the caller gave it.
        scheme: A key of :data:`EXAMPLES`.
        path: The socket's path; empty takes the default one, which ``unix`` never does.
        host: Name or number without brackets, for ``tcp``, ``docker`` and ``ssh``.
        port: For ``tcp``, ``docker`` and ``ssh``; 0 takes the default one, which ``tcp`` never does.
        user: For ``ssh``; may be empty.
        name: The container or pod.
        context: Which of the configured engines or clusters; may be empty.
        namespace: For ``nerdctl-container`` and ``kube-pod``; may be empty.
        container: Which container of a pod; may be empty.
    """

    text: str
    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0
    user: str = ""
    name: str = ""
    context: str = ""
    namespace: str = ""
    container: str = ""

    def __str__(self) -> str:
        return self.text


class _Parts(NamedTuple):
    """An address cut at its separators; nothing is decoded."""

    text: str
    scheme: str
    rest: str
    authority: str
    path: str
    query: str
    fragment: str


def parse_address(text: str) -> Address:
    """Read an address.

    Args:
        text: For example ``unix:///path/to.sock``; see :data:`EXAMPLES`.

    Raises:
        ConnectError: The text is not such an address; phase ``address``.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _wrong(text, "it has no scheme")
    if scheme == "npipe":
        raise _wrong(text, "npipe connections are only supported on windows" if sys.platform != "win32" else
                     "named pipes are not supported")  # fmt: skip
    read = _READERS.get(scheme)
    if read is None:
        raise _wrong(text, f"the scheme {scheme[:40]!r} is not known")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise _wrong(text, "it has a control character")
    if _PASSWORD.search(text):
        raise _wrong(text, "plain-text password is not supported")
    before, _, fragment = rest.partition("#")
    before, _, query = before.partition("?")
    authority, slash, path = before.partition("/")
    return read(_Parts(text, scheme, rest, authority, slash + path, query, fragment))


def default_address(environ: Mapping[str, str]) -> str:
    """Return ``BUILDKIT_HOST`` of an environment, or the platform's default address."""
    return environ.get(ENVIRONMENT_ADDRESS) or DEFAULT_ADDRESS


# -- one reader for each scheme --------------------------------------------------------------------------------


def _unix(parts: _Parts) -> Address:
    if not parts.rest.startswith("/"):
        raise _wrong(parts.text, "a unix:// address needs an absolute path, so three slashes")
    return Address(parts.text, "unix", path=_socket_path(parts.text, parts.rest))


def _tcp(parts: _Parts) -> Address:
    host, port = _host_and_port(parts, parts.authority)
    if not host:
        raise _wrong(parts.text, "it names no host")
    if not port:
        raise _wrong(parts.text, "a tcp:// address needs a port; there is no default")
    if "@" in parts.authority or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _wrong(parts.text, "a tcp:// address is a host and a port, nothing else")
    return Address(parts.text, "tcp", host=host, port=port)


def _docker(parts: _Parts) -> Address:
    if "@" in parts.authority or parts.query or parts.fragment or (parts.authority and parts.path not in ("", "/")):
        raise _wrong(parts.text, "a docker:// address is nothing more, a socket's path, or a host and a port")
    if parts.authority:
        host, port = _host_and_port(parts, parts.authority)
        if not host:
            raise _wrong(parts.text, "it names no host")
        if not port:
            raise _wrong(parts.text, "the host needs a port; there is no default")
        return Address(parts.text, "docker", host=host, port=port)
    return Address(parts.text, "docker", path=_socket_path(parts.text, parts.path) if parts.path else "")


def _container(parts: _Parts) -> Address:
    if not parts.authority:
        raise _wrong(parts.text, "url lacks container name")
    if not _CONTAINER_NAME.fullmatch(parts.authority) or parts.path not in ("", "/") or parts.fragment:
        raise _wrong(parts.text, f"unsupported container name: {_quoted(parts.rest.partition('?')[0])}")
    known = {"docker-container": ("context",), "nerdctl-container": ("namespace",)}.get(parts.scheme, ())
    query = _query(parts, known)
    namespace = query.get("namespace", "")
    if namespace.startswith("-"):
        raise _wrong(parts.text, f"unsupported namespace name: {_quoted(namespace)}")
    return Address(
        parts.text, parts.scheme, name=parts.authority, context=query.get("context", ""), namespace=namespace
    )


def _kube_pod(parts: _Parts) -> Address:
    query = _query(parts, ("context", "namespace", "container"))
    if (namespace := query.get("namespace", "")) and not _is_kube_name(namespace):
        raise _wrong(parts.text, f"unsupported namespace name: {_quoted(namespace)}")
    if not parts.authority:
        raise _wrong(parts.text, "url lacks pod name")
    if not _is_kube_name(parts.authority) or parts.path not in ("", "/") or parts.fragment:
        raise _wrong(parts.text, f"unsupported pod name: {_quoted(parts.rest.partition('?')[0])}")
    if (container := query.get("container", "")) and not _is_kube_name(container):
        raise _wrong(parts.text, f"unsupported container name: {_quoted(container)}")
    context = query.get("context", "")
    return Address(
        parts.text, "kube-pod", name=parts.authority, context=context, namespace=namespace, container=container
    )


def _ssh(parts: _Parts) -> Address:
    login, at, where = parts.authority.rpartition("@")
    host, port = _host_and_port(parts, where)
    if not host:
        raise _wrong(parts.text, "no host specified")
    if parts.query:
        raise _wrong(parts.text, f"extra query after the host: {_quoted(parts.query)}")
    if parts.fragment:
        raise _wrong(parts.text, f"extra fragment after the host: {_quoted(parts.fragment)}")
    if not _SSH_HOST.fullmatch(host) or host.startswith("-"):
        raise _wrong(parts.text, f"unsupported host name: {_quoted(host)}")
    user = _decoded(login)
    if at and (not _SSH_USER.fullmatch(user) or user.startswith("-")):
        raise _wrong(parts.text, f"unsupported user name: {_quoted(user)}")
    path = _decoded(parts.path).rstrip("/")
    if path and not _REMOTE_PATH.fullmatch(path):
        raise _wrong(parts.text, f"unsupported socket path: {_quoted(path)}")
    return Address(parts.text, "ssh", path=path, host=host, port=port, user=user)


_READERS: Mapping[str, Callable[[_Parts], Address]] = {
    "unix": _unix,
    "tcp": _tcp,
    "docker": _docker,
    "docker-container": _container,
    "podman-container": _container,
    "nerdctl-container": _container,
    "kube-pod": _kube_pod,
    "ssh": _ssh,
}


# -- parts -----------------------------------------------------------------------------------------------------


def _socket_path(text: str, written: str) -> str:
    path = _decoded(written)
    if "\0" in path or len(path.encode("utf-8", "surrogateescape")) > _SOCKET_PATH_BYTES:
        raise _wrong(text, f"a socket's path has at most {_SOCKET_PATH_BYTES} bytes")
    return path


def _host_and_port(parts: _Parts, authority: str) -> tuple[str, int]:
    """Cut ``host``, ``host:port``, ``[number]`` or ``[number]:port``; the port is 0 when there is none."""
    where = authority.rpartition("@")[2]
    if where.startswith("["):
        host, closing, after = where[1:].partition("]")
        if not closing:
            raise _unparsable(parts.text, "missing ']' in host")
    else:
        host, colon, digits = where.partition(":")
        after = colon + digits
    for character in host:
        if character in ' "<>[]\\^`{|}':
            raise _unparsable(parts.text, f"invalid character {_quoted(character)} in host name")
    if not all(0 < len(label) <= _LABEL_CHARS for label in host.removesuffix(".").split(".") if host):
        raise _wrong(parts.text, f"between the dots of a host name stand 1 to {_LABEL_CHARS} characters")
    if after in ("", ":"):
        return host, 0
    if not after.startswith(":") or not (after[1:].isascii() and after[1:].isdecimal()):
        raise _unparsable(parts.text, f"invalid port {_quoted(after)} after host")
    port = int(after[1:7])
    if not 0 < port < 65536:
        raise _wrong(parts.text, f"port {after[1:40]} is out of the range 1 to 65535")
    return host, port


def _query(parts: _Parts, known: tuple[str, ...]) -> dict[str, str]:
    """Read ``key=value&…``; the first value of a key counts, as in Go's url.Values.Get."""
    found: dict[str, str] = {}
    for pair in filter(None, parts.query.split("&")):
        key, _, value = pair.partition("=")
        key, value = _decoded(key.replace("+", " ")), _decoded(value.replace("+", " "))
        if key not in known:
            allowed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise _wrong(parts.text, f"{_quoted(key)} is no parameter of a {parts.scheme}:// address; {allowed}")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise _wrong(parts.text, f"the value of {key} has a control character")
        found.setdefault(key, value)
    return found


def _decoded(written: str) -> str:
    return unquote(written, errors="surrogateescape")


def _is_kube_name(name: str) -> bool:
    # A leading dash would be read as a flag by kubectl; no object has such a name.
    return _KUBE_NAME.fullmatch(name) is not None and not name.startswith("-")


def _quoted(text: str) -> str:
    return '"' + text[:100].replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unparsable(text: str, why: str) -> ConnectError:
    """Return the error for what is no URL at all, in the words of Go's net/url."""
    return _wrong(text, f"parse {_quoted(text)}: {why}")


def _wrong(text: str, why: str) -> ConnectError:
    shown = _PASSWORD.sub(r"\1:***@", text)
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme not in EXAMPLES:
        # Only a mistake needs the comparison of words.
        from difflib import get_close_matches  # noqa: PLC0415

        close = get_close_matches(scheme, EXAMPLES, n=1)
        examples = [EXAMPLES[name] for name in close or ("unix", "tcp")]
        known = ", ".join(f"{name}://" for name in EXAMPLES)
        hint = f"write it like {' or '.join(examples)}; the schemes are {known}"
    else:
        hint = f"write it like {EXAMPLES[scheme]}"
    return ConnectError(
        f"{shown[:200]!r} is not an address of a buildkitd", address=shown, phase="address", why=why, hint=hint
    )
