"""The command as a whole: the border where errors end, what is imported, and commands that wait."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from convox.cli import builds as builds_module
from convox.cli.app import COMMANDS, main
from convox.cli.releases import masked
from convox.errors import ConvoxError, ExitCode
from convox.models import Build, BuildStatus, Release
from convox.rack import list_racks
from convox.store.abandoned import ABANDONED_REASON
from convox.store.logs import LogWriter
from convox.store.process import current_process_id, process_id
from tests.support.convox_cli import NOW, add_records, open_local_store, run, run_on_terminal

CONVOX = [sys.executable, "-c", "import sys; from convox.cli.app import main; sys.exit(main())"]


def start(words: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*CONVOX, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def failing_with(exc: BaseException):
    def fail(*args: object, **kwargs: object) -> None:
        raise exc

    return fail


@pytest.mark.parametrize(
    ("exc", "code", "text"),
    [
        (ConvoxError("what", why="why", hint="hint"), 1, b"ERROR: what\n  why: why\n  try: hint\n"),
        (ConvoxError("pushed back", exit_code=ExitCode.PUSH), 5, b"ERROR: pushed back\n"),
        (KeyboardInterrupt(), 130, b"ERROR: cancelled\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            (
                b"ERROR: unexpected ZeroDivisionError: division by zero\n"
                b"  try: run it again with CONVOX_DEBUG=1 to see where, and report it\n"
            ),
        ),
        (EOFError(), 1, b"ERROR: unexpected EOFError\n"),
    ],
)
def test_every_error_ends_as_text_and_exit_code(
    exc: BaseException, code: int, text: bytes, config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds_module, "read_count", failing_with(exc))
    result = run("builds")
    assert (result.code, result.stdout) == (code, b"")
    assert result.stderr.startswith(text)
    assert b"Traceback" not in result.stderr


def test_debug_shows_the_traceback_without_secrets(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("rack", "params", "set", "docker_hub_password=CANARYCANARY").code == 0
    from convox.store import database

    monkeypatch.setattr(database.DatabaseStore, "get_app", failing_with(ValueError("CANARYCANARY at https://a:b@h/")))
    plain = run("builds")
    assert plain.stderr.startswith(b"ERROR: unexpected ValueError: *** at https://***@h/\n")
    assert b"Traceback" not in plain.stderr
    monkeypatch.setenv("CONVOX_DEBUG", "1")
    debug = run("builds")
    assert b"Traceback" in debug.stderr
    assert b"in list_builds" in debug.stderr
    assert b"CANARY" not in debug.stderr
    assert b"a:b@" not in debug.stderr


def test_secrets_of_a_rack_never_show(config_path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("CANARYFILE\n")
    commands = [
        ("rack", "params", "set", "docker_hub_password=CANARYARG", "nonsense=1"),
        ("rack", "params", "set", f"docker_hub_password=@{secret}", "docker_hub_username=me"),
        ("rack", "params", "set", "docker_hub_password=@/nowhere/CANARYPATH"),
        ("rack", "params"),
        ("rack", "params", "--output", "json"),
        ("rack", "params", "-g", "registry"),
    ]
    for words in commands:
        for result in (run(*words), run_on_terminal(*words)):
            assert b"CANARY" not in result.stdout + result.stderr, words
    result = run("rack", "params", "set", "docker_hub_password=-", stdin=b"CANARYSTDIN\n")
    assert result.code == 0
    assert b"CANARYSTDIN" in run("rack", "params", "--reveal").stdout
    [rack] = list_racks(config_path)
    assert rack.params["docker_hub_password"] == "CANARYSTDIN"


def test_no_color_and_dumb_terminals(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"\x1b" in run_on_terminal("racks").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b" not in run_on_terminal("racks").stdout
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert b"\x1b" not in run_on_terminal("racks").stdout


@pytest.mark.parametrize("words", [["-v"], ["--version"], ["version"]])
def test_version(words: list[str], config_path: Path) -> None:
    from convox.cli.about import version

    expected = f"client: {version()}\nserver: none\n" if words == ["version"] else f"{version()}\n"
    assert run(*words).stdout == expected.encode()


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_help_lists_every_command(words: list[str], config_path: Path) -> None:
    result = run(*words)
    assert result.code == 0
    lines = dict(line.split("  ", 1) for line in result.stdout.decode().splitlines())
    listed = {name: text.strip() for name, text in lines.items()}
    assert {name.split()[1] for name in listed} == set(COMMANDS)
    expected = {
        "convox apps": "list apps",
        "convox apps create": "create an app",
        "convox apps delete": "delete an app",
        "convox apps info": "get information about an app",
        "convox apps params": "display app parameters",
        "convox apps params set": "set app parameters",
        "convox apps params unset": "unset app parameters",
        "convox build": "create a build",
        "convox builder start": "start the local builder",
        "convox builder status": "get information about the local builder",
        "convox builder stop": "stop the local builder",
        "convox builds": "list builds",
        "convox builds cancel": "cancel a running build",
        "convox builds diff": "show the differences between two builds",
        "convox builds export": "export a build",
        "convox builds import": "import a build",
        "convox builds import-image": "import a prebuilt container image into a new build",
        "convox builds info": "get information about a build",
        "convox builds logs": "get logs for a build",
        "convox builds rm": "remove builds",
        "convox env": "list env vars",
        "convox env edit": "edit env interactively",
        "convox env get": "get an env var",
        "convox env set": "set env var(s)",
        "convox env unset": "unset env var(s)",
        "convox help": "list commands",
        "convox rack": "get information about the rack",
        "convox rack install": "install a new rack",
        "convox rack params": "display rack parameters",
        "convox rack params set": "set rack parameters",
        "convox rack pull-secret": "print the Docker Hub login as a Kubernetes secret",
        "convox rack uninstall": "uninstall a rack",
        "convox racks": "list available racks",
        "convox registries": "list private registries",
        "convox registries add": "add a private registry",
        "convox registries check": "try the logins of registries",
        "convox registries remove": "remove private registry",
        "convox releases": "list releases for an app",
        "convox releases create-from": "create a new release using the build from one release and the environment from "
        "another for an app",
        "convox releases info": "get information about a release",
        "convox releases manifest": "get manifest for a release",
        "convox releases promote": "promote a release",
        "convox releases rollback": "copy an old release forward and promote it",
        "convox switch": "switch current rack",
        "convox version": "display version information",
    }
    assert expected.items() <= listed.items()


def test_the_app_is_the_folder_or_what_is_said(config_path: Path, tmp_path: Path) -> None:
    store = open_local_store(config_path)
    for app in ("web", "api", "worker"):
        store.create_build(Build(id=f"B{app.upper()}", app=app, started=NOW))
    store.close()
    assert b"BWEB" in run("builds").stdout
    (tmp_path / "web" / ".convox").mkdir()
    (tmp_path / "web" / ".convox" / "app").write_text("api\n")
    assert b"BAPI" in run("builds").stdout
    for words in (("builds", "-a", "worker"), ("-a", "worker", "builds"), ("builds", "--app=worker")):
        assert b"BWORKER" in run(*words).stdout
    assert run("builds", "info", "BWEB", "-a", "api").code == 1


def test_the_rack_is_the_current_one_or_what_is_said(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("rack", "install", "local", "other").code == 0
    assert run("switch").stdout == b"local\n"
    assert run("switch", "-r", "oth").stdout == b"other\n"
    monkeypatch.setenv("CONVOX_RACK", "other")
    assert run("-r", "local", "switch").stdout == b"local\n"
    assert run("switch").stdout == b"other\n"
    add_records(config_path)
    assert run("builds").code == 1  # nothing was built on the rack "other"
    assert run("builds", "-r", "local").code == 0
    result = run("builds", "-r", "nowhere")
    assert (result.code, result.stderr.splitlines()[0]) == (1, b"ERROR: could not find rack: nowhere")


def test_builds_that_were_left_behind_are_shown_as_failed(config_path: Path) -> None:
    add_records(config_path)
    gone = current_process_id().replace(f":{os.getpid()}:", ":4194303:")
    store = open_local_store(config_path)
    store.create_build(Build(id="BGONE", app="web", status=BuildStatus.RUNNING, process=gone, started=NOW))
    store.append_log("web", "BGONE", b"as far as it came\n")
    store.close()
    [first, *_] = json.loads(run("builds", "--output", "json", "-l", "1").stdout)
    assert (first["id"], first["status"], first["reason"]) == ("BGONE", "failed", ABANDONED_REASON)
    assert run("builds", "logs", "BGONE").stdout == b"as far as it came\n"


def test_a_build_that_is_killed_while_it_is_watched(config_path: Path) -> None:
    store = open_local_store(config_path)
    with start(["builds", "--watch", "1"]) as watcher, subprocess.Popen(["sleep", "600"]) as builder:
        assert watcher.stdout is not None
        build = Build(id="BRUN", app="web", status=BuildStatus.RUNNING, process=process_id(builder.pid), started=NOW)
        store.create_build(build)
        limit = threading.Timer(20, watcher.kill)
        limit.start()
        try:
            assert any(line.startswith(b"BRUN  running ") for line in watcher.stdout)
            builder.kill()
            builder.wait()
            assert any(line.startswith(b"BRUN  failed ") for line in watcher.stdout)
        finally:
            limit.cancel()
            builder.kill()
            watcher.kill()
    assert store.get_build("web", "BRUN").reason == ABANDONED_REASON
    store.close()


def test_a_running_build_is_followed_from_another_process(config_path: Path) -> None:
    store = open_local_store(config_path)
    store.create_build(Build(id="BRUN", app="web", process=current_process_id(), started=NOW))
    with LogWriter(store.logs_dir, "web", "BRUN") as log, start(["builds", "logs", "BRUN"]) as follower:
        assert follower.stdout is not None
        log.write(b"first\n")
        assert follower.stdout.readline() == b"first\n"
        store.update_build("web", "BRUN", status=BuildStatus.RUNNING)
        log.write(b"second, \xff\n")
        assert follower.stdout.readline() == b"second, \xff\n"
        log.write(b"end")
        store.update_build("web", "BRUN", status=BuildStatus.COMPLETE)
        assert follower.communicate(timeout=20) == (b"end", b"")
        assert follower.returncode == 0
    store.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_one_line(number: int, config_path: Path) -> None:
    store = open_local_store(config_path)
    store.create_build(Build(id="BRUN", app="web", process=current_process_id(), started=NOW))
    store.append_log("web", "BRUN", b"ready\n")
    store.close()
    with start(["builds", "logs", "BRUN"]) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"ready\n"
        follower.send_signal(number)
        assert follower.communicate(timeout=20) == (b"", b"ERROR: cancelled\n")
        assert follower.returncode == 130


def test_nobody_reads_the_output(config_path: Path) -> None:
    add_records(config_path)
    store = open_local_store(config_path)
    store.append_log("web", "BAAAAAAAAAA", b"x" * 1_000_000)
    store.close()
    with start(["builds", "logs", "BAAAAAAAAAA"]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == b"web "
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 141


def test_streams_that_were_closed_from_the_start(config_path: Path) -> None:
    script = f"{sys.executable} -c 'from convox.cli.app import main; raise SystemExit(main())' racks"
    for closing, code in ((">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), (">/dev/full", 1)):
        process = subprocess.run(["sh", "-c", f"{script} {closing}"], capture_output=True, check=False, timeout=20)
        assert process.returncode == code, closing
        assert b"Traceback" not in process.stderr
        if code:
            assert process.stderr.startswith(b"ERROR: cannot write the output\n  why: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        ("rack params set platform=linux/amd64", 0, ""),
        ("rack install do second", 0, ""),
        ("rack params set docker_hub_password=-", 1, "ERROR: param 'docker_hub_password': standard input is empty\n"),
        ("registries add quay.io me -", 2, "ERROR: no password was received on stdin\n"),
        ("registries add quay.io me", 2, "ERROR: 3 args required\n"),
        ("env set", 2, "ERROR: at least 1 arg required\n"),
        ("builds import", 2, "ERROR: pipe a file into this command or specify --file\n"),
        (
            "builds import-image quay.io/a/b --src-creds-user me --src-creds-pass-stdin",
            2,
            "ERROR: --src-creds-pass-stdin: no input received\n",
        ),
    ],
)
def test_stdin_that_was_closed_from_the_start(words: str, code: int, stderr: str, config_path: Path) -> None:
    """As jobs of cron and of some CI runners have it."""
    script = f"{sys.executable} -c 'from convox.cli.app import main; raise SystemExit(main())' {words} <&-"
    process = subprocess.run(["sh", "-c", script], capture_output=True, check=False, timeout=20, text=True)
    assert (process.returncode, process.stderr[: len(stderr)]) == (code, stderr), process.stderr


@pytest.mark.parametrize(
    "words",
    [
        "build",
        "builds",
        "builds logs BAAAAAAAAAA",
        "builds import -f export.tgz",
        "builds rm BAAAAAAAAAA",
        "releases promote",
        "env set A=1",
        "apps",
        "rack uninstall local",
    ],
)
def test_records_of_a_newer_version_are_refused_and_left_alone(words: str, config_path: Path) -> None:
    add_records(config_path)
    Path("convox.yml").write_text("services:\n  web:\n    build: .\n")
    Path("export.tgz").write_bytes(b"")
    path = config_path / "racks/local/store.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO schema_migrations SELECT MAX(version) + 1, 'new', '' FROM schema_migrations")
    with contextlib.closing(sqlite3.connect(path)) as db:
        before = list(db.iterdump())
    result = run(*words.split())
    assert (result.code, result.stdout) in ((1, b""), (1, b"Uninstalling local... "))
    assert b"was written by a newer version of convox\n  why: its schema has version " in result.stderr
    assert b"\n  try: update convox" in result.stderr
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert list(db.iterdump()) == before


def test_a_listing_is_watched_until_it_is_ended(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1:
            assert main(["rack", "install", "local", "second"]) == 0
        if len(sleeps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    result = run_on_terminal("racks", "--watch", "7")
    assert result.code == 0
    assert sleeps == [7, 7]
    parts = result.stdout.split(b"\x1b[H\x1b[2J\x1b[3J")[1:]
    assert [part.splitlines()[:2] for part in parts] == [[b"Every 7s:", b""]] * 2
    assert b"second" not in parts[0].split(b"Installing")[0]
    assert b"second" in parts[1]


def test_an_error_does_not_end_a_watch(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    result = run("builds", "--watch=3")
    assert (result.code, result.stdout) == (0, b"Every 3s:\n\n")
    assert result.stderr.startswith(b"ERROR: app not found: web\n")


def test_main_can_run_outside_the_main_thread(config_path: Path) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run("racks").code))
    thread.start()
    thread.join()
    assert codes == [0]


def test_signal_handlers_are_put_back(config_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    run("racks")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_a_listing_imports_nothing_slow(config_path: Path) -> None:
    add_records(config_path)
    script = (
        # The database library imports the drivers of PostgreSQL where they are; they are no dependency of ours.
        "import sys; sys.modules.update(psycopg=None, psycopg2=None);"
        "from convox.cli.entry import main; code = main();"
        "names = {name for name, module in sys.modules.items() if module};"
        "print(code, *names, file=sys.stderr)"
    )
    slow = {"asyncio", "buildkit_client", "google", "grpc", "pydantic", "rich", "ssl", "urllib3", "yaml", "zstandard"}
    slow |= {"subprocess"}
    quick = {"buildkit_client", "buildkit_client.startup"}
    for words, more in (
        (("builds",), set()),
        (("releases",), set()),
        (("apps",), set()),
        (("env", "get", "FOO"), set()),
        (("registries",), {"peewee", "sqlite3"}),
        (("racks",), {"peewee", "sqlite3"}),
    ):
        process = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=True, timeout=20)
        code, *names = process.stderr.decode().split()
        assert code == "0"
        found = {name.partition(".")[0] for name in set(names) - quick}
        assert found & (slow | more) == set(), words


def test_every_command_takes_the_flags_of_older_scripts(config_path: Path) -> None:
    add_records(config_path)
    for words in (
        ["builds", "-w"],
        ["builds", "info", "--wait", "BAAAAAAAAAA"],
        ["builds", "logs", "BAAAAAAAAAA", "-w=true"],
        ["releases", "-wl1"],
        ["racks", "-w", "-r", "local", "-a", "web"],
        ["switch", "--app", "web"],
        ["rack", "params", "-a", "web", "-w"],
        ["version", "-r", "local"],
    ):
        assert run(*words).code == 0, words


@pytest.mark.parametrize(
    ("env", "shown"),
    [
        ("", ""),
        ("A=1\nB_2=x=y\nc=", "A=****\nB_2=****\nc=****"),
        ("KEY=-----BEGIN\nMIIEpAIBAAKCAQEAx+/\nQmFzZTY0==\nQmFzZTY0=\n-----END", "KEY=****\n****\n****\n****\n****"),
        ("no equals sign", "****"),
        ("=x", "****"),
        ("A=1\n", "A=****\n"),
    ],
)
def test_an_environment_is_masked_line_by_line(env: str, shown: str) -> None:
    assert masked(Release(id="R", app="web", env=env)).env == shown
