"""The options of ``build``, read as ``buildctl`` reads them, with its texts for what is wrong.

Reference: cmd/buildctl/build.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from buildkit_client import options
from buildkit_client.cli.values import csv_fields, key_values, parse_bool
from buildkit_client.errors import OptionError, SshAgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from buildkit_client.oci.token import HostSecurity

_BUILD_ARG = "build-arg:"
_MAX_SECRET_KIB = 500  # session/secrets/secretsprovider/secretsprovider.go, MaxSecretSize
_PASSED_ON_ENVIRONMENT = ("SOURCE_DATE_EPOCH",)
_ENTITLEMENTS = ("network.host", "security.insecure", "device")


class SecretSource(NamedTuple):
    """Where a secret's value comes from.

    Attributes:
        id: Name the build asks for.
        file_path: File that holds it, or empty.
        env: Environment variable that holds it, or empty.
    """

    id: str = ""
    file_path: str = ""
    env: str = ""


class SshSource(NamedTuple):
    """An agent, keys or a socket forwarded to the build.

    Attributes:
        id: Name the build asks for.
        paths: Sockets or key files; empty takes the agent of the environment.
        raw: Forward a plain socket rather than the agent protocol.
    """

    id: str
    paths: tuple[str, ...] = ()
    raw: bool = False


def _typed_attrs(text: str, flag: str) -> tuple[str, dict[str, str]]:
    """Read ``type=…,key=value,…``; keys in lower case."""
    kind = ""
    attrs: dict[str, str] = {}
    for item in csv_fields(text):
        key, equals, value = item.partition("=")
        if not equals:
            raise OptionError(f"invalid value {item}")
        key = key.lower()
        if key == "type":
            kind = value
        else:
            attrs[key] = value
    if not kind:
        raise OptionError(f"{flag} requires type=<type>")
    return kind, attrs


def parse_output(text: str, *, stdout: BinaryIO | None) -> options.RawExporter:
    """Read one ``--output``.

    Args:
        text: For example ``type=image,name=docker.io/user/app,push=true``.
        stdout: Where a file goes that has no destination; a terminal is refused; None when it is
            closed.

    Raises:
        OptionError: It cannot be read, or its destination cannot work.

    Reference: cmd/buildctl/build/output.go.
    """
    kind, attrs = _typed_attrs(text, "--output")
    if "output" in attrs:
        value = attrs["output"]
        raise OptionError(f"output={value} not supported for --output, you meant dest={value}?")
    try:
        output = _destination(kind, attrs.get("dest", ""), attrs, stdout)
    except OptionError as exc:
        raise OptionError(f"invalid output option: output: {exc}") from exc
    if output is not None:
        attrs.pop("dest", None)
    options.check_exporter(kind, attrs, lenient=True)
    return options.RawExporter(kind, attrs, output, unchecked=True)


def _destination(kind: str, dest: str, attrs: Mapping[str, str], stdout: BinaryIO | None) -> options.Output | None:
    takes_layout = kind in ("oci", "docker") and not _is_tar(attrs)
    if kind == "local" or takes_layout:
        if not dest:
            raise OptionError(f"output directory is required for {kind} exporter")
        return options.OutputLayout(Path(dest)) if takes_layout else options.OutputDirectory(Path(dest))
    if kind in ("tar", "oci", "docker"):
        if dest not in ("", "-"):
            _check_destination_file(dest)
            return options.OutputFile(Path(dest))
        if stdout is None:
            raise OptionError("standard output is closed", hint="name a file with dest=")
        if stdout.isatty():
            raise OptionError(f"output file is required for {kind} exporter. refusing to write to console")
        return options.OutputStream(stdout)
    if dest:
        raise OptionError(f"output {dest} is not supported by {kind} exporter")
    return None


def _check_destination_file(dest: str) -> None:
    """Find out, before the build, whether a file can be written, without touching what is there.

    Raises:
        OptionError: It cannot, in the reference's words.
    """
    path = Path(dest)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as exc:
        raise OptionError(f"invalid destination file: {dest}: stat {dest}: {_go_reason(exc)}") from exc
    if stat.S_ISDIR(mode):
        raise OptionError("destination file is a directory")
    try:
        if mode and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not mode or stat.S_ISREG(mode):
            with tempfile.TemporaryFile(dir=path.resolve().parent):
                pass
    except OSError as exc:
        raise OptionError(f"open {dest}: {_go_reason(exc)}") from exc


def _is_tar(attrs: Mapping[str, str]) -> bool:
    try:
        return parse_bool(attrs.get("tar", ""))
    except ValueError:
        return True


def parse_export_cache(
    text: str, *, environ: Mapping[str, str], warn: Callable[[str], object] = lambda _: None
) -> options.RawCache:
    """Read one ``--export-cache``.

    Args:
        text: For example ``type=registry,ref=example.com/app:cache,mode=max``; a bare reference is read too.
        environ: GitHub's variables complete ``type=gha``.
        warn: Gets a line about a spelling that is out of date.

    Raises:
        OptionError: It cannot be read.

    Reference: cmd/buildctl/build/exportcache.go.
    """
    if "type=" not in text:
        warn(
            "--export-cache <ref> is deprecated. Please use "
            "--export-cache type=registry,ref=<ref>,<opt>=<optval>[,<opt>=<optval>] instead"
        )
        return options.RawCache("registry", {"mode": "min", "ref": text}, unchecked=True)
    kind, attrs = _typed_attrs(text, "--export-cache")
    attrs.setdefault("mode", "min")
    attrs = _with_github(attrs, environ) if kind == "gha" else attrs
    _require_place(kind, attrs, {"registry": "ref", "local": "dest"}, "exporter")
    options.check_cache_export(kind, attrs, lenient=True)
    return options.RawCache(kind, attrs, unchecked=True)


def parse_import_cache(
    text: str, *, environ: Mapping[str, str], warn: Callable[[str], object] = lambda _: None
) -> options.RawCache:
    """Read one ``--import-cache``; see :func:`parse_export_cache`.

    Raises:
        OptionError: It cannot be read.

    Reference: cmd/buildctl/build/importcache.go.
    """
    if "type=" not in text:
        warn(
            "--import-cache <ref> is deprecated. Please use "
            "--import-cache type=registry,ref=<ref>,<opt>=<optval>[,<opt>=<optval>] instead."
        )
        return options.RawCache("registry", {"ref": text}, unchecked=True)
    kind, attrs = _typed_attrs(text, "--import-cache")
    attrs = _with_github(attrs, environ) if kind == "gha" else attrs
    _require_place(kind, attrs, {"registry": "ref", "local": "src"}, "importer")
    options.check_cache_import(kind, attrs, lenient=True)
    return options.RawCache(kind, attrs, unchecked=True)


def _require_place(kind: str, attrs: Mapping[str, str], places: Mapping[str, str], role: str) -> None:
    """Check that a cache of a type alone says where it is; misspelt attributes are for the full check to explain.

    Reference: client/solve.go, parseCacheOptions.
    """
    if (place := places.get(kind)) and not attrs.keys() - {"mode"}:
        raise OptionError(f"{kind} cache {role} requires {place}")


def _with_github(attrs: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Complete the attributes of GitHub's cache from the variables its runners set.

    Reference: cmd/buildctl/build/util.go, loadGithubEnv.
    """
    results_url = environ.get("ACTIONS_RESULTS_URL")
    version = attrs.get("version", "")
    if "version" not in attrs and environ.get("ACTIONS_CACHE_SERVICE_V2", "") in (
        "1",
        "t",
        "T",
        "true",
        "TRUE",
        "True",
    ):
        version = "2"
    if version == "2" and results_url is not None:
        attrs.setdefault("url_v2", results_url)
    url = environ.get("ACTIONS_CACHE_URL", results_url)
    if url is not None:
        attrs.setdefault("url", url)
    if "url" not in attrs and "url_v2" not in attrs:
        raise OptionError("cache with type gha requires url parameter to be set")
    if "token" not in attrs:
        if "ACTIONS_RUNTIME_TOKEN" not in environ:
            raise OptionError("cache with type gha requires token parameter or $ACTIONS_RUNTIME_TOKEN")
        attrs["token"] = environ["ACTIONS_RUNTIME_TOKEN"]
    return attrs


