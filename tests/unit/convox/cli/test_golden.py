"""What each command prints, piped and on a terminal, against the files in tests/golden/convox.

``UPDATE_GOLDEN=1`` writes the files anew; the review reads them.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.support.convox_cli import Result, add_records, run, run_on_terminal

GOLDEN = Path(__file__).parents[3] / "golden" / "convox"

COMMANDS = {
    "builds": [
        "builds",
        "builds -l 1 -a web",
        "builds --limit=0",
        "builds -a nobody",
        "builds -l x",
        "builds -x",
        "builds nope",
        "builds --output json -l 1",
        "builds info BAAAAAAAAAA",
        "builds info BBBBBBBBBBB",
        "builds info BCCCCCCCCCC -a web",
        "-a web builds info BDDDDDDDDDD -w",
        "builds info BNONENONENO",
        "builds info BAAAAAAAAAA --output json",
        "builds info",
        "builds info one two",
        "builds logs BAAAAAAAAAA",
        "builds logs BBBBBBBBBBB",
        "builds logs BNONENONENO",
    ],
    "releases": [
        "releases",
        "releases -l 1",
        "releases --output json",
        "releases info RAAAAAAAAAA",
        "releases info RAAAAAAAAAA --reveal",
        "releases info RBBBBBBBBBB --output json",
        "releases info RNONENONENO",
        "releases manifest RAAAAAAAAAA",
        "releases manifest RBBBBBBBBBB",
        "releases manifest",
    ],
    "racks": [
        "racks",
        "switch",
        "rack install aws prod docker_hub_username=me docker_hub_password=CANARYCANARY",
        "rack install aws prod",
        "rack install nowhere prod",
        "racks",
        "racks --output json",
        "switch pro",
        "switch",
        "switch nowhere",
        "switch one two",
        "rack",
        "rack params -g registry",
        "rack params -g registry --reveal",
        "rack params -g nonsense",
        "rack params --output json -g registry",
        "rack params set docker_hub_username=you",
        "rack params set docker_hub_usernam=you",
        "rack params set nonsense",
        "rack params set =v",
        "rack params set",
        "rack params set docker_hub_password=",
        "rack params -g registry -r local",
        "racks -r nowhere",
        "switch -w",
    ],
    "help": [
        "builds --help",
        "builds info -h",
        "builds logs --help",
        "builds export --help",
        "builds import --help",
        "builds import-image --help",
        "releases -h",
        "releases info --help",
        "rack --help",
        "rack params set --help",
        "rack params -h",
        "racks -h",
        "switch -h",
        "version -h",
        "nope",
        "build-s",
        "-x",
    ],
}


def shown(command: str, result: Result) -> str:
    blocks = [f"$ convox {command}"]
    for name, data in (("stdout", result.stdout), ("stderr", result.stderr)):
        if data:
            text = data.decode().replace("\x1b", "␛")
            blocks.append(f"--- {name}\n{text}" + ("" if text.endswith("\n") else "(no line end)\n"))
    return "\n".join([*(block.rstrip("\n") for block in blocks), f"--- exit {result.code}", ""])


@pytest.mark.parametrize("where", ["piped", "terminal"])
@pytest.mark.parametrize("topic", COMMANDS)
def test_output(topic: str, where: str, config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convox.cli import about

    monkeypatch.setattr(about, "version", lambda: "1.2.3")
    if topic in ("builds", "releases"):
        add_records(config_path)
    runner = run if where == "piped" else run_on_terminal
    blocks: list[str] = []
    for command in COMMANDS[topic]:
        result = runner(*shlex.split(command))
        if "--reveal" not in command:
            assert b"CANARY" not in result.stdout + result.stderr, command
        blocks.append(shown(command, result))
    text = "\n".join(blocks)
    assert str(config_path.parent) not in text
    path = GOLDEN / f"{topic}.{where}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
