"""What a comparison is made of: a command line, the files it reads, and what has to be true of both results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.support.tree import File, Node, Symlink, Tree

if TYPE_CHECKING:
    from tests.integration.compare.observe import Seen

EPOCH = 1_700_000_000

APP: Tree = {
    "Dockerfile": b"FROM scratch\nCOPY . /app/\n",
    "hello": b"hello from {case}\n",
    "bin/tool": File(b"#!/bin/sh\n", mode=0o755),
    "deep/er/file": File(b"deep", mode=0o600),
    "link": Symlink(b"deep/er/file"),
}
"""The context of a case that names none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One command line, run with both tools.

    Texts may hold names in braces, see ``Arena``: ``{context}``, ``{out}``, ``{repo}``, ``{base}``, ...

    Attributes:
        area: The part of the product that the table shows it under.
        name: Unique within the area.
        flags: What follows ``build``, the frontend and the context.
        files: The context; with ``None`` the command line has neither frontend nor context.
        more: Further files in the arm's folder.
        environ: Variables of the environment.
        stdin: Bytes, or a name in braces that gives some.
        stdout: Where standard output goes: it is read, or a full device.
        before: Command lines that run first and must succeed; "prune" empties the daemon.
        before_by: Which tool runs them.
        epoch: Fix all times with SOURCE_DATE_EPOCH.
        umask: Of both tools; buildctl sets its own to 0 whatever it was.
        own_daemon: Run on a daemon that is emptied before each tool, and that allows every entitlement.
        reused: The second tool finds every step in the cache that the first one filled.
        loose: What two builds need not have in common: "undated" leaves out times, and digests of documents that hold
            some; "all" every digest, time and id. The rest of the documents is compared.
        ignore: Names of observations that are not compared, each with the reason.
        error: Text in the error line of both tools; the case is one of failure.
        left: What a failed build of ours leaves in ``{out}``: names of files.
        check: Looks at each of the two results.
        first: Which tool runs first.
        needs: The first release of buildkitd that both do the same with, for example ``0.13``; empty for every one.
    """

    area: str = ""
    name: str
    flags: str = ""
    files: Tree | None = field(default_factory=lambda: APP)
    more: Tree = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | str = b""
    stdout: Literal["read", "full"] = "read"
    before: tuple[str, ...] = ()
    before_by: Literal["same", "other"] = "same"
    epoch: bool = True
    umask: int = 0
    own_daemon: bool = False
    reused: bool = False
    loose: Literal["", "undated", "all"] = ""
    ignore: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    left: frozenset[str] = frozenset()
    check: Callable[[Seen], None] | None = None
    first: Literal["theirs", "ours"] = "theirs"
    needs: str = ""


def dockerfile(text: str, **files: bytes) -> Tree:
    """Return a context of a Dockerfile and what it copies."""
    tree: dict[str | bytes, Node | bytes] = {**APP, "Dockerfile": text.encode()}
    tree.update(files)
    return tree
