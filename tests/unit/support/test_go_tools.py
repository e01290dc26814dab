"""Programs in Go that tests build."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import go_tools


def test_many_who_want_a_program_at_once_build_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    go = tmp_path / "go"
    go.write_text(
        f"#!{sys.executable}\n"
        "import sys, time\n"
        f"open({str(log)!r}, 'a').write('built\\n')\n"
        "time.sleep(0.2)\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write('program')\n"
    )
    go.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BUILDKIT_CLIENT_CACHE", str(tmp_path / "cache"))
    with ThreadPoolExecutor(4) as pool:
        programs = set(pool.map(go_tools.go_tool, ["llb"] * 4))
    (program,) = programs
    assert (program.read_text(), log.read_text()) == ("program", "built\n")
