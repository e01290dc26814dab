"""What ``buildkit-client`` proposes to a shell, side by side with ``buildctl``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from buildkit_client.cli.commands import command_tree
from buildkit_client.cli.completion import proposals
from tests.support.services import Services
from tests.support.shells import install_program

LINES = [
    "",
    "d",
    "xx",
    "-",
    "--",
    "--a",
    "--addr",
    "--addr x",
    "--addr=x --t",
    "build --",
    "build -",
    "build --o",
    "build --output",
    "build --output x --p",
    "build --no-cache --se",
    "build -o x --imp",
    "b --f",
    "debug",
    "debug --addr x",
    "--debug debug",
    "debug h",
    "debug --",
    "debug workers --f",
    "debug ctl --",
    "du --f",
    "prune --keep-",
    "prune --keep-duration",
    "completion b",
    "x build",
]


@pytest.mark.parametrize("line", LINES)
def test_it_proposes_what_buildctl_proposes(line: str, services: Services) -> None:
    command = [str(services.buildctl), *line.split(), "--generate-shell-completion"]
    theirs = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout.decode().splitlines()
    expected = [word.partition(":")[0] for word in theirs]
    found = [word.partition(":")[0] for word in proposals(command_tree({}), line.split()).splitlines()]
    if expected in (["help"], []) or line in ("d", "xx", "x build", "completion b"):
        # Behind a command that holds no others, buildctl proposes help, and behind a word that means nothing
        # everything; there the shell proposes files.
        assert found == []
    else:
        assert found == expected


def test_fish_completes(services: Services, tmp_path: Path) -> None:
    program_path = install_program(tmp_path / "bin", "buildkit-client", "buildkit_client.cli.app")
    script = "buildkit-client completion fish | source; complete -C $argv[1]"
    for line, expected in (("pru", {"prune", "prune-histories"}), ("build --no", {"--no-cache"})):
        process = subprocess.run(
            ["fish", "--no-config", "-c", script, f"buildkit-client {line}"],
            capture_output=True,
            env=program_path,
            check=True,
            timeout=60,
        )
        assert {word.partition("\t")[0] for word in process.stdout.decode().splitlines()} == expected
