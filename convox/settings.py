"""Where convox finds what nobody said on the command line: the environment, the config folder, ``.convox/`` files.

The only module that reads the environment. A :class:`Settings` is made once per run from the environment, the current
folder and the flags; everything else gets its values from there. Nothing is read from disk until it is asked for, so
that ``convox version`` works whatever the state of the files.

Reference: convox/convox pkg/rack/rack.go, Current and currentRack; pkg/cli/helpers.go, app; convox/stdcli setting.go.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from convox.errors import RackError, UsageError
from convox.regular_files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL_RACK = "local"
"""The rack that is there when none was made."""

_MAX_SETTING_BYTES = 16 * 1024
_APP_NAME = re.compile(r"[a-z][a-z0-9-]*")
_MAX_APP_NAME = 63
_RESERVED_APP_NAMES = frozenset({"rack", "system"})


class RackChoice(NamedTuple):
    """Which rack a command is for.

    Attributes:
        name: A name, or part of one when ``is_exact`` is false.
        source: Where it was found, in words: ``-r``, ``CONVOX_RACK``, a file's path; empty for the implicit ``local``.
        is_exact: Whether the name was written by ``convox switch``, so that no part of a name is meant.
    """

    name: str
    source: str
    is_exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run's surroundings.

    Attributes:
        cwd: The current folder.
        config_path: Folder of racks and settings; may not exist yet.
        docker_config_path: Docker's ``config.json``; may not exist.
        buildkit_host: Address of a buildkitd from ``BUILDKIT_HOST``, or empty.
        runtime_path: ``XDG_RUNTIME_DIR``, None when unset.
        cache_path: Folder for what can be made again; may not exist yet.
        source_date_epoch: ``SOURCE_DATE_EPOCH`` as given, or empty.
        is_color_allowed: False with ``NO_COLOR`` set, or a terminal that is called dumb.
        is_ci: Whether this runs in a continuous-integration job.
        is_debug: Whether ``CONVOX_DEBUG`` asks for details.
        rack_flag: Value of ``-r``, or empty.
        app_flag: Value of ``-a``, or empty.
        environ: The whole environment, for programs that are started and for build arguments given by name only.
    """

    cwd: Path
    config_path: Path
    docker_config_path: Path
    cache_path: Path
    buildkit_host: str = ""
    runtime_path: Path | None = None
    source_date_epoch: str = ""
    is_color_allowed: bool = True
    is_ci: bool = False
    is_debug: bool = False
    rack_flag: str = ""
    app_flag: str = ""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        rack: str | None = None,
        app: str | None = None,
    ) -> Settings:
        """Collect the settings of this run.

        Args:
            environ: Environment variables; this process's own by default.
            cwd: The current folder; this process's own by default.
            rack: Value of ``-r``.
            app: Value of ``-a``.

        Raises:
            UsageError: The current folder is gone, or no home folder can be found.
        """
        environ = dict(os.environ if environ is None else environ)
        if cwd is None:
            try:
                cwd = Path.cwd()
            except OSError as exc:
                raise UsageError("the current folder does not exist", hint="change to another folder") from exc
        config = environ.get("CONVOX_CONFIG")
        docker = environ.get("DOCKER_CONFIG")
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        return cls(
            cwd=cwd,
            config_path=cwd / config if config else _xdg_path(environ, "XDG_CONFIG_HOME", ".config") / "convox",
            docker_config_path=(cwd / docker if docker else _home(environ) / ".docker") / "config.json",
            cache_path=_xdg_path(environ, "XDG_CACHE_HOME", ".cache") / "convox",
            buildkit_host=environ.get("BUILDKIT_HOST", "").strip(),
            runtime_path=Path(runtime) if Path(runtime).is_absolute() else None,
            source_date_epoch=environ.get("SOURCE_DATE_EPOCH", ""),
            is_color_allowed=not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
            is_ci=environ.get("CI", "").lower() not in ("", "0", "false"),
            is_debug=environ.get("CONVOX_DEBUG", "").lower() not in ("", "0", "false"),
            rack_flag=rack or "",
            app_flag=app or "",
            environ=environ,
        )

    def rack_choice(self) -> RackChoice:
        """Find out which rack is meant.

        The first that is set: ``-r``, ``CONVOX_RACK``, the file ``.convox/rack`` here, the setting ``rack``, the one
        that ``convox switch`` wrote; else ``local``.

        Raises:
            RackError: ``RACK_URL`` is set, which asks for a rack on another machine; or a file cannot be read.
        """
        if self.environ.get("RACK_URL", "").strip():
            # The value has a password in it, so it is not shown.
            raise RackError(
                "RACK_URL is set, and this convox builds by itself: it does not talk to racks on other machines",
                hint="unset RACK_URL",
            )
        if self.rack_flag:
            return RackChoice(name=self.rack_flag, source="-r")
        if name := self.environ.get("CONVOX_RACK"):
            return RackChoice(name=name, source="CONVOX_RACK")
        for path in (self.cwd / ".convox" / "rack", self.config_path / "rack"):
            if name := _read_setting(path):
                return RackChoice(name=name, source=str(path))
        path = self.config_path / "current"
        if text := _read_setting(path):
            return RackChoice(name=_current_name(text, path), source=str(path), is_exact=True)
        return RackChoice(name=LOCAL_RACK, source="", is_exact=True)

    def app_name(self) -> str:
        """Find out which app is meant: ``-a``, the file ``.convox/app`` here, else the name of the current folder.

        Only the current folder counts, also for ``convox build DIR``.

        Raises:
            UsageError: The name is not one that an app can have.
            RackError: ``.convox/app`` cannot be read.
        """
        source = "-a"
        name = self.app_flag
        if not name:
            path = self.cwd / ".convox" / "app"
            name, source = _read_setting(path), str(path)
        if not name:
            name, source = self.cwd.name, "the name of the current folder"
        check_app_name(name, source)
        return name


