"""The folders and Dockerfiles that a manifest names, found, checked and never left.

A rack has only what was uploaded, so nothing outside the app's folder can be part of a build; and the builder gets a
service's build path and nothing above it. Both limits are checked here, by name and by where symlinks lead, because the
builder's own error comes late and names neither the service nor the line.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from convox.errors import ManifestError
from convox.regular_files import read_regular_file

if TYPE_CHECKING:
    from pathlib import Path

    from convox.manifest import BuildSpec

MAX_DOCKERFILE_BYTES = 16 * 1024 * 1024
"""What fits into one message to the daemon."""

MAX_IGNORE_BYTES = 1024 * 1024
"""Size of the largest ``.dockerignore`` that is read."""

_IGNORE_FILE = ".dockerignore"
# What Go's strings.TrimSpace takes away; Python's strip() takes a few controls more.
_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_DOCKERFILE_NAME = re.compile(r"(?i)dockerfile([._-].*)?|.*[._-]dockerfile")
_SKIPPED_FOLDERS = frozenset({"node_modules", "vendor", "__pycache__"})
_LOOK_AT_ENTRIES = 2000
_LOOK_AT_DEPTH = 3


def _app_folder(path: Path) -> Path:
    try:
        resolved = path.resolve(strict=True)
    except FileNotFoundError:
        raise ManifestError(f"no such folder: {path}", hint="name the app's folder") from None
    except (OSError, RuntimeError) as exc:
        raise ManifestError(f"cannot use {path}", why=_reason(exc)) from exc
    if not resolved.is_dir():
        raise ManifestError(f"{path} is not a folder", hint="name the folder that has the manifest")
    try:
        _try_to_list(resolved)
    except OSError as exc:
        raise ManifestError(f"cannot use {path}", why=f"the folder cannot be listed: {_reason(exc)}") from exc
    return resolved


def _try_to_list(folder: Path) -> None:
    """Raise OSError when a folder cannot be listed; what its mode says is not all that counts."""
    with os.scandir(folder) as entries:
        next(entries, None)


def _reason(exc: BaseException) -> str:
    """Return an error's text without the path that the message already has."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def _relative(text: str) -> str | None:
    """Return a relative path with its dots resolved, None when it leads outside; ``/x`` is taken for ``x``."""
    path = os.path.normpath(text.lstrip("/") or ".")
    return None if path == ".." or path.startswith("../") or "\0" in path else path


def _ignore_pattern(line: str) -> str:
    """Return a line of an ignore file as a pattern, empty for one without."""
    text = line.strip(_GO_SPACE)
    mark = "!" if text.startswith("!") else ""
    text = text[len(mark) :].strip(_GO_SPACE)
    if text:
        text = os.path.normpath(text)
        text = text[1:] if text.startswith("//") else text  # two slashes are one to Go
        text = text.removeprefix("/") or text
    return mark + text


