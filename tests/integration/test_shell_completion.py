"""What ``buildkit-client`` proposes to a shell, side by side with ``buildctl``."""

from __future__ import annotations

import subprocess

import pytest

from buildkit_client.cli.commands import command_tree
from buildkit_client.cli.completion import proposals
from tests.support.services import Services

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
