"""Racks: named sets of parameters, each a folder with its records, logs and images.

``<config>/racks/<name>/params.json`` makes a folder a rack; folders without one belong to something else and are not
looked at. A rack called ``local`` is always there, and its folder is made when it is first used. Names are only ever
compared with the list of racks and never made into a path, so that no name leads anywhere else.

Reference: convox/convox pkg/rack/rack.go, List, Match, Switch and Current; pkg/cli/helpers.go, checkRackNameRegex.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import secrets
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convox.errors import RackError
from convox.private_files import locked_folder, make_private_folder, read_private_file, write_private_file
from convox.rack_params import DEFAULT_PROVIDER, default_of
from convox.settings import LOCAL_RACK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from buildkit_client.oci import HttpOptions
    from convox.settings import Settings

MAX_NAME = 26
LOCAL_REGISTRY = "localhost"
"""Stands for the registry in the names of images that are in no registry."""

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_ELSEWHERE = "name a folder that you can write to with CONVOX_CONFIG"
_HINTS = {
    errno.EACCES: _ELSEWHERE,
    errno.EDQUOT: "free some space on that disk",
    errno.ENOSPC: "free some space on that disk",
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
}
_MAX_PARAMS_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """One rack.

    Attributes:
        name: Its name.
        path: Its folder; that of ``local`` may not exist yet.
        params: What is set, by name, never empty; may hold passwords.
        environ: The environment of the command that is run for it; names the proxies.
    """

    name: str
    path: Path
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def param(self, name: str) -> str:
        """Return a parameter's value, its default when it is not set, empty when it has none."""
        return self.params.get(name) or default_of(name, self.params.get("provider") or DEFAULT_PROVIDER)

    @property
    def provider(self) -> str:
        """Whose parameters it accepts, for example ``local`` or ``aws``."""
        return self.param("provider")

    @property
    def status(self) -> str:
        """What ``convox racks`` shows: a rack here is always running."""
        return "running"

    @property
    def builders(self) -> tuple[str, ...]:
        """Addresses of buildkitd in the order they are tried; empty when none is set."""
        return tuple(part for part in self.param("builder").split(",") if part)

    @property
    def registry_host(self) -> str:
        """Host of the registry, with port where it has one; empty without a registry."""
        return self.param("registry").split("/", 1)[0]

    @property
    def store_url(self) -> str:
        """Database URL of the records; may hold a password."""
        if url := self.param("store"):
            return url
        from urllib.parse import quote  # noqa: PLC0415  # not needed by every command

        return f"sqlite://{quote(str(self.path.absolute() / 'store.db'))}"

    @property
    def logs_path(self) -> Path:
        """Folder of build logs; may not exist yet."""
        return self.path / "logs"

    @property
    def images_path(self) -> Path:
        """OCI image layout of a rack without a registry; may not exist yet."""
        return self.path / "images"

    @property
    def transfers_path(self) -> Path:
        """Folder for what imports and exports keep for a while; may not exist yet."""
        return self.path / "transfers"

    def registry_http(self) -> HttpOptions:
        """Return how registries, and what gives tokens for them, are reached from here: by which proxies."""
        from buildkit_client.oci import HttpOptions  # noqa: PLC0415 (not needed by every command)

        return HttpOptions.from_environ(self.environ)

    def repository(self, app: str) -> str:
        """Return where an app's images go, without a tag: ``<registry>/<app>``.

        Without a registry the name begins with ``localhost``, as other tools have it for images that are in none.

        Args:
            app: The app's name.
        """
        return f"{self.param('registry') or LOCAL_REGISTRY}/{app}"


def check_rack_name(name: str) -> None:
    """Refuse what is not a rack's name.

    Raises:
        RackError: It is too long, or has other characters than lower-case letters, digits and dashes.
    """
    if len(name) > MAX_NAME:
        raise RackError(f"rack name must be {MAX_NAME} characters or fewer")
    if not _NAME.fullmatch(name):
        raise RackError(
            "rack name must start with a lowercase letter and contain only lowercase alphanumeric characters "
            "and hyphens"
        )


def list_racks(config_path: Path) -> list[Rack]:
    """Return all racks, sorted by name; ``local`` is among them whether or not its folder was made.

    Args:
        config_path: The config folder; may not exist.

    Raises:
        RackError: The folder, or the parameters of a rack, cannot be read.
    """
    folder = _racks_path(config_path)
    try:
        found = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name) and not entry.is_symlink()]
    except FileNotFoundError:
        found = []
    except OSError as exc:
        raise RackError(f"cannot list racks in {folder}", why=exc.strerror or str(exc)) from exc
    racks = {
        path.name: Rack(name=path.name, path=path, params=params)
        for path in found
        if (params := _read_params(path)) is not None
    }
    racks.setdefault(LOCAL_RACK, Rack(name=LOCAL_RACK, path=folder / LOCAL_RACK))
    return [racks[name] for name in sorted(racks)]


def get_rack(config_path: Path, name: str, *, is_exact: bool = False) -> Rack:
    """Find a rack by its name, or by a part of it that no other rack has; makes the folder of ``local``.

    Args:
        config_path: The config folder.
        name: The name or a part of it.
        is_exact: Let only the whole name count.

    Raises:
        RackError: No rack fits, or several do; or the folder cannot be read or made.

    Reference: convox/convox pkg/rack/rack.go, Match.
    """
    racks = list_racks(config_path)
    matches = [rack for rack in racks if rack.name == name]
    if not matches and not is_exact and name:
        matches = [rack for rack in racks if name in rack.name]
    if not matches:
        names = ", ".join(rack.name for rack in racks)
        raise RackError(f"could not find rack: {name}", hint=f"there is {names}; convox racks lists them")
    if len(matches) > 1:
        names = ", ".join(rack.name for rack in matches)
        raise RackError(f"ambiguous rack name: {name}", why=f"it is part of {names}")
    rack = matches[0]
    if rack.name == LOCAL_RACK and not (rack.path / "params.json").exists():
        _make(rack)
    return rack


