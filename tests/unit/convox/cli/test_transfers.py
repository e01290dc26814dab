"""``convox builds export`` and ``convox builds import``: what is printed where, and what is left when they fail."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from convox.models import Build
from tests.support.convox_cli import open_local_store, run, run_on_terminal
from tests.support.exports import MANIFEST, DiskRack
from tests.support.images import add_image

IMPORTED = re.compile(rb"Importing build\.\.\. OK, (R[A-Z]{10})\n")


@pytest.fixture
def rack(config_path: Path) -> Iterator[DiskRack]:
    """The rack ``local`` of the commands."""
    assert run("racks").code == 0
    with DiskRack(config_path / "racks" / "local") as rack:
        yield rack


@pytest.fixture
def build(rack: DiskRack) -> Build:
    return rack.add_build({"web": add_image(rack.layout), "worker": add_image(rack.layout, [b"other"])})


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def expected_names(build: Build) -> list[str]:
    return ["build.json", "", f"web.{build.id}.tar", f"worker.{build.id}.tar", "build.log"]


def listing(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# --- export ---


def test_export_to_a_file(build: Build) -> None:
    result = run("builds", "export", build.id, "-f", "web.tgz")
    assert (result.code, result.stdout, result.stderr) == (0, b"Exporting build... OK\n", b"")
    assert names(Path("web.tgz").read_bytes()) == expected_names(build)
    assert listing() == ["web.tgz"]


def test_export_to_a_pipe(build: Build) -> None:
    result = run("builds", "export", build.id)
    assert (result.code, result.stderr) == (0, b"Exporting build... OK\n")
    assert names(result.stdout) == expected_names(build)


def test_export_on_a_terminal(build: Build) -> None:
    result = run_on_terminal("builds", "export", build.id)
    assert result.code == 2
    assert b"pipe this command into a file or specify --file" in result.stdout
    result = run_on_terminal("builds", "export", build.id, "-f", "web.tgz")
    assert result.code == 0
    assert b"Exporting build... " in result.stdout


@pytest.mark.parametrize(
    ("words", "magic"),
    [
        ([], b"\x1f\x8b"),
        (["--compression", "gzip"], b"\x1f\x8b"),
        (["--compression", "zstd"], b"\x28\xb5\x2f\xfd"),
        (["--compression=none"], b"build.json"),
    ],
)
def test_compression(build: Build, words: list[str], magic: bytes) -> None:
    assert run("builds", "export", build.id, *words).stdout.startswith(magic)
    assert run("builds", "export", build.id, "-f", "x.zst", *words).code == 0
    assert Path("x.zst").read_bytes().startswith(magic if words else b"\x28\xb5\x2f\xfd")


def test_an_image_layout(build: Build) -> None:
    for name, magic in (("x.tar", b"build.json"), ("x.tgz", b"\x1f\x8b"), ("x.zst", b"\x28\xb5\x2f\xfd")):
        assert run("builds", "export", build.id, "--format", "oci", "-f", name).code == 0
        data = Path(name).read_bytes()
        assert data.startswith(magic)
        if magic != b"\x28\xb5\x2f\xfd":  # which this Python's tarfile does not read
            assert {"build.json", "oci-layout", "index.json", "build.log"} < set(names(data))
        assert IMPORTED.fullmatch(run("builds", "import", "-f", name).stdout)
    assert run("builds", "export", build.id, "--format", "oci", "-f", "-").stdout == Path("x.tar").read_bytes()


def test_an_unknown_format(build: Build) -> None:
    result = run("builds", "export", build.id, "--format", "docker")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"ERROR: unknown format: docker\n")


def test_an_unknown_compression(build: Build) -> None:
    result = run("builds", "export", build.id, "--compression", "xz")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"ERROR: unknown compression: xz\n")


def test_an_epoch_from_the_environment(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    with tarfile.open(fileobj=io.BytesIO(run("builds", "export", build.id).stdout)) as archive:
        assert {member.mtime for member in archive} == {1_000_000_000}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert run("builds", "export", build.id).code == 2


def test_what_cannot_be_exported(build: Build) -> None:
    for words in (["BNONENONENO"], [build.id, "-a", "nobody"]):
        result = run("builds", "export", *words, "-f", "web.tgz")
        assert result.code == 1
        assert b"not found" in result.stderr
    assert run("builds", "export").code == 2
    assert listing() == []


def test_a_failed_export_leaves_the_old_file(build: Build, rack: DiskRack) -> None:
    Path("web.tgz").write_bytes(b"old")
    rack.layout.remove(f"localhost/web:worker.{build.id}")
    result = run("builds", "export", build.id, "-f", "web.tgz")
    assert (result.code, result.stdout) == (1, b"Exporting build... ")
    assert Path("web.tgz").read_bytes() == b"old"
    assert listing() == ["web.tgz"]


@pytest.mark.parametrize("where", ["nowhere/web.tgz", "folder", "loop"])
def test_a_place_that_cannot_be_written(build: Build, where: str) -> None:
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    result = run("builds", "export", build.id, "-f", where)
    assert result.code == 1
    assert result.stderr.startswith(b"ERROR: cannot write ")
    assert listing() == ["folder", "loop"]
    assert listing("folder") == []


def test_a_full_disk(build: Build) -> None:
    """The file may grow to 4 KiB; the disk need not be full for that."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from convox.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "builds", "export", build.id, "-f", "web.tgz"], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"ERROR: cannot write ")
    assert b"File too large" in done.stderr
    assert listing() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_devices(build: Build) -> None:
    result = run("builds", "export", build.id, "-f", "/dev/full")
    assert result.code == 1
    assert b"No space left on device" in result.stderr
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "convox.cli.app", "builds", "export", build.id]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"ERROR: cannot write stdout\n  why: No space left on device\n" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away(rack: DiskRack) -> None:
    build = rack.add_build({"web": add_image(rack.layout, [os.urandom(1 << 20)])})
    words = [sys.executable, "-m", "convox.cli.app", "builds", "export", build.id]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert b"ERROR" not in errors
    assert b"Traceback" not in errors


