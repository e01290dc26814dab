"""Builds of other processes: followed, cancelled, removed and compared, with the real builder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest

from convox.models import Build, BuildStatus
from convox.store.process import current_process_id
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox
from tests.integration.convox.test_interrupts import Running
from tests.support.own_buildkitd import running_processes
from tests.support.services import Services

pytestmark = pytest.mark.services


def slow(make_app: MakeApp) -> tuple[Path, str]:
    """Return an app whose step takes longer than any test, and a mark that the step's process has."""
    folder = make_app("")
    mark = re.findall(r"UNIQUE=(\S+)", (folder / "Dockerfile").read_text())[0]
    with (folder / "Dockerfile").open("a") as file:
        file.write(f"RUN echo begun; sleep 30; echo {mark}\n")
    return folder, mark


class TestCancel:
    def test_a_build_of_another_process(self, convox: Convox, make_app: MakeApp) -> None:
        folder, mark = slow(make_app)
        building = Running(convox, folder)
        building.wait_for(" begun\n")
        [record] = convox.builds("app")
        follower = convox.start("builds", "logs", record.id, "-a", "app")
        began = time.monotonic()
        result = convox.ok("builds", "cancel", record.id, "-a", "app")
        assert time.monotonic() - began < 8
        assert (result.stdout, result.stderr) == ("Cancelling build... OK\n", "")
        assert building.end() == (130, "ERROR: cancelled\n")
        record = convox.build("app", record.id)
        assert record.status is BuildStatus.FAILED
        assert re.fullmatch(r"cancelled by \S+@\S+", record.reason)
        followed, _ = follower.communicate(timeout=10)
        assert followed == convox.log("app", record.id)
        assert followed.endswith("ERROR: cancelled\n")
        building.wait_until(lambda: not running_processes(mark))
        again = convox.run("builds", "cancel", record.id, "-a", "app")
        assert (again.code, again.stdout) == (1, "Cancelling build... ")
        assert again.stderr == (
            f"ERROR: build {record.id} has ended already\n  why: its status is failed: {record.reason}\n"
        )

    def test_one_that_does_not_listen_is_killed(self, convox: Convox, make_app: MakeApp) -> None:
        folder, mark = slow(make_app)
        building = Running(convox, folder)
        building.wait_for(" begun\n")
        [record] = convox.builds("app")
        building.process.send_signal(signal.SIGSTOP)
        convox.ok("builds", "cancel", record.id, "-a", "app")
        assert building.end()[0] == -signal.SIGKILL
        assert convox.build("app", record.id).reason.startswith("cancelled by ")
        building.wait_until(lambda: not running_processes(mark))

    @pytest.mark.parametrize(
        ("process", "why"),
        [
            ("another-host:1:2", "it runs on the host another-host"),
            ("", "its record names no process"),
            ("nonsense", "its record names no process"),
        ],
    )
    def test_one_that_cannot_be_reached(self, convox: Convox, process: str, why: str) -> None:
        convox.ok("rack")
        store = convox.store()
        store.create_build(Build(id="BAAAAAAAAAA", app="app", process=process))
        store.close()
        result = convox.run("builds", "cancel", "BAAAAAAAAAA", "-a", "app")
        assert result.code == 1
        assert result.stderr.startswith(f"ERROR: build BAAAAAAAAAA cannot be cancelled from here\n  why: {why}\n")
        assert convox.build("app").status is BuildStatus.CREATED

    def test_a_number_that_was_given_to_another_process(self, convox: Convox) -> None:
        """That other process, this one, lives on."""
        convox.ok("rack")
        host, pid, start = current_process_id().rsplit(":", 2)
        ticks, _, rest = start.partition("-")
        store = convox.store()
        store.create_build(Build(id="BAAAAAAAAAA", app="app", process=f"{host}:{pid}:{int(ticks) - 1}-{rest}"))
        store.close()
        result = convox.run("builds", "cancel", "BAAAAAAAAAA", "-a", "app")
        assert result.code == 1
        assert result.stderr == (
            "ERROR: build BAAAAAAAAAA has ended already\n"
            "  why: its status is failed: the process that ran it ended without finishing\n"
        )


