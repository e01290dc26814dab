"""The local builder is a real buildkitd: what it builds, that it listens on no port, and what is left when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from convox import builder as builder_module
from convox.buildkitd_setup import Programs, ProgramsMissingError
from convox.daemon_process import is_running
from convox.local_builder import LocalBuilder
from convox.settings import Settings
from convox.store.process import process_id
from tests.support.convox_cli import Result, open_local_store, run
from tests.support.services import Services

pytestmark = pytest.mark.services

# The same as `convox`, with no builder at the usual place: a machine may have one.
CONVOX = """\
import sys
from convox import builder
from convox.cli.app import main
builder.DEFAULT_ADDRESS = "unix:///nowhere/buildkitd.sock"
sys.exit(main())
"""


@pytest.fixture
def local(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBuilder]:
    """A user with an app called web, whom nobody gave a builder; the real programs are on PATH."""
    for name in ("BUILDKIT_HOST", "CONVOX_RACK", "RACK_URL", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{services.buildctl.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVOX_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(builder_module, "DEFAULT_ADDRESS", "unix:///nowhere/buildkitd.sock")
    try:
        Programs.find(os.environ, is_root=os.geteuid() == 0)
    except ProgramsMissingError as exc:
        pytest.skip(exc.why)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "convox.yml").write_text("services:\n  web:\n    build: .\n    port: 3000\n")
    monkeypatch.chdir(tmp_path / "web")
    local = replace(LocalBuilder.of(Settings.load()), stop_grace_s=2.0)
    yield local
    local.stop()
    assert local.state().status == "stopped"
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def build(dockerfile: str) -> Result:
    Path("Dockerfile").write_text(dockerfile)
    return run("build")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes(word: str) -> list[str]:
    """Return the ids of the processes that have a word on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(process_id(int(path.parent.name)))
    return found


def test_a_build_starts_it_and_the_next_one_uses_it(local: LocalBuilder, services: Services, tmp_path: Path) -> None:
    first = build("FROM scratch\nCOPY convox.yml /\n")
    assert first.code == 0, first.stderr
    assert first.stdout.startswith(
        b"Packaging source... OK\nStarting a local builder... OK\nUploading source... OK\nStarting build... OK\n"
    )
    state = local.state()
    assert state.status == "running"
    second = build(f"FROM {services.base_image}\nCOPY convox.yml /\nRUN echo $((6 * 7)) && wc -l </convox.yml\n")
    assert second.code == 0, second.stderr
    assert second.stdout.startswith(b"Packaging source... OK\nUploading source... OK\n")
    lines = second.stdout.decode().splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("web | #") and line.split()[-1].isdigit()] == [
        "42",
        "4",
    ]
    assert local.state().pid == state.pid
    store = open_local_store(tmp_path / "config")
    try:
        newest, oldest = store.list_builds("web")
    finally:
        store.close()
    assert (newest.status, oldest.status) == ("complete", "complete")
    assert newest.images["web"] != oldest.images["web"]
    assert (local.root_path / "buildkitd.lock").exists()


def test_it_listens_on_no_port(local: LocalBuilder) -> None:
    state = local.start()
    table = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = {f"socket:[{fields[9]}]" for fields in table if fields[3] == "0A"}
    daemons = [pid for pid in processes(f"--addr={state.address}") if is_running(pid)]
    assert daemons
    for process in daemons:
        folder = Path("/proc") / process.split(":")[1] / "fd"
        opened = {str(path.readlink()) for path in folder.iterdir()}
        assert any(name.startswith("socket:") for name in opened) or len(daemons) > 1
        assert not opened & listening
    assert Path(state.address.removeprefix("unix://")).parent.stat().st_mode & 0o777 == 0o700


def test_stopping_it_ends_the_builds_it_runs(local: LocalBuilder, services: Services, tmp_path: Path) -> None:
    local.start()
    results: list[Result] = []
    seconds = str(10_000_000 + os.getpid())

    def fail() -> None:
        results.append(build(f'FROM {services.base_image}\nRUN ["sleep", "{seconds}"]\n'))

    thread = threading.Thread(target=fail)
    thread.start()
    # The container's process, not the one that waits for it to become that.
    wait_until(lambda: processes(seconds))
    [step] = processes(seconds)
    assert local.stop()
    thread.join(30)
    assert not is_running(step)
    assert results[0].code == 1
    store = open_local_store(tmp_path / "config")
    try:
        assert store.list_builds("web")[0].status == "failed"
    finally:
        store.close()
    assert b"Starting a local builder... OK" in build("FROM scratch\nCOPY convox.yml /\n").stdout


def test_after_it_was_killed_the_next_build_starts_another(local: LocalBuilder) -> None:
    pid = local.start().pid
    assert pid is not None
    process = process_id(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(process))
    assert local.state().status == "stopped"
    result = build("FROM scratch\nCOPY convox.yml /\n")
    assert result.code == 0, result.stderr
    assert b"Starting a local builder... OK" in result.stdout
    assert local.state().pid not in (None, pid)


def test_two_builds_at_once_start_one(local: LocalBuilder) -> None:
    Path("Dockerfile").write_text("FROM scratch\nCOPY convox.yml /\n")
    command = [sys.executable, "-c", CONVOX, "build"]
    builds = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    outputs = [child.communicate(timeout=120)[0] for child in builds]
    assert [child.returncode for child in builds] == [0, 0], outputs
    assert sum(b"Starting a local builder... OK" in output for output in outputs) == 1
    # It has outlived both, and answers.
    status = run("builder", "status", "--output", "json")
    assert status.code == 0
    assert json.loads(status.stdout)["pid"] == local.state().pid