def parse_opts(items: Sequence[str], *, environ: Mapping[str, str]) -> dict[str, str]:
    """Read every ``--opt``.

    A build argument without a value takes it from the environment, and is left out when it is not there either.

    Raises:
        OptionError: An item has no ``=``.

    Reference: cmd/buildctl/build/opt.go.
    """
    attrs = {_BUILD_ARG + name: environ[name] for name in _PASSED_ON_ENVIRONMENT if name in environ}
    resolved: list[str] = []
    for item in items:
        name = item.removeprefix(_BUILD_ARG)
        if name and name != item and "=" not in name:
            if name in environ:
                resolved.append(f"{item}={environ[name]}")
            continue
        resolved.append(item)
    try:
        return attrs | key_values(resolved)
    except OptionError as exc:
        raise OptionError(f"invalid opt: {exc}") from exc


def parse_locals(items: Sequence[str]) -> dict[str, Path]:
    """Read every ``--local``: a directory by the name the frontend asks for.

    Raises:
        OptionError: An item has no ``=``, or names no directory.

    Reference: cmd/buildctl/build/local.go.
    """
    try:
        found = {name: Path(path) for name, path in key_values(items).items()}
    except OptionError as exc:
        raise OptionError(f"invalid local: {exc}") from exc
    for path in found.values():
        try:
            mode = path.stat().st_mode
        except OSError as exc:
            missing = _first_missing(path)
            raise OptionError(f"invalid local: resolve : lstat {missing}: {_go_reason(exc)}") from exc
        if not stat.S_ISDIR(mode):
            raise OptionError(f"invalid local: stat {path}: not a directory")
    return found


