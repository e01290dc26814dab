"""convox.yml to a Manifest: values put in for ``${NAME}``, defaults, environments joined, everything checked.

The steps and their order are Convox's: values go into the text before it is parsed as YAML, each service gets the
file's environment in front of its own, a name that is declared without a value must have one, and only then come the
checks of :mod:`convox.manifest_validate`. Only what a build needs is kept; every other key is read past, as Convox
does. What is stricter than there: a key given twice is an error, and so is a file without services.

Reference: convox/convox pkg/manifest/manifest.go, yaml.go and helpers.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.errors import ManifestError
from convox.manifest_validate import validate
from convox.manifest_yaml import YamlEntry, YamlList, YamlMap, YamlNode, YamlScalar, parse_yaml
from convox.regular_files import FileTooLargeError, read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

DEFAULT_NAME = "convox.yml"
MAX_SIZE_BYTES = 1024 * 1024
"""Size of the largest file that is read."""

MAX_FILLED_SIZE = 4 * 1024 * 1024
"""Characters of the text once values are put in: a file may name one long value many times."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what YAML 1.1 counts as one


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """How a service's image is built.

    Attributes:
        path: Folder of the build context, relative to the app's folder; ``.`` by default.
        manifest: Dockerfile, relative to ``path``.
        args: Build arguments, ``NAME=value`` or ``NAME``, in file order.
        line: Line of the ``build`` key in the file, or of the service when it has none.
    """

    path: str = "."
    manifest: str = "Dockerfile"
    args: tuple[str, ...] = field(default=(), repr=False)
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of an app.

    Attributes:
        name: As written; lower-case letters, digits and dashes.
        build: How to build it; None when ``image`` is set.
        image: An image reference, or empty.
        environment: ``NAME``, ``NAME=default`` or ``*``: the file's list, then the service's own.
        line: Line of its name in the file, from 1.
        image_line: Line of its ``image`` key, or of its name when it has none.
    """

    name: str
    build: BuildSpec | None
    image: str = ""
    environment: tuple[str, ...] = field(default=(), repr=False)
    line: int = 0
    image_line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A convox.yml, read and checked.

    Attributes:
        services: In file order, at least one.
        environment: The file's own environment list.
        text: The file as written, without values put in; this is what a build record keeps.
        path: Where it was read from, None when it came as text.
        name: What messages call it, for example ``convox.yml``.
        variables: The names that stand in ``${...}`` anywhere in the file.
        warnings: What is allowed and probably not meant; one line each.
    """

    services: tuple[Service, ...]
    environment: tuple[str, ...] = field(default=(), repr=False)
    text: str = field(default="", repr=False)
    path: Path | None = None
    name: str = DEFAULT_NAME
    variables: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    def declares(self, variable: str) -> bool:
        """Say whether the file names a variable, in ``${...}`` or in an environment list."""
        return variable in self.variables or any(
            item.partition("=")[0] == variable for service in self.services for item in service.environment
        )