def current_rack(settings: Settings) -> Rack:
    """Return the rack that a command is for.

    Raises:
        RackError: It is not there, or is on another machine; or a file cannot be read.
    """
    choice = settings.rack_choice()
    try:
        rack = get_rack(settings.config_path, choice.name, is_exact=choice.is_exact)
        return replace(rack, environ=settings.environ)
    except RackError as exc:
        if choice.source and not exc.why:
            exc.why = f"the name comes from {choice.source}"
        raise


def create_rack(config_path: Path, name: str, params: Mapping[str, str] | None = None) -> Rack:
    """Make a rack.

    Args:
        config_path: The config folder; made when missing.
        name: Its name.
        params: Checked parameters; empty values are left out.

    Raises:
        RackError: The name is not allowed or taken, or the folder cannot be made.
    """
    check_rack_name(name)
    rack = Rack(
        name=name,
        path=_racks_path(config_path) / name,
        params={key: value for key, value in (params or {}).items() if value},
    )
    if not _make(rack):
        raise RackError(f"rack {name} already exists", hint="choose another name")
    return rack


def remove_rack(config_path: Path, name: str) -> None:
    """Take a rack away: its parameters, logins, logs and images, and its records where they lie in its folder.

    The choice of ``convox switch`` is taken back where it is this rack. Images in a registry, and records in a database
    elsewhere, stay.

    Args:
        config_path: The config folder.
        name: The whole name.

    Raises:
        RackError: There is no such rack, or it cannot be removed.
    """
    rack = get_rack(config_path, name, is_exact=True)
    with _failing(f"cannot uninstall rack {name}"):
        # First out of sight, as a whole: what is half removed is no rack.
        hidden = rack.path.with_name(f".{name}.{secrets.token_hex(8)}")
        rack.path.rename(hidden)
        chosen = config_path / "current"
        data = read_private_file(chosen, limit_bytes=_MAX_PARAMS_BYTES)
        with contextlib.suppress(ValueError, LookupError, TypeError):
            if data is not None and json.loads(data)["name"] == name:
                chosen.unlink()
        shutil.rmtree(hidden)


def update_params(rack: Rack, changes: Mapping[str, str]) -> Rack:
    """Set and clear parameters of a rack.

    What another process set in the meantime is kept.

    Args:
        rack: The rack.
        changes: Checked values by name; an empty one clears the parameter.

    Returns:
        The rack with its parameters as they are now.

    Raises:
        RackError: They cannot be read or written.
    """
    with _failing(f"cannot change rack {rack.name}"):
        make_private_folder(rack.path.parent)
        make_private_folder(rack.path)
        with locked_folder(rack.path):
            params = dict(_read_params(rack.path) or {}) | dict(changes)
            changed = Rack(
                name=rack.name, path=rack.path, params={name: value for name, value in params.items() if value}
            )
            _write_params(changed)
    return changed


def switch_rack(config_path: Path, name: str) -> Rack:
    """Make a rack the current one.

    Args:
        config_path: The config folder.
        name: As for :func:`get_rack`.

    Raises:
        RackError: No rack fits, or several do; or the choice cannot be written.
    """
    rack = get_rack(config_path, name)
    with _failing(f"cannot switch to rack {rack.name}"):
        make_private_folder(config_path.resolve())
        write_private_file(config_path / "current", json.dumps({"name": rack.name, "type": "local"}).encode())
    return rack


def _racks_path(config_path: Path) -> Path:
    return config_path / "racks"


def _make(rack: Rack) -> bool:
    """Make a rack's folder with its parameters; False when it is a rack already."""
    with _failing(f"cannot make rack {rack.name}"):
        make_private_folder(rack.path.parent)
        make_private_folder(rack.path)
        with locked_folder(rack.path):
            if _read_params(rack.path) is not None:
                return False
            _write_params(rack)
    return True


def _write_params(rack: Rack) -> None:
    text = json.dumps(dict(sorted(rack.params.items())), indent=2)
    write_private_file(rack.path / "params.json", f"{text}\n".encode())


def _read_params(path: Path) -> dict[str, str] | None:
    """Return the parameters of the rack in a folder, None when it is not one."""
    file = path / "params.json"
    try:
        data = read_private_file(file, limit_bytes=_MAX_PARAMS_BYTES)
    except NotADirectoryError:
        return None
    except OSError as exc:
        raise RackError(f"cannot read {file}", why=exc.strerror or str(exc)) from exc
    if data is None:
        return None
    try:
        params = json.loads(data)
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict) or not all(isinstance(value, str) for value in params.values()):
        raise RackError(
            f"cannot read {file}", why="it is not a JSON object of texts", hint="correct it, or delete it to start anew"
        )
    return {name: value for name, value in params.items() if value}


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn an error of the file system into one that says what was being done."""
    try:
        yield
    except OSError as exc:
        where = f": {exc.filename}" if exc.filename else ""
        raise RackError(what, why=f"{exc.strerror or exc}{where}", hint=_HINTS.get(exc.errno or 0, "")) from exc
