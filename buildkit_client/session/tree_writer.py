"""Writing a received tree into a directory, without ever leaving it.

Every access is relative to a directory that was reached without following links. A file is written under a temporary
name and takes its own name when it is complete, so a reader sees the old file or the new one. Hard links wait for the
files they share, and directories get their final permissions and times last, since writing into them needs the one and
changes the other.

Reference: tonistiigi/fsutil, rootdiskwriter.go, rootdiskwriter_unix.go.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import sys
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from buildkit_client.errors import RemoteProtocolError
from buildkit_client.protocol.fsutil_stat import (
    MODE_CHAR_DEVICE,
    MODE_DEVICE,
    MODE_NAMED_PIPE,
    MODE_TYPE,
    Stat,
    parent_of,
    show_path,
    unix_permissions,
)
from buildkit_client.session.beneath import OPEN_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from buildkit_client.session.beneath import Beneath

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_T = TypeVar("_T")
_numbers = count()  # several streams, each in a thread of its own, may take one at once


class PartFile:
    """A file that is being written; see :meth:`TreeWriter.start_file`."""

    __slots__ = ("_descriptor", "_temporary", "_writer", "entry")

    def __init__(self, writer: TreeWriter, entry: Stat) -> None:
        self.entry = entry
        self._writer = writer
        directory_fd, _ = writer.beneath.split(entry.path)
        self._temporary, self._descriptor = _make_temporary(
            lambda name: os.open(name, _CREATE | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
        )

    def write(self, data: bytes) -> None:
        """Append data.

        Raises:
            OSError: It cannot be written.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Give the file its metadata and its name.

        Raises:
            OSError: Something in its place cannot be replaced.
        """
        self._writer.set_metadata(self._descriptor, self.entry)
        os.close(self._descriptor)
        self._descriptor = -1
        self._writer.put_in_place(self._temporary, self.entry.path)

    def discard(self) -> None:
        """Remove what was written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._writer.beneath.split(self.entry.path)[0])


