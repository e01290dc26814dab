import os
import sys
from pathlib import Path

import pytest

from benchmarks.contexts import ALONE, SHARED, app, change_app, place_of, small_files
from benchmarks.identity import Tools
from benchmarks.measure import BenchmarkError, environment, in_child, timed
from benchmarks.rows_client import count_lines, transfer_seconds
from benchmarks.suite import ROWS, parse


def test_grandchildren_count() -> None:
    grandchild = "x = chr(120) * (200 << 20); sum(range(10**6))"
    work = f"import sys, subprocess; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    cost = timed([sys.executable, "-c", work])
    assert cost.peak_mib > 200
    assert 0.005 < cost.cpu_s < 60
    assert cost.wall_s > 0


def test_a_failed_program_is_no_measurement(tmp_path: Path) -> None:
    fail = [sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"]
    with pytest.raises(BenchmarkError, match="why"):
        timed(fail)
    with pytest.raises(BenchmarkError, match="why"):
        timed(fail, output=tmp_path / "log")


def test_byte_code_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("BUILDKIT_HOST", "tcp://elsewhere:1")
    assert not {"PYTHONDONTWRITEBYTECODE", "BUILDKIT_HOST"} & set(environment())
    assert environment(MORE="1")["MORE"] == "1"


def test_contexts_are_made_elsewhere(tmp_path: Path) -> None:
    in_child(lambda: small_files(tmp_path, 40))
    assert len(list(tmp_path.rglob("f*"))) == 40
    with pytest.raises(BenchmarkError):
        in_child(lambda: os._exit(7))


def test_contexts_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        small_files(tmp_path / name, 30)
        app(tmp_path / name, "base", 0.01)
    trees = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    ]
    assert trees[0] == trees[1]


def test_the_app_has_eight_services_and_four_share_a_folder(tmp_path: Path) -> None:
    app(tmp_path, "base", 0.01)
    places = [place_of(service) for service in (*SHARED, *ALONE)]
    assert len(set(places)) == 8
    assert [folder for folder, _ in places].count("shared") == 4
    assert all((tmp_path / folder / dockerfile).is_file() for folder, dockerfile in places)
    file = tmp_path / "shared/src/d000/f0000"
    change_app(tmp_path, 1)
    first = file.read_bytes()
    change_app(tmp_path, 2)
    assert file.read_bytes() != first
    assert len(file.read_bytes()) == len(first)  # so that only its time and content say so


def test_a_tool_that_is_replaced_is_another_one(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho tool 1.0\n")
    tool.chmod(0o755)
    tools = Tools([tool])
    first = tools.identity()
    assert first["tool"].startswith("tool 1.0 (sha256:")
    assert tools.identity() == first
    tool.write_text("#!/bin/sh\necho tool 1.0 # patched\n")
    assert tools.identity() != first


def test_transfer_time_is_read_from_a_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        '{"vertexes":[{"name":"[internal] load build definition","started":"2024-01-01T00:00:00Z",'
        '"completed":"2024-01-01T00:00:09Z"}]}\n'
        '{"vertexes":[{"name":"[internal] load build context","started":"2024-01-01T00:00:00.123456789Z"}]}\n'
        '{"logs":[]}\n'
        '{"vertexes":[{"name":"[internal] load build context","started":"2024-01-01T00:00:00.123456789Z",'
        '"completed":"2024-01-01T00:00:02.623456789Z"}]}\n'
    )
    assert transfer_seconds(trace) == pytest.approx(2.5)


def test_lost_lines_are_noticed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [f"#5 0.1 line {number}: what a compiler says\n" for number in (0, 1, 1, 3)]
    log.write_text("#5 [2/2] RUN print line 2: what\n" + "".join(lines))
    assert count_lines(log, 4) == 3


def test_rows_are_named_as_in_the_table() -> None:
    assert list(ROWS) == [f"W{number}" for number in range(1, 16)]
    assert parse([]).rows == list(ROWS)
    assert (parse(["W1", "W5"]).rows, parse(["--curve"]).rows) == (["W1", "W5"], [])
    assert parse([]).pairs >= 5
    quick = parse(["--quick"])
    assert (quick.pairs, quick.scale) == (2, 0.05)
    with pytest.raises(SystemExit):
        parse(["W16"])