def _first_missing(path: Path) -> Path:
    """The first part of a path that is not there, as Go's symlink resolution names it."""
    for candidate in (*reversed(path.parents), path):
        if candidate.parts and not os.path.lexists(candidate):
            return candidate
    return path


def _go_reason(error: OSError) -> str:
    """The reason of an error as Go words it."""
    return (error.strerror or str(error)).lower()


def parse_oci_layouts(items: Sequence[str]) -> dict[str, Path]:
    """Read every ``--oci-layout``: a folder by the id under which the build asks for it.

    Raises:
        OptionError: An item has no ``=``.

    Reference: cmd/buildctl/build/ocilayout.go.
    """
    found: dict[str, Path] = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals:
            raise OptionError(
                f"invalid oci-layout: oci-layout option must be 'id=path/to/layout', instead had invalid {item}"
            )
        found[name] = Path(path)
    return found


def parse_secret(text: str) -> SecretSource:
    """Read one ``--secret``, for example ``id=token,src=token.txt`` or ``id=token,env=TOKEN``.

    Raises:
        OptionError: It cannot be read.

    Reference: cmd/buildctl/build/secret.go.
    """
    try:
        fields = csv_fields(text)
    except OptionError as exc:
        raise OptionError(f"failed to parse csv secret: {exc}") from exc
    kind = secret_id = path = env = ""
    for item in fields:
        key, equals, value = item.partition("=")
        if not equals:
            raise OptionError(f"invalid field '{item}' must be a key=value pair")
        match key.lower():
            case "type":
                if value not in ("file", "env"):
                    raise OptionError(f'unsupported secret type "{value}"')
                kind = value
            case "id":
                secret_id = value
            case "source" | "src":
                path = value
            case "env":
                env = value
            case other:
                raise OptionError(f"unexpected key '{other}' in '{item}'")
    if kind == "env" and not env:
        env, path = path, ""
    if not secret_id:
        raise OptionError("secret missing ID")
    return SecretSource(secret_id, path, env)


def parse_ssh(text: str) -> SshSource:
    """Read one ``--ssh``: ``default``, ``id=/agent.sock``, ``id=key1,key2`` or ``id=/socket,raw=true``.

    Raises:
        OptionError: It cannot be read.

    Reference: cmd/buildctl/build/ssh.go.
    """
    ssh_id, equals, value = text.partition("=")
    paths: list[str] = []
    raw = False
    for item in value.split(",") if equals else ():
        key, item_equals, setting = item.partition("=")
        if item_equals and key == "raw":
            try:
                raw = parse_bool(setting)
            except ValueError as exc:
                raise OptionError(f"invalid value for 'raw': {setting}: {exc}") from exc
        else:
            paths.append(item)
    if raw and len(paths) != 1:
        raise OptionError(f'raw mode must supply exactly one socket path for "{ssh_id}"')
    return SshSource(ssh_id or "default", tuple(paths), raw)


