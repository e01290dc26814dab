"""What a shell can propose for a value: names that are on this machine.

Nothing here asks a builder, a registry or a server. A value is proposed only where every shell takes it as it stands,
without quotes: whatever a record or a file has got as a name, it cannot become a command on somebody's line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from convox.rack import Rack
    from convox.settings import Settings

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+=/%-]*")
_MOST_DESCRIBED = 70

Row = tuple[str, str]
"""A word and what it is; the latter may be empty."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """What could stand at the cursor.

    Attributes:
        rows: Words with their descriptions, best first.
        kind: ``words``; ``open`` for words that go on behind the cursor, such as ``NAME=``; ``files`` or ``folders``
            where the shell itself proposes paths.
    """

    rows: Sequence[Row] = ()
    kind: Literal["words", "open", "files", "folders"] = "words"

    def starting_with(self, text: str) -> Proposals:
        """Return those that begin with what was typed, with descriptions that fit on a line."""
        return Proposals([(word, _one_line(about)) for word, about in self.rows if word.startswith(text)], self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedLine:
    """What the line says so far.

    Attributes:
        settings: Of this run, with ``-a`` and ``-r`` of the line.
        path: The words of the command, such as ``("rack", "params", "set")``.
        arguments: Those before the cursor.
        current: The word at the cursor, or the value in it.
    """

    settings: Settings
    path: Sequence[str] = ()
    arguments: Sequence[str] = ()
    current: str = ""

    @property
    def store_url(self) -> str:
        """Where the records are; may hold a password.

        Raises:
            ConvoxError: No rack fits.
        """
        return self.rack.store_url

    @property
    def rack(self) -> Rack:
        """The rack the line is for; unlike for a command, nothing is made where it is not there.

        Raises:
            ConvoxError: No rack fits.
        """
        from convox.errors import RackError  # noqa: PLC0415
        from convox.rack import list_racks  # noqa: PLC0415

        choice = self.settings.rack_choice()
        racks = list_racks(self.settings.config_path)
        named = [rack for rack in racks if rack.name == choice.name]
        parts = [] if choice.is_exact else [rack for rack in racks if choice.name in rack.name]
        found = named or parts
        if len(found) != 1:
            raise RackError("no rack fits")
        return found[0]


def values_of(kind: str, line: TypedLine) -> Proposals:
    """Return what can be proposed for a value.

    Args:
        kind: What the help calls the value: ``build`` for ``<build>``.
        line: The line it is on.

    Raises:
        Exception: It cannot be found out; then there is nothing to propose.
    """
    if kind == "file":
        return Proposals(kind="files")
    if kind == "dir":
        return Proposals(kind="folders")
    if (" ".join(line.path), kind) == ("rack uninstall", "name"):
        kind = "rack"
    if kind in ("Key=Value", "key=value"):
        return _assignments(kind, line)
    find = _KINDS.get(kind)
    return Proposals(_safe(row for row in (find(line) if find else ()) if row[0] not in line.arguments))


def _assignments(kind: str, line: TypedLine) -> Proposals:
    """Return ``NAME=`` for every name, and behind the ``=`` the whole word for every choice there is."""
    if kind == "key=value":
        choices: Mapping[str, tuple[str, Sequence[str]]] = {name: ("", ()) for name, _ in _environment_names(line)}
    elif line.path[0] == "apps":
        from convox.apps import APP_PARAMS, ARCHITECTURES  # noqa: PLC0415

        choices = {name: (doc, ARCHITECTURES if name == "BuildArch" else ()) for name, doc in APP_PARAMS.items()}
    else:
        from convox.rack_params import PARAMS  # noqa: PLC0415

        choices = {
            param.name: (param.doc, ("true", "false") if param.kind == "bool" else param.choices) for param in PARAMS
        }
    name, equals, _ = line.current.partition("=")
    if equals:
        _, values = choices.get(name, ("", ()))
        return Proposals(_safe((f"{name}={value}", "") for value in values))
    return Proposals(_safe((f"{name}=", doc) for name, (doc, _) in choices.items()), kind="open")


def _apps(line: TypedLine) -> Iterable[Row]:
    from convox.store.names import app_names  # noqa: PLC0415

    return [(name, "") for name in app_names(line.store_url)]


def _builds(line: TypedLine) -> Iterable[Row]:
    from convox.store.names import recent_builds  # noqa: PLC0415

    return recent_builds(line.store_url, line.settings.app_name())


def _releases(line: TypedLine) -> Iterable[Row]:
    from convox.store.names import recent_releases  # noqa: PLC0415

    return recent_releases(line.store_url, line.settings.app_name())


def _environment_names(line: TypedLine) -> Iterable[Row]:
    from convox.environment import parse_environment  # noqa: PLC0415
    from convox.store.names import newest_environment  # noqa: PLC0415

    return [(name, "") for name in parse_environment(newest_environment(line.store_url, line.settings.app_name()))]


def _app_params(_: TypedLine) -> Iterable[Row]:
    from convox.apps import APP_PARAMS  # noqa: PLC0415

    return APP_PARAMS.items()


def _racks(line: TypedLine) -> Iterable[Row]:
    from convox.rack import list_racks  # noqa: PLC0415

    return [(rack.name, rack.provider) for rack in list_racks(line.settings.config_path)]


def _registries(line: TypedLine) -> Iterable[Row]:
    from convox.registries import list_registries  # noqa: PLC0415

    return [(registry.server, registry.username) for registry in list_registries(line.rack)]


def _groups(_: TypedLine) -> Iterable[Row]:
    from convox.rack_params import GROUPS  # noqa: PLC0415

    return GROUPS.items()


def _providers(_: TypedLine) -> Iterable[Row]:
    from convox.rack_params import PROVIDERS  # noqa: PLC0415

    return [(name, "") for name in PROVIDERS]


def _words(*words: str) -> Callable[[TypedLine], Iterable[Row]]:
    return lambda _: [(word, "") for word in words]


_KINDS: Mapping[str, Callable[[TypedLine], Iterable[Row]]] = {
    "Key": _app_params,
    "app": _apps,
    "build": _builds,
    "form": _words("convox", "oci"),
    "format": _words("text", "json"),
    "group": _groups,
    "key": _environment_names,
    "kind": _words("gzip", "zstd", "none"),
    "os/arch": _words("linux/amd64", "linux/arm64"),
    "provider": _providers,
    "rack": _racks,
    "release": _releases,
    "server": _registries,
    "shell": _words("bash", "zsh", "fish"),
    "var": _environment_names,
}
"""Who knows the values, by what the help calls them."""


def _safe(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if _SAFE.fullmatch(row[0])]


def _one_line(text: str) -> str:
    """Return a description without line ends, tabs and what a terminal takes for orders."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= _MOST_DESCRIBED else f"{plain[: _MOST_DESCRIBED - 1]}…"