def test_export_into_a_named_pipe(build: Build, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append(pipe.read_bytes()))
    reader.start()
    assert run("builds", "export", build.id, "-f", str(pipe)).code == 0
    reader.join()
    assert names(taken[0]) == expected_names(build)
    assert pipe.is_fifo()


def test_export_with_stdout_closed(build: Build) -> None:
    words = f"{sys.executable} -m convox.cli.app builds export {build.id} >&-"
    done = subprocess.run(words, shell=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b"ERROR: pipe this command into a file or specify --file\n"


# --- import ---


@pytest.fixture
def export(build: Build, rack: DiskRack) -> bytes:
    return rack.export(build)


def test_import_from_a_file(export: bytes, build: Build, config_path: Path) -> None:
    Path("web.tgz").write_bytes(export)
    result = run("builds", "import", "-f", "web.tgz", "-a", "other")
    assert result.code == 0
    assert re.fullmatch(rb"0 blobs sent \(0 B\), \d already there \([\d.]+ kB\)\n", result.stderr)
    match = IMPORTED.fullmatch(result.stdout)
    assert match is not None
    store = open_local_store(config_path)
    release = store.get_release("other", match[1].decode())
    taken = store.get_build("other", release.build)
    store.close()
    assert dict(taken.images) == dict(build.images)
    assert run("builds", "logs", taken.id, "-a", "other").stdout == b"a log\n"
    assert run("releases", "manifest", release.id, "-a", "other").stdout.strip() == MANIFEST.strip().encode()
    assert taken.description in run("builds", "info", taken.id, "-a", "other").stdout.decode()


def test_import_from_a_pipe(export: bytes) -> None:
    assert IMPORTED.fullmatch(run("builds", "import", stdin=export).stdout)


def test_only_the_id(export: bytes) -> None:
    result = run("builds", "import", "--id", stdin=export)
    assert result.code == 0
    assert re.fullmatch(rb"R[A-Z]{10}", result.stdout)
    assert result.stderr.startswith(b"Importing build... OK, " + result.stdout + b"\n0 blobs sent (0 B), ")


def test_import_without_a_file_on_a_terminal(build: Build) -> None:
    spawn = [sys.executable, "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]
    words = [*spawn, sys.executable, "-m", "convox.cli.app", "builds", "import"]
    result = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert result.returncode == 2
    assert b"pipe a file into this command or specify --file" in result.stdout


def test_import_with_stdin_closed(build: Build) -> None:
    words = f"{sys.executable} -m convox.cli.app builds import <&-"
    done = subprocess.run(words, shell=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"pipe a file into this command or specify --file" in done.stderr


def test_import_of_what_is_no_file(build: Build) -> None:
    for name in ("nothing.tgz", "."):
        result = run("builds", "import", "-f", name)
        assert (result.code, result.stdout) == (1, b"")
        assert result.stderr.startswith(b"ERROR: cannot read ")


@pytest.mark.parametrize("words", [[], ["--inspect"]])
@pytest.mark.parametrize("data", [b"", b"services: {}\n", b"text" * 500, gzip.compress(b"text" * 500, mtime=0)])
def test_import_of_something_else(build: Build, data: bytes, words: list[str]) -> None:
    Path("something").write_bytes(data)
    for result in (run("builds", "import", "-f", "something", *words), run("builds", "import", *words, stdin=data)):
        assert result.code == 1
        assert result.stderr.startswith(b"ERROR: the archive is ")
        assert result.stderr.endswith(b"\n  try: name a file that convox builds export wrote\n")


def test_inspect(export: bytes, build: Build) -> None:
    Path("web.tgz").write_bytes(export[: 1 << 16])  # what follows the record is not read
    result = run("builds", "import", "--inspect", "-f", "web.tgz", "-r", "no-such-rack")
    assert (result.code, result.stderr) == (0, b"")
    lines = result.stdout.decode().splitlines()
    assert lines[0] == f"Id           {build.id}"
    assert "Status       complete" in lines
    assert f"Images       web {build.images['web']}" in lines
    assert f"             worker {build.images['worker']}" in lines
    document = json.loads(run("builds", "import", "--inspect", "--output", "json", stdin=export).stdout)
    assert (document["id"], document["images"], document["manifest"]) == (build.id, dict(build.images), MANIFEST)
    assert run("builds", "-a", "no-such-rack").code == 1


def test_what_cannot_be_inspected(build: Build) -> None:
    result = run("builds", "import", "--inspect", stdin=b"no export")
    assert (result.code, result.stdout) == (1, b"")


def test_import_into_another_rack(export: bytes, build: Build, config_path: Path) -> None:
    assert run("rack", "install", "aws", "second").code == 0
    result = run("builds", "import", "-r", "second", "-a", "web", stdin=export)
    assert IMPORTED.fullmatch(result.stdout)
    assert b"complete" in run("builds", "-r", "second", "-a", "web").stdout
    assert (config_path / "racks" / "second" / "images" / "index.json").exists()


def test_a_full_disk_while_importing(rack: DiskRack) -> None:
    build = rack.add_build({"web": add_image(rack.layout, [os.urandom(100_000)])})
    Path("web.tgz").write_bytes(rack.export(build))
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "from convox.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", script, "builds", "import", "-f", "web.tgz", "-a", "other"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 1
    assert re.match(rb"ERROR: .*\n  why: .*", done.stderr)
    assert b"Traceback" not in done.stderr
    assert rack.leftovers() == []
    assert run("builds", "-a", "other").code == 1


def test_an_export_travels_through_gunzip(export: bytes) -> None:
    assert IMPORTED.fullmatch(run("builds", "import", stdin=gzip.decompress(export)).stdout)