def secret_from(source: SecretSource, *, environ: Mapping[str, str]) -> options.Secret:
    """Return the secret that a ``--secret`` means.

    With neither a file nor a variable, a variable called like the id wins over a file of that name. A variable that is
    named and not set is an empty secret.

    Raises:
        OptionError: The file is not there or too large, in the reference's words.

    Reference: session/secrets/secretsprovider/store.go.
    """
    variable = source.env or (source.id if not source.file_path and source.id in environ else "")
    if not variable:
        path = Path(source.file_path or source.id)
        try:
            size_bytes = path.stat().st_size
        except OSError as exc:
            raise OptionError(f"failed to stat {path}: stat {path}: {_go_reason(exc)}") from exc
        if size_bytes > _MAX_SECRET_KIB << 10:
            raise OptionError(f"secret {source.id} too big. max size {_MAX_SECRET_KIB}KiB")
        return options.SecretFile(path)
    value = environ.get(variable, "").encode("utf-8", "surrogateescape")
    return options.SecretCallback(lambda: value)


def agent_from(source: SshSource, *, environ: Mapping[str, str]) -> options.SshAgent | options.SshKeys:
    """Return the agent or the keys that a ``--ssh`` means.

    Raises:
        OptionError: No agent is known, a path is not there, or sockets and keys are mixed.

    Reference: session/sshforward/sshprovider/agentprovider.go, NewSSHAgentProvider.
    """
    doing = f"failed to convert agent config {{{source.id} [{' '.join(source.paths)}] {str(source.raw).lower()}}}"
    paths = [Path(path) for path in source.paths if path]
    if not paths and not environ.get("SSH_AUTH_SOCK"):
        raise OptionError(f"{doing}: invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
    doing += f": failed to convert agent config for ID: {json.dumps(source.id)}"
    from buildkit_client.session.ssh import ssh_source  # noqa: PLC0415 - few builds need it

    try:
        return ssh_source(paths or [Path(environ["SSH_AUTH_SOCK"])], raw=source.raw)
    except OptionError as exc:
        raise OptionError(f"{doing}: {exc}", why=exc.why, hint=exc.hint) from exc
    except SshAgentError as exc:
        reason = exc.__cause__
        text = f"stat {reason.filename}: {_go_reason(reason)}" if isinstance(reason, OSError) else str(exc)
        raise OptionError(f"{doing}: {text}", hint=exc.hint) from exc


def parse_tls_contexts(items: Sequence[str]) -> dict[str, HostSecurity]:
    """Read every ``--registry-auth-tlscontext``, for example ``host=example.com,ca=ca.pem``; those of a host add up.

    Raises:
        OptionError: One cannot be read.

    Reference: cmd/buildctl/build/registryauthtlscontext.go.
    """
    flag = "--registry-auth-tlscontext"
    found: dict[str, HostSecurity] = {}
    for item in items:
        values = {"host": "", "ca": "", "cert": "", "key": "", "insecure": ""}
        for field_text in csv_fields(item):
            name, equals, value = field_text.partition("=")
            if not equals:
                raise OptionError(f"invalid value {field_text}")
            values[name.lower()] = value
        try:
            insecure = parse_bool(values["insecure"])
        except ValueError:
            insecure = False
        if not values["host"]:
            raise OptionError(f"{flag} requires host=<host>")
        has_pair = bool(values["cert"] and values["key"])
        if not values["ca"] and not insecure and not has_pair:
            raise OptionError(f"{flag} requires ca=<ca> or cert=<cert>,key=<key> or insecure=true")
        if values["ca"] and bool(values["cert"]) != bool(values["key"]):
            raise OptionError(f"{flag} requires cert=<cert>,key=<key>")
        from buildkit_client.oci.token import HostSecurity  # noqa: PLC0415 - few builds need it

        one = HostSecurity(
            ca_path=Path(values["ca"]) if values["ca"] else None,
            cert_path=Path(values["cert"]) if has_pair else None,
            key_path=Path(values["key"]) if has_pair else None,
            insecure=insecure,
        )
        host = values["host"]
        found[host] = found[host].merged(one) if host in found else one
    return found


def parse_allow(text: str) -> str:
    """Check one ``--allow``: ``network.host``, ``security.insecure``, ``device`` or ``device=<name>[,alias=<name>]``.

    Returns:
        The text as it was.

    Raises:
        OptionError: It is none of them.

    Reference: util/entitlements/entitlements.go, Parse.
    """
    name, equals, value = text.partition("=")
    if name not in _ENTITLEMENTS or (equals and name != "device"):
        raise OptionError(f"unknown entitlement {text}")
    if value:
        for item in csv_fields(value)[1:]:
            key, item_equals, _ = item.partition("=")
            if not item_equals:
                raise OptionError(f'invalid device config "{item}"')
            if key != "alias":
                raise OptionError(f'unknown device config key "{key}"')
    return text
