"""What a file transfer says about an entry: Stat, Go's mode bits, the order of paths.

Paths and link targets are bytes throughout: names need not be UTF-8, and order is byte order.

Reference: tonistiigi/fsutil, types/stat.proto, validator.go, hardlinks.go, stat_unix.go; Go io/fs, FileMode.
"""

from __future__ import annotations

import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from buildkit_client._proto import fsutil_pb2
from buildkit_client.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Go io/fs, FileMode: the letters in its comments are those of "ls -l" there
MODE_DIR: Final = 1 << 31
MODE_SYMLINK: Final = 1 << 27
MODE_DEVICE: Final = 1 << 26
MODE_NAMED_PIPE: Final = 1 << 25
MODE_SOCKET: Final = 1 << 24
MODE_SETUID: Final = 1 << 23
MODE_SETGID: Final = 1 << 22
MODE_CHAR_DEVICE: Final = 1 << 21
MODE_STICKY: Final = 1 << 20
MODE_IRREGULAR: Final = 1 << 19
MODE_TYPE: Final = (
    MODE_DIR | MODE_SYMLINK | MODE_NAMED_PIPE | MODE_SOCKET | MODE_DEVICE | MODE_CHAR_DEVICE | MODE_IRREGULAR
)
MODE_PERM: Final = 0o777

_TYPE_BITS = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: MODE_DIR,
    stat.S_IFLNK: MODE_SYMLINK,
    stat.S_IFBLK: MODE_DEVICE,
    stat.S_IFCHR: MODE_DEVICE | MODE_CHAR_DEVICE,
    stat.S_IFIFO: MODE_NAMED_PIPE,
    stat.S_IFSOCK: 0,  # the sender clears Go's socket bit, so a socket travels as a file without content
}
_UNCLEAN_NAMES = frozenset((b"", b".", b".."))
_NO_XATTRS: Mapping[str, bytes] = {}


class Stat(NamedTuple):
    """One entry of a transfer.

    Attributes:
        path: Relative to the root, cleaned, ``/`` between names.
        mode: Go's ``FileMode`` bits, see :func:`go_mode`.
        size: Bytes; 0 for directories, the target's length for symlinks.
        mod_time_ns: Nanoseconds since the epoch, may be negative.
        linkname: A symlink's target as it stands, or the earlier path of this transfer that a hard link shares.
        devmajor: For devices.
        devminor: For devices.
        xattrs: Extended attributes by name.
        uid: Owner; what we send is always 0.
        gid: Group; what we send is always 0.
    """

    path: bytes
    mode: int
    size: int = 0
    mod_time_ns: int = 0
    linkname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[str, bytes] = _NO_XATTRS
    uid: int = 0
    gid: int = 0

    @property
    def is_dir(self) -> bool:
        """Whether the entry is a directory."""
        return bool(self.mode & MODE_DIR)

    @property
    def is_symlink(self) -> bool:
        """Whether the entry is a symbolic link."""
        return bool(self.mode & MODE_SYMLINK)

    @property
    def has_content(self) -> bool:
        """Whether the receiver may ask for content: a regular file that is no hard link to an earlier one."""
        return not self.mode & MODE_TYPE and not self.linkname

    def to_proto(self) -> fsutil_pb2.Stat:
        """Return the wire message."""
        return fsutil_pb2.Stat(
            path=self.path,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            size=self.size,
            modTime=self.mod_time_ns,
            linkname=self.linkname,
            devmajor=self.devmajor,
            devminor=self.devminor,
            xattrs=self.xattrs,
        )

    @classmethod
    def from_proto(cls, message: fsutil_pb2.Stat) -> Stat:
        """Read the wire message; nothing is checked."""
        return cls(
            path=message.path,
            mode=message.mode,
            size=message.size,
            mod_time_ns=message.modTime,
            linkname=message.linkname,
            devmajor=message.devmajor,
            devminor=message.devminor,
            xattrs=dict(message.xattrs) if message.xattrs else _NO_XATTRS,
            uid=message.uid,
            gid=message.gid,
        )


