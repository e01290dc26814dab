"""Completion in shells: what is proposed, that hostile names stay text, and that nothing is done or waited for."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convox.cli.app import COMMANDS, root_group
from convox.cli.command import Group
from convox.cli.completion import SCRIPTS, propose, propose_typed
from convox.errors import ConvoxError
from convox.rack import get_rack, update_params
from convox.settings import Settings
from tests.support.convox_cli import run
from tests.support.shells import HOSTILE, add_completion_records, add_hostile_names, install_program


def proposed(*words: str) -> list[str]:
    return [word for word, _ in propose(words, Settings.load()).rows]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rel"], ["releases"]),
        (["rack", "params", ""], ["set"]),
        (["builds", "imp"], ["import", "import-image"]),
        (["builds", "info", "--"], ["--app", "--rack", "--output", "--help"]),
        (["builds", "--l"], ["--limit"]),
        (["-"], ["--app", "--rack", "--help", "--version"]),
        (["build", "--no"], ["--no-cache", "--no-push"]),
        (["builds", "info", ""], ["BCCCCCCCCCC", "BBBBBBBBBBB", "BAAAAAAAAAA", "BDDDDDDDDDD"]),
        (["builds", "info", "BB"], ["BBBBBBBBBBB"]),
        (["builds", "info", "BBBBBBBBBBB", ""], []),
        (["builds", "rm", "BBBBBBBBBBB", "BCCCCCCCCCC", ""], ["BAAAAAAAAAA", "BDDDDDDDDDD"]),
        (["builds", "info", "-a", "other", ""], []),
        (["-a", "other", "builds", "info", ""], []),
        (["builds", "info", "-aweb", "BA"], ["BAAAAAAAAAA"]),
        (["builds", "info", "--", "-"], []),
        (["builds", "info", "--", "BA"], ["BAAAAAAAAAA"]),
        (["releases", "promote", "RA"], ["RAAAAAAAAAA"]),
        (["releases", "create-from", "--build-from=RA"], ["--build-from=RAAAAAAAAAA"]),
        (["releases", "create-from", "--build-from", "RA"], ["RAAAAAAAAAA"]),
        (["builds", "-a", ""], ["web"]),
        (["-a", ""], ["web"]),
        (["apps", "delete", ""], ["web"]),
        (["apps", "params", ""], ["set", "unset", "web"]),
        (["apps", "params", "unset", "BuildA"], ["BuildArch"]),
        (["apps", "params", "set", "BuildArch="], ["BuildArch=amd64", "BuildArch=arm64"]),
        (["env", "unset", ""], ["FOO"]),
        (["env", "set", ""], ["FOO="]),
        (["env", "set", "FOO="], []),
        (["switch", ""], ["local", "prod"]),
        (["builds", "-r", "p"], ["prod"]),
        (["builds", "info", "-r", "prod", ""], []),
        (["builds", "info", "-r", "nowhere", ""], []),
        (["rack", "uninstall", ""], ["local", "prod"]),
        (["rack", "install", "a"], ["aws", "azure"]),
        (["rack", "params", "set", "docker_hub"], ["docker_hub_password=", "docker_hub_username="]),
        (["rack", "params", "set", "cache="], ["cache=registry", "cache=inline", "cache=none"]),
        (["rack", "params", "-g", "re"], ["registry", "retention"]),
        (["registries", "remove", "-r", "prod", ""], ["harbor.example.com:5000"]),
        (["builds", "--output", ""], ["text", "json"]),
        (["builds", "export", "--format", ""], ["convox", "oci"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nothing", "of", "that", ""], []),
        (["nothing", "--"], ["--app", "--rack", "--help", "--version"]),
    ],
)
def test_what_is_proposed(words: list[str], expected: list[str], records: Path) -> None:
    found: list[str] = []
    with contextlib.suppress(ConvoxError):  # as for a shell
        found = proposed(*words)
    assert found == expected


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["build", ""], "folders"),
        (["build", "-m", ""], "files"),
        (["builds", "import", "--file="], "files"),
        (["rack", "params", "set", ""], "open"),
        (["rack", "params", "set", "cache="], "words"),
        (["version", ""], "words"),
    ],
)
def test_where_the_shell_proposes_paths_or_goes_on(words: list[str], kind: str, records: Path) -> None:
    assert propose(words, Settings.load()).kind == kind


def test_every_command_and_flag_is_proposed(config_path: Path) -> None:
    def walk(group: Group, path: list[str]) -> None:
        for name in group.list_commands(None):  # type: ignore[arg-type]
            command = group.get_command(None, name)
            if not command.hidden:
                assert name in proposed(*path, ""), [*path, name]
                if isinstance(command, Group):
                    walk(command, [*path, name])
                shown = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
                assert {option for param in shown for option in param.opts if option.startswith("--")} <= set(
                    proposed(*path, name, "--")
                )

    walk(root_group(), [])
    assert proposed("") == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["releases", "create-from", "--env-from", "=", "R"], ["RBBBBBBBBBB", "RAAAAAAAAAA"]),
        (["releases", "create-from", "--env-from", "="], ["RBBBBBBBBBB", "RAAAAAAAAAA"]),
        (["registries", "remove", "-r", "prod", "harbor.example.com", ":", "50"], ["5000"]),
        (["registries", "remove", "-r", "prod", "harbor.example.com", ":"], ["5000"]),
        (["registries", "remove", "-r", "prod", "harb"], ["harbor.example.com:5000"]),
        (["builds", "-a", "'we"], ["web"]),
        (["builds", "info", "--app=", '"web"', "BA"], []),
        (["builds", "info", "--app", "=", '"web"', "BA"], ["BAAAAAAAAAA"]),
        (["builds", "info", "-a", "w\\eb", "BA"], ["BAAAAAAAAAA"]),
        ([], sorted(COMMANDS)),
    ],
)
def test_what_bash_has_parted_and_quoted_is_understood(typed: list[str], expected: list[str], records: Path) -> None:
    assert [word for word, _ in propose_typed("bash", typed, Settings.load()).rows] == expected


def test_hostile_names_are_not_proposed(records: Path) -> None:
    add_hostile_names(records)
    for words in (["apps", "delete"], ["builds", "info"], ["releases", "info"], ["env", "get"], ["switch"]):
        assert proposed(*words, "")
        for shell in SCRIPTS:
            for word, about in propose_typed(shell, [*words, ""], Settings.load()).rows:
                assert word not in HOSTILE
                assert about.isprintable()
                assert len(about) <= 70
    assert proposed("registries", "remove", "-r", "prod", "") == ["harbor.example.com:5000"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_the_answer_is_a_line_for_each_word(shell: str, records: Path) -> None:
    add_hostile_names(records)
    kind, *lines = ask(shell, "builds", "info", "B").splitlines()
    assert kind == "words"
    assert [line.partition("\t")[0] for line in lines] == ["BCCCCCCCCCC", "BBBBBBBBBBB", "BAAAAAAAAAA", "BDDDDDDDDDD"]
    assert all(line.count("\t") == 1 for line in lines)


@pytest.mark.parametrize("words", [[], ["bash"], ["bash", "builds", "info", "-r", "$(x)", ""], ["bash", "\udcff", "'"]])
def test_errors_propose_nothing_and_say_nothing(words: list[str], records: Path) -> None:
    process = complete(*words)
    assert (process.returncode, process.stderr) == (0, b"")


def test_damaged_files_propose_nothing(records: Path) -> None:
    (records / "racks" / "prod" / "params.json").write_text("{")
    (records / "racks" / "local" / "store.db").write_bytes(b"no database" * 100)
    for words in (["switch", ""], ["builds", "info", ""], ["-a", ""]):
        process = complete("bash", *words)
        assert (process.returncode, process.stdout, process.stderr) == (0, b"", b""), words


def test_nothing_is_made_or_brought_up_to_date(config_path: Path) -> None:
    for words in (["builds", "info", ""], ["-a", ""], ["switch", ""], ["registries", "remove", ""]):
        complete("zsh", *words)
    assert not config_path.exists()


def test_a_pipe_in_place_of_the_store_is_not_opened(config_path: Path) -> None:
    get_rack(config_path, "local")
    os.mkfifo(config_path / "racks" / "local" / "store.db")
    assert complete("bash", "builds", "info", "").returncode == 0


def test_a_store_that_is_locked_is_not_waited_for(records: Path) -> None:
    with sqlite3.connect(records / "racks" / "local" / "store.db") as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with contextlib.suppress(sqlite3.OperationalError):
            propose(["builds", "info", ""], Settings.load())
        assert time.monotonic() - started < 2
    database.close()


def test_a_server_is_not_asked(records: Path) -> None:
    update_params(get_rack(records, "prod"), {"store": "postgresql://user:CANARY@127.0.0.1:1/records"})
    script = (
        "import socket, sys; socket.socket = socket.create_connection = None\n"
        "from convox.cli.completion import answer\n"
        "answer(sys.argv[1:])\n"
        "print(sorted({'psycopg', 'grpc', 'buildkit_client.client', 'peewee', 'yaml'} & set(sys.modules)))"
    )
    words = ["bash", "builds", "info", "-r", "prod", ""]
    process = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=True, timeout=20)
    assert process.stdout == b"words\n[]\n"


def test_the_scripts_are_printed(config_path: Path) -> None:
    for shell, script in SCRIPTS.items():
        assert run("completion", shell).stdout.decode() == script
    assert run("completion", "tcsh").code == 2
    assert run("completion").stderr.startswith(b"ERROR: 1 arg required\n")


BASH_QUESTION = """
compopt() { echo "compopt $*"; }
source <(convox completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_convox_complete
printf '<%s>\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes(records: Path, shell_path: dict[str, str]) -> None:
    def ask(*words: str) -> list[str]:
        line = ["bash", "--norc", "-c", BASH_QUESTION, "bash", *words]
        process = subprocess.run(line, capture_output=True, env=shell_path, check=True, timeout=60)
        assert process.stderr == b""
        return process.stdout.decode().splitlines()

    assert ask("convox", "builds", "info", "B") == [
        "<BCCCCCCCCCC>",
        "<BBBBBBBBBBB>",
        "<BAAAAAAAAAA>",
        "<BDDDDDDDDDD>",
    ]
    assert ask("convox", "--app", "=", "w") == ["<web>"]
    assert ask("convox", "rack", "params", "set", "docker_hub_u") == ["compopt -o nospace", "<docker_hub_username=>"]
    assert ask("convox", "build", "") == ["compopt -o dirnames", "<>"]
    assert ask("convox", "builds", "import", "-f", "") == ["compopt -o default", "<>"]
    add_hostile_names(records)
    for hostile in HOSTILE:
        ask("convox", "builds", "info", "-a", hostile, "")
        ask("convox", "builds", "info", hostile)
    assert not Path("pwned").exists()


def test_it_is_quick(records: Path) -> None:
    """Compared with what it cannot do without, as machines differ: the interpreter and the command library."""

    def took(line: list[str]) -> float:
        times = []
        for _ in range(3):
            before = os.times()
            subprocess.run(line, check=True, capture_output=True)
            after = os.times()
            times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        return min(times)

    least = took([sys.executable, "-c", "import typer"])
    entry = "import sys; from convox.cli.entry import main; sys.exit(main())"
    assert took([sys.executable, "-c", entry, "__complete", "bash", "builds", "info", ""]) < 3 * least + 0.05


@pytest.fixture
def records(config_path: Path) -> Path:
    """The records of the app web on the rack local, and a rack prod that has a login."""
    add_completion_records(config_path)
    return config_path


@pytest.fixture
def shell_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which shells find convox."""
    return install_program(tmp_path / "bin", "convox", "convox.cli.entry")


def complete(*words: str) -> subprocess.CompletedProcess[bytes]:
    entry = "import sys; from convox.cli.entry import main; sys.exit(main())"
    line = [sys.executable, "-c", entry, "__complete", *(word.encode(errors="surrogateescape") for word in words)]
    return subprocess.run(line, capture_output=True, check=False, timeout=20)


def ask(*words: str) -> str:
    return complete(*words).stdout.decode()