def load_manifest(path: Path, env: Mapping[str, str], *, name: str | None = None) -> Manifest:
    """Read a manifest file.

    Args:
        path: The file.
        env: The app's environment together with the build arguments given by the caller.
        name: What messages call the file; its last part by default.

    Returns:
        The manifest, checked.

    Raises:
        ManifestError: The file is missing, cannot be read, is too large, is not UTF-8, is not YAML, or says something
            that is not allowed.
    """
    name = path.name if name is None else name
    data = _read(path, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise ManifestError(
            f"{name}:{line}: not UTF-8",
            why="the file is UTF-16" if wide else f"byte {exc.start} is {data[exc.start]:#04x}",
            hint="save the file as UTF-8",
        ) from None
    return _build_manifest(text, env, name=name, path=path)


def parse_manifest(text: str, env: Mapping[str, str], *, name: str = DEFAULT_NAME) -> Manifest:
    """Read a manifest that is already text, for example one kept in a build record.

    Args:
        text: The manifest.
        env: As for :func:`load_manifest`.
        name: What messages call it.

    Returns:
        The manifest, checked.

    Raises:
        ManifestError: The text is too large, is not YAML, or says something that is not allowed.
    """
    if len(text) > MAX_SIZE_BYTES:
        raise _too_large(name)
    return _build_manifest(text, env, name=name, path=None)


def service_names(text: str, env: Mapping[str, str], *, name: str = DEFAULT_NAME) -> tuple[str, ...]:
    """Return the names of a manifest's services; nothing else in it is checked, and no value is required.

    Args:
        text: The manifest.
        env: As for :func:`load_manifest`.
        name: What messages call it.

    Returns:
        In file order; empty for a manifest without services.

    Raises:
        ManifestError: The text is too large, or is not YAML with a mapping of services.
    """
    if len(text) > MAX_SIZE_BYTES:
        raise _too_large(name)
    reader = _Reader(name)
    root = reader.root(_parse_filled(text, env, name))
    return tuple(entry.key.value for entry in reader.service_entries(root))


def interpolate(text: str, env: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
    """Put values in for ``${NAME}``; an unknown name becomes empty, a ``}`` ends every name.

    Args:
        text: The file as written.
        env: Values by name; they go in as they are, without quoting for YAML.

    Returns:
        The text with values, and for each of its lines the line in the file, from 1. The two differ when a value has
        more than one line, or a name does.

    Raises:
        ManifestError: The text would grow past :data:`MAX_FILLED_SIZE`.

    Reference: convox/convox pkg/manifest/helpers.go, interpolate.
    """
    grown = len(text) + sum(len(env.get(name, "")) for _, _, name in _references(text))
    if grown > MAX_FILLED_SIZE:
        raise ManifestError(
            "the manifest is too large once values are put in", why=f"more than {MAX_FILLED_SIZE // 1024} KiB"
        )
    pieces: list[str] = []
    lines = [1]
    line = 1

    def copy(piece: str) -> None:
        nonlocal line
        pieces.append(piece)
        for _ in _LINE_BREAK.finditer(piece):
            line += 1
            lines.append(line)

    done = 0
    for start, end, name in _references(text):
        copy(text[done:start])
        value = env.get(name, "")
        pieces.append(value)
        lines.extend([line] * len(_LINE_BREAK.findall(value)))
        line += len(_LINE_BREAK.findall(name))
        done = end
    copy(text[done:])
    return "".join(pieces), tuple(lines)


def _references(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and name of each ``${NAME}``; in one pass, where a regular expression would need many."""
    at = 0
    while (start := text.find("${", at)) >= 0 and (end := text.find("}", start)) >= 0:
        at = end + 1
        yield start, at, text[start + 2 : end]


def missing_environment(environment: Iterable[str], env: Mapping[str, str]) -> list[str]:
    """Return the names that an environment list requires and that have no value, sorted.

    Args:
        environment: ``NAME`` (required), ``NAME=default`` or ``*`` (whatever there is).
        env: Values by name.

    Reference: convox/convox pkg/manifest/manifest.go, ServiceEnvironment.
    """
    return sorted({item for item in environment if "=" not in item and item != "*" and item not in env})


def _read(path: Path, name: str) -> bytes:
    try:
        return read_regular_file(path, limit_bytes=MAX_SIZE_BYTES)
    except FileNotFoundError:
        raise ManifestError(
            f"no such file: {name}", why=f"{path.parent} has none", hint=_other_manifests(path)
        ) from None
    except FileTooLargeError:
        raise _too_large(name) from None
    except OSError as exc:
        raise ManifestError(f"cannot read {name}", why=exc.strerror or str(exc)) from exc


def _too_large(name: str) -> ManifestError:
    return ManifestError(f"{name} is too large", why=f"a manifest has at most {MAX_SIZE_BYTES // 1024} KiB")


def _other_manifests(path: Path) -> str:
    """Return a hint that names what might have been meant."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if re.search(r"convox.*\.ya?ml$", entry.name))
    except OSError:
        return f"name a folder that has a {DEFAULT_NAME}"
    if names:
        return f"name it with -m; there is {', '.join(names[:5])}"
    return f"run this in the app's folder, or write a {DEFAULT_NAME} with a services: section"


def _parse_filled(text: str, env: Mapping[str, str], name: str) -> YamlNode | None:
    """Return the tree of a manifest, values put in."""
    filled, lines = interpolate(text, env)
    try:
        filled.encode()
    except UnicodeEncodeError:
        raise ManifestError(
            f"{name}: a value that is put in for ${{NAME}} is not UTF-8", hint="check the app's environment"
        ) from None
    return parse_yaml(filled, name=name, source=text, lines=lines)


def _build_manifest(text: str, env: Mapping[str, str], *, name: str, path: Path | None) -> Manifest:
    reader = _Reader(name)
    root = reader.root(_parse_filled(text, env, name))
    environment = reader.environment(root.get("environment"))
    services = tuple(reader.services(root, environment))
    _check_environment(name, services, reader.declared_at, env)
    if problems := validate(root):
        listed = "\n".join(f"{name}:{line}: {problem}" for line, problem in problems)
        raise ManifestError(f"validation errors:\n{listed}")
    if not services:
        raise ManifestError(f"{name} has no services", hint=_no_services_hint(root))
    return Manifest(
        services=services,
        environment=environment,
        text=text,
        path=path,
        name=name,
        variables=frozenset(name for _, _, name in _references(text)),
        warnings=tuple(reader.warnings),
    )


def _no_services_hint(root: YamlMap) -> str:
    """Point at a key that may have been meant to be ``services``."""
    for entry in root.entries:
        if entry.key.value != "services" and entry.key.value.lower().startswith("service"):
            return f'line {entry.key.line} has "{entry.key.value}"; the key is "services"'
    return "a services: section names what is built, for example: services: {web: {build: .}}"


def _check_environment(
    name: str, services: Iterable[Service], declared_at: Mapping[str, int], env: Mapping[str, str]
) -> None:
    """Raise for the first service that requires a value nobody gave, as Convox does, and tell of the others."""
    failing = [(service, missing) for service in services if (missing := missing_environment(service.environment, env))]
    if not failing:
        return
    first = failing[0][1]
    where = ", ".join(f"{key} at {name}:{declared_at[key]}" for key in first)
    others = sorted({key for _, missing in failing for key in missing} - set(first))
    also = f"; other services also require {', '.join(others)}" if others else ""
    raise ManifestError(
        f"required env: {', '.join(first)}",
        why=f"service {failing[0][0].name} declares without a value: {where}{also}",
        hint=f"give a value with convox env set {first[0]}=VALUE, or a default in {name}: {first[0]}=default; "
        f"convox build also takes --build-args {first[0]}=VALUE",
    )


class _Reader:
    """Turns nodes into values of the manifest; every error names the file and the line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.declared_at: dict[str, int] = {}
        self.warnings: list[str] = []

    def _error(self, line: int, what: str, hint: str = "") -> ManifestError:
        return ManifestError(f"{self._name}:{line}: {what}", hint=hint)

    def root(self, node: YamlNode | None) -> YamlMap:
        if node is None or (isinstance(node, YamlScalar) and node.kind == "null"):
            return YamlMap((), 1)
        if not isinstance(node, YamlMap):
            raise self._error(node.line, f"a manifest must be a mapping with a key services, not {node.in_words}")
        return node

    def environment(self, node: YamlNode | None) -> tuple[str, ...]:
        """Return an environment list: texts, and the texts of lists inside it; other values are passed over."""
        if node is None:
            return ()
        if not isinstance(node, YamlList):
            raise self._error(node.line, f"unknown type for service environment: {node.go_type}")
        found: list[str] = []
        for item in node.items:
            for part in item.items if isinstance(item, YamlList) else (item,):
                if isinstance(part, YamlScalar) and part.kind == "str":
                    found.append(part.value)
                    self.declared_at.setdefault(part.value, part.line)
        return tuple(found)

    def service_entries(self, root: YamlMap) -> tuple[YamlEntry, ...]:
        node = root.get("services")
        if node is None:
            return ()
        if not isinstance(node, YamlMap):
            raise self._error(node.line, f"services must be a mapping of names, not {node.in_words}")
        return node.entries

    def services(self, root: YamlMap, environment: tuple[str, ...]) -> Iterator[Service]:
        for entry in self.service_entries(root):
            if entry.key.kind not in ("str", "int"):
                raise self._error(entry.key.line, f"unknown key type: {entry.key.go_type}", hint="put it in quotes")
            yield self._service(entry, environment)

    def _service(self, entry: YamlEntry, environment: tuple[str, ...]) -> Service:
        name, line = entry.key.value, entry.key.line
        body = entry.value
        if isinstance(body, YamlScalar) and body.kind == "null":
            body = YamlMap((), line)
        if not isinstance(body, YamlMap):
            raise self._error(body.line, f"service {name} must be a mapping, not {body.in_words}")
        build = self._build(name, body.entry("build"), line)
        image = self._text(body, "image", f"service {name}: image")
        image_key = next((item.key for item in body.entries if item.key.value == "image"), None)
        image_line = line if image_key is None else image_key.line
        if image_key is not None and not image and body.entry("build") is None:
            self.warnings.append(
                f"{self._name}:{image_line}: service {name} has an empty image, so it is built from {build.path}"
            )
        return Service(
            name=name,
            build=None if image else build,
            image=image,
            environment=(*environment, *self.environment(body.get("environment"))),
            line=line,
            image_line=image_line,
        )

    def _build(self, service: str, entry: YamlEntry | None, line: int) -> BuildSpec:
        """Return what ``build`` says: a path, a mapping, or nothing for the defaults."""
        if entry is None:
            return BuildSpec(line=line)
        node, line = entry.value, entry.key.line
        if isinstance(node, YamlScalar) and node.kind == "str":
            return BuildSpec(path=node.value or ".", line=line)
        if not isinstance(node, YamlMap):
            raise self._error(line, f"unknown type for service build: {node.go_type}")
        label = f"service {service}: build"
        return BuildSpec(
            path=self._text(node, "path", f"{label}.path") or ".",
            manifest=self._text(node, "manifest", f"{label}.manifest") or "Dockerfile",
            args=self._args(node.get("args"), f"{label}.args"),
            line=line,
        )

    def _args(self, node: YamlNode | None, label: str) -> tuple[str, ...]:
        if node is None:
            return ()
        if not isinstance(node, YamlList):
            raise self._error(
                node.line, f"{label} must be a list, not {node.in_words}", hint="write each as - NAME=value"
            )
        found: list[str] = []
        for item in node.items:
            if not isinstance(item, YamlScalar):
                raise self._error(
                    item.line, f"{label} has an item that is {item.in_words}", hint="write each as - NAME=value"
                )
            if item.kind != "null":
                found.append(item.value)
        return tuple(found)

    def _text(self, parent: YamlMap, key: str, label: str) -> str:
        """Return the text of a key; a number or boolean counts as the text it is written with, as in yaml.v2."""
        node = parent.get(key)
        if node is None:
            return ""
        if not isinstance(node, YamlScalar):
            raise self._error(node.line, f"{label} must be a string, not {node.in_words}")
        return node.value
