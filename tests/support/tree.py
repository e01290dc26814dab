"""Trees of files for tests: made from a description, and described again."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st


@dataclass(frozen=True)
class Folder:
    """A directory; also made for every path that others lie below."""

    mode: int = 0o755
    mtime_ns: int = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class File:
    """A regular file."""

    content: bytes = b""
    mode: int = 0o644
    mtime_ns: int = 1_700_000_000_123_456_789


@dataclass(frozen=True)
class Symlink:
    target: bytes
    mtime_ns: int = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class HardLink:
    """Another name of a file that is described earlier."""

    to: bytes


@dataclass(frozen=True)
class Fifo:
    mode: int = 0o644
    mtime_ns: int = 1_700_000_000_000_000_000


Node = Folder | File | Symlink | HardLink | Fifo
Tree = Mapping[str | bytes, Node | bytes]
"""What to make by path; plain bytes stand for a file with that content."""


def build_tree(root: Path, tree: Tree) -> Path:
    """Make a tree, and return its root. Permissions and times are set last, deepest first."""
    root.mkdir(parents=True, exist_ok=True)
    nodes = {root / os.fsdecode(path): File(node) if isinstance(node, bytes) else node for path, node in tree.items()}
    for path, node in nodes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        match node:
            case Folder():
                path.mkdir(exist_ok=True)
            case File(content):
                path.write_bytes(content)
            case Symlink(target):
                path.symlink_to(os.fsdecode(target))
            case HardLink(to):
                path.hardlink_to(root / os.fsdecode(to))
            case Fifo():
                os.mkfifo(path)
    for path in sorted(nodes, key=lambda path: len(path.parts), reverse=True):
        node = nodes[path]
        if isinstance(node, HardLink):
            continue
        if not isinstance(node, Symlink):
            path.chmod(node.mode)
        os.utime(path, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)
    return root


class Seen(NamedTuple):
    """What a tree has at one path."""

    mode: int
    content: bytes
    mtime_ns: int
    twins: tuple[bytes, ...]  # every path in the tree that is this same file


def read_tree(root: Path, *, folder_times: bool = True) -> dict[bytes, Seen]:
    """Describe all of a tree, without following links. Content is a file's bytes or a link's target."""
    paths = sorted(Path(folder, name) for folder, folders, files in os.walk(root) for name in folders + files)
    infos = {os.fsencode(path.relative_to(root)): (path, path.lstat()) for path in paths}
    by_inode: dict[tuple[int, int], list[bytes]] = {}
    for name, (_, info) in infos.items():
        if not stat.S_ISDIR(info.st_mode):
            by_inode.setdefault((info.st_dev, info.st_ino), []).append(name)
    seen = {}
    for name, (path, info) in infos.items():
        content = b""
        if stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(info.st_mode):
            content = os.fsencode(os.readlink(path))  # noqa: PTH115 - pathlib would clean the target
        mtime_ns = info.st_mtime_ns if folder_times or not stat.S_ISDIR(info.st_mode) else 0
        twins = tuple(by_inode.get((info.st_dev, info.st_ino), ()))
        seen[name] = Seen(info.st_mode, content, mtime_ns, twins if len(twins) > 1 else ())
    return seen


_ODD_NAMES = (
    *(b"a", b"b", b"a-b", b"a.b", b"ab", b"A", b"a b", b"\xc3\xa9", b"e\xcc\x81", b"\xff\xfe", b"n\nl"),
    *(b'"q"', b"x" * 255, b"\xf0\x9f\x8d\x8e", b"-", b"!", b"#", b"*", b"[a]"),
)

names = st.one_of(
    st.sampled_from(_ODD_NAMES),
    st.binary(min_size=1, max_size=6).filter(lambda name: not set(name) & {0, ord("/")} and name not in (b".", b"..")),
)


@st.composite
def trees(draw: st.DrawFn, *, max_entries: int = 14, specials: bool = True) -> dict[bytes, Node]:
    """Describe any tree: odd names, empty and filled files, links, hard links, pipes, all permissions, all times."""
    nodes: dict[bytes, Node] = {}
    folders: list[bytes] = [b""]
    files: list[bytes] = []
    times = st.integers(min_value=-(10**18), max_value=4 * 10**18)
    for _ in range(draw(st.integers(0, max_entries))):
        parent = draw(st.sampled_from(folders))
        path = parent + b"/" + draw(names) if parent else draw(names)
        if path in nodes:
            continue
        kind = draw(st.sampled_from(("file", "file", "folder", "folder", "symlink", "hard link", "fifo")))
        if kind == "folder":
            nodes[path] = Folder(mode=0o700 | draw(st.integers(0, 0o7777)), mtime_ns=draw(times))
            folders.append(path)
        elif kind == "symlink":
            target = draw(st.sampled_from((b"a", b"../a", b"/a", b"a/b", b"missing", b"../../../../etc", b".")))
            nodes[path] = Symlink(target, mtime_ns=draw(times))
        elif kind == "hard link" and files:
            nodes[path] = HardLink(draw(st.sampled_from(files)))
        elif kind == "fifo" and specials:
            nodes[path] = Fifo(mode=draw(st.integers(0, 0o7777)), mtime_ns=draw(times))
        else:
            content = draw(st.one_of(st.just(b""), st.binary(max_size=40), st.just(b"0123456789abcdef" * 5000)))
            nodes[path] = File(content, mode=0o400 | draw(st.integers(0, 0o7777)), mtime_ns=draw(times))
            files.append(path)
    return nodes
