"""Paths whose symbolic links are followed before a context is filtered.

The daemon names the sources of COPY and the Dockerfile; where one of them goes through a link, the link and what it
points at both have to be sent. The result is a list of include patterns.

One difference from the reference: a link is followed again when another path goes on behind it, so of two files below
one linked directory both are sent.

Reference: tonistiigi/fsutil, followlinks.go, FollowLinks.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING

from buildkit_client.errors import ContextError
from buildkit_client.protocol.fsutil_stat import show_path
from buildkit_client.protocol.go_match import BadPatternError, match_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_LINKS = 255
_WILDCARDS = b"*?["


def follow_paths(root: bytes, paths: Iterable[bytes]) -> list[bytes] | None:
    """Resolve paths inside a directory.

    Args:
        root: The directory, without symbolic links in its own path.
        paths: Relative or absolute, both inside the root; names may have wildcards.

    Returns:
        Include patterns, sorted, none below another; None when a path leads to the root itself, so that nothing is
        restricted. Missing paths are kept: they match nothing.

    Raises:
        ContextError: A directory on the way cannot be read.
    """
    return drop_covered(sorted(_resolve(root, paths)))


def drop_covered(patterns: Iterable[bytes]) -> list[bytes] | None:
    """Leave out patterns below the one kept before them; None when one is the root.

    Reference: tonistiigi/fsutil, followlinks.go, dedupePaths.
    """
    kept: list[bytes] = []
    last = b""
    for pattern in patterns:
        if pattern == b".":
            return None
        if not pattern.startswith(last + b"/"):
            kept.append(pattern)
            last = pattern
    return kept


def _resolve(root: bytes, paths: Iterable[bytes]) -> set[bytes]:
    """Return every path that has to be sent, links and targets."""
    found: set[bytes] = set()
    seen: set[tuple[bytes, bytes]] = set()
    waiting = [(_inside(path), 0) for path in paths]
    while waiting:
        path, links = waiting.pop()
        if path == b".." or path.startswith(b"../"):
            found.add(path)  # outside of the root: not looked at, and a pattern that matches nothing
            continue
        current, rest = b"", path
        while rest:
            name, _, rest = rest.partition(b"/")
            current = current + b"/" + name if current else name
            targets = list(_link_targets(root, current))
            if targets:
                found.add(current)
                if (current, rest) not in seen and links < _MAX_LINKS:
                    seen.add((current, rest))
                    waiting += [(_inside(target + b"/" + rest), links + 1) for target in targets]
                break
        else:
            found.add(current)
    return found


def _link_targets(root: bytes, path: bytes) -> Iterator[bytes]:
    """Yield where the links go that a path, whose last name may be a wildcard, stands for."""
    directory, _, name = path.rpartition(b"/")
    try:
        for candidate in _matching_names(root, directory, name) if _has_wildcard(name) else (name,):
            link = posixpath.join(directory, candidate)
            full = posixpath.join(root, link)
            try:
                if link != b"." and stat.S_ISLNK(os.lstat(full).st_mode):
                    # clamped at the root: an absolute target is one inside the context
                    yield posixpath.normpath(b"/" + posixpath.join(directory, os.readlink(full)))  # noqa: PTH115 - bytes
            except (FileNotFoundError, NotADirectoryError):
                continue
    except OSError as exc:
        raise ContextError(
            f"cannot follow {show_path(path)} in the build context", why=exc.strerror or str(exc)
        ) from exc


def _matching_names(root: bytes, directory: bytes, pattern: bytes) -> Iterator[bytes]:
    """Yield the names in a directory that a wildcard matches."""
    try:
        names = sorted(os.listdir(posixpath.join(root, directory)))  # noqa: PTH208 - bytes
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        try:
            if match_name(pattern, name):
                yield name
        except BadPatternError:
            return


def _has_wildcard(name: bytes) -> bool:
    """Tell whether a name has a wildcard that is not escaped."""
    position = 0
    while position < len(name):
        if name[position] == ord("\\"):
            position += 1
        elif name[position] in _WILDCARDS:
            return True
        position += 1
    return False


def _inside(path: bytes) -> bytes:
    """Return a clean relative path; an absolute one is taken to start at the root."""
    return posixpath.normpath(b"./" + path.lstrip(b"/"))
