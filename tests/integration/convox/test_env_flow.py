"""Environment, builds and releases together: what is set reaches the next build, and every step is a release."""

from __future__ import annotations

import json
import threading

import pytest

from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import Convox

pytestmark = pytest.mark.services

NEEDS_GREETING = "environment:\n  - GREETING\nservices:\n  web:\n    build: .\n"


def test_a_new_app_builds_once_its_values_are_set(convox: Convox, make_app: MakeApp) -> None:
    folder = str(make_app("ARG GREETING\nRUN echo said-$GREETING\n", manifest=NEEDS_GREETING))
    refused = convox.run("build", folder, "-a", "web")
    assert refused.code == 1
    assert "ERROR: required env: GREETING\n" in refused.stderr
    convox.ok("env", "set", "GREETING=first", "-a", "web")
    first_build, first = convox.ok("build", folder, "-a", "web").ids
    assert "said-first" in convox.log("web", first_build)

    # The newest release counts, not the active one, and not what was there when somebody promoted.
    convox.ok("releases", "promote", first, "-a", "web")
    convox.ok("env", "set", "GREETING=second", "EXTRA=1", "-a", "web")
    second_build, second = convox.ok("build", folder, "-a", "web").ids
    assert "said-second" in convox.log("web", second_build)
    assert convox.release("web", second).env == "EXTRA=1\nGREETING=second"

    rolled_back = convox.ok("releases", "rollback", first, "-a", "web", "--id").stdout
    record = convox.release("web", rolled_back)
    assert (record.build, record.env) == (first_build, "GREETING=first")
    made = convox.ok("releases", "create-from", "--build-from", second, "--use-active-release-env", "-a", "web")
    mixed = convox.release("web", made.stdout.splitlines()[2].rpartition(" ")[2])
    assert (mixed.build, mixed.env) == (second_build, "GREETING=first")
    listed = json.loads(convox.ok("releases", "-a", "web", "--output", "json", "-l", "20").stdout)
    assert [one["id"] for one in listed][:4] == [mixed.id, rolled_back, second, listed[3]["id"]]
    assert len(listed) == 6
    assert convox.ok("apps").stdout == f"APP  STATUS   RELEASE\nweb  running  {rolled_back}\n"
    assert convox.ok("releases", "manifest", rolled_back, "-a", "web").stdout == NEEDS_GREETING


def test_a_value_set_during_a_build_is_not_lost(convox: Convox, make_app: MakeApp) -> None:
    folder = str(make_app("RUN echo now-building; sleep 4\n"))
    convox.ok("env", "set", "BEFORE=1", "-a", "web")
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(convox.ok("build", folder, "-a", "web").ids[1]))
    thread.start()
    deadline = threading.Event()
    while not (convox.builds("web") and convox.build("web").status == "running"):
        assert not deadline.wait(0.1)
        assert thread.is_alive()
    convox.ok("env", "set", "DURING=1", "-a", "web")
    thread.join()
    assert convox.release("web", done[0]).env == "BEFORE=1\nDURING=1"


def test_values_set_by_several_processes_are_all_kept(convox: Convox) -> None:
    running = [convox.start("env", "set", f"N{number}=x", "-a", "web") for number in range(6)]
    for process in running:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    assert convox.ok("env", "--reveal", "-a", "web").stdout == "".join(f"N{number}=x\n" for number in range(6))


def test_deleting_an_app_takes_its_images_away(convox: Convox, make_app: MakeApp) -> None:
    folder = str(make_app("RUN echo web\n"))
    convox.ok("build", folder, "-a", "web")
    convox.ok("build", folder, "-a", "api")
    convox.ok("apps", "delete", "web")
    index = json.loads((convox.layout_path / "index.json").read_text())
    names = {one["annotations"]["io.containerd.image.name"] for one in index["manifests"]}
    assert {name.partition(":")[0] for name in names} == {"localhost/api"}
    assert [path.name for path in (convox.rack_path() / "logs").iterdir()] == ["api"]
    assert convox.run("builds", "-a", "web").stderr.startswith("ERROR: app not found: web\n")
    build_id = convox.build("api").id
    convox.ok("builds", "export", build_id, "-a", "api", "-f", str(convox.config.parent / "api.tgz"))


def test_no_value_is_in_a_file_that_others_can_read_or_in_any_output(convox: Convox, make_app: MakeApp) -> None:
    canary = "canary-5f2a9c"
    convox.run("env", "set", "-a", "web", stdin=f"MY_TOKEN={canary}\n", umask=0)
    shown = convox.ok("build", str(make_app("ARG MY_TOKEN\nRUN echo $MY_TOKEN\n")), "-a", "web")
    texts = [shown.stdout + shown.stderr, convox.log("web", convox.build("web").id)]
    release = convox.build("web").release
    for words in (["env"], ["releases"], ["releases", "info", release], ["env", "--output", "json"], ["apps"]):
        result = convox.run(*words, *([] if words == ["apps"] else ["-a", "web"]))
        texts.append(result.stdout + result.stderr)
    assert not any(canary in text for text in texts)
    # Images are no secrets, and lie below a folder that nobody else may enter.
    paths = [path for path in convox.config.rglob("*") if not path.is_relative_to(convox.layout_path)]
    assert convox.rack_path() / "store.db" in paths
    for path in paths:
        assert not path.stat().st_mode & 0o077, path
