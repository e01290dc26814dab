"""The daemon's checks of a listing, written a second time and differently, as a judge of ours.

Reference: tonistiigi/fsutil, validator.go (Validator, ComparePath) and hardlinks.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from posixpath import normpath

from buildkit_client.protocol.fsutil_stat import Stat


def compare_path(one: bytes, other: bytes) -> int:
    """Compare as the daemon does: byte by byte, with "/" below everything."""
    for left, right in zip(one, other, strict=False):
        if left == right:
            continue
        if left == ord("/"):
            return -1
        if right == ord("/"):
            return 1
        return -1 if left < right else 1
    return len(one) - len(other)


def check_listing(entries: Iterable[Stat]) -> list[Stat]:
    """Return the entries, or fail with what the daemon would say."""
    entries = list(entries)
    directories = {b""}
    files: set[bytes] = set()
    previous: bytes | None = None
    for entry in entries:
        path = entry.path
        assert path == normpath(path), f"unclean path {path!r}"
        assert not path.startswith(b"/"), f"absolute path {path!r}"
        assert path.split(b"/")[0] != b"..", f"escape check {path!r}"
        assert previous is None or compare_path(previous, path) < 0, f"changes out of order: {path!r} {previous!r}"
        assert path.rpartition(b"/")[0] in directories, f"changes out of order: {path!r} has no directory"
        previous = path
        if entry.is_dir:
            directories.add(path)
        elif not entry.is_symlink:
            if entry.linkname:
                assert entry.linkname in files, f"invalid link {path!r} to unknown path {entry.linkname!r}"
            else:
                files.add(path)
        assert (entry.uid, entry.gid) == (0, 0)
    return entries
