"""The same context built by buildctl and by us gives the same image, for every kind of tree."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from buildkit_client import Client, DockerfileFrontend, OciExporter, OutputFile

pytestmark = pytest.mark.buildkit(">=0.13")  # rewrite-timestamp

EPOCH = {"SOURCE_DATE_EPOCH": "0"}


def write(path: Path, data: bytes | str = b"x", mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)


def symlinks(root: Path) -> None:
    write(root / "dir/target", "hello")
    (root / "to-file").symlink_to("dir/target")
    (root / "to-dir").symlink_to("dir")
    (root / "z-dangling").symlink_to("nowhere/at/all")
    (root / "z-absolute").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../outside")
    (root / "z-loop").symlink_to("z-loop")


def hard_links(root: Path) -> None:
    write(root / "b/first", "linked")
    (root / "a").mkdir()
    os.link(root / "b/first", root / "a/second")
    os.link(root / "b/first", root / "third")


def modes(root: Path) -> None:
    for mode in (0o000, 0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o1777, 0o7777):
        write(root / f"mode-{mode:04o}", f"{mode}", mode)
    sticky = root / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    closed = root / "closed"
    closed.mkdir()
    closed.chmod(0o2700)


def empties(root: Path) -> None:
    write(root / "empty-file", b"")
    (root / "empty-dir").mkdir()
    (root / "deep/er/empty").mkdir(parents=True)


def sort_order(root: Path) -> None:
    for name in ("a-b", "a/b", "a.b", "a/b-c", "a/b.c", "a0", "B", "a/B/x", "a b", "a!b/c"):
        target = root / name
        if target.exists():
            continue
        write(target, name)


def names(root: Path) -> None:
    for name in (
        "ünïcödé",
        "日本語/ファイル",
        "e\u0301",
        "\u00e9",
        "emoji-🎉",
        "new\nline",
        'quo"te',
        "back\\slash",
        "tab\t",
        "%41",
        "+plus",
        " lead",
    ):
        write(root / name, name)
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9")).mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9/f\xff")).write_bytes(b"raw")
    write(root / ("n" * 255), "long")


def ignored(root: Path) -> None:
    for name in ("keep.txt", "a.log", "d/b.log", "d/e/c.log", "d/e/keep.log", "node_modules/x/y", "node_modules/keep/z",
                 "tmp/one", "tmp/two", "space name", "src/main.go", "src/main_test.go"):  # fmt: skip
        write(root / name, name)
    lines = [
        "\ufeff# comment",
        "**/*.log",
        "!d/e/keep.log",
        "node_modules",
        "!node_modules/keep",
        "/tmp/*",
        "!tmp/two",
        "space name",
        "",
        "src/**/*_test.go",
    ]
    write(root / ".dockerignore", "\r\n".join(lines) + "\r\n")


def ignored_not_ascii(root: Path) -> None:
    for name in ("größe/a", "größe/b+c", "a b", "x%25y", "other"):
        write(root / name, name)
    write(root / ".dockerignore", "größe/a\na b\n%25x\nx*\n")


def sizes(root: Path) -> None:
    for size in (0, 1, 32_767, 32_768, 32_769, 4 * 1024 * 1024 + 1, 17 * 1024 * 1024):
        write(root / f"size-{size}", (bytes(range(256)) * (size // 256 + 1))[:size])


def special_files(root: Path) -> None:
    os.mkfifo(root / "pipe")
    write(root / "z", "after")
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    try:
        os.chdir(root)
        server.bind("sock")
    finally:
        os.chdir(here)
        server.close()


def times(root: Path) -> None:
    for number, when in enumerate((0, 1, -86_400 * 365, 4_102_444_800)):
        write(root / f"t{number}", "t")
        os.utime(root / f"t{number}", ns=(when * 10**9 + 123_456_789, when * 10**9 + 123_456_789))


def many(root: Path) -> None:
    for folder in range(40):
        for number in range(25):
            write(root / f"f{folder:02}/n{number}", f"{folder}/{number}" * 40)


def xattrs(root: Path) -> None:
    write(root / "with", "x")
    try:
        os.setxattr(root / "with", "user.note", b"value\0binary")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")


TREES = [
    symlinks,
    hard_links,
    modes,
    empties,
    sort_order,
    names,
    ignored,
    ignored_not_ascii,
    sizes,
    special_files,
    times,
    many,
    xattrs,
]


def dockerfile(base: str, copies: str = "COPY . /ctx/") -> str:
    return f"FROM {base}\n{copies}\n"


def manifest_digest(archive: Path) -> str:
    index = subprocess.run(["tar", "-xOf", archive, "index.json"], check=True, capture_output=True).stdout
    (entry,) = json.loads(index)["manifests"]
    return str(entry["digest"])


def by_buildctl(services, context: Path, out: Path, *opts: str) -> str:
    command = [
        services.buildctl,
        "--addr",
        services.buildkit_host,
        "build",
        "--frontend",
        "dockerfile.v0",
        "--no-cache",
    ]
    command += ["--local", f"context={context}", "--local", f"dockerfile={context}"]
    command += [word for opt in opts for word in ("--opt", opt)]
    command += ["--output", f"type=oci,dest={out},rewrite-timestamp=true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **EPOCH})
    assert done.returncode == 0, done.stderr
    return manifest_digest(out)


def by_us(services, context: Path, out: Path, *, fresh: bool = True) -> str:
    with Client(services.buildkit_host) as client:
        result = client.solve(
            DockerfileFrontend(build_args=EPOCH, no_cache=fresh),
            local_dirs={"context": context, "dockerfile": context},
            exporters=[OciExporter(dest=OutputFile(out), rewrite_timestamp=True)],
        )
    assert result.digest == manifest_digest(out)
    return result.digest


@pytest.mark.parametrize("tree", TREES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("copies", ["COPY . /ctx/", "COPY [a-m]* /ctx/"], ids=["all", "wildcard"])
def test_trees(services, tmp_path, tree, copies):
    context = tmp_path / "context"
    context.mkdir()
    write(context / "always", "so that the wildcard has something")
    tree(context)
    write(context / "Dockerfile", dockerfile(services.base_image, copies))
    expected = by_buildctl(services, context, tmp_path / "theirs.tar")
    assert by_us(services, context, tmp_path / "ours.tar") == expected


def test_followed_symlinks(services, tmp_path):
    context = tmp_path / "context"
    write(context / "real/deep/file", "deep")
    (context / "link").symlink_to("real/deep")
    (context / "chain").symlink_to("link/file")
    write(context / "unused/big", b"u" * 100_000)
    write(
        context / "Dockerfile",
        dockerfile(services.base_image, "COPY chain /one\nCOPY link/ /two/\nCOPY real/d*/file /three"),
    )
    expected = by_buildctl(services, context, tmp_path / "theirs.tar")
    assert by_us(services, context, tmp_path / "ours.tar") == expected


def test_an_incremental_build_after_changes_gives_what_a_fresh_one_gives(services, tmp_path):
    context = tmp_path / "context"
    many(context)
    write(context / "Dockerfile", dockerfile(services.base_image))
    by_us(services, context, tmp_path / "first.tar", fresh=False)
    write(context / "f00/n0", "changed")
    (context / "f01/n1").unlink()
    write(context / "f02/new/file", "added")
    (context / "f03/n3").chmod(0o600)
    incremental = by_us(services, context, tmp_path / "second.tar", fresh=False)
    assert by_buildctl(services, context, tmp_path / "theirs.tar") == incremental


def test_options_give_the_same_image(services, tmp_path):
    context = tmp_path / "context"
    write(
        context / "docker/App.dockerfile",
        f"ARG BASE\nFROM {services.base_image} AS dev\nARG WHO\nRUN echo hello $WHO > /who\nFROM dev\nRUN echo never\n",
    )
    expected = by_buildctl(
        services, context, tmp_path / "theirs.tar",
        "filename=docker/App.dockerfile", "target=dev", "build-arg:WHO=a b=c", "label:one=1", "platform=linux/amd64",
    )  # fmt: skip
    with Client(services.buildkit_host) as client:
        ours = client.solve(
            DockerfileFrontend(
                filename="docker/App.dockerfile",
                target="dev",
                build_args={**EPOCH, "WHO": "a b=c"},
                labels={"one": "1"},
                platforms=["linux/amd64"],
            ),
            local_dirs={"context": context, "dockerfile": context},
            exporters=[OciExporter(dest=tmp_path / "ours.tar", rewrite_timestamp=True)],
        ).digest
    assert ours == expected
