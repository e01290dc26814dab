"""Completion of ``buildkit-client``: what ``buildctl`` proposes, in real shells, and nothing on the line is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from buildkit_client.cli.app import main
from buildkit_client.cli.commands import command_tree
from buildkit_client.cli.completion import proposals

ROOT = command_tree({})


def words(*line: str) -> list[str]:
    return [word.partition(":")[0] for word in proposals(ROOT, line).splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], ["du", "prune", "prune-histories", "build", "debug", "help"]),
        (["--a"], ["--addr"]),
        (["build", "--o"], ["--output", "--oci-layout", "--opt"]),
        (["build", "--local", "build", "--no"], ["--no-cache"]),
        (["build", "--local", "context", "=", "debug", ""], []),
        (["debug", "workers", "--f"], ["--filter", "--format"]),
        (["completion"], ["bash", "zsh", "fish", "help"]),
        (["--addr"], []),
        (["build", "--output"], []),
        (["--version", "--v"], ["--version"]),
    ],
)
def test_what_is_proposed(line: list[str], expected: list[str]) -> None:
    assert words(*line) == expected


def test_every_flag_and_command_has_a_line_of_its_own() -> None:
    def walk(command: object, path: list[str]) -> None:
        for flag in command.flags:  # type: ignore[attr-defined]
            assert f"--{flag.name}" in words(*path, "--")
        for inner in command.commands:  # type: ignore[attr-defined]
            assert inner.is_hidden or inner.name in words(*path)
            walk(inner, [*path, inner.name])

    walk(ROOT, [])


def test_nothing_on_the_line_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The reference runs what stands before a ``--``: there, the tab key would prune."""
    assert main(["prune", "--", "--", "--generate-shell-completion"]) == 0
    assert main(["prune", "--", "x", "--generate-shell-completion"]) == 0
    assert main(["debug", "dump-llb", "/dev/zero", "--generate-shell-completion"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"Completion of buildkit-client for {shell}." in script
    assert "eval" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script.encode(), check=True, timeout=20)


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 3
    assert capsys.readouterr().err == "No help topic for 'tcsh'\n"


QUESTION = """
source <(buildkit-client completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_buildkit_client_complete
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes(program_path: dict[str, str]) -> None:
    def ask(*line: str) -> list[str]:
        process = subprocess.run(
            ["bash", "--norc", "-c", QUESTION, "bash", *line],
            capture_output=True,
            env=program_path,
            check=True,
            timeout=60,
        )
        assert process.stderr == b""
        return process.stdout.decode().split()

    assert ask("buildkit-client", "pru") == ["prune", "prune-histories"]
    assert ask("buildkit-client", "build", "--o") == ["--output", "--oci-layout", "--opt"]
    assert ask("buildkit-client", "build", "--opt", "$(touch pwned)", "`touch pwned`", "--no") == ["--no-cache"]
    assert ask("buildkit-client", "build", "--output", "") == []
    assert not Path("pwned").exists()


@pytest.fixture
def program_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which shells find buildkit-client, and an empty current folder."""
    program = tmp_path / "bin" / "buildkit-client"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from buildkit_client.cli.app import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
