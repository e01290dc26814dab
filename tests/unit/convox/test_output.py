"""Times, tables, info blocks and the console, as Convox words and pads them."""

from __future__ import annotations

import io
import json
import os
import pty
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buildkit_client.error_text import snippet_lines
from convox.errors import ConvoxError, ExitCode, UsageError
from convox.output.console import Console
from convox.output.errors import exit_code, render_error
from convox.output.tables import info_rows, one_line, plain_lines, table_lines
from convox.output.times import ago, elapsed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = 3600, 86400
FULL = Path("/dev/full")
RULE = "-" * 20
DEBUG_HINT = "  try: run it again with CONVOX_DEBUG=1 to see where, and report it\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "now"),
        (0.999, "now"),
        (1, "1 second ago"),
        (1.999, "1 second ago"),
        (2, "2 seconds ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (119.9, "1 minute ago"),
        (120, "2 minutes ago"),
        (HOUR - 0.1, "59 minutes ago"),
        (HOUR, "1 hour ago"),
        (2 * HOUR, "2 hours ago"),
        (DAY - 1, "23 hours ago"),
        (DAY, "1 day ago"),
        (2 * DAY - 1, "1 day ago"),
        (2 * DAY, "2 days ago"),
        (7 * DAY - 1, "6 days ago"),
        (7 * DAY, "1 week ago"),
        (14 * DAY, "2 weeks ago"),
        (30 * DAY - 1, "4 weeks ago"),
        (30 * DAY, "1 month ago"),
        (60 * DAY, "2 months ago"),
        (360 * DAY - 1, "11 months ago"),
        (360 * DAY, "1 year ago"),
        (539 * DAY, "1 year ago"),
        (540 * DAY, "2 years ago"),
        (720 * DAY, "2 years ago"),
        (1080 * DAY, "3 years ago"),
        (37 * 360 * DAY - 1, "36 years ago"),
        (37 * 360 * DAY, "a long while ago"),
        (-0.5, "now"),
        (-1, "1 second from now"),
        (-3 * DAY, "3 days from now"),
    ],
)
def test_ago(seconds: float, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_no_time_is_empty() -> None:
    assert ago(None, NOW) == ""
    assert elapsed(None, NOW) == ""
    assert elapsed(NOW, None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.9, "0s"), (25.9, "25s"), (59.99, "59s"), (60, "1m0s"), (120, "2m0s"), (4503, "75m3s"), (-5, "0s")],
)
def test_elapsed(seconds: float, text: str) -> None:
    assert elapsed(NOW, NOW + timedelta(seconds=seconds)) == text


def test_a_table_pads_all_but_the_last_column() -> None:
    rows = [
        ["build1", "complete", "release1", "2 days ago", "2m0s", "desc"],
        ["build4", "running", "", "2 days ago", "", ""],
        ["build3", "failed", "", "2 days ago", "", ""],
    ]
    assert table_lines(["ID", "STATUS", "RELEASE", "STARTED", "ELAPSED", "DESCRIPTION"], rows) == [
        "ID      STATUS    RELEASE   STARTED     ELAPSED  DESCRIPTION",
        "build1  complete  release1  2 days ago  2m0s     desc",
        "build4  running             2 days ago           ",
        "build3  failed              2 days ago           ",
    ]
    assert table_lines(["NAME", "PROVIDER", "STATUS"], []) == ["NAME  PROVIDER  STATUS"]


def test_a_cell_cannot_break_its_row() -> None:
    assert table_lines(["A", "B"], [["x\ny\tz", "\x1b[2Jw\x9bq\u202e"]]) == ["A      B", "x y z  �[2Jw�q�"]


def test_an_info_block_indents_further_lines() -> None:
    rows = info_rows([("Id", "release1"), ("Description", ""), ("Env", "FOO=bar\nBAZ=quux")])
    assert [f"{header}  {value}" for header, value in rows] == [
        "Id           release1",
        "Description  ",
        "Env          FOO=bar\n             BAZ=quux",
    ]
    assert info_rows([]) == []


@pytest.mark.parametrize(
    ("text", "line", "lines"),
    [
        ("plain ü 🚢", "plain ü 🚢", "plain ü 🚢"),
        ("a\r\nb", "a b", "a \nb"),
        ("\x1b]0;title\x07", "�]0;title�", "�]0;title�"),
        ("a\u2028b", "a b", "a b"),
        ("tab\there", "tab here", "tab\there"),
    ],
)
def test_text_of_records_does_nothing_to_a_terminal(text: str, line: str, lines: str) -> None:
    assert one_line(text) == line
    assert plain_lines(text) == lines


def a_console(**options: object) -> tuple[Console, io.BytesIO, io.BytesIO]:
    stdout, stderr = io.BytesIO(), io.BytesIO()
    return Console(stdout, stderr, **options), stdout, stderr  # type: ignore[arg-type]