@lru_cache(maxsize=512)
def go_mode(st_mode: int) -> int:
    """Return Go's mode bits for a Unix ``st_mode``; a socket becomes a regular file.

    Reference: Go os, stat_linux.go, fillFileStatFromSys; fsutil stat.go, mkstat.
    """
    mode = st_mode & MODE_PERM | _TYPE_BITS.get(stat.S_IFMT(st_mode), MODE_IRREGULAR)
    if st_mode & 0o7000:
        if st_mode & stat.S_ISUID:
            mode |= MODE_SETUID
        if st_mode & stat.S_ISGID:
            mode |= MODE_SETGID
        if st_mode & stat.S_ISVTX:
            mode |= MODE_STICKY
    return mode


def unix_permissions(mode: int) -> int:
    """Return the twelve permission bits of ``st_mode`` (0 to 0o7777) for Go's mode bits.

    Reference: Go os, file_posix.go, syscallMode.
    """
    permissions = mode & MODE_PERM
    if mode & MODE_SETUID:
        permissions |= stat.S_ISUID
    if mode & MODE_SETGID:
        permissions |= stat.S_ISGID
    if mode & MODE_STICKY:
        permissions |= stat.S_ISVTX
    return permissions


def walk_key(path: bytes) -> bytes:
    r"""Return the sort key that gives the order of a transfer.

    The receiver refuses entries out of order, so the order is part of the wire format: bytewise, with ``/`` below
    every other byte (``a/b`` comes before ``a-b``). A name cannot hold NUL, so NUL can stand for ``/``.

    Reference: fsutil validator.go, ComparePath.
    """
    return path.replace(b"/", b"\0")


def parent_of(path: bytes) -> bytes:
    """Return a relative path's directory, empty for an entry of the root."""
    return path[: path.rfind(b"/")] if b"/" in path else b""


class ListingValidator:
    """Checks that announced entries are what a walk of one tree can give.

    Paths are relative and clean, in order, below directories that were announced; a hard link names a file that was.

    Reference: fsutil validator.go, Validator; hardlinks.go, Hardlinks.
    """

    __slots__ = ("_directories", "_files", "_last_names")

    def __init__(self) -> None:
        # The directories that are still open, outermost first, and the last name seen in each
        self._directories: list[bytes] = [b""]
        self._last_names: list[bytes] = [b""]
        self._files: set[bytes] = set()

    def add(self, entry: Stat) -> None:
        """Check the next entry.

        Raises:
            RemoteProtocolError: The entry cannot stand here.
        """
        path = entry.path
        check_wire_path(path)
        directory = parent_of(path)
        name = path[len(directory) + 1 :] if directory else path
        while len(self._directories) > 1 and self._directories[-1] != directory:
            self._directories.pop()
            self._last_names.pop()
        if self._directories[-1] != directory or name <= self._last_names[-1]:
            last = b"/".join(filter(None, (self._directories[-1], self._last_names[-1])))
            raise RemoteProtocolError(f'changes out of order: "{show_path(path)}" "{show_path(last)}"')
        self._last_names[-1] = name
        if entry.is_dir:
            self._directories.append(path)
            self._last_names.append(b"")
        elif not entry.is_symlink:
            if not entry.linkname:
                self._files.add(path)
            elif entry.linkname not in self._files:
                raise RemoteProtocolError(
                    f'invalid link {show_path(path)} to unknown path: "{show_path(entry.linkname)}"'
                )


def check_wire_path(path: bytes) -> None:
    """Refuse a path that is not relative, clean and inside the root.

    Raises:
        RemoteProtocolError: With the reference's word for what is wrong.

    Reference: fsutil validator.go, Validator.HandleChange.
    """
    if path.startswith(b"/"):
        problem = "absolute path"
    elif path == b".." or path.startswith(b"../"):
        problem = "escape check"
    elif b"\0" in path or not _UNCLEAN_NAMES.isdisjoint(path.split(b"/")):
        problem = "unclean path"
    else:
        return
    raise RemoteProtocolError(f'{problem} "{show_path(path)}"')


def show_path(path: bytes) -> str:
    """Write a path for a message: what is not UTF-8 or cannot be printed is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
