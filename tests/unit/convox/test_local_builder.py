"""The local builder, with programs that only look like buildkitd: started once, found again, ended altogether."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from buildkit_client._proto import control_pb2
from convox import builder as builder_module
from convox import buildkitd_setup, local_builder
from convox.buildkitd_setup import (
    Programs,
    ProgramsMissingError,
    config_text,
    daemon_environ,
    log_reason,
    start_hint,
)
from convox.daemon_process import is_running, pid_of
from convox.errors import BuilderError, ExitCode
from convox.local_builder import BuilderState, LocalBuilder
from convox.rack import Rack
from convox.store.process import process_id
from tests.support.convox_cli import run

VERSION = "v0.99.0"

# Answers Control.Info as buildkitd does, and writes down how it was started.
PREAMBLE = """\
#!{python}
import json, os, signal, subprocess, sys, time
values = dict(word.lstrip("-").split("=", 1) for word in sys.argv if "=" in word)
with open({starts!r}, "a") as file:
    file.write(json.dumps([sys.argv, dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid(), os.getpid()]) + "\\n")
"""
SERVE = """\
import grpc
from concurrent.futures import ThreadPoolExecutor
server = grpc.server(ThreadPoolExecutor(1))
info = grpc.unary_unary_rpc_method_handler(lambda request, context: bytes.fromhex({info!r}))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("moby.buildkit.v1.Control", {{"Info": info}}),))
server.add_insecure_port(values["addr"])
server.start()
"""
SERVES = SERVE + "server.wait_for_termination()\n"
DIES = """\
print("level=info msg=starting", flush=True)
sys.exit("buildkitd: no room\\nmain.open\\n\\t/src/main.go:12\\nmain.main\\n\\t/src/main.go:3")
"""
CRUN = 'print("      --keep   do not delete the container after it exits")'
SAYS_NOTHING = "time.sleep(600)\n"
# Does not end when asked, and works through a process of a session of its own, as a container is.
STUBBORN = (
    """\
signal.signal(signal.SIGTERM, signal.SIG_IGN)
step = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("step", step.pid, flush=True)
"""
    + SERVES
)
# Ends at once when asked, and leaves that process behind.
CARELESS = STUBBORN.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "")


class Machine:
    """A folder of fake programs, and the local builder of a user who has them on PATH."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.programs = path / "bin"
        self.programs.mkdir()
        self.starts_path = path / "starts"
        self.builders: list[LocalBuilder] = []
        self.install("runc")

    def install(self, name: str, script: str = "") -> Path:
        program = self.programs / name
        info = control_pb2.InfoResponse()
        info.buildkitVersion.version = VERSION
        text = (PREAMBLE + script).format(
            python=sys.executable, starts=str(self.starts_path), info=info.SerializeToString().hex()
        )
        program.write_text(text)
        program.chmod(0o755)
        return program

    def builder(self, **changes: object) -> LocalBuilder:
        values: dict[str, object] = {
            "path": self.path / "b",
            "config_path": self.path / "buildkitd.toml",
            "environ": {"PATH": str(self.programs), "HOME": "/home/me", "AWS_SECRET_ACCESS_KEY": "CANARY"},
            "start_timeout_s": 20.0,
            "stop_grace_s": 5.0,
        }
        builder = LocalBuilder(**{**values, **changes})  # type: ignore[arg-type]
        self.builders.append(builder)
        return builder

    def runs(self, pid: int) -> bool:
        """Say whether a process runs one of these programs."""
        try:
            return str(self.programs).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    @property
    def starts(self) -> list[list[object]]:
        """What each start was told: words, environment, folder, whether it leads a session; and its number."""
        if not self.starts_path.exists():
            return []
        return [json.loads(line) for line in self.starts_path.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with runc and without buildkitd; what is started on it is stopped."""
    monkeypatch.setattr(buildkitd_setup, "_SYSTEM_FOLDERS", ())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine = Machine(tmp_path_factory.mktemp("m"))
    yield machine
    for builder in machine.builders:
        with contextlib.suppress(BuilderError):
            builder.stop()
    left = [pid for *_, pid in machine.starts if isinstance(pid, int) and machine.runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Steps:
    """Notes which steps were shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, /) -> AbstractContextManager[object]:
        self.texts.append(text)
        return contextlib.nullcontext()