def test_steps() -> None:
    console, stdout, stderr = a_console()
    with console.step("Packaging source"):
        assert stdout.getvalue() == b"Packaging source... "
    with console.step("Importing build") as step:
        step.done("RABCDEFGHIJ")
    assert stdout.getvalue() == b"Packaging source... OK\nImporting build... OK, RABCDEFGHIJ\n"
    assert stderr.getvalue() == b""


def test_a_step_that_fails_stays_unfinished() -> None:
    console, stdout, stderr = a_console()
    with pytest.raises(ConvoxError) as caught, console.step("Starting build"):
        raise ConvoxError("no builder", why="nothing answers", hint="start one")
    console.error(caught.value)
    assert stdout.getvalue() == b"Starting build... "
    assert stderr.getvalue() == b"ERROR: no builder\n  why: nothing answers\n  try: start one\n"


def test_with_id_only_the_id_is_on_stdout() -> None:
    console, stdout, stderr = a_console(id_only=True)
    with console.step("Starting build"):
        console.write(b"log\n")
    console.print("Build:   B")
    console.table(["A"], [["x"]])
    console.info([("Id", "x")])
    console.print_id("RABCDEFGHIJ")
    assert stdout.getvalue() == b"RABCDEFGHIJ"
    assert stderr.getvalue() == b"Starting build... log\nOK\nBuild:   B\nA\nx\nId  x\n"


def test_json_is_readable_and_does_nothing_to_a_terminal() -> None:
    console, stdout, _ = a_console(id_only=True)
    console.json({"ü": ["\x1b[2J\x9b2J\u202e", None]})
    text = stdout.getvalue().decode()
    assert text == '{\n  "ü": [\n    "\\u001b[2J\\u009b2J\\u202e",\n    null\n  ]\n}\n'
    assert json.loads(text) == {"ü": ["\x1b[2J\x9b2J\u202e", None]}


def test_log_bytes_are_not_changed() -> None:
    raw = b"<h1>x</h1> \x1b[31mred\x1b[0m \xff\x00\r\n"
    console, stdout, _ = a_console()
    console.write(raw)
    assert stdout.getvalue() == raw


def test_colours_are_those_of_convox() -> None:
    console, stdout, stderr = a_console(color=True)
    with console.step("Promoting") as step:
        step.done("R1")
    console.table(["A", "B"], [["x", "y"]])
    console.info([("Id", "x"), ("Build", "")])
    console.print(f"Build:   {console.paint('B1', 'build')}")
    console.error(ConvoxError("bad", why="w", hint="h"))
    assert stdout.getvalue().decode().splitlines() == [
        "Promoting... \x1b[38;5;46mOK\x1b[0m, \x1b[38;5;247mR1\x1b[0m",
        "\x1b[38;5;244mA  B\x1b[0m",
        "\x1b[38;5;251mx  y\x1b[0m",
        "\x1b[38;5;244mId   \x1b[0m  \x1b[38;5;251mx\x1b[0m",
        "\x1b[38;5;244mBuild\x1b[0m  ",
        "Build:   \x1b[38;5;23mB1\x1b[0m",
    ]
    assert stderr.getvalue().decode().splitlines() == [
        "\x1b[38;5;124mERROR: \x1b[38;5;203mbad\x1b[0m",
        "  \x1b[38;5;247mwhy:\x1b[0m w",
        "  \x1b[38;5;247mtry:\x1b[0m h",
    ]


@pytest.mark.parametrize(("color", "expected"), [(None, True), (False, False), (True, True)])
def test_a_terminal_has_colours_unless_told_otherwise(color: bool | None, expected: bool) -> None:
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "wb", buffering=0) as terminal:
            console = Console(terminal, io.BytesIO(), color=color)  # type: ignore[arg-type]
            assert console.is_terminal
            assert console.has_color is expected
            console.id_only = True
            assert not console.is_terminal
    finally:
        os.close(master)


def test_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        console = Console(stream, io.BytesIO())
        with pytest.raises(BrokenPipeError) as caught:
            console.print("x")
        assert exit_code(caught.value) == 141
        console.silence()
        console.print("y")  # goes nowhere, and raises nothing, now or at the end


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_error() -> None:
    with FULL.open("wb") as stream:
        console = Console(stream, io.BytesIO())
        with pytest.raises(ConvoxError, match="cannot write the output") as caught:
            console.print("x")
        assert "No space left" in caught.value.why
        console.silence()