class TreeWriter:
    """Writes entries, which come parents first, into a directory.

    Args:
        beneath: The directory; it has to stay open as long as this object is used.
        delete: Whether :meth:`finish` removes what was not written.
    """

    def __init__(self, beneath: Beneath, *, delete: bool = False) -> None:
        self.beneath = beneath
        self._owner = os.geteuid(), os.getegid()
        self._listed: dict[bytes, set[bytes]] | None = {b"": set()} if delete else None
        self._links: list[Stat] = []
        self._directories: list[tuple[Stat, bool]] = []

    def add(self, entry: Stat) -> None:
        """Write an entry that has no content; one that has is only noted, see :meth:`start_file`.

        Args:
            entry: Checked, as :class:`~buildkit_client.protocol.fsutil_receiver.EntryListed` is. Owner and group are
                not taken over: everything belongs to the calling user.

        Raises:
            OSError: It cannot be written.
            RemoteProtocolError: It is of an unknown kind.
        """
        if self._listed is not None:
            self._listed[parent_of(entry.path)].add(entry.path[entry.path.rfind(b"/") + 1 :])
            if entry.is_dir:
                self._listed[entry.path] = set()
        if entry.is_dir:
            self._make_directory(entry)
        elif entry.is_symlink:
            self._make_symlink(entry)
        elif entry.mode & (MODE_DEVICE | MODE_NAMED_PIPE):
            self._make_special(entry)
        elif entry.mode & MODE_TYPE:
            raise RemoteProtocolError(f"{show_path(entry.path)} is of an unknown kind, mode {entry.mode:#x}")
        elif entry.linkname:
            self._links.append(entry)

    def start_file(self, entry: Stat) -> PartFile:
        """Begin to write an entry's content.

        Raises:
            OSError: No file can be made there.
        """
        return PartFile(self, entry)

    def finish(self) -> None:
        """Make hard links, remove what was not listed, and give directories their metadata.

        Raises:
            OSError: One of these cannot be done.
        """
        for entry in self._links:
            self._make_link(entry)
        for path, names in (self._listed or {}).items():
            self._remove_others(path, names)
        for entry, was_there in reversed(self._directories):
            directory_fd, name = self.beneath.split(entry.path)
            descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=directory_fd)
            try:
                self.set_metadata(descriptor, entry)
            except PermissionError:
                if not was_there:
                    raise
                # somebody else's directory that we may write into: it keeps what it has
            finally:
                os.close(descriptor)

    def put_in_place(self, temporary: bytes, path: bytes) -> None:
        """Rename a new object of the same directory over whatever has its name.

        Raises:
            OSError: What is there cannot be replaced.
        """
        directory_fd, name = self.beneath.split(path)
        try:
            try:
                os.replace(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
            except IsADirectoryError:
                shutil.rmtree(os.fsdecode(name), dir_fd=directory_fd)
                os.replace(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory_fd)
            raise

    def set_metadata(self, descriptor: int, entry: Stat) -> None:
        """Set owner, attributes, permissions and times of an open file or directory.

        Raises:
            OSError: One of these cannot be set.
        """
        os.fchown(descriptor, *self._owner)
        if entry.xattrs and sys.platform == "linux":
            for name, value in entry.xattrs.items():
                with suppress(OSError):  # many need rights or file systems that we do not have
                    os.setxattr(descriptor, name, value)
        os.fchmod(descriptor, unix_permissions(entry.mode))
        os.utime(descriptor, ns=(entry.mod_time_ns, entry.mod_time_ns))

    def _make_directory(self, entry: Stat) -> None:
        directory_fd, name = self.beneath.split(entry.path)
        was_there = False
        try:
            there = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            was_there = stat.S_ISDIR(there.st_mode)
            if not was_there:
                os.unlink(name, dir_fd=directory_fd)
            elif there.st_mode & 0o700 != 0o700 and there.st_uid == self._owner[0]:
                _make_usable(name, directory_fd)
        if not was_there:
            with suppress(FileExistsError):  # another stream of the same export made it just now
                os.mkdir(name, 0o700, dir_fd=directory_fd)
        self._directories.append((entry, was_there))

    def _make_symlink(self, entry: Stat) -> None:
        directory_fd, _ = self.beneath.split(entry.path)
        temporary, _ = _make_temporary(lambda name: os.symlink(entry.linkname, name, dir_fd=directory_fd))
        os.chown(temporary, *self._owner, dir_fd=directory_fd, follow_symlinks=False)
        times = (entry.mod_time_ns, entry.mod_time_ns)
        os.utime(temporary, ns=times, dir_fd=directory_fd, follow_symlinks=False)
        self.put_in_place(temporary, entry.path)

    def _make_special(self, entry: Stat) -> None:
        kind = stat.S_IFIFO
        if entry.mode & MODE_DEVICE:
            kind = stat.S_IFCHR if entry.mode & MODE_CHAR_DEVICE else stat.S_IFBLK
        device = os.makedev(entry.devmajor, entry.devminor)
        directory_fd, _ = self.beneath.split(entry.path)
        temporary, _ = _make_temporary(lambda name: os.mknod(name, kind | 0o600, device, dir_fd=directory_fd))
        os.chown(temporary, *self._owner, dir_fd=directory_fd, follow_symlinks=False)
        os.chmod(temporary, unix_permissions(entry.mode), dir_fd=directory_fd)
        os.utime(temporary, ns=(entry.mod_time_ns, entry.mod_time_ns), dir_fd=directory_fd)
        self.put_in_place(temporary, entry.path)

    def _make_link(self, entry: Stat) -> None:
        source_fd, source = self.beneath.split(entry.linkname)
        source_fd = os.dup(source_fd)
        try:
            directory_fd, _ = self.beneath.split(entry.path)
            temporary, _ = _make_temporary(
                lambda name: os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
            )
        finally:
            os.close(source_fd)
        self.put_in_place(temporary, entry.path)

    def _remove_others(self, path: bytes, names: set[bytes]) -> None:
        """Remove from a directory what is not listed."""
        directory_fd = self.beneath.directory(path)
        descriptor = os.open(b".", OPEN_DIRECTORY, dir_fd=directory_fd)
        try:
            with os.scandir(descriptor) as entries:
                others = [entry for entry in entries if os.fsencode(entry.name) not in names]
            for entry in others:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.name, dir_fd=descriptor)
                else:
                    os.unlink(entry.name, dir_fd=descriptor)
        finally:
            os.close(descriptor)


def _make_usable(name: bytes, directory_fd: int) -> None:
    """Let us write into a directory of ours until its final permissions are set."""
    with suppress(PermissionError):  # not even readable: the error comes when something is written into it
        descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=directory_fd)
        try:
            os.fchmod(descriptor, 0o700 | stat.S_IMODE(os.fstat(descriptor).st_mode))
        finally:
            os.close(descriptor)


def _make_temporary(create: Callable[[bytes], _T]) -> tuple[bytes, _T]:
    """Create something under a name that nothing has yet; return the name and what was made."""
    while True:
        name = b".tmp.%08x%d" % (random.getrandbits(32), next(_numbers))
        with suppress(FileExistsError):
            return name, create(name)