class TestStart:
    def test_runs_on_its_own_until_it_is_stopped(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        builder, steps = machine.builder(), Steps()
        state = builder.start(steps)
        assert (state.status, state.version) == ("running", VERSION)
        assert state.address == f"unix://{builder.path}/buildkitd.sock"
        assert steps.texts == ["Starting a local builder"]
        assert state == builder.state() == builder.start(steps)
        assert steps.texts == ["Starting a local builder"]
        [(words, environ, folder, leads_session, _)] = machine.starts
        assert words == [
            str(machine.programs / "buildkitd"),
            f"--config={builder.path}/buildkitd.toml",
            f"--root={builder.path}/root",
            f"--addr={state.address}",
            "--oci-worker=true",
            "--containerd-worker=false",
        ]
        assert isinstance(environ, dict)
        assert environ == {"PATH": str(machine.programs), "HOME": "/home/me"} | {
            name: value for name, value in environ.items() if name in ("LC_CTYPE", "__CF_USER_TEXT_ENCODING")
        }
        assert (folder, leads_session) == ("/", True)
        assert builder.path.stat().st_mode & 0o777 == 0o700
        for name in ("buildkitd.log", "buildkitd.toml", "state.json"):
            assert (builder.path / name).stat().st_mode & 0o777 == 0o600
        assert builder.stop(steps)
        assert steps.texts[1:] == ["Stopping the local builder"]
        assert state.pid is not None
        assert process_id(state.pid).endswith(":0")
        assert builder.state() == BuilderState(
            status="stopped", root_path=builder.root_path, log_path=builder.path / "buildkitd.log"
        )
        assert not builder.stop(steps)
        assert len(steps.texts) == 2

    def test_of_several_at_once_one_starts_it(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        builder, steps = machine.builder(), Steps()
        states: list[BuilderState] = []
        threads = [threading.Thread(target=lambda: states.append(builder.start(steps))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [state.status for state in states] == ["running"] * 4
        assert len({state.pid for state in states}) == 1
        assert len(machine.starts) == len(steps.texts) == 1

    def test_one_that_dies_says_why(self, machine: Machine) -> None:
        machine.install("buildkitd", DIES)
        builder = machine.builder()
        with pytest.raises(BuilderError, match="did not start") as caught:
            builder.start()
        assert caught.value.why == "level=info msg=starting\nbuildkitd: no room"
        assert str(builder.log_path) in caught.value.hint
        assert caught.value.exit_code is ExitCode.CONNECTION
        assert builder.state().status == "stopped"
        machine.install("buildkitd", SERVES)
        assert builder.start().status == "running"

    def test_one_that_does_not_answer_is_ended(self, machine: Machine) -> None:
        machine.install("buildkitd", SAYS_NOTHING)
        builder = machine.builder(start_timeout_s=0.5)
        with pytest.raises(BuilderError, match=r"\(pid \d+\) does not answer") as caught:
            builder.start()
        assert caught.value.why == "it wrote nothing"
        assert builder.state().status == "stopped"
        assert not builder.stop()

    def test_an_interrupted_start_leaves_nothing(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.install("buildkitd", SAYS_NOTHING)
        builder = machine.builder()
        processes: list[str] = []
        asked = local_builder._ask_version

        def interrupted(record: local_builder._Record) -> str | None:
            if not record.process:  # nothing was started yet
                return asked(record)
            wait_until(lambda: is_running(record.process))
            processes.append(record.process)
            raise KeyboardInterrupt

        monkeypatch.setattr(local_builder, "_ask_version", interrupted)
        with pytest.raises(KeyboardInterrupt):
            builder.start()
        monkeypatch.undo()
        assert not is_running(processes[0])
        assert builder.state().status == "stopped"

    def test_a_start_under_way_is_waited_for(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.install("buildkitd", SERVES)
        builder = machine.builder()
        builder.start()
        asked, answers = local_builder._ask_version, [None, None, None]

        def slow(record: local_builder._Record) -> str | None:
            return answers.pop() if answers else asked(record)

        monkeypatch.setattr(local_builder, "_ask_version", slow)
        assert builder.start().status == "running"
        assert answers == []
        assert len(machine.starts) == 1

    def test_nobody_who_reads_is_not_an_error_of_a_file(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)

        def closed(text: str) -> AbstractContextManager[object]:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            machine.builder().start(closed)
        assert machine.starts == []

    def test_a_folder_that_cannot_be_used(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        (machine.path / "b").write_text("in the way")
        with pytest.raises(BuilderError, match=f"cannot use {machine.path}/b") as caught:
            machine.builder().start()
        assert caught.value.why == "Not a directory"
        (machine.path / "b").unlink()


class TestStop:
    @pytest.mark.parametrize("script", [STUBBORN, CARELESS])
    def test_takes_what_it_started_with_it(self, machine: Machine, script: str) -> None:
        machine.install("buildkitd", script)
        builder = machine.builder(stop_grace_s=0.3)
        builder.start()
        step = process_id(int(builder.log_path.read_text().split()[1]))
        assert is_running(step)
        assert builder.stop()
        wait_until(lambda: not is_running(step))

    def test_leaves_other_processes_alone(self, machine: Machine) -> None:
        builder = machine.builder()
        builder.path.mkdir(mode=0o700)
        own = process_id(os.getpid())
        for process in (
            own.replace(":", "x:", 1),  # on another host
            own.replace("-", "0-", 1),  # started at another time
            f"{os.uname().nodename}:{os.getpid()}:0",
            f"{os.uname().nodename}:1:0",
            "",
            "x",
        ):
            (builder.path / "state.json").write_text(json.dumps({"process": process, "run": str(builder.path)}))
            assert builder.state().status == "stopped"
            assert not builder.stop()
        for text in ("", "{}", "[]", "null", "{", "[" * 50_000):
            (builder.path / "state.json").write_text(text)
            assert not builder.stop()

    def test_one_started_elsewhere_is_used_and_not_stopped(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        builder = machine.builder()
        first = builder.start()
        record = (builder.path / "state.json").read_text()
        (builder.path / "state.json").write_text(record.replace(":", "x:", 2))
        assert builder.state().status == "running"
        assert builder.state().pid is None
        assert builder.start().address == first.address
        with pytest.raises(BuilderError, match="cannot be stopped from here"):
            builder.stop()
        assert len(machine.starts) == 1
        (builder.path / "state.json").write_text(record)

    def test_says_so_when_it_is_another_users(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.install("buildkitd", SERVES)
        builder = machine.builder()
        state = builder.start()

        def refuse(pid: int, number: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "kill", refuse)
        with pytest.raises(BuilderError, match=rf"\(pid {state.pid}\) cannot be stopped") as caught:
            builder.stop()
        assert caught.value.why == "it belongs to another user"
        monkeypatch.undo()


class TestRunFolder:
    def test_a_long_or_odd_path_has_its_socket_elsewhere(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        runtime = machine.path / "r"
        runtime.mkdir()
        for folder in ("x" * 90, "a b"):
            builder = machine.builder(path=machine.path / folder, runtime_path=runtime)
            state = builder.start()
            assert state.address.startswith(f"unix://{runtime}/convox-")
            assert len(state.address) <= len("unix://") + 104
            assert builder.stop()
            assert list(runtime.iterdir()) == []

    def test_without_a_runtime_folder_it_is_in_tmp(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        builder = machine.builder(path=machine.path / ("x" * 90))
        folder = Path(builder.start().address.removeprefix("unix://")).parent
        assert folder.parent == Path("/tmp")
        assert folder.stat().st_mode & 0o777 == 0o700
        builder.stop()
        assert not folder.exists()


class TestPrograms:
    @pytest.mark.parametrize(
        ("installed", "is_root", "why", "hint"),
        [
            ((), True, "buildkitd and runc are not on PATH", "install buildkitd and runc (buildkitd: "),
            (("runc",), True, "buildkitd is not on PATH", "install buildkitd (buildkitd: "),
            (
                ("buildkitd",),
                True,
                "runc is not on PATH",
                "install runc, or name one that runs: convox rack params set",
            ),
            (("buildkitd", "crun", "rootlesskit"), False, "newuidmap is not on PATH", "install uidmap, or name"),
            (
                ("buildkitd", "runc", "newuidmap"),
                False,
                "rootlesskit is not on PATH; rootlesskit is needed where buildkitd does not run as root",
                "install rootlesskit, or name",
            ),
            (
                (),
                False,
                "buildkitd, runc, rootlesskit and newuidmap are not on PATH; rootlesskit is needed where",
                "install buildkitd, runc, rootlesskit and uidmap (",
            ),
        ],
    )
    def test_says_what_is_missing(
        self, machine: Machine, installed: tuple[str, ...], is_root: bool, why: str, hint: str
    ) -> None:
        (machine.programs / "runc").unlink()
        for name in installed:
            machine.install(name, CRUN if name == "crun" else "")
        with pytest.raises(ProgramsMissingError, match="a local builder cannot be started") as caught:
            Programs.find({"PATH": str(machine.programs)}, is_root=is_root)
        assert caught.value.why.startswith(why)
        assert caught.value.hint.startswith(hint)
        assert caught.value.hint.endswith("or set BUILDKIT_HOST")
        assert caught.value.exit_code is ExitCode.CONNECTION

    def test_there_is_no_buildkitd_for_other_systems(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.install("buildkitd")
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Darwin", "host", "1", "1", "arm64")))
        with pytest.raises(ProgramsMissingError) as caught:
            Programs.find({"PATH": str(machine.programs)}, is_root=True)
        assert caught.value.why == "buildkitd builds on Linux only"

    def test_the_systems_own_folders_count(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.install("buildkitd")
        monkeypatch.setattr(buildkitd_setup, "_SYSTEM_FOLDERS", (str(machine.programs),))
        assert Programs.find({"PATH": "/nowhere"}, is_root=True).runtime == str(machine.programs / "runc")

    def test_crun_does_as_well(self, machine: Machine) -> None:
        (machine.programs / "runc").unlink()
        crun = machine.install("crun", CRUN)
        machine.install("buildkitd", SERVES)
        machine.builder().start()
        [(asked, *_), (words, *_)] = machine.starts
        assert asked == [str(crun), "run", "--help"]
        assert isinstance(words, list)
        assert words[-1] == f"--oci-worker-binary={crun}"

    def test_a_crun_that_cannot_run_a_step_does_not(self, machine: Machine) -> None:
        (machine.programs / "runc").unlink()
        machine.install("buildkitd", SERVES)
        crun = machine.install("crun", 'print("  --detach")')
        with pytest.raises(ProgramsMissingError) as caught:
            machine.builder().start()
        assert caught.value.why == (f"runc is not on PATH; {crun} is too old for buildkitd, which needs crun 1.14.4")

    def test_another_user_than_root_has_it_in_a_user_namespace(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)  # has no name
        buildkitd = machine.install("buildkitd", SERVES)
        kit = machine.install("rootlesskit", "child = subprocess.Popen(sys.argv[2:])\nsys.exit(child.wait())\n")
        machine.install("newuidmap")
        builder = machine.builder()
        state = builder.start()
        [(outer, environ, *_), (inner, *_)] = machine.starts
        assert isinstance(outer, list)
        assert isinstance(inner, list)
        assert outer[:3] == [str(kit), f"--state-dir={builder.path}/rootlesskit", str(buildkitd)]
        assert inner == outer[2:]
        assert isinstance(environ, dict)
        assert environ["XDG_RUNTIME_DIR"] == str(builder.path)
        assert environ["USER"] == "4000000"
        assert state.pid is not None
        assert builder.stop()
        assert builder.state().status == "stopped"


class TestEnvironment:
    def test_has_proxies_and_certificates_and_no_secrets(self) -> None:
        environ = {
            "HTTPS_PROXY": "http://proxy:3128",
            "no_proxy": "localhost",
            "SSL_CERT_FILE": "/etc/own.pem",
            "BUILDKIT_HOST": "tcp://elsewhere:1",
            "NOTIFY_SOCKET": "/run/notify",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector",
            "TOKEN": "CANARY",
        }
        kept = daemon_environ(environ, run_path=Path("/run/x"), is_root=True)
        assert set(kept) == {"HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "PATH"}
        assert kept["PATH"].startswith(os.defpath)


class TestConfig:
    def test_ours_bounds_the_cache_and_listens_nowhere(self, tmp_path: Path) -> None:
        config = tomllib.loads(config_text(tmp_path / "none.toml", run_path=Path("/run/x")))
        assert config["worker"]["oci"]["gc"] is True
        assert config["worker"]["oci"]["maxUsedSpace"] == "20GB"
        assert config["otel"] == {"socketPath": "/run/x/otel.sock"}
        assert "grpc" not in config

    def test_the_users_own_takes_its_place(self, tmp_path: Path) -> None:
        own, link = tmp_path / "own.toml", tmp_path / "buildkitd.toml"
        own.write_text('[registry."registry.example.com:5000"]\nhttp = true')
        link.symlink_to(own)
        config = tomllib.loads(config_text(link, run_path=Path("/run/x")))
        assert config == {
            "registry": {"registry.example.com:5000": {"http": True}},
            "otel": {"socketPath": "/run/x/otel.sock"},
        }
        own.write_text('otel.socketPath = "/run/mine"')
        assert config_text(link, run_path=Path("/run/x")) == own.read_text()

    @pytest.mark.parametrize("data", [b"[worker", b"a = \xff"])
    def test_one_that_is_no_toml_is_refused(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "buildkitd.toml"
        path.write_bytes(data)
        with pytest.raises(BuilderError, match=f"cannot read {path}"):
            config_text(path, run_path=Path("/run/x"))


class TestLogReason:
    def test_ids_that_are_missing_have_a_hint_of_their_own(self, tmp_path: Path) -> None:
        reason = '[rootlesskit:parent] error: No subuid ranges found for user 1001 ("me")'
        assert start_hint(reason, tmp_path).startswith("give this user ids for a user namespace: usermod --add-subuids")
        assert start_hint("no room", tmp_path / "log") == f"see {tmp_path}/log"

    def test_a_long_log_has_its_last_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_text("".join(f"line {number}\n" for number in range(20_000)))
        assert log_reason(path) == "\n".join(f"line {number}" for number in range(19_995, 20_000))

    def test_a_log_that_is_not_there(self, tmp_path: Path) -> None:
        assert log_reason(tmp_path / "none") == "its log cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("process", "pid"),
    [("h:12:3-4-5", 12), ("h:x:1", 0), ("h:-1:1", 0), ("h:²:1", 0), ("h:9999999999:1", 0), ("12", 0), ("", 0)],
)
def test_the_number_in_a_process_id(process: str, pid: int) -> None:
    assert pid_of(process) == pid
    assert not is_running(process)


def test_a_process_that_ended_is_not_running() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = process_id(child.pid)
        assert is_running(process)
    assert not is_running(process)


class TestConnect:
    """Which builder a build gets; the usual address is one where nothing listens."""

    @pytest.fixture(autouse=True)
    def nothing_at_the_usual_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(builder_module, "DEFAULT_ADDRESS", f"unix://{tmp_path}/none.sock")

    def test_starts_one_when_nobody_named_one(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        builder = machine.builder()
        rack = Rack(name="local", path=machine.path, params={})
        with builder_module.connect(rack, buildkit_host="", start_local=lambda: builder.start().address) as client:
            assert client.info().version == VERSION

    @pytest.mark.parametrize("params", [{"builder": "unix:///nowhere/named.sock"}, {}])
    def test_starts_none_when_somebody_named_one(self, machine: Machine, params: dict[str, str]) -> None:
        rack = Rack(name="local", path=machine.path, params=params)
        host = "" if params else "unix:///nowhere/named.sock"

        def start_local() -> str:
            raise AssertionError

        with pytest.raises(BuilderError, match=r"unix:///nowhere/named\.sock"):
            builder_module.connect(rack, buildkit_host=host, start_local=start_local)

    def test_says_what_is_missing_to_start_one(self, machine: Machine) -> None:
        builder = machine.builder()
        rack = Rack(name="local", path=machine.path, params={})
        with pytest.raises(BuilderError, match="no builder answers, and none can be started here") as caught:
            builder_module.connect(rack, buildkit_host="", start_local=lambda: builder.start().address)
        assert "there is no socket" in caught.value.why
        assert caught.value.why.endswith("; buildkitd is not on PATH")
        assert "convox rack params set builder=" in caught.value.hint
        assert caught.value.exit_code is ExitCode.CONNECTION


class TestCommands:
    @pytest.fixture(autouse=True)
    def home(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("BUILDKIT_HOST", "CONVOX_RACK", "RACK_URL", "XDG_RUNTIME_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(machine.path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(machine.path / "c"))
        monkeypatch.setenv("CONVOX_CONFIG", str(machine.path / "config"))
        monkeypatch.setenv("PATH", str(machine.programs))
        machine.builder(path=machine.path / "c" / "convox" / "builder")  # so that it is stopped

    def test_from_start_to_stop(self, machine: Machine) -> None:
        machine.install("buildkitd", SERVES)
        folder = machine.path / "c/convox/builder"
        stopped = run("builder", "status")
        assert stopped.code == 3
        assert stopped.stdout.decode().splitlines() == [
            "Status   stopped",
            "Address  ",
            "Pid      ",
            "Version  ",
            f"Root     {folder}/root",
            f"Log      {folder}/buildkitd.log",
        ]
        assert run("builder", "start").stdout == b"Starting a local builder... OK\n"
        assert run("builder", "start").stdout == b"The local builder is running already\n"
        running = run("builder", "status", "--output", "json")
        assert running.code == 0
        record = json.loads(running.stdout)
        assert isinstance(record.pop("pid"), int)
        assert record == {
            "status": "running",
            "address": f"unix://{folder}/buildkitd.sock",
            "version": VERSION,
            "root": f"{folder}/root",
            "log": f"{folder}/buildkitd.log",
        }
        assert run("builder", "stop").stdout == b"Stopping the local builder... OK\n"
        assert run("builder", "stop").stdout == b"The local builder is not running\n"
        assert json.loads(run("builder", "status", "--output", "json").stdout)["pid"] is None

    def test_without_programs(self) -> None:
        result = run("builder", "start")
        assert (result.code, result.stdout) == (3, b"")
        assert result.stderr.startswith(
            b"ERROR: a local builder cannot be started\n  why: buildkitd is not on PATH\n  try: install buildkitd ("
        )

    def test_a_build_without_programs(self, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(builder_module, "DEFAULT_ADDRESS", f"unix://{tmp_path}/none.sock")
        (tmp_path / "convox.yml").write_text("services:\n  web:\n    build: .\n")
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY convox.yml /\n")
        monkeypatch.chdir(tmp_path)
        result = run("build", "-a", "web")
        assert (result.code, result.stdout) == (3, b"Packaging source... OK\n")
        lines = result.stderr.decode().splitlines()
        assert lines[0] == "ERROR: no builder answers, and none can be started here"
        assert lines[1] == f"  why: there is no socket {tmp_path}/none.sock; buildkitd is not on PATH"
        assert lines[2].startswith("  try: install buildkitd (")
        assert len(lines) == 3
