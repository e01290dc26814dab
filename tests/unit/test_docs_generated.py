"""The committed documentation of the commands is what the commands say, complete, and its examples can be typed."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buildkit_client.cli.commands import command_tree
from buildkit_client.cli.flags import read_command_line
from convox.cli.app import root_group
from convox.cli.command import Group, command_flags
from convox.cli.flags import check_count, find_command_word, read_line

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "scripts"))
gen_docs: Any = importlib.import_module("gen_docs")
sys.path.remove(str(ROOT / "scripts"))

PROGRAMS = [gen_docs.convox(), gen_docs.buildkit_client()]
DOCS = [pytest.param(one, id=one.name) for program in PROGRAMS for one in program.commands]


def test_what_is_committed_is_up_to_date() -> None:
    assert gen_docs.main(["--check"]) == 0, "run scripts/gen_docs.py"


def test_what_is_out_of_date_is_found_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "convox" / "cli").mkdir(parents=True)
    monkeypatch.setattr(gen_docs, "ROOT", tmp_path)
    assert gen_docs.main(["--check"]) == 1
    assert "docs/commands/convox.md is out of date" in capsys.readouterr().err
    assert gen_docs.main([]) == 0
    assert gen_docs.main(["--check"]) == 0
    (tmp_path / "docs" / "commands" / "convox.md").write_text("old")
    assert gen_docs.main(["--check"]) == 1


@pytest.mark.parametrize("command", DOCS)
def test_a_command_is_described(command: gen_docs.CommandDoc) -> None:
    assert len(command.summary) > 3
    assert command.example.startswith("$ ") or "\n$ " in command.example
    assert command.name in command.example
    assert {0, 1} <= {code for code, _ in command.exit_codes}
    assert all(len(about) > 3 for _, about in command.arguments)
    assert all(len(option.about) > 3 for option in command.options)


def test_a_command_without_an_example_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load = gen_docs.Extra.load

    def without(program: str) -> gen_docs.Extra:
        extra = load(program)
        extra.data["command"].pop("convox builds", None)
        return extra

    monkeypatch.setattr(gen_docs.Extra, "load", staticmethod(without))
    with pytest.raises(SystemExit, match="convox builds has no example"):
        gen_docs.convox()


def test_an_example_of_no_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load = gen_docs.Extra.load

    def with_more(program: str) -> gen_docs.Extra:
        extra = load(program)
        extra.data["command"]["convox gone"] = {"example": "$ convox gone"}
        return extra

    monkeypatch.setattr(gen_docs.Extra, "load", staticmethod(with_more))
    with pytest.raises(SystemExit, match="there is no command convox gone"):
        gen_docs.convox()


@pytest.mark.parametrize("command", DOCS)
def test_the_examples_can_be_typed(command: gen_docs.CommandDoc) -> None:
    """Every flag of an example is one of its command's, and the arguments are as many as it takes."""
    program = command.name.split()[0]
    check = read_convox if program == "convox" else read_buildkit_client
    lines = [line[2:] for line in command.example.splitlines() if line.startswith("$ ")]
    typed = [words for line in lines for words in invocations(line, program)]
    assert typed
    assert command.name in [check(words) for words in typed]


def invocations(line: str, program: str) -> list[list[str]]:
    """Return the words after the program's name wherever a shell line runs it."""
    parts = re.split(r"\||<\(|\)$", line)
    words = [shlex.split(re.sub(r"[<>] .*", "", part)) for part in parts if part.strip()]
    return [one[one.index(program) + 1 :] for one in words if program in one]


def read_convox(words: list[str]) -> str:
    group, path = root_group(), ["convox"]
    while isinstance(group, Group):
        own = group.get_command(None, group.own_command) if group.own_command else None
        place = find_command_word(command_flags(own) if own else (), words)
        inner = group.get_command(None, words[place]) if place is not None else None
        if inner is None:
            assert own is not None
            group = own
        else:
            path.append(words.pop(place))
            group = inner
    line = read_line(command_flags(group), words)
    arguments = [param for param in group.params if param.param_type_name == "argument"]
    most = None if any(param.nargs == -1 for param in arguments) else len(arguments)
    check_count(len(line.arguments), sum(bool(param.required) for param in arguments), most)
    return " ".join(path)


def read_buildkit_client(words: list[str]) -> str:
    return " ".join(command.name for command in read_command_line(command_tree({}), words).path)


def test_the_pages_link_to_themselves() -> None:
    for program in PROGRAMS:
        text = (ROOT / "docs" / "commands" / f"{program.name}.md").read_text()
        headings = {line.lstrip("#").strip().lower().replace(" ", "-") for line in text.splitlines() if line[:1] == "#"}
        assert set(re.findall(r"\(#([^)]*)\)", text)) <= headings
        assert set(re.findall(r"\(#([^)]*)\)", text)) >= {one.name.replace(" ", "-") for one in program.commands}


def test_the_defaults_and_variables_are_shown() -> None:
    options = {option.spelling: option for one in PROGRAMS[0].commands for option in one.options}
    assert options["-l, --limit <limit>"].default == "10"
    assert options["-r, --rack <rack>"].variable == "CONVOX_RACK"
    outer = {option.spelling: option for option in PROGRAMS[1].options}
    assert outer["--timeout <int>"].default == "5"
    assert outer["--addr <string>"].variable == "BUILDKIT_HOST"


def test_the_manual_pages_are_well_formed(tmp_path: Path) -> None:
    assert gen_docs.main(["--man", str(tmp_path)]) == 0
    pages = sorted((tmp_path / "man1").iterdir())
    assert [path.name for path in pages] == ["buildkit-client.1", "convox.1"]
    for path, program in zip(pages, reversed(PROGRAMS), strict=True):
        text = path.read_text()
        assert all(f".SH {title}\n" in text for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS"))
        requests = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
        assert requests <= {'.\\"', ".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".EX", ".EE", ".in"}
        if shutil.which("groff"):
            line = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", str(path)]
            shown = subprocess.run(line, capture_output=True, check=True, timeout=60)
            assert shown.stderr == b""
            plain = " ".join(shown.stdout.decode().split())
            assert all(one.name in plain for one in program.commands)
            assert all(option.spelling in plain for one in program.commands for option in one.options)
