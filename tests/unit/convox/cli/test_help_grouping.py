"""``--help`` is grouped as Convox groups it: one sorted list of full commands, and per command three sections.

Reference: convox/stdcli help.go, helpGlobal and helpCommand.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convox.cli import entry
from convox.cli.listing import COMMANDS
from tests.support.convox_cli import run

ENTRY = "import sys; from convox.cli.entry import main; sys.exit(main())"


def test_the_list_is_sorted_by_full_command() -> None:
    names = [name for name, _ in COMMANDS]
    assert names == sorted(names)
    # A group that does something by itself stands in front of its commands; one that does not is not listed.
    assert names[names.index("convox builds") + 1] == "convox builds cancel"
    assert "convox builder" not in names


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_the_help_of_a_command(name: str, config_path: Path) -> None:
    result = run(*name.split()[1:], "--help")
    assert (result.code, result.stderr) == (0, b"")
    usage, about, *rest = result.stdout.decode().split("\n\n", 2)
    title, line = usage.split("\n")
    assert title == "USAGE"
    assert line.startswith(f"  {name}")
    assert about.splitlines()[:2] == ["DESCRIPTION", f"  {dict(COMMANDS)[name]}"]
    titles = [line for line in "".join(rest).splitlines() if line.isupper() and not line.startswith(" ")]
    assert titles in ([], ["OPTIONS"], ["COMMANDS"], ["OPTIONS", "COMMANDS"])


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_the_list_comes_without_a_command_line(words: list[str]) -> None:
    """The command library takes longer to load than everything else that is needed for it."""
    script = (
        "import sys; from convox.cli.entry import main; code = main();"
        "print(code, {'typer', 'typing_extensions', 'convox.cli.app'} & set(sys.modules), file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=True, timeout=20)
    assert process.stderr == b"0 set()\n"
    assert process.stdout == run("help").stdout


def test_a_locale_without_utf_8(config_path: Path) -> None:
    """Names and texts are UTF-8 all the same, as for Go's programs, which know no locales."""
    Path("größe").mkdir()
    Path("größe/Dockerfile").write_text("FROM scratch\n")
    Path("convox.yml").write_text("services: {web: {build: größe}}\n", "utf-8")
    without = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", ENTRY, "build", "--print"]
    process = subprocess.run(words, env=without, capture_output=True, timeout=20, check=False)
    assert (process.returncode, process.stderr) == (0, b"")
    assert "Context     größe\n".encode() in process.stdout


def test_the_list_meets_a_stream_that_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-c", ENTRY], stdout=full, stderr=subprocess.PIPE, timeout=20, check=False
        )
    assert process.returncode == 1
    assert process.stderr.startswith(b"ERROR: cannot write")


def test_the_list_meets_a_stream_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (None, io.StringIO()):
        monkeypatch.setattr(sys, "argv", ["convox", "help"])
        monkeypatch.setattr(sys, "stdout", stream)
        assert entry.main() == 0
