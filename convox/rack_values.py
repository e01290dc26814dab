"""Values for rack parameters: read from ``Key=Value`` arguments, checked, and brought into one form.

The order of the checks and their texts are Convox's where it has them. A value that may be a secret, or may contain one
as an address can, is never part of a text.

Reference: convox/convox pkg/cli/helpers.go, argsToOptions; pkg/cli/rack.go, validateAndMutateParams.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from buildkit_client import ConnectError, parse_address
from convox.errors import RackError, UsageError
from convox.provider_params import provider_defaults
from convox.rack_params import BY_NAME, DEFAULT_PROVIDER, INSTALL_ONLY, PARAMS, Param, is_masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_SECRET_BYTES = 64 * 1024
"""The largest secret that is read from a file or standard input."""

# What Go's strconv.ParseBool takes.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_USED = frozenset({("do", "token")})
"""Convox's parameters for clusters that have an effect here: this one opens DigitalOcean's registry."""

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(rf"{_HOST}(?::\d{{1,5}})?(?:/{_PATH_PART})*")
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?")
_STORE = re.compile(r"(?:sqlite:///|postgres(?:ql)?://)\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedParams:
    """Parameters ready to be stored.

    Attributes:
        values: By name; an empty value takes the parameter away.
        warnings: For people to read, one line each; never a value.
    """

    values: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def parse_params(items: Iterable[str]) -> dict[str, str]:
    """Read ``Key=Value`` arguments.

    Args:
        items: The arguments; of a key given twice the last counts.

    Raises:
        UsageError: An argument has no ``=`` or no key.

    Reference: convox/convox pkg/cli/helpers.go, argsToOptions.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"invalid parameter {_quote(item)}, expected Key=Value format (use -r to specify rack)")
        if not name:
            raise UsageError(f"invalid parameter {_quote(item)}, key must not be empty")
        found[name] = value
    return found


def _quote(text: str) -> str:
    """Return a text in double quotes, as Go's ``%q`` has it."""
    return json.dumps(text, ensure_ascii=False)


def read_secret_values(values: Mapping[str, str], *, cwd: Path, stdin: BinaryIO) -> dict[str, str]:
    """Fetch the secrets that are given as ``@/path/of/a/file`` or ``-`` (standard input); one newline at the end goes.

    Only parameters whose values are secrets are looked at: elsewhere ``@`` and ``-`` are values like any other.

    Args:
        values: What :func:`parse_params` returned.
        cwd: What a relative path counts from.
        stdin: Read to its end, if a value asks for it.

    Raises:
        UsageError: Two values ask for standard input.
        RackError: A file cannot be read, or what was read is empty, too large, or not UTF-8.
    """
    fetched = dict(values)
    asking = [name for name, value in values.items() if value == "-" and is_masked(name)]
    if len(asking) > 1:
        raise UsageError(f"only one param can be read from standard input, not {' and '.join(asking)}")
    for name, value in values.items():
        if not is_masked(name):
            continue
        if value == "-":
            fetched[name] = _decode_secret(name, stdin.read(MAX_SECRET_BYTES + 1), "standard input")
        elif value.startswith("@"):
            # The path is not shown: a password that begins with @ would be taken for one.
            fetched[name] = _decode_secret(name, _read_secret_file(name, cwd / value[1:]), "the file named after @")
    return fetched


