"""Listing a build context: every selected entry, in the order the receiver demands.

Directories come before what is in them, names of one directory in byte order. An entry that only stands on the way to
a selected one is listed right before it. Only selected entries are looked at closely; what vanishes meanwhile is left
out.

Reference: tonistiigi/fsutil, fs.go, filter.go, stat.go, stat_unix.go, hardlinks.go.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from buildkit_client.errors import ContextError
from buildkit_client.protocol.fsutil_stat import Stat, go_mode, show_path
from buildkit_client.protocol.patterns import PatternMatcher, parse_ignore_file
from buildkit_client.session.beneath import OPEN_DIRECTORY
from buildkit_client.session.followpaths import drop_covered, follow_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_APPLE_XATTRS = "com.apple."  # fsutil stat_unix.go, skipXattr
_NO_XATTRS: Mapping[str, bytes] = {}
_TYPE_MASK = 0o170000
_by_name = attrgetter("name")


def open_context(directory: Path) -> tuple[bytes, int]:
    """Resolve and open a directory that is to be sent; a symbolic link to one is followed.

    Returns:
        The real path, and a descriptor that the caller closes.

    Raises:
        ContextError: It is missing, no directory, or not readable.
    """
    what = f"cannot read the directory {directory}"
    try:
        root = os.path.realpath(os.fsencode(directory), strict=True)
        return root, os.open(root, OPEN_DIRECTORY)
    except FileNotFoundError as exc:
        is_link = directory.is_symlink()
        why = "it is a symbolic link to nothing" if is_link else "there is no such directory"
        raise ContextError(what, why=why, hint="check the path of the build context") from exc
    except NotADirectoryError as exc:
        if os.path.lexists(directory):
            what = f"{directory} is a file, not a directory"
            raise ContextError(what, hint="name the directory that holds the file") from exc
        raise ContextError(
            what, why="a part of its path is a file", hint="check the path of the build context"
        ) from exc
    except OSError as exc:
        hint = "check its permissions and those of the folders above it"
        raise ContextError(what, why=exc.strerror or str(exc), hint=hint) from exc
    except ValueError as exc:
        raise ContextError(
            what, why="its path holds a NUL character", hint="check the path of the build context"
        ) from exc


def ignore_matcher(lines: Iterable[str]) -> PatternMatcher:
    """Return what the lines of an ignore file match.

    Raises:
        PatternError: A pattern is not valid.
    """
    return PatternMatcher(parse_ignore_file("\n".join(lines).encode("utf-8", "surrogateescape")))


class Verdict(NamedTuple):
    """What a selection says about a directory.

    Attributes:
        is_selected: Whether to list it.
        is_walked: Whether it, or something below it, can be selected.
        include_state: For the entries below, see :meth:`PatternMatcher.step`.
        exclude_state: The same.
        ignore_state: The same.
    """

    is_selected: bool
    is_walked: bool
    include_state: int
    exclude_state: int
    ignore_state: int = 0


_EVERYTHING = Verdict(is_selected=True, is_walked=True, include_state=0, exclude_state=0)


class Selection(NamedTuple):
    """Which entries of a directory to send.

    Attributes:
        include: Only what this matches; None for everything.
        exclude: Not what this matches; None for nothing.
        ignore: Not what this matches with ``ignore_prefix`` in front; None for nothing.
        ignore_prefix: Ends with a slash when it is not empty.
    """

    include: PatternMatcher | None = None
    exclude: PatternMatcher | None = None
    ignore: PatternMatcher | None = None
    ignore_prefix: bytes = b""

    @classmethod
    def of(
        cls,
        root: bytes,
        *,
        include_patterns: Sequence[bytes] = (),
        exclude_patterns: Sequence[bytes] = (),
        followed_paths: Sequence[bytes] = (),
        ignore_patterns: Sequence[str] = (),
        ignore_prefix: str = "",
    ) -> Selection:
        """Make the selection that a request of the daemon asks for.

        Args:
            root: The directory; followed paths are resolved in it at once.
            include_patterns: May be empty, for everything.
            exclude_patterns: May be empty, for nothing.
            followed_paths: See :func:`~buildkit_client.session.followpaths.follow_paths`; may be empty.
            ignore_patterns: What the caller keeps back, each a line of an ignore file; may be empty.
            ignore_prefix: What stands in front of a path for these patterns.

        Raises:
            ContextError: A followed path cannot be resolved.
            PatternError: A pattern is not valid.

        Reference: tonistiigi/fsutil, filter.go, NewFilterFS.
        """
        includes: Iterable[bytes] | None = include_patterns
        if followed_paths:
            targets = follow_paths(root, followed_paths)
            if targets is not None:
                includes = drop_covered([*include_patterns, *targets])
        return cls(
            include=PatternMatcher(includes) if includes else None,
            exclude=PatternMatcher(exclude_patterns) if exclude_patterns else None,
            ignore=ignore_matcher(ignore_patterns) if ignore_patterns else None,
            ignore_prefix=f"{ignore_prefix}/".encode("utf-8", "surrogateescape") if ignore_prefix else b"",
        )

    @property
    def is_everything(self) -> bool:
        """Whether there is nothing to judge by."""
        return self.include is None and self.exclude is None and self.ignore is None

    def judge_root(self) -> Verdict:
        """Give the verdict on the root; for ``ignore`` it lies as deep as its prefix says."""
        state = 0
        if self.ignore is not None:
            names = self.ignore_prefix.split(b"/")[:-1]
            for depth in range(1, len(names) + 1):
                _, state = self.ignore.step(b"/".join(names[:depth]), state)
        return _EVERYTHING._replace(ignore_state=state)

    def selects(self, path: bytes, parent: Verdict) -> bool:
        """Tell whether to list an entry that is no directory.

        Args:
            path: Relative to the root.
            parent: The verdict on its directory.

        Raises:
            PatternError: A pattern turns out not to be valid.
        """
        if self.include is not None and not self.include.step(path, parent.include_state)[0]:
            return False
        if self.exclude is not None and self.exclude.step(path, parent.exclude_state)[0]:
            return False
        return self.ignore is None or not self.ignore.step(self.ignore_prefix + path, parent.ignore_state)[0]

    def judge_directory(self, path: bytes, parent: Verdict) -> Verdict:
        """Give the verdict on a directory; arguments and errors as for :meth:`selects`."""
        is_selected = is_walked = True
        include_state = exclude_state = ignore_state = 0
        if self.include is not None:
            is_included, include_state = self.include.step(path, parent.include_state)
            if not is_included:
                is_selected = False
                is_walked = self.include.may_match_below(path)
        if self.exclude is not None and is_walked:
            is_excluded, exclude_state = self.exclude.step(path, parent.exclude_state)
            if is_excluded:
                is_selected = False
                is_walked = self.exclude.may_match_below(path, exceptions=True)
        if self.ignore is not None and is_walked:
            full_path = self.ignore_prefix + path
            is_ignored, ignore_state = self.ignore.step(full_path, parent.ignore_state)
            if is_ignored:
                is_selected = False
                is_walked = self.ignore.may_match_below(full_path, exceptions=True)
        return Verdict(is_selected, is_walked, include_state, exclude_state, ignore_state)


@dataclass(slots=True)
class _Directory:
    """A directory that is being walked."""

    path: bytes  # relative; empty for the root
    entries: Iterator[os.DirEntry[bytes]]
    verdict: Verdict
    entry: os.DirEntry[bytes] | None  # None when it is listed already


def walk(root: bytes, selection: Selection | None = None) -> Iterator[Stat]:
    """List a directory.

    Args:
        root: The directory, without symbolic links in its own path.
        selection: What to list; everything by default.

    Yields:
        Entries in the order of :func:`~buildkit_client.protocol.fsutil_stat.walk_key`; may be none. Owner and group
        are 0. Of hard links, the first that is listed is the file and the others name it.

    Raises:
        ContextError: Something selected cannot be read.
        PatternError: A pattern turns out not to be valid.
    """
    if selection is not None and selection.is_everything:
        selection = None
    lister = _Lister()
    describe = lister.describe
    verdict = _EVERYTHING if selection is None else selection.judge_root()
    stack = [_Directory(b"", _scan(root, b"", must_read=True), verdict, None)]
    while stack:
        directory = stack[-1]
        prefix = directory.path + b"/" if directory.path else b""
        for entry in directory.entries:
            path = prefix + entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            verdict = _EVERYTHING
            is_selected = True
            if selection is not None:
                if is_dir:
                    verdict = selection.judge_directory(path, directory.verdict)
                    is_selected = verdict.is_selected
                else:
                    is_selected = selection.selects(path, directory.verdict)
            if is_selected:
                listed = describe(entry, path)
                if listed is None or (is_dir and not listed.is_dir):
                    continue  # vanished, or replaced by something else: its turn is over
                if directory.entry is not None:
                    parents = _unlisted_parents(stack, lister)
                    if parents is None:
                        continue
                    yield from parents
                yield listed
            if is_dir and verdict.is_walked:
                below = _scan(entry.path, path, must_read=is_selected)
                stack.append(_Directory(path, below, verdict, None if is_selected else entry))
                break
        else:
            stack.pop()


def _unlisted_parents(stack: list[_Directory], lister: _Lister) -> list[Stat] | None:
    """Describe the open directories that are not listed yet, outermost first; None when one has vanished."""
    parents: list[Stat] = []
    waiting = [directory for directory in stack if directory.entry is not None]
    for directory in waiting:
        assert directory.entry is not None
        listed = lister.describe(directory.entry, directory.path)
        if listed is None or not listed.is_dir:
            return None
        parents.append(listed)
    for directory in waiting:
        directory.entry = None
    return parents


def _scan(full_path: bytes, path: bytes, *, must_read: bool) -> Iterator[os.DirEntry[bytes]]:
    """Return a directory's entries, sorted; none when it has vanished, or may be skipped and is not readable."""
    try:
        with os.scandir(full_path) as entries:
            return iter(sorted(entries, key=_by_name))
    except (FileNotFoundError, NotADirectoryError):
        return iter(())
    except OSError as exc:
        if isinstance(exc, PermissionError) and not must_read:
            return iter(())
        raise unreadable(path, exc) from exc


