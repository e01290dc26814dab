"""Completion in real shells: on a terminal, with names in the records that must stay text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.services import Services
from tests.support.shells import add_completion_records, add_hostile_names, install_program, type_into

pytestmark = pytest.mark.services


@pytest.fixture
def shell_path(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which shells find convox, hostile names in its records, and an empty current folder."""
    for name in ("CONVOX_RACK", "RACK_URL", "CONVOX_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONVOX_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "web"
    folder.mkdir()
    monkeypatch.chdir(folder)
    add_completion_records(tmp_path / "config")
    add_hostile_names(tmp_path / "config")
    return install_program(tmp_path / "bin", "convox", "convox.cli.entry")


def test_bash_completes_on_a_terminal(shell_path: dict[str, str]) -> None:
    start = "bind 'set enable-bracketed-paste off'; source <(convox completion bash); PS1='rea''dy> '\n"
    shown = type_into(["bash", "--norc", "--noprofile", "-i"], start, "echo 1; convox relea\t-x\n", shell_path)
    assert "convox releases -x" in shown
    assert "unknown flag: -x" in shown
    shown = type_into(["bash", "--norc", "--noprofile", "-i"], start, "convox apps delete \t\t\x15exit\n", shell_path)
    assert "convox apps delete web" in shown
    assert not Path("pwned").exists()


def test_zsh_completes_on_a_terminal(shell_path: dict[str, str]) -> None:
    start = "autoload -U compinit; compinit -u -D; source <(convox completion zsh); PS1='rea''dy> '\n"
    for typed, expected in (
        ("convox relea\t-x\n", "unknown flag: -x"),
        ("convox builds info BA\t-x\n", "unknown flag: -x"),
        ("convox builds info B\t\t", "build 0a1b2c3d4e first"),
        ("convox apps params set BuildL\t", "BuildLabels="),
        ("convox builds info --app=w\t", "--app=web"),
    ):
        assert expected in type_into(["zsh", "-f", "-i"], start, typed, shell_path, expected), typed
    assert not Path("pwned").exists()


def test_fish_completes(shell_path: dict[str, str]) -> None:
    Path("a.tgz").touch()
    Path("folder").mkdir()

    def ask(line: str) -> list[str]:
        script = "convox completion fish | source; complete -C $argv[1]"
        process = subprocess.run(
            ["fish", "--no-config", "-c", script, line], capture_output=True, env=shell_path, check=True, timeout=60
        )
        assert process.stderr == b""
        return process.stdout.decode().splitlines()

    assert ask("convox rele") == ["releases\tlist releases for an app"]
    assert [line.partition("\t")[0] for line in ask("convox builds info ")] == sorted(
        ["BCCCCCCCCCC", "BBBBBBBBBBB", "BAAAAAAAAAA", "BDDDDDDDDDD"]
    )
    assert ask("convox builds info --app=w") == ["--app=web"]
    assert ask("convox builds import -f a") == ["a.tgz"]
    assert ask("convox build f") == ["folder/\tDirectory"]
    assert ask("convox version ") == []
    assert ask("convox builds info -a '$(touch pwned)' ") == []
    assert not Path("pwned").exists()