def test_lines_of_threads_do_not_mix() -> None:
    console, stdout, _ = a_console()
    threads = [threading.Thread(target=lambda c=c: [console.print(c * 200) for _ in range(50)]) for c in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stdout.getvalue().decode().splitlines()
    assert sorted(lines) == ["a" * 200] * 50 + ["b" * 200] * 50 + ["c" * 200] * 50


def test_text_that_is_no_utf_8_is_written() -> None:
    console, stdout, _ = a_console()
    console.print("path \udcff")
    console.print("half \ud800")
    assert stdout.getvalue() == b"path \xff\nhalf ?\n"


class Ours(Exception):
    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.why = why
        self.hint = hint


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (ConvoxError("build failed"), "ERROR: build failed\n"),
        (Ours("what", "why", "hint"), "ERROR: what\n  why: why\n  try: hint\n"),
        (
            ConvoxError("validation errors:\nservice name X invalid", why="two\nlines"),
            "ERROR: validation errors:\nservice name X invalid\n  why: two\n       lines\n",
        ),
        (KeyboardInterrupt(), "ERROR: cancelled\n"),
        (
            ValueError("bad\n  thing"),
            f"ERROR: unexpected ValueError: bad thing\n{DEBUG_HINT}",
        ),
        (
            AssertionError(),
            f"ERROR: unexpected AssertionError\n{DEBUG_HINT}",
        ),
        (
            Ours("GET https://me:pw123@h/ failed", "Authorization: Basic abc", "use Bearer abcdef"),
            "ERROR: GET https://***@h/ failed\n  why: Authorization: ***\n  try: use Bearer ***\n",
        ),
        (ConvoxError("evil \x1b[2J\x07"), "ERROR: evil �[2J�\n"),
    ],
)
def test_errors_are_rendered(exc: BaseException, text: str) -> None:
    assert render_error(exc) == text


def test_debug_shows_the_traceback_without_secrets() -> None:
    try:
        try:
            raise OSError("https://me:hunter2@h/ and CANARYCANARY")
        except OSError as exc:
            raise ConvoxError("no rack", why="CANARYCANARY") from exc
    except ConvoxError as exc:
        text = render_error(exc, debug=True, secrets=["CANARYCANARY"])
    assert text.startswith("ERROR: no rack\n  why: ***\nTraceback")
    assert "OSError: https://***@h/ and ***" in text
    assert "test_output.py" in text
    assert "CANARY" not in text
    assert "hunter2" not in text


def test_exit_codes() -> None:
    import buildkit_client.errors as bk

    details = bk.StatusDetails()
    expected = {
        ConvoxError("x"): 1,
        UsageError("x"): 2,
        ConvoxError("x", exit_code=ExitCode.PUSH): 5,
        bk.OptionError("x"): 2,
        bk.ConnectError("x"): 3,
        bk.ConnectionLostError("x"): 3,
        bk.CredentialsError("x"): 4,
        bk.RegistryError("x", status=401): 4,
        bk.RegistryError("x", status=403): 4,
        bk.RegistryError("x", status=500): 5,
        bk.RegistryError("x"): 5,
        bk.BuildCancelledError("x"): 130,
        bk.SolveError("x", details=details): 1,
        KeyboardInterrupt(): 130,
        BrokenPipeError(): 141,
        ValueError(): 1,
        SystemExit(7): 7,
        SystemExit(None): 0,
        SystemExit("text"): 1,
    }
    assert {exc: exit_code(exc) for exc in expected} == expected


DOCKERFILE = b"FROM busybox\nRUN echo a\nRUN exit 7\nRUN echo c\n"


@pytest.mark.parametrize(
    ("data", "ranges", "lines"),
    [
        (
            DOCKERFILE,
            ((3, 3),),
            [
                "Dockerfile:3",
                RULE,
                "   1 |     FROM busybox",
                "   2 |     RUN echo a",
                "   3 | >>> RUN exit 7",
                "   4 |     RUN echo c",
                "   5 |     ",
                RULE,
            ],
        ),
        (b"one", ((1, 1),), ["Dockerfile:1", RULE, "   1 | >>> one", RULE]),
        (
            b"\n".join(b"l%d" % n for n in range(1, 13)),
            ((6, 7),),
            ["Dockerfile:6", RULE, "   5 |     l5", "   6 | >>> l6", "   7 | >>> l7", "   8 |     l8", RULE],
        ),
        (b"a\nb\nc", ((3, 2),), ["Dockerfile:3", RULE, "   1 |     a", "   2 |     b", "   3 | >>> c", RULE]),
        (DOCKERFILE, (), []),
        (DOCKERFILE, ((9, 9),), []),
        (DOCKERFILE, ((0, 2),), []),
    ],
)
def test_snippets(data: bytes, ranges: tuple[tuple[int, int], ...], lines: list[str]) -> None:
    from buildkit_client.errors import SourceSnippet

    assert snippet_lines(SourceSnippet("Dockerfile", data, ranges)) == list(lines)


def test_a_snippet_comes_before_the_error_also_of_the_error_behind() -> None:
    from buildkit_client.errors import SolveError, SourceSnippet, StatusDetails

    snippet = SourceSnippet("Dockerfile", DOCKERFILE, ((2, 2),))
    behind = SolveError("process failed", details=StatusDetails(sources=(snippet,)))
    error = ConvoxError('build B of app "web" failed in service "api"')
    error.__cause__ = behind
    lines = render_error(error).splitlines()
    assert lines[0] == "Dockerfile:2"
    assert "   2 | >>> RUN echo a" in lines
    assert lines[-1] == 'ERROR: build B of app "web" failed in service "api"'
