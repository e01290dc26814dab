"""Opening what lies beneath a directory, without ever following a symbolic link.

Names are opened one after the other, each relative to the directory before it, so nobody who can write into the tree
can lead us out of it by putting a link in the place of a directory. The last directory stays open: callers mostly go
through a tree in order.

Reference: Go os, Root (the role; links inside the tree are not followed here).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_SEARCH_ONLY = getattr(os, "O_PATH", os.O_RDONLY)
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Beneath:
    """A directory as the root of relative paths.

    Args:
        root_fd: Descriptor of the directory; it is closed with this object.
    """

    __slots__ = ("_directory", "_directory_fd", "root_fd")

    def __init__(self, root_fd: int) -> None:
        self.root_fd = root_fd
        self._directory = b""
        self._directory_fd = root_fd

    def directory(self, path: bytes) -> int:
        """Return a descriptor of a directory, for use with ``dir_fd`` only; it is good until the next call.

        Args:
            path: Relative and clean; empty for the root.

        Raises:
            OSError: A part is missing, or is no directory.
        """
        if path == self._directory:
            return self._directory_fd
        current = self.root_fd
        rest = path
        if self._directory and path.startswith(self._directory + b"/"):
            current = self._directory_fd
            rest = path[len(self._directory) + 1 :]
            self._directory_fd = self.root_fd
        self._leave()
        try:
            for name in rest.split(b"/") if rest else ():
                below = os.open(name, _SEARCH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
                if current != self.root_fd:
                    os.close(current)
                current = below
        except OSError:
            if current != self.root_fd:
                os.close(current)
            raise
        self._directory, self._directory_fd = path, current
        return current

    def split(self, path: bytes) -> tuple[int, bytes]:
        """Return a descriptor of a path's directory, as :meth:`directory` does, and the last name.

        Raises:
            OSError: A part before the last is missing, or is no directory.
        """
        directory, _, name = path.rpartition(b"/")
        return self.directory(directory), name

    def open(self, path: bytes, flags: int, mode: int = 0o600) -> int:
        """Open a path; the last name is not followed either.

        Raises:
            OSError: As :func:`os.open`; ``ELOOP`` where the last name is a link.
        """
        directory_fd, name = self.split(path)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory_fd)

    def close(self) -> None:
        """Close the root; nothing can be opened any more."""
        self._leave()
        os.close(self.root_fd)

    def _leave(self) -> None:
        if self._directory_fd != self.root_fd:
            os.close(self._directory_fd)
        self._directory, self._directory_fd = b"", self.root_fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