class AppFolder:
    """An app's folder as one build sees it.

    Args:
        path: The folder; may be relative or a symlink.
        manifest_name: What messages call the manifest, for example ``convox.yml``.

    Attributes:
        path: Absolute, symlinks resolved.

    Raises:
        ManifestError: There is no such folder, or it cannot be listed.
    """

    def __init__(self, path: Path, manifest_name: str) -> None:
        self.path = _app_folder(path)
        self._manifest_name = manifest_name

    def ignore_patterns(self) -> tuple[str, ...]:
        """Return the patterns of the folder's ``.dockerignore``, none when there is no such file.

        Raises:
            ManifestError: The file cannot be read.

        Reference: moby/patternmatcher ignorefile, ReadAll.
        """
        try:
            data = read_regular_file(self.path / _IGNORE_FILE, limit_bytes=MAX_IGNORE_BYTES)
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise ManifestError(f"cannot read {_IGNORE_FILE}", why=_reason(exc)) from exc
        lines = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
        found = (_ignore_pattern(line) for line in lines if not line.startswith("#"))
        return tuple(pattern for pattern in found if pattern)

    def error(self, line: int, what: str, *, why: str = "", hint: str = "") -> ManifestError:
        """Return an error about a line of the manifest."""
        return ManifestError(f"{self._manifest_name}:{line}: {what}", why=why, hint=hint)

    def context(self, service: str, build: BuildSpec) -> Path:
        """Return the folder of a service's build context: absolute, symlinks resolved.

        Args:
            service: The service's name, for error texts.
            build: What the manifest says.

        Raises:
            ManifestError: It is missing, is no folder, cannot be listed, or lies outside the app's folder.
        """
        label = f"service {service}: build path {build.path}"
        relative = _relative(build.path)
        if relative is None:
            raise self._outside(build.line, label)
        path = self.path / relative
        try:
            resolved = path.resolve(strict=True)
            is_folder = stat.S_ISDIR(resolved.stat().st_mode)
        except FileNotFoundError:
            raise self.error(build.line, f"{label} does not exist", hint=self._folder_hint(relative)) from None
        except (OSError, RuntimeError) as exc:
            raise self.error(build.line, f"{label} cannot be used", why=_reason(exc)) from exc
        if not resolved.is_relative_to(self.path):
            raise self._outside(build.line, label, why=f"a symlink leads to {resolved}")
        if not is_folder:
            hint = ""
            if _DOCKERFILE_NAME.fullmatch(resolved.name):
                hint = f"write the folder as build.path and {resolved.name} as build.manifest"
            raise self.error(build.line, f"{label} is not a folder", hint=hint)
        try:
            _try_to_list(resolved)
        except OSError as exc:
            why = f"the folder cannot be listed: {_reason(exc)}"
            raise self.error(build.line, f"{label} cannot be used", why=why) from exc
        return resolved

    def _outside(self, line: int, label: str, *, why: str = "") -> ManifestError:
        return self.error(
            line,
            f"{label} leads outside the app's folder",
            why=why or f"only what is in {self.path} is part of a build",
            hint="move what is needed into the app's folder, or run convox build in a folder above",
        )

    def _folder_hint(self, relative: str) -> str:
        """Point at folders that may have been meant, next to the one that is missing."""
        parent = (self.path / relative).parent
        try:
            names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and entry.name[0] != ".")
        except OSError:
            return ""
        return f"folders there: {', '.join(names[:8])}" if names else ""

    def dockerfile(self, service: str, build: BuildSpec, context_path: Path) -> tuple[str, bytes]:
        """Return a Dockerfile's path relative to the context, and its content.

        Args:
            service: The service's name, for error texts.
            build: What the manifest says.
            context_path: What :meth:`context` returned for it.

        Raises:
            ManifestError: It is missing, is no file, cannot be read, or lies outside the context.
        """
        label = f"service {service}: Dockerfile {build.manifest}"
        relative = _relative(build.manifest)
        if relative is None:
            raise self.error(
                build.line,
                f"{label} leads outside its build path {build.path}",
                why="the builder gets the build path and nothing above it",
                hint="set build.path to a folder above and build.manifest relative to it",
            )
        path = context_path / relative
        try:
            is_inside = path.resolve(strict=True).is_relative_to(context_path)
        except FileNotFoundError:
            shown = os.path.relpath(path, self.path)
            raise self.error(
                build.line, f"service {service}: no Dockerfile at {shown}", hint=self._dockerfile_hint()
            ) from None
        except (OSError, RuntimeError) as exc:
            raise self.error(build.line, f"{label} cannot be read", why=_reason(exc)) from exc
        if not is_inside:
            raise self.error(
                build.line,
                f"{label} leads outside its build path {build.path}",
                why="it is, or goes through, a symlink",
            )
        try:
            return relative, read_regular_file(path, limit_bytes=MAX_DOCKERFILE_BYTES)
        except OSError as exc:
            raise self.error(build.line, f"{label} cannot be read", why=_reason(exc)) from exc

    def _dockerfile_hint(self) -> str:
        """Name the Dockerfiles that there are, looking at a bounded part of the app's folder."""
        found: list[str] = []
        seen = 0
        for folder, folders, files in os.walk(self.path):
            relative = os.path.relpath(folder, self.path)
            depth = 0 if relative == "." else relative.count("/") + 1
            folders[:] = sorted(
                name for name in folders if depth < _LOOK_AT_DEPTH and name[0] != "." and name not in _SKIPPED_FOLDERS
            )
            found += (os.path.normpath(f"{relative}/{name}") for name in files if _DOCKERFILE_NAME.fullmatch(name))
            seen += len(files) + len(folders)
            if seen > _LOOK_AT_ENTRIES:
                break
        if not found:
            return "write a Dockerfile, or name the image with image:"
        return f"there is {', '.join(sorted(found)[:5])}; name it with build.path and build.manifest"
