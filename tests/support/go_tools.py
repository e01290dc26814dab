"""Small Go programs that ask the reference itself; built once into the cache folder.

A test takes the fixture of its program and is skipped, with the reason, where Go or its modules are not to be had.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent / "go"


class GoToolMissingError(Exception):
    """The program cannot be built here; the text says why."""


def go_tool(name: str) -> Path:
    """Return a program of ``tests/support/go``, built from the sources as they are now."""
    folder = _SOURCES / name
    digest = hashlib.sha256()
    for source in sorted(folder.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    program = _cache() / "go-tools" / f"{name}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise GoToolMissingError(f"needs Go to build tests/support/go/{name}")
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes, and their cases in threads
        if not program.exists():
            _build(go, folder, program)
    return program


def _build(go: str, folder: Path, program: Path) -> None:
    part = program.with_suffix(".part")
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    done = subprocess.run(
        [go, "build", "-trimpath", "-o", part, "."],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise GoToolMissingError(f"tests/support/go/{folder.name} does not build: {lines[-1]}")
    part.replace(program)


def _cache() -> Path:
    given = os.environ.get("BUILDKIT_CLIENT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "buildkit-client"
