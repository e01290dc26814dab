"""What ``apps``, ``env``, ``registries``, the changing ``releases`` and ``rack pull-secret`` print, letter by letter.

As :mod:`tests.unit.convox.cli.test_golden`, with ids that count instead of being drawn.
"""

from __future__ import annotations

import itertools
import os
import shlex
from pathlib import Path

import pytest

from convox import models, releases
from tests.support.convox_cli import add_records, run, run_on_terminal
from tests.unit.convox.cli.test_golden import GOLDEN, shown

COMMANDS = {
    "apps": [
        "apps",
        "apps create",
        "apps create api",
        "apps create api",
        "apps create rack",
        "apps create Nope",
        "apps",
        "apps --output json",
        "apps info",
        "apps info web",
        "apps info -a api --output json",
        "apps info nobody",
        "apps params",
        "apps params set BuildArch=arm64 BuildCpu=500",
        "apps params web",
        "apps params --output json",
        "apps params set BuildArch=x86",
        "apps params set BuildCpu",
        "apps params set Nope=1",
        "apps params set",
        "apps params unset BuildCpu",
        "apps params unset Nope",
        "apps params",
        "apps delete api",
        "apps delete api",
        "apps delete",
        "apps one",
    ],
    "env": [
        "env",
        "env --reveal -a api",
        "env set FOO=CANARY-one BAR=CANARY-two",
        "env",
        "env --output json",
        "env --reveal",
        "env set FOO",
        "env set FOO=****",
        "env set -p NEW=CANARY-three",
        "env set --id MORE=1",
        "env set --id -p EVEN=2",
        "env get FOO",
        "env get FOOO",
        "env get",
        "env unset MORE EVEN",
        "env unset NONE",
        "env unset",
        "env --release RAAAAAAAAAA",
        "env --release RNONE",
        "env set --release RAAAAAAAAAA LATE=1 --output json",
        "env set --replace ONLY=1",
        "env edit --nonsense",
        "releases -l 20",
        "env -a nobody",
    ],
    "releases-change": [
        "releases promote",
        "releases promote RAAAAAAAAAA",
        "releases promote RNONE",
        "releases promote --output json",
        "releases promote one two",
        "releases",
        "releases rollback RAAAAAAAAAA",
        "releases rollback RAAAAAAAAAA --id",
        "releases rollback RNONE",
        "releases rollback",
        "releases create-from",
        "releases create-from --build-from RAAAAAAAAAA",
        "releases create-from --build-from RAAAAAAAAAA --use-active-release-build",
        "releases create-from --build-from RAAAAAAAAAA --env-from RBBBBBBBBBB",
        "releases create-from --use-active-release-build --env-from RBBBBBBBBBB --promote",
        "releases create-from --build-from RNONE --env-from RBBBBBBBBBB",
        "releases create-from --use-active-release-build --use-active-release-env --output json",
        "releases -l 20",
        "releases promote -a nobody",
    ],
    "registries": [
        "registries",
        "registries add registry.example.com my_private_name CANARY",
        "registries add https://index.docker.io/v1/ my_docker_name CANARY",
        "registries add quay.io my_quay_name",
        "registries add harbor.example.com robot -",
        "registries add quay.io/team me CANARY",
        "registries add quay.io me CANARY --password-stdin",
        "registries add one",
        "registries",
        "registries --output json",
        "registries remove registry.example.com",
        "registries remove registry.example.com",
        "registries remove docker.io",
        "registries",
        "registries one",
        "registries check 'a b'",
        "rack pull-secret",
        "rack params set docker_hub_username=me docker_hub_password=CANARY",
        "rack pull-secret",
        "rack pull-secret --reveal --name hub -n web --service-account default",
        "rack pull-secret --reveal --output json",
        "rack pull-secret --name Nope",
        "rack install do prod token=CANARYCANARY region=nyc3 registry=registry.digitalocean.com/acme",
        "rack params -r prod -g registry",
        "rack params set token=CANARYCANARY -r prod",
        "rack params set node_typ=x -r prod",
        "rack params set node_type=s-4vcpu-8gb -r prod",
        "switch prod",
        "rack uninstall pro",
        "rack uninstall prod",
        "switch",
        "rack uninstall",
    ],
    "help-apps": [
        "apps --help",
        "apps create --help",
        "apps delete --help",
        "apps info --help",
        "apps params --help",
        "apps params set --help",
        "apps params unset --help",
        "env --help",
        "env edit --help",
        "env get --help",
        "env set --help",
        "env unset --help",
        "releases create-from --help",
        "releases promote --help",
        "releases rollback --help",
        "registries --help",
        "registries add --help",
        "registries check --help",
        "registries remove --help",
        "rack uninstall --help",
        "rack pull-secret --help",
    ],
}


@pytest.fixture
def counted_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids RZAAAAAAAAA, RZBBBBBBBBB and so on, and times that do not move."""
    from tests.support.convox_cli import NOW

    letters = itertools.cycle("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    monkeypatch.setattr(releases, "new_release_id", lambda: f"RZ{next(letters) * 9}")
    monkeypatch.setattr(releases, "now", lambda: NOW)
    monkeypatch.setattr(models, "now", lambda: NOW)


@pytest.mark.usefixtures("counted_ids")
@pytest.mark.parametrize("where", ["piped", "terminal"])
@pytest.mark.parametrize("topic", COMMANDS)
def test_output(topic: str, where: str, config_path: Path) -> None:
    if topic in ("env", "releases-change"):
        add_records(config_path)
    blocks: list[str] = []
    for command in COMMANDS[topic]:
        words = shlex.split(command)
        result = (
            run(*words, stdin=b"CANARY\n" if words[-1] == "-" else b"") if where == "piped" else run_on_terminal(*words)
        )
        may_show = "--reveal" in command or words[:2] == ["env", "get"]
        assert may_show or b"CANARY" not in result.stdout + result.stderr, command
        blocks.append(shown(command, result))
    text = "\n".join(blocks)
    assert str(config_path.parent) not in text
    path = GOLDEN / f"{topic}.{where}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
