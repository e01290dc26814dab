"""A build that is interrupted, ended or killed at any moment: soon over, recorded, and with the log it had."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from convox.models import Build, BuildStatus
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox
from tests.support.own_buildkitd import running_processes

pytestmark = pytest.mark.services

ENDS_WITHIN_S = 5.0

# What the build has shown when it is interrupted; an empty text is the moment at which its record is there.
MOMENTS = (
    "",
    "Packaging source... OK",
    "Uploading source... OK",
    "Starting build... OK",
    "[internal] load build definition",
    "[internal] load build context",
    " begun\n",
    "[3/3] RUN",
)


@pytest.fixture
def slow_app(make_app: MakeApp) -> Path:
    """An app of two services with a step that takes longer than any test."""
    folder = make_app("COPY . /all\nRUN echo begun; sleep 30\n", manifest="services:\n  web:\n    build: .\n")
    for number in range(200):
        (folder / f"file{number}").write_bytes(b"x" * 10_000)
    return folder


class Running:
    """A build in progress."""

    def __init__(self, convox: Convox, folder: Path) -> None:
        self.convox = convox
        self.process = convox.start("build", str(folder), "-a", "app")
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until a text was shown; for an empty text, wait for the record."""
        assert self.process.stdout is not None
        if not text:
            self.wait_until(lambda: bool(self.convox.rack_path().joinpath("store.db").exists() and self.records()))
        while text not in self.shown:
            piece = self.process.stdout.read(1)
            assert piece, f"ended before {text!r} was shown:\n{self.shown}"
            self.shown += piece

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.02)

    def records(self) -> list[Build]:
        return self.convox.builds("app")

    def end(self) -> tuple[int, str]:
        """Wait for the end and return exit code and stderr."""
        with self.process:
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            self.shown += self.process.stdout.read()
            stderr = self.process.stderr.read()
        return self.process.returncode, stderr

    def kill(self) -> None:
        self.process.kill()
        self.end()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(convox: Convox, slow_app: Path, number: signal.Signals, moment: str) -> None:
    building = Running(convox, slow_app)
    building.wait_for(moment)
    began = time.monotonic()
    building.process.send_signal(number)
    code, stderr = building.end()
    took = time.monotonic() - began
    assert (code, stderr) == (130, "ERROR: cancelled\n"), stderr
    assert took < ENDS_WITHIN_S
    [record] = convox.builds("app")
    assert record.status is BuildStatus.FAILED
    assert record.reason == "cancelled"
    assert record.ended is not None
    if moment:  # before, it may not have a log yet
        assert convox.log("app", record.id).endswith("ERROR: cancelled\n")
    assert "Build: " not in building.shown


def test_impatience(convox: Convox, slow_app: Path) -> None:
    """Somebody presses Ctrl-C again and again."""
    building = Running(convox, slow_app)
    building.wait_for(" begun\n")
    for _ in range(20):
        if building.process.poll() is not None:
            break
        building.process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    code, stderr = building.end()
    assert code == 130
    assert "Traceback" not in stderr
    assert stderr.count("ERROR: cancelled\n") <= 1
    convox.ok("builds", "-a", "app")
    assert convox.build("app").status is BuildStatus.FAILED


SLOW_TO_LOAD = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "convox.cli.app":
            print("loading", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
"""


def test_interrupt_before_anything(convox: Convox, slow_app: Path, tmp_path: Path) -> None:
    """While the program still loads, there is no record yet, and no traceback either."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW_TO_LOAD)
    convox.environ["PYTHONPATH"] = str(tmp_path / "slow")
    building = Running(convox, slow_app)
    building.wait_for("loading\n")
    building.process.send_signal(signal.SIGINT)
    assert building.end() == (-signal.SIGINT, "")
    assert not convox.rack_path().exists()


def test_builder_is_told(convox: Convox, make_app: MakeApp) -> None:
    """The command of the step does not go on after the client is gone."""
    folder = make_app("")
    mark = re.findall(r"UNIQUE=(\S+)", (folder / "Dockerfile").read_text())[0]
    with (folder / "Dockerfile").open("a") as file:
        file.write(f"RUN echo begun; sleep 30; echo {mark}\n")
    building = Running(convox, folder)
    building.wait_for(" begun\n")
    building.wait_until(lambda: len(running_processes(mark)) > 0)
    building.process.send_signal(signal.SIGINT)
    building.end()
    building.wait_until(lambda: not running_processes(mark))


class TestKilled:
    def test_next_command_marks_it_and_the_log_is_kept(self, convox: Convox, slow_app: Path) -> None:
        building = Running(convox, slow_app)
        building.wait_for(" begun\n")
        building.kill()
        assert convox.build("app").status is BuildStatus.RUNNING
        listing = convox.ok("builds", "-a", "app").stdout
        record = convox.build("app")
        assert record.status is BuildStatus.FAILED
        assert record.reason == "the process that ran it ended without finishing"
        assert record.ended is not None
        assert re.search(rf"^{record.id}  failed ", listing, re.MULTILINE)
        assert " begun\n" in convox.ok("builds", "logs", record.id, "-a", "app").stdout
        assert f"Reason       {record.reason}\n" in convox.ok("builds", "info", record.id, "-a", "app").stdout

    def test_kill_while_it_waits_for_nothing_else_is_marked(self, convox: Convox, slow_app: Path) -> None:
        """A build that still runs is left alone when another command looks."""
        building = Running(convox, slow_app)
        building.wait_for(" begun\n")
        convox.ok("builds", "-a", "app")
        assert convox.build("app").status is BuildStatus.RUNNING
        building.kill()

    def test_terminal_that_goes_away(self, convox: Convox, slow_app: Path) -> None:
        building = Running(convox, slow_app)
        building.wait_for(" begun\n")
        building.process.send_signal(signal.SIGHUP)
        assert building.end()[0] == 130
        assert convox.build("app").reason == "cancelled"


def test_two_builds_of_one_app_at_once(convox: Convox, make_app: MakeApp, tmp_path: Path) -> None:
    first = make_app("RUN sleep 0.5; echo one\n")
    second = tmp_path / "second"
    subprocess.run(["cp", "-r", str(first), str(second)], check=True)
    (second / "Dockerfile").write_text((first / "Dockerfile").read_text() + "RUN exit 5\n")
    both = [Running(convox, first), Running(convox, second), Running(convox, first)]
    ends = [one.end() for one in both]
    assert [code for code, _ in ends] == [0, 1, 0], ends
    records = convox.builds("app")
    assert len({one.id for one in records}) == 3
    by_status = {status: [one for one in records if one.status is status] for status in BuildStatus}
    assert len(by_status[BuildStatus.COMPLETE]) == 2
    [failed] = by_status[BuildStatus.FAILED]
    assert failed.reason == "service web: RUN exit 5 ended with exit code 5"
    releases = {one.release for one in by_status[BuildStatus.COMPLETE]}
    assert len(releases) == 2
    for one in by_status[BuildStatus.COMPLETE]:
        assert convox.release("app", one.release).build == one.id
        assert f"Build:   {one.id}\n" in both[0].shown + both[2].shown
        assert convox.log("app", one.id) in (both[0].shown + both[2].shown)