def _read_secret_file(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:  # waits for a pipe's writer: <(command) is a good way to give a secret
            return file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise RackError(
            f"cannot read the file for param '{name}'",
            why=(exc.strerror if isinstance(exc, OSError) else "") or "it is not a file's name",
            hint=f"{name}=@FILE reads a file; a value that itself begins with @ has to come from a file or {name}=-",
        ) from None


def _decode_secret(name: str, data: bytes, source: str) -> str:
    if len(data) > MAX_SECRET_BYTES:
        raise RackError(f"param '{name}': {source} has more than {MAX_SECRET_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RackError(f"param '{name}': {source} is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise RackError(
            f"param '{name}': {source} is empty", hint=f"to take the param away, set {name}= without a value"
        )
    return text


def check_params(
    params: Mapping[str, str],
    current: Mapping[str, str],
    *,
    cwd: Path,
    is_forced: bool = False,
    is_install: bool = False,
) -> CheckedParams:
    """Check values that are to be set, and bring them into the form they are stored in.

    Args:
        params: Values by name, secrets fetched.
        current: What the rack has set now.
        cwd: What the relative path of a file counts from.
        is_forced: Accept names that nobody knows, and files that do not exist.
        is_install: Whether the rack is being made: some parameters can only be set then.

    Raises:
        RackError: A parameter is unknown, cannot be set any more, or has a value that does not fit. The text has no
            secret in it.

    Reference: convox/convox pkg/cli/rack.go, validateAndMutateParams.
    """
    for name in params:
        if name in INSTALL_ONLY and not is_install:
            raise RackError(f"param '{name}' can only be set during rack installation")
    provider = params.get("provider") or current.get("provider") or DEFAULT_PROVIDER
    of_provider = provider_defaults(provider)
    if not is_forced:
        for name in params:
            if name not in of_provider and (name not in BY_NAME or not BY_NAME[name].is_known_to(provider)):
                raise _unknown(name, provider)
    checked: dict[str, str] = {}
    warnings: list[str] = []
    for name, value in params.items():
        param = BY_NAME.get(name)
        if not value.strip():
            if param is None and name not in current:
                raise _needs_value(name)
            if param is not None and not param.is_clearable:
                raise _needs_value(name)
            checked[name] = ""
            continue
        if param is None:
            checked[name] = _check_line(name, value)
            if (provider, name) not in _USED:
                what = "is kept and has no effect here" if name in of_provider else "is unknown and has no effect"
                warnings.append(f"param '{name}' {what}")
            continue
        checked[name] = _check_value(param, value, cwd, is_forced=is_forced)
        if not param.has_effect:
            warnings.append(f"param '{name}' is kept and has no effect here")
    _check_together(dict(current) | checked, params)
    return CheckedParams(values=checked, warnings=tuple(warnings))


def _needs_value(name: str) -> RackError:
    return RackError(f"param '{name}' requires an explicit value (omit to keep current)")


def _unknown(name: str, provider: str) -> RackError:
    known = [*(param.name for param in PARAMS if param.is_known_to(provider)), *provider_defaults(provider)]
    close = difflib.get_close_matches(name, known, n=1)
    # The second line is set in under the first, which is printed after "ERROR: ".
    suggestion = f"\n       Did you mean '{close[0]}'?" if close else ""
    return RackError(
        f"unknown parameter '{name}' for {provider} provider{suggestion}",
        hint="convox rack params lists what there is; --force sets it all the same",
    )


def _check_together(after: Mapping[str, str], params: Mapping[str, str]) -> None:
    """Check what only makes sense together."""
    has_account = after.get("docker_hub_username") and after.get("docker_hub_password")
    if "ecr_docker_hub_cache" in params and after.get("ecr_docker_hub_cache") == "true" and not has_account:
        raise RackError(
            "ecr_docker_hub_cache=true requires docker_hub_username and docker_hub_password.\n"
            "  Set all three: convox rack params set ecr_docker_hub_cache=true docker_hub_username=USER "
            "docker_hub_password=TOKEN\n"
            "  Or set docker_hub_username and docker_hub_password first"
        )
    has_certificate, has_key = bool(after.get("tls_cert")), bool(after.get("tls_key"))
    if has_certificate != has_key and ("tls_cert" in params or "tls_key" in params):
        there, missing = ("tls_cert", "tls_key") if has_certificate else ("tls_key", "tls_cert")
        raise RackError(
            f"param '{there}' requires {missing}",
            why="a client certificate is used with its key",
            hint="set or clear both in one command: convox rack params set tls_cert=FILE tls_key=FILE",
        )


def _check_value(param: Param, value: str, cwd: Path, *, is_forced: bool) -> str:
    """Return a value in the form it is stored in."""
    name = param.name
    match param.kind:
        case "bool":
            if value not in _TRUE | _FALSE:
                raise RackError(f"param '{name}' must be 'true' or 'false' (got {_quote(value)})")
            return str(value in _TRUE).lower()
        case "number":
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise RackError(f"param '{name}' must be a number (got {_quote(value)})")
            return value
        case "choice":
            if value not in param.choices:
                raise RackError(f"param '{name}' must be one of {', '.join(param.choices)} (got {_quote(value)})")
            return value
        case "builder":
            return ",".join(_check_builder(name, part.strip()) for part in value.split(","))
        case "registry":
            return _check_registry(name, value.strip())
        case "platforms":
            parts = [part.strip() for part in value.split(",")]
            for part in parts:
                if not _PLATFORM.fullmatch(part):
                    raise RackError(
                        f"param '{name}' must list platforms such as linux/amd64,linux/arm64 (got {_quote(part)})"
                    )
            return ",".join(parts)
        case "file":
            return _check_file(name, cwd / value, is_forced=is_forced)
        case "json":
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                raise RackError(f"param '{name}' must be JSON") from None
            return value
        case "store":
            if not _STORE.fullmatch(value):
                raise RackError(
                    f"param '{name}' must be a URL such as sqlite:///data/convox.db or postgresql://host/db"
                )
            return value
        case "server_name":
            if not re.fullmatch(_HOST, value):
                raise RackError(f"param '{name}' must be a host name (got {_quote(value)})")
            return value
        case "text":
            return _check_line(name, _packed_key(value) if name == "registry_password" else value)


def _check_line(name: str, value: str) -> str:
    if "\n" in value or "\0" in value:
        raise RackError(f"param '{name}' must be one line")
    return value


def _packed_key(value: str) -> str:
    """Return a key file in JSON, as Google hands them out, in one line; any other value as it is."""
    try:
        key = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return json.dumps(key, separators=(",", ":")) if isinstance(key, dict) else value


def _check_builder(name: str, address: str) -> str:
    try:
        parse_address(address)
    except ConnectError as exc:
        got = "" if "@" in address else f" (got {_quote(address)})"
        raise RackError(
            f"param '{name}' must be an address of buildkitd{got}",
            why=": ".join(part for part in (str(exc), exc.why) if part),
            hint="for example unix:///run/buildkit/buildkitd.sock, tcp://HOST:1234, docker://, "
            "docker-container://NAME, kube-pod://POD or ssh://USER@HOST",
        ) from exc
    return address


def _check_registry(name: str, value: str) -> str:
    value = value.rstrip("/")
    if "@" in value:
        raise RackError(
            f"param '{name}' must not contain an account", hint="set registry_username and registry_password"
        )
    if "://" in value:
        raise RackError(
            f"param '{name}' must not include a scheme (drop http:// or https://)",
            hint="registry_insecure=true is for a registry without TLS",
        )
    if not _REGISTRY.fullmatch(value):
        raise RackError(
            f"param '{name}' must be a registry (got {_quote(value)})",
            hint="write HOST, HOST:PORT or HOST/PATH, without a tag",
        )
    return value


def _check_file(name: str, path: Path, *, is_forced: bool) -> str:
    path = path.absolute()
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file and not is_forced:
        raise RackError(f"param '{name}': there is no file {path}", hint="--force sets it all the same")
    return str(path)
