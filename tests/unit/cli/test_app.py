"""The command from outside: help, versions, exit codes, errors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import buildkit_client
from buildkit_client.cli.app import main
from buildkit_client.cli.cache_metrics import CacheMetrics
from buildkit_client.progress import StatusUpdate, Vertex
from tests.support.llb_samples import sample_definition

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "cli"
COMMANDS = [
    *("", "build", "du", "prune", "prune-histories", "debug", "debug dump-llb", "debug dump-metadata"),
    *("debug workers", "debug info", "debug monitor", "debug logs", "debug ctl", "debug get", "debug histories"),
    "dial-stdio",
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILDKIT_HOST", raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_what_was_reviewed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    page = capsys.readouterr().out.replace(buildkit_client.__version__, "<version>")
    path = GOLDEN / f"help{'-' + command.replace(' ', '-') if command else ''}.txt"
    if os.environ.get("GOLDEN_REWRITE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page)
    assert page == path.read_text()


@pytest.mark.parametrize("words", [[], ["help"], ["h"], ["-h"]])
def test_ways_to_ask_for_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("NAME:\n   buildkit-client - ")


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "du"]) == 0
    assert capsys.readouterr().out.startswith("NAME:\n   buildkit-client du - ")
    assert main(["help", "nope"]) == 3
    assert capsys.readouterr().err == "No help topic for 'nope'\n"


@pytest.mark.parametrize("command", ["prune", "prune --all", "prune-histories", "debug get", "build", "debug"])
@pytest.mark.parametrize("word", ["help", "h"])
def test_asking_a_command_for_help_does_not_run_it(command: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), word]) == 0
    name = command.removesuffix(" --all")
    assert capsys.readouterr().out.startswith(f"NAME:\n   buildkit-client {name} - ")


@pytest.mark.parametrize("word", ["--version", "-v"])
def test_the_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out == f"buildkit-client {buildkit_client.__version__}\n"


@pytest.mark.parametrize("words", [["foo"], ["debug", "foo"]])
def test_a_command_that_does_not_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 3
    assert capsys.readouterr().err == "No help topic for 'foo'\n"


def test_a_mistake_in_the_command_line_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["du", "--bogus"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("NAME:\n   buildkit-client du")
    assert captured.err == (
        "Incorrect Usage: flag provided but not defined: -bogus\n\nerror: flag provided but not defined: -bogus\n"
    )


def test_an_unknown_log_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log-format", "x", "du"]) == 1
    assert capsys.readouterr().err == 'error: unsupported log type "x"\n'


def test_no_daemon(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--addr", f"unix://{tmp_path}/none.sock", "du"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0]
        == f"error: cannot reach buildkitd at unix://{tmp_path}/none.sock: there is no socket {tmp_path}/none.sock"
    )
    assert lines[1].startswith("  try: start buildkitd")


def test_an_address_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--addr", "foo", "du"]) == 1
    assert capsys.readouterr().err.startswith("error: 'foo' is not an address of a buildkitd: it has no scheme\n")


def test_debug_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "--addr", "foo", "du"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (None, "please specify --frontend or pipe LLB definition to stdin"),
        (b"", "empty definition sent to build. Specify --frontend instead?"),
        (b"no graph", "failed to parse input: not a build definition (LLB): the bytes are no protobuf message"),
    ],
)
def test_a_graph_on_standard_input_that_is_none(data: bytes | None, error: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "buildkit_client", "--addr", f"unix://{tmp_path}/none.sock", "build"]
    given = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run(command, capture_output=True, check=False, timeout=30, **given)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"error: {error}\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--output", "foo"], "invalid value foo"),
        (["--opt", "foo"], "invalid opt: invalid value foo"),
        (["--allow", "foo"], "unknown entitlement foo"),
        (["--progress", "fancy"], "invalid progress mode fancy"),
        (["--trace", "/nonexistent/x"], "open /nonexistent/x: no such file or directory"),
        (
            ["--ssh", "default=/nowhere"],
            (
                "failed to convert agent config {default [/nowhere] false}: "
                'failed to convert agent config for ID: "default": stat /nowhere: no such file or directory'
            ),
        ),
        (["--output", "type=imag,name=x"], "unknown exporter 'imag': did you mean image?"),
        (["--output", "type=image,pushh=true"], "exporter image: unknown attribute 'pushh': did you mean push?"),
        (
            ["--export-cache", "type=registry,reff=x"],
            "cache export registry: unknown attribute 'reff': did you mean ref?",
        ),
        (["--opt", "taget=x"], "frontend dockerfile.v0: unknown attribute 'taget': did you mean target?"),
        (["--registry-auth-tlscontext", "ca=x"], "--registry-auth-tlscontext requires host=<host>"),
        (["--source-policy-file", "/nonexistent/x"], "open /nonexistent/x: no such file or directory"),
    ],
)
def test_options_of_a_build_that_cannot_work(
    words: list[str], error: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = f"unix://{tmp_path}/none.sock"
    assert main(["--addr", address, "build", "--frontend", "dockerfile.v0", *words]) == 1
    assert capfd.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--tlsdir", "{tmp}"], "directory did not contain one of the needed files: ca.pem or ca.crt"),
        (["--tlsdir", "x", "--tlscacert", "y"], "cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time"),
    ],
)
def test_tls_flags_that_do_not_fit(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*(word.format(tmp=tmp_path) for word in words), "du"]) == 1
    assert capsys.readouterr().err == f"error: {error}\n"


def test_waiting_ends_with_the_timeout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--addr", f"unix://{tmp_path}/none.sock", "--timeout", "1", "--wait", "du"]) == 1
    assert capsys.readouterr().err.startswith("error: context deadline exceeded")


def test_dial_stdio_joins_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                received = b""
                while data := connection.recv(1000):
                    received += data
                connection.sendall(received.upper())

        thread = threading.Thread(target=answer)
        thread.start()
        command = [sys.executable, "-m", "buildkit_client", "--addr", f"unix://{path}", "dial-stdio"]
        done = subprocess.run(command, input=b"hello", capture_output=True, timeout=20, check=False)
        thread.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO", b"")


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("x", "invalid address x"),
        ("tcp://x:1", "invalid address tcp://x:1 (expected unix://, got tcp://)"),
        ("unix:///nope", "dial unix /nope: connect: no such file or directory"),
    ],
)
def test_dial_stdio_without_a_socket(address: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--addr", address, "dial-stdio"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == f"error: {error}"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m buildkit_client build --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout in ("0\n", "1\n")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words",
    ["--version", "--help", "help du", "completion bash", "debug dump-llb", "debug dump-metadata --root {root}"],
)
def test_standard_output_that_is_closed_is_one_clear_error(words: str, tmp_path: Path) -> None:
    (tmp_path / "x.llb").write_bytes(sample_definition())
    (tmp_path / "root" / "worker").mkdir(parents=True)
    (tmp_path / "root" / "worker" / "metadata_v2.db").write_bytes(b"")
    command = f"{sys.executable} -m buildkit_client {words.format(root=tmp_path / 'root')}"
    done = subprocess.run(
        ["sh", "-c", f"exec {command} >&- < x.llb"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (1, "error: standard output is closed\n")


def test_a_mistake_is_told_where_standard_output_is_closed(tmp_path: Path) -> None:
    script = f"exec {sys.executable} -m buildkit_client --nope >&-"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: flag provided but not defined: -nope"


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    code = (
        "import os, sys\n"
        "from buildkit_client.cli.console import prepare_streams\n"
        "prepare_streams()\n"
        "numbers = [os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno(), sys.stderr.fileno()]\n"
        "sys.stderr.write('lost')\n"
        "sys.exit(numbers != [3, 0, 2] or sys.stdout is not None or sys.stdin.read() != '')\n"
    )
    script = 'exec "$0" -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", script, sys.executable, code], timeout=30, check=False).returncode == 0


def test_help_loads_neither_grpc_nor_protobuf() -> None:
    script = (
        "import sys; from buildkit_client.cli.app import main; "
        "main(['build', '-h']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    loaded = set(done.stderr.split())
    assert "buildkit_client.cli.app" in loaded
    assert not loaded & {"grpc", "google.protobuf", "urllib3", "argparse", "asyncio", "buildkit_client.progress"}


def test_cache_metrics() -> None:
    metrics = CacheMetrics()
    metrics.update(
        StatusUpdate(
            vertexes=(
                Vertex("1", name="[internal] load", started_ns=1, completed_ns=2),
                Vertex("2", name="[1/3] FROM x", started_ns=1, completed_ns=2, cached=True),
                Vertex("3", name="[2/3] RUN a", started_ns=1, completed_ns=2, cached=True),
                Vertex("4", name="[3/3] RUN b", started_ns=1),
            )
        )
    )
    metrics.update(StatusUpdate(vertexes=(Vertex("2", name="[1/3] FROM x"),)))
    missed, counts = metrics.lines(duration_s=1.2345)
    assert missed == "cache miss: [3/3] RUN b"
    assert json.loads(counts) == {
        "total": 4,
        "completed": 3,
        "user_total": 3,
        "user_cached": 2,
        "user_completed": 2,
        "user_cacheable": 2,
        "from": 1,
        "miss": 1,
        "client_duration_ms": 1234,
    }


def test_standard_output_is_utf_8_in_every_locale() -> None:
    code = (
        "from buildkit_client.cli.console import prepare_streams, write_out\n"
        "prepare_streams()\n"
        "write_out('snow \\u2603 \\udcff')\n"
    )
    for encoding in ("latin-1", "ascii", "utf-8"):
        environ = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=30, check=False)
        assert (done.stdout, done.stderr) == ("snow \u2603 ".encode() + b"\xff", b""), encoding
