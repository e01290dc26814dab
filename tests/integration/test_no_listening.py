"""During a build no process of ours listens on a socket, and no other program is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WATCH = r'''
"""Loaded by Python itself as sitecustomize: notes sockets that listen and programs that are run."""
import atexit, json, os, sys, threading

FORBIDDEN = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.system", "socket.bind")
seen = {"events": [], "listening": [], "samples": 0, "sockets": 0}

def audit(event, args):
    if event in FORBIDDEN:
        program = args[0] if event.startswith(("subprocess", "os.exec", "os.posix")) else args
        seen["events"].append([event, str(program)])

def listeners():
    """Return the inodes of this machine's listening sockets: TCP state 0A, unix flag 00010000 (accepts)."""
    found = {}
    for name, state, wanted, inode in (("tcp", 3, "0A", 9), ("tcp6", 3, "0A", 9), ("unix", 3, "00010000", 6)):
        with open(f"/proc/self/net/{name}") as table:
            for line in table.read().splitlines()[1:]:
                fields = line.split()
                if len(fields) > inode and fields[state] == wanted:
                    found[fields[inode]] = f"{name} {line}"
    return found

def ours():
    """Return the inodes of the sockets of this process and of its children."""
    inodes = set()
    for task in (os.getpid(), *children()):
        try:
            for name in os.listdir(f"/proc/{task}/fd"):
                try:
                    target = os.readlink(f"/proc/{task}/fd/{name}")
                except OSError:
                    continue
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except OSError:
            pass
    return inodes

def children():
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                yield from file.read().split()
        except OSError:
            pass

def sample():
    listening, sockets = listeners(), ours()
    seen["samples"] += 1
    seen["sockets"] = max(seen["sockets"], len(sockets))
    seen["listening"] += [listening[inode] for inode in sockets if inode in listening]
def watch():
    while not over.wait(0.01):
        sample()

def report():
    over.set()
    with open(os.environ["WATCH_REPORT"], "w") as file:
        json.dump(seen, file)

over = threading.Event()
sys.addaudithook(audit)
atexit.register(report)
if os.environ.get("WATCH_SELFTEST"):
    import socket, subprocess
    server = socket.create_server(("127.0.0.1", 0))
    other = socket.socket(socket.AF_UNIX); other.bind("\0watch-selftest"); other.listen()
    sample()
    subprocess.run(["true"])
threading.Thread(target=watch, daemon=True).start()
'''

LIBRARY = """
import sys
from pathlib import Path
from buildkit_client import Client, DockerfileFrontend, ImageExporter, OciExporter, OutputLayout, RegistryCache
from buildkit_client.oci.credentials import Credentials, StaticCredentials
address, folder, registry, user, password = sys.argv[1:]
folder = Path(folder)
with Client(address) as client:
    result = client.solve(
        DockerfileFrontend(no_cache=True),
        local_dirs={"context": folder, "dockerfile": folder},
        exporters=[ImageExporter(name=f"{registry}/tests/no-listening:1", push=True)],
        cache_exports=[RegistryCache(ref=f"{registry}/tests/no-listening:cache", mode="max")],
        credentials=StaticCredentials({registry: Credentials(user, password)}),
    )
    for number, dest in enumerate((folder.parent / "image.tar", OutputLayout(folder.parent / "layout"))):
        result = client.solve(
            DockerfileFrontend(),
            local_dirs={"context": folder, "dockerfile": folder},
            exporters=[OciExporter(dest=dest)],
        )
print(result.digest)
"""


def run_watched(tmp_path, command, **environ):
    """Run a command with the watch in it; return its output and what was seen."""
    (tmp_path / "watch").mkdir(exist_ok=True)
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    report = tmp_path / "report.json"
    path = os.pathsep.join(filter(None, (str(tmp_path / "watch"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, "WATCH_REPORT": str(report), "HOME": str(tmp_path), **environ},
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(report.read_text())


@pytest.fixture
def folder(services, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {services.base_image}\nCOPY . /app\nRUN sleep 0.5\n")
    (folder / "file").write_bytes(os.urandom(2_000_000))
    return folder


def check(seen, programs=()):
    """Nothing listens, and no program is run but those."""
    assert seen["samples"] >= 20
    assert seen["sockets"] >= 1, "the connection to the daemon itself was not seen: the watch is blind"
    assert seen["listening"] == []
    assert [(event, program) for event, program in seen["events"] if program not in programs] == []


def test_the_watch_sees_what_it_should(tmp_path):
    _, seen = run_watched(tmp_path, [sys.executable, "-c", "pass"], WATCH_SELFTEST="1")
    assert sorted(line.split()[0] for line in seen["listening"])[:2] == ["tcp", "unix"]
    assert {"socket.bind", "subprocess.Popen"} <= {event for event, _ in seen["events"]}


def test_the_library_listens_nowhere_and_runs_nothing(services, tmp_path, folder):
    words = (services.buildkit_host, folder, services.registry_htpasswd)
    login = (services.htpasswd_user, services.htpasswd_password)
    out, seen = run_watched(
        tmp_path, [sys.executable, "-c", LIBRARY, *words, *login], DOCKER_CONFIG=str(tmp_path / "none")
    )
    assert out.startswith("sha256:")
    assert (tmp_path / "image.tar").exists()
    check(seen)


def test_convox_build_listens_nowhere_and_runs_nothing_but_git(services, tmp_path, folder):
    (folder / "convox.yml").write_text("services:\n  web:\n    build: .\n  worker:\n    build: .\n")
    out, seen = run_watched(
        tmp_path,
        [sys.executable, "-c", "from convox.cli.app import main; main()", "build", str(folder), "-a", "quiet"],
        CONVOX_CONFIG=str(tmp_path / "config"),
        DOCKER_CONFIG=str(tmp_path / "none"),
    )
    assert "Build:" in out
    assert "Release:" in out
    check(seen, programs=("git",))  # for the commit that the build's record names
