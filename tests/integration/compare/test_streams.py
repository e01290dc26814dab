"""Standard output that cannot be written: where buildctl dies of a signal or does not notice, ours says so."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.services import Services


@pytest.fixture
def command(tmp_path: Path) -> list[str | Path]:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    locals_ = [f"--local={name}={tmp_path}" for name in ("context", "dockerfile")]
    program = Path(sys.executable).with_name("buildkit-client")
    return [program, "build", "--frontend=dockerfile.v0", *locals_, "--output=type=oci"]


def run(services: Services, command: list[str | Path], stdout: int) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "BUILDKIT_HOST": services.buildkit_host}
    return subprocess.run(
        command, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )


def test_nobody_reads_it(services: Services, command: list[str | Path]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(services, command, writing)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("Broken pipe")


def test_it_is_closed(services: Services, command: list[str | Path]) -> None:
    done = run(services, ["sh", "-c", 'exec "$@" >&-', "sh", *command], subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr == "error: invalid output option: output: standard output is closed\n"


def test_standard_error_is_closed(services: Services, command: list[str | Path], tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    words = [*command[:-1], f"--output=type=oci,dest={archive}"]
    done = run(services, ["sh", "-c", 'exec "$@" 2>&-', "sh", *words], subprocess.DEVNULL)
    assert done.returncode == 0
    assert tarfile.is_tarfile(archive)


def test_an_answer_for_a_closed_standard_output(services: Services, command: list[str | Path]) -> None:
    words = [*command[:-1], "--progress=quiet", "--opt=requestid=frontend.targets"]
    done = run(services, ["sh", "-c", 'exec "$@" >&-', "sh", *words], subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (1, "error: standard output is closed\n")


def test_a_ref_file_that_cannot_be_written(services: Services, command: list[str | Path], tmp_path: Path) -> None:
    words = [*command[:-1], "--progress=quiet", f"--ref-file={tmp_path}/none/ref"]
    warning = f"warning: cannot write the ref file {tmp_path}/none/ref: No such file or directory"
    done = run(services, words, subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, f"{warning}\n")
    done = run(services, [*words, "--opt=target=none"], subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == warning
    # Releases before 0.13 leave out the quotes.
    assert (
        done.stderr.splitlines()[-1].replace('"', "") == "error: failed to solve: target stage none could not be found"
    )


def test_closed_where_nothing_is_written(services: Services, command: list[str | Path]) -> None:
    done = run(services, ["sh", "-c", 'exec "$@" >&- <&-', "sh", *command[:-1]], subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