def quieten_libraries() -> None:
    """Keep the gRPC library from printing what it finds odd about a connection: our errors say it once, in words.

    It reads this variable when it is imported, and has no other way to be told.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def check_app_name(name: str, source: str = "") -> None:
    """Refuse a name that cannot be part of a repository, a folder and a record.

    Args:
        name: The name.
        source: Where it comes from, for the error text.

    Raises:
        UsageError: It is not an app's name.
    """
    why = f"it is {source}" if source.startswith("the ") else f"it comes from {source}" if source else ""
    if name in _RESERVED_APP_NAMES:
        raise UsageError("app name is reserved", why=why, hint="choose another with -a NAME")
    if not _APP_NAME.fullmatch(name):
        raise UsageError(
            f"app name {name} invalid, must contain only lowercase alphanumeric and dashes",
            why=why,
            hint="choose one with -a NAME, or write it into .convox/app",
        )
    if len(name) > _MAX_APP_NAME:
        raise UsageError(f"app name {name} is too long", why=f"{why}; at most {_MAX_APP_NAME} characters".lstrip("; "))


def _home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("HOME"):
        return Path(home)
    import pwd  # noqa: PLC0415  # only for a process without HOME

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise UsageError(
            "there is no home folder", why="HOME is not set and the user has no entry", hint="set HOME"
        ) from None


def _xdg_path(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """Return a base folder of the XDG specification, which says that a relative value does not count."""
    path = Path(environ.get(variable, ""))
    return path if path.is_absolute() else _home(environ) / default


def _read_setting(path: Path) -> str:
    """Return a small text file without the space around it; empty when there is none."""
    try:
        return read_regular_file(path, limit_bytes=_MAX_SETTING_BYTES).decode().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as exc:
        raise RackError(f"cannot read {path}", why=exc.strerror or str(exc)) from exc
    except UnicodeDecodeError:
        raise RackError(f"cannot read {path}", why="it is not UTF-8", hint="delete or correct it") from None


def _current_name(text: str, path: Path) -> str:
    """Return the name in the file that ``convox switch`` writes."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    name = record.get("name") if isinstance(record, dict) else None
    if not isinstance(name, str) or not name:
        raise RackError(
            f"cannot read {path}", why='it is not JSON with a "name"', hint="choose a rack with convox switch NAME"
        )
    return name
