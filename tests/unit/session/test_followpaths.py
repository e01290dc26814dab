"""Links in the paths that the daemon wants followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit_client.errors import ContextError
from buildkit_client.session.followpaths import drop_covered, follow_paths
from tests.support.privileges import open_to_others, unprivileged
from tests.support.tree import Folder, Symlink, Tree, build_tree

TREE: Tree = {
    "Dockerfile": b"",
    "real/app/main.go": b"",
    "real/app/util.go": b"",
    "src": Symlink(b"real/app"),
    "abs": Symlink(b"/real"),
    "chain": Symlink(b"src/main.go"),
    "up": Symlink(b"../../../real"),
    "d/back": Symlink(b"../real/app/main.go"),
    "loop1": Symlink(b"loop2"),
    "loop2": Symlink(b"loop1"),
    "grow": Symlink(b"grow/x"),
    "self": Symlink(b"."),
    "broken": Symlink(b"nowhere/at/all"),
    "l-one": Symlink(b"d"),
    "l-two": Symlink(b"real"),
    "l-file": b"",
}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([b"Dockerfile"], [b"Dockerfile"]),
        ([b"/Dockerfile"], [b"Dockerfile"]),
        ([b"./real//app/"], [b"real/app"]),
        ([b"missing", b"real/missing"], [b"missing", b"real/missing"]),
        ([b"src"], [b"real/app", b"src"]),
        ([b"src/main.go"], [b"real/app/main.go", b"src"]),
        ([b"src/main.go", b"src/util.go"], [b"real/app/main.go", b"real/app/util.go", b"src"]),
        ([b"abs/app"], [b"abs", b"real/app"]),
        ([b"chain"], [b"chain", b"real/app/main.go", b"src"]),
        ([b"up/app"], [b"real/app", b"up"]),  # clamped at the root
        ([b"d/back"], [b"d/back", b"real/app/main.go"]),
        ([b"loop1"], [b"loop1", b"loop2"]),
        ([b"grow"], [b"grow"]),
        ([b"broken"], [b"broken", b"nowhere/at/all"]),
        ([b"l-*"], [b"d", b"l-*", b"real"]),
        ([b"l-*/app"], [b"d/app", b"l-*", b"real/app"]),
        ([b"rea?/app"], [b"rea?/app"]),  # a wildcard stays
        ([b"l-[ot]*"], [b"d", b"l-[ot]*", b"real"]),
        ([b"l-\\*"], [b"l-\\*"]),  # no wildcard
        ([b"missing/*"], [b"missing/*"]),
        ([b"Dockerfile/*"], [b"Dockerfile/*"]),
        ([b"d[", b"d"], [b"d", b"d["]),
        ([b"../outside"], [b"../outside"]),
        ([b"real", b"real/app/main.go", b"reals"], [b"real", b"reals"]),
        ([b"."], None),
        ([b"src", b"/"], None),
        ([b"self"], None),
        ([], []),
    ],
)
def test_results(tmp_path: Path, paths: list[bytes], expected: list[bytes] | None) -> None:
    build_tree(tmp_path, TREE)
    assert follow_paths(os.fsencode(tmp_path), paths) == expected


def test_a_link_that_leads_ever_deeper_ends(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a": Symlink(b"a/b/c"), "x": Symlink(b"./x/../y"), "y": Symlink(b"x")})
    found = follow_paths(os.fsencode(tmp_path), [b"a/z", b"x"])
    assert found is not None
    assert {b"a", b"x", b"y"} <= set(found)


def test_a_long_chain_of_links(tmp_path: Path) -> None:
    build_tree(tmp_path, {f"l{i}": Symlink(f"l{i + 1}".encode()) for i in range(200)})
    found = follow_paths(os.fsencode(tmp_path), [b"l0"])
    assert found is not None
    assert len(found) == 201


def test_an_unreadable_directory(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    build_tree(tmp_path, {"closed/x": b"", "closed": Folder(mode=0o000)})
    with unprivileged(), pytest.raises(ContextError, match="cannot follow closed/x") as caught:
        follow_paths(os.fsencode(tmp_path), [b"closed/x"])
    assert caught.value.why == "Permission denied"
    (tmp_path / "closed").chmod(0o755)


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ([b"a", b"a/b", b"ab", b"b"], [b"a", b"ab", b"b"]),
        ([b"a", b"a-b", b"a/b"], [b"a", b"a-b", b"a/b"]),  # only the one before counts, as in the reference
        ([b"/x", b"a"], [b"a"]),
        ([b"a", b"a"], [b"a", b"a"]),
        ([b"a", b"."], None),
    ],
)
def test_covered_patterns_are_dropped(patterns: list[bytes], kept: list[bytes] | None) -> None:
    assert drop_covered(patterns) == kept
