"""Opening below a directory never leads out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.session.beneath import OPEN_DIRECTORY, Beneath
from tests.support.descriptors import open_below
from tests.support.tree import Symlink, build_tree


@pytest.fixture
def beneath(tmp_path: Path) -> Iterator[Beneath]:
    build_tree(
        tmp_path,
        {
            "outside/secret": b"no",
            "root/a/b/c": b"deep",
            "root/a/x": b"x",
            "root/ab/y": b"y",
            "root/f": b"f",
            "root/out": Symlink(b"../outside"),
            "root/in": Symlink(b"a"),
            "root/link": Symlink(b"f"),
        },
    )
    with Beneath(os.open(tmp_path / "root", OPEN_DIRECTORY)) as opened:
        yield opened


def read(beneath: Beneath, path: bytes) -> bytes:
    descriptor = beneath.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_any_order_of_paths(beneath: Beneath, tmp_path: Path) -> None:
    before = open_below(tmp_path)
    for _ in range(3):
        assert read(beneath, b"a/b/c") == b"deep"
        assert read(beneath, b"ab/y") == b"y"  # not below "a", though it begins alike
        assert read(beneath, b"f") == b"f"
        assert read(beneath, b"a/x") == b"x"
        assert read(beneath, b"a/b/c") == b"deep"
        assert read(beneath, b"a/x") == b"x"
    assert open_below(tmp_path) <= before + 1


@pytest.mark.parametrize("path", [b"out/secret", b"in/x", b"link", b"f/x", b"a/f/x", b"missing/x"])
def test_links_and_missing_parts_are_errors(beneath: Beneath, tmp_path: Path, path: bytes) -> None:
    before = open_below(tmp_path)
    with pytest.raises(OSError):
        read(beneath, path)
    assert open_below(tmp_path) <= before
    assert read(beneath, b"a/x") == b"x"  # it goes on working


def test_a_link_put_in_a_directorys_place(beneath: Beneath, tmp_path: Path) -> None:
    assert read(beneath, b"ab/y") == b"y"
    (tmp_path / "root/a").rename(tmp_path / "root/gone")
    (tmp_path / "root/a").symlink_to("../outside")
    with pytest.raises(OSError) as caught:
        read(beneath, b"a/secret")
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)


def test_closing_closes_everything(tmp_path: Path) -> None:
    build_tree(tmp_path, {"a/b/c": b""})
    before = open_below(tmp_path)
    with Beneath(os.open(tmp_path, OPEN_DIRECTORY)) as beneath:
        beneath.directory(b"a/b")
        assert open_below(tmp_path) == before + 2
    assert open_below(tmp_path) == before