class _Lister:
    """Describes entries; remembers the files that have several names."""

    __slots__ = ("_first_names",)

    def __init__(self) -> None:
        self._first_names: dict[tuple[int, int], bytes] = {}

    def describe(self, entry: os.DirEntry[bytes], path: bytes) -> Stat | None:
        """Return what to say about an entry, or None when it has vanished.

        Raises:
            ContextError: It cannot be read.
        """
        try:
            info = entry.stat(follow_symlinks=False)
            st_mode = info.st_mode
            size = info.st_size
            linkname = b""
            devmajor = devminor = 0
            kind = st_mode & _TYPE_MASK
            if kind == stat.S_IFDIR:
                size = 0
            elif kind == stat.S_IFLNK:
                linkname = os.readlink(entry.path)  # noqa: PTH115 - bytes
            else:
                if kind in (stat.S_IFCHR, stat.S_IFBLK):
                    devmajor, devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
                if info.st_nlink > 1:
                    first = self._first_names.setdefault((info.st_dev, info.st_ino), path)
                    linkname = b"" if first is path else first
            xattrs = _read_xattrs(entry.path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if isinstance(exc, NotADirectoryError):
                return None
            raise unreadable(path, exc) from exc
        return Stat(path, go_mode(st_mode), size, info.st_mtime_ns, linkname, devmajor, devminor, xattrs)


if sys.platform == "linux":

    def _read_xattrs(full_path: bytes) -> Mapping[str, bytes]:
        """Return the extended attributes that can be read; raises FileNotFoundError when the entry has vanished.

        The reference fails when the names cannot be listed. A file system without attributes is no reason to fail,
        and neither is one that refuses to tell.
        """
        try:
            names = os.listxattr(full_path, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            return _NO_XATTRS
        if not names:
            return _NO_XATTRS
        xattrs: dict[str, bytes] = {}
        for name in names:
            if name.startswith(_APPLE_XATTRS) or not name.isprintable():  # what is not UTF-8 cannot be sent
                continue
            try:
                xattrs[name] = os.getxattr(full_path, name, follow_symlinks=False)
            except OSError:
                continue  # not readable for us
        return xattrs

else:

    def _read_xattrs(full_path: bytes) -> Mapping[str, bytes]:  # noqa: ARG001 - Python reads them on Linux only
        """Return no attributes."""
        return _NO_XATTRS


def unreadable(path: bytes, exc: OSError) -> ContextError:
    """Make the error for something selected that cannot be read."""
    what = f"cannot read {show_path(path)} of the build context" if path else "cannot read the build context"
    return ContextError(
        what,
        why=exc.strerror or str(exc),
        hint="make it readable, or exclude it in the ignore file",
    )