class TestRemove:
    def test_images_that_nobody_else_needs_go(self, convox: Convox, make_app: MakeApp) -> None:
        folder = make_app("RUN echo shared\n")
        first, _ = convox.ok("build", str(folder), "-a", "app").ids
        with (folder / "Dockerfile").open("a") as file:
            file.write("RUN echo more\n")
        before = blobs(convox)
        second, release = convox.ok("build", str(folder), "-a", "app").ids
        result = convox.ok("builds", "rm", second, "-a", "app")
        assert (result.stdout, result.stderr) == (f"Removing build {second}... OK\n", "")
        assert blobs(convox) == before
        assert [build.id for build in convox.builds("app")] == [first]
        assert convox.release("app", release).build == ""
        assert convox.run("builds", "logs", second, "-a", "app").code == 1
        assert [path.name for path in (convox.rack_path() / "logs/app").iterdir()] == [f"{first}.log"]
        index = json.loads((convox.layout_path / "index.json").read_text())
        names = [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]]
        assert names == [f"web.{first}"]
        convox.ok("builds", "export", first, "-a", "app", "-f", str(convox.config.parent / "out.tgz"))

    def test_none_is_removed_when_one_may_not_be(self, convox: Convox, make_app: MakeApp) -> None:
        folder = make_app()
        first, release = convox.ok("build", str(folder), "-a", "app").ids
        second, _ = convox.ok("build", str(folder), "-a", "app").ids
        store = convox.store()
        store.update_app("app", release=release)
        store.close()
        result = convox.run("builds", "rm", second, first, "-a", "app")
        assert (result.code, result.stdout) == (1, "")
        assert result.stderr == (
            f"ERROR: build {first} cannot be removed\n  why: the active release {release} is made of it\n"
            "  try: promote another release first: convox releases -a app\n"
        )
        assert len(convox.builds("app")) == 2
        assert convox.run("builds", "rm", "-a", "app").stderr == "ERROR: at least 1 arg required\n"

    def test_images_in_a_registry_stay_there(self, services: Services, convox: Convox, make_app: MakeApp) -> None:
        app = f"app-{uuid.uuid4().hex[:12]}"
        convox.set_params(registry=services.registry)
        build_id, _ = convox.ok("build", str(make_app()), "-a", app).ids
        result = convox.ok("builds", "rm", build_id, "-a", app)
        assert result.stderr == f"NOTICE: the images of {build_id} stay in {services.registry}/{app}\n"
        image = f"docker://{services.registry}/{app}:web.{build_id}"
        command = [str(services.skopeo), "inspect", "--tls-verify=false", image]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0

    def test_a_failed_build_leaves_nothing(self, convox: Convox, make_app: MakeApp) -> None:
        manifest = "services:\n  web:\n    build: .\n  api:\n    build: api\n"
        folder = make_app("RUN echo fast\n", manifest=manifest)
        (folder / "api").mkdir()
        (folder / "api/Dockerfile").write_text((folder / "Dockerfile").read_text() + "RUN sleep 2; exit 3\n")
        assert convox.run("build", str(folder), "-a", "app").code == 1
        assert blobs(convox) != set(), "web was to be done before api failed"
        convox.ok("builds", "rm", convox.build("app").id, "-a", "app")
        assert blobs(convox) == set()

    def test_while_others_build_the_same(self, convox: Convox, make_app: MakeApp) -> None:
        """What a build in progress has found in the layout is not taken from under it."""
        folder = make_app("RUN echo shared\n")
        ends: list[tuple[int, str]] = []

        def build() -> None:
            for _ in range(3):
                result = convox.run("build", str(folder), "-a", "app")
                ends.append((result.code, result.stderr))

        convox.ok("build", str(folder), "-a", "app")
        threads = [threading.Thread(target=build) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            complete = [build.id for build in convox.builds("app") if build.status is BuildStatus.COMPLETE]
            convox.ok("builds", "rm", *complete[-1:], "-a", "app") if len(complete) > 1 else time.sleep(0.1)
        assert ends == [(0, "")] * 6
        for build_ in convox.builds("app"):
            convox.ok("builds", "export", build_.id, "-a", "app", "-f", str(convox.config.parent / "out.tgz"))


class TestDiff:
    @pytest.mark.buildkit(">=0.22")
    @pytest.mark.parametrize("where", ["layout", "registry"])
    def test_two_builds(self, services: Services, convox: Convox, make_app: MakeApp, where: str) -> None:
        app = f"app-{uuid.uuid4().hex[:12]}"
        if where == "registry":
            convox.set_params(registry=services.registry)
        lines = "ARG VERSION\nARG API_TOKEN\nENV COLOUR=blue\nRUN echo same\nRUN echo $VERSION > /version\n"
        folder = make_app(lines)
        args = ("--build-args", "API_TOKEN=canary-token", "--build-args")
        first, _ = convox.ok("build", str(folder), "-a", app, *args, "VERSION=1").ids
        text = (folder / "Dockerfile").read_text().replace("COLOUR=blue", "COLOUR=red") + "RUN echo more > /more\n"
        (folder / "Dockerfile").write_text(text)
        (folder / "convox.yml").write_text("services:\n  web:\n    build: .\n  api:\n    build: .\n")
        second, _ = convox.ok("build", str(folder), "-a", app, *args, "VERSION=2").ids
        shown = convox.ok("builds", "diff", first, second, "-a", app).stdout
        assert "canary-token" not in shown
        lines_shown = shown.splitlines()
        assert lines_shown[0].split() == ["BUILD", first, second]
        assert "  arg   ~ VERSION: 1 -> 2" in lines_shown
        assert "  env   ~ COLOUR: blue -> red" in lines_shown
        assert re.search(r"^  layer - +\d+B  RUN echo \$VERSION > /version$", shown, re.MULTILINE)
        assert re.search(r"^  layer \+ +\d+B  RUN echo more > /more$", shown, re.MULTILINE)
        assert "  +  api:" in lines_shown
        found = json.loads(convox.ok("builds", "diff", first, second, "-a", app, "--output", "json").stdout)
        assert found["before"] == convox.build(app, first).to_json()
        api, web = found["services"]
        assert (web["name"], web["image"], api["name"], api["image"]) == ("web", "changed", "api", "added")
        assert [one["count"] for one in web["steps"]] == [2, 3]
        assert None not in web["size"]
        same = convox.ok("builds", "diff", first, first, "-a", app).stdout
        assert re.search(r"^web +same +[0-9a-f]{12} +[0-9.]+[kM]?B +\d/2$", same, re.MULTILINE)
        assert "\n\nweb" not in same

    def test_images_that_are_gone(self, convox: Convox, make_app: MakeApp) -> None:
        build_id, _ = convox.ok("build", str(make_app()), "-a", "app").ids
        (convox.layout_path / "index.json").unlink()
        shown = convox.ok("builds", "diff", build_id, build_id, "-a", "app").stdout
        assert f"  note  localhost/app:web.{build_id}: the image is gone\n" in shown


def blobs(convox: Convox) -> set[str]:
    folder = convox.layout_path / "blobs/sha256"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()
