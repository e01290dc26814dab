"""``convox build`` on the rack that is there when none was made: what it prints, keeps and leaves behind."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from convox.models import BuildStatus
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import STEPS, Convox, outcome_of, steps_of
from tests.support.services import Services

pytestmark = pytest.mark.services

HELLO = Path(__file__).parents[3] / "examples" / "hello"
EXAMPLE_REGISTRY = "127.0.0.1:5000"


@pytest.fixture
def hello(services: Services, tmp_path: Path) -> Path:
    """The example, on the base image of these services."""
    folder = tmp_path / "hello"
    shutil.copytree(HELLO, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(EXAMPLE_REGISTRY.encode(), services.registry.encode()))
    return folder


def skopeo(services: Services, *words: str) -> str:
    command = [str(services.skopeo), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


class TestExample:
    def test_flow(self, services: Services, convox: Convox, hello: Path) -> None:
        before = datetime.now(UTC)
        result = convox.ok("build", str(hello), "-a", "hello")
        assert result.stderr == ""
        build_id, release_id = result.ids
        assert result.stdout.startswith(STEPS)
        assert result.stdout.endswith(f"\nBuild:   {build_id}\nRelease: {release_id}\n")
        for line in result.log.splitlines():
            assert re.match(r"(web|worker|cache) \|( |$)", line), line
            assert line == line.rstrip(" ") or "transferring" in line
        assert convox.ok("builds", "logs", build_id, "-a", "hello").stdout == result.log

        record = convox.build("hello", build_id)
        assert record.status is BuildStatus.COMPLETE
        assert record.release == release_id
        assert record.repository == "localhost/hello"
        assert record.manifest == (hello / "convox.yml").read_text()
        assert record.reason == ""
        assert record.logs == f"object://hello/build/{build_id}/logs"
        assert record.started is not None
        assert record.ended is not None
        assert before <= record.started <= record.ended <= datetime.now(UTC)
        release = convox.release("hello", release_id)
        assert (release.build, release.manifest, release.env) == (build_id, record.manifest, "")

        listing = convox.ok("builds", "-a", "hello").stdout.splitlines()
        assert re.fullmatch("ID           STATUS    RELEASE      STARTED +ELAPSED  DESCRIPTION", listing[0])
        assert re.fullmatch(rf"{build_id}  complete  {release_id}  (now|\d+ seconds? ago) +\d+s +", listing[1])
        info = convox.ok("builds", "info", build_id, "-a", "hello").stdout
        assert re.fullmatch(
            rf"Id           {build_id}\nStatus       complete\nRelease      {release_id}\nDescription  \n"
            r"Started      (now|\d+ seconds? ago)\nElapsed      \d+s\n",
            info,
        )

        # Every service has its image in the layout, for other tools to read.
        assert set(record.images) == {"web", "worker", "cache"}
        for service, digest in record.images.items():
            tag = f"{service}.{build_id}"
            image = json.loads(skopeo(services, "inspect", f"oci:{convox.layout_path}:{tag}"))
            assert image["Digest"] == digest
            umoci = subprocess.run(
                ["umoci", "stat", "--image", f"{convox.layout_path}:{tag}", "--json"], capture_output=True, check=True
            )
            assert json.loads(umoci.stdout)["history"]
        config = json.loads(skopeo(services, "inspect", "--config", f"oci:{convox.layout_path}:web.{build_id}"))
        assert config["config"]["Env"][-1] == "PORT=3000"
        assert list((convox.layout_path / "ingest").iterdir()) == []

        # A second build of the same finds everything done, and adds no blob that is there already.
        blobs = {path.name for path in (convox.layout_path / "blobs/sha256").iterdir()}
        inodes = {path.name: path.stat().st_ino for path in (convox.layout_path / "blobs/sha256").iterdir()}
        second = convox.ok("build", str(hello), "-a", "hello")
        assert second.ids[0] != build_id
        assert convox.build("hello", second.ids[0]).images == record.images
        assert {path.name for path in (convox.layout_path / "blobs/sha256").iterdir()} == blobs
        assert {path.name: path.stat().st_ino for path in (convox.layout_path / "blobs/sha256").iterdir()} == inodes
        assert outcome_of(second.log, "web", "RUN grep -q '</html>' index.html") == "CACHED"
        assert [build.id for build in convox.builds("hello")] == [second.ids[0], build_id]

    def test_files_are_private(self, convox: Convox, make_app: MakeApp) -> None:
        convox.run("build", str(make_app()), "-a", "app", umask=0)
        for path in [convox.config, *convox.config.rglob("*")]:
            inside_layout = convox.layout_path in path.parents
            if not inside_layout:
                assert path.stat().st_mode & 0o077 == 0 or path == convox.layout_path, path


class TestOptions:
    def test_id_prints_the_release_alone(self, convox: Convox, make_app: MakeApp) -> None:
        result = convox.ok("build", str(make_app()), "-a", "app", "--id")
        assert re.fullmatch(r"R[A-Z]{10}", result.stdout)
        assert result.stderr.startswith(STEPS)
        assert result.stderr.endswith(f"\nRelease: {result.stdout}\n")
        assert convox.build("app").release == result.stdout

    def test_id_prints_nothing_when_the_build_fails(self, convox: Convox, make_app: MakeApp) -> None:
        result = convox.run("build", str(make_app("RUN exit 3\n")), "-a", "app", "--id")
        assert result.code == 1
        assert result.stdout == ""
        assert "ERROR: build failed\n" in result.stderr

    def test_description_and_manifest(self, convox: Convox, make_app: MakeApp) -> None:
        folder = make_app(other__yml="services:\n  api:\n    build: .\n")
        (folder / "other").rename(folder / "deploy")
        result = convox.ok("build", str(folder), "-a", "app", "-d", "my words", "-m", "deploy/yml")
        record = convox.build("app", result.ids[0])
        assert record.description == "my words"
        assert convox.release("app", result.ids[1]).description == "my words"
        assert set(record.images) == {"api"}
        assert record.manifest == "services:\n  api:\n    build: .\n"
        assert convox.ok("builds", "-a", "app").stdout.splitlines()[1].endswith("  my words")

    def test_folder_is_here_by_default_and_names_the_app(self, convox: Convox, make_app: MakeApp) -> None:
        folder = make_app()
        result = convox.ok("build", cwd=folder)
        assert convox.build("app", result.ids[0]).status is BuildStatus.COMPLETE

    def test_build_args(self, convox: Convox, make_app: MakeApp) -> None:
        lines = "ARG COLOUR=none SIZE\nARG FROM_ENV\nARG BUILD_ID\nRUN echo [$COLOUR] [$SIZE] [$FROM_ENV] [$BUILD_ID]\n"
        convox.environ["FROM_ENV"] = "out there"
        words = ("COLOUR=dark red = $HOME", "FROM_ENV", "BUILD_ID", "UNSET_NAME", "UNUSED=1")
        args = [part for word in words for part in ("--build-args", word)]
        result = convox.ok("build", str(make_app(lines)), "-a", "app", *args)
        assert f"[dark red = $HOME] [] [out there] [{result.ids[0]}]" in result.log
        assert result.log.startswith("WARNING: build argument UNUSED is not used")
        assert convox.ok("builds", "logs", result.ids[0], "-a", "app").stdout == result.log

    def test_args_of_the_manifest(self, convox: Convox, make_app: MakeApp) -> None:
        manifest = "services:\n  web:\n    build:\n      path: .\n      args:\n        - COLOUR=blue\n"
        result = convox.ok("build", str(make_app("ARG COLOUR\nRUN echo [$COLOUR]\n", manifest=manifest)), "-a", "app")
        assert "[blue]" in result.log

    def test_development(self, services: Services, convox: Convox, make_app: MakeApp) -> None:
        stages = (
            f"RUN echo base\nFROM {services.base_image} AS development\nCMD dev\nFROM {services.base_image}\nCMD prod\n"
        )
        folder = make_app(stages)
        commands = []
        for flags in ([], ["--development"]):
            build_id, _ = convox.ok("build", str(folder), "-a", "app", *flags).ids
            config = json.loads(skopeo(services, "inspect", "--config", f"oci:{convox.layout_path}:web.{build_id}"))
            commands.append(config["config"]["Cmd"][-1])
        assert commands == ["prod", "dev"]

    def test_no_cache_runs_every_step_again(self, convox: Convox, make_app: MakeApp) -> None:
        run = "RUN cat /proc/sys/kernel/random/uuid"
        folder = make_app(f"{run}\n")
        logs = [convox.ok("build", str(folder), "-a", "app", *flags).log for flags in ([], [], ["--no-cache"])]
        assert [outcome_of(log, "web", run) for log in logs] == ["DONE", "CACHED", "DONE"]
        printed = [re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}$", log, re.MULTILINE) for log in logs]
        assert len(printed[0]) == len(printed[2]) == 1
        assert printed[0] != printed[2]

    def test_flags_without_effect_say_so(self, convox: Convox, make_app: MakeApp) -> None:
        result = convox.ok("build", str(make_app()), "-a", "app", "--external", "--wildcard-domain")
        assert [line.split(" has no effect")[0] for line in result.stderr.splitlines()] == [
            "--external",
            "--wildcard-domain",
        ]


class TestServices:
    def test_same_services_are_built_once(self, convox: Convox, make_app: MakeApp) -> None:
        manifest = (
            "services:\n  web:\n    build: .\n  api:\n    build: api\n  worker:\n    build: .\n    command: work\n"
        )
        folder = make_app('RUN echo once\nENTRYPOINT ["/bin/my app", "serve"]\n', manifest=manifest)
        (folder / "api").mkdir()
        (folder / "api/Dockerfile").write_text((folder / "Dockerfile").read_text() + 'ENTRYPOINT ["/bin/api"]\n')
        result = convox.ok("build", str(folder), "-a", "app")
        assert {line.split(" |")[0] for line in result.log.splitlines()} == {"web,worker", "api"}
        record = convox.build("app", result.ids[0])
        assert record.images["web"] == record.images["worker"] != record.images["api"]
        index = json.loads((convox.layout_path / "index.json").read_text())
        names = {one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]}
        assert names == {f"{service}.{result.ids[0]}" for service in ("web", "api", "worker")}
        # The last service of the file counts, not the image that was planned last.
        assert record.entrypoint == "'/bin/my app' serve"

    def test_image_service_is_tagged_like_the_others(
        self, services: Services, convox: Convox, make_app: MakeApp
    ) -> None:
        manifest = f"services:\n  cache:\n    image: {services.base_image}\n"
        result = convox.ok("build", str(make_app(manifest=manifest)), "-a", "app")
        assert skopeo(services, "inspect", f"oci:{convox.layout_path}:cache.{result.ids[0]}")

    def test_two_folders_with_equal_file_facts_keep_their_own_content(self, convox: Convox, make_app: MakeApp) -> None:
        """The same size and time in two contexts: an upload shared by mistake would build one file's content twice."""
        manifest = "services:\n  one:\n    build: one\n  two:\n    build: two\n"
        folder = make_app(manifest=manifest)
        for name in ("one", "two"):
            (folder / name).mkdir()
            data = folder / name / "data"
            data.write_text(name)
            (folder / name / "Dockerfile").write_text(
                (folder / "Dockerfile").read_text() + "COPY data /data\nRUN echo content is $(cat /data)\n"
            )
            subprocess.run(["touch", "-d", "2020-01-01T00:00:00", str(data)], check=True)
        result = convox.ok("build", str(folder), "-a", "app")
        for name in ("one", "two"):
            assert any(line.endswith(f"content is {name}") for line in steps_of(result.log, name))


class TestGit:
    @pytest.fixture
    def repository(self, make_app: MakeApp) -> Path:
        folder = make_app(notes="clean")
        for words in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "Paint it"],
        ):
            subprocess.run(["git", "-C", str(folder), *words], check=True)
        return folder

    def test_clean_folder_is_described_by_its_commit(self, convox: Convox, repository: Path) -> None:
        head = subprocess.run(
            ["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        result = convox.ok("build", str(repository), "-a", "app")
        record = convox.build("app", result.ids[0])
        assert record.description == f"build {head[:10]} Paint it"
        assert record.git_sha == head

    def test_changed_folder_has_no_description(self, convox: Convox, repository: Path) -> None:
        (repository / "notes").write_text("dirty")
        result = convox.ok("build", str(repository), "-a", "app")
        record = convox.build("app", result.ids[0])
        assert record.description == ""
        assert re.fullmatch(r"[0-9a-f]{40}", record.git_sha)


class TestOutput:
    def test_bytes_of_a_step_arrive_unchanged(self, convox: Convox, make_app: MakeApp) -> None:
        mark = uuid.uuid4().hex
        script = rf"RUN printf 'a{mark} \033[31mred\033[0m <h1>x</h1> \360\237\216\211\n'"
        result = convox.ok("build", str(make_app(f"{script}\n")), "-a", "app")
        assert f"a{mark} \x1b[31mred\x1b[0m <h1>x</h1> \U0001f389" in result.log

    def test_build_goes_on_when_nobody_reads(self, convox: Convox, make_app: MakeApp) -> None:
        with convox.start("build", str(make_app("RUN sleep 1; echo the end\n")), "-a", "app") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = [process.stdout.readline() for _ in range(4)]
            process.stdout.close()
            assert (process.wait(60), process.stderr.read()) == (141, "")
        assert lines[3].startswith("web | #1 ")
        record = convox.build("app")
        assert record.status is BuildStatus.COMPLETE
        assert "the end" in convox.log("app", record.id)

    def test_log_can_be_followed_from_another_process(self, convox: Convox, make_app: MakeApp) -> None:
        with convox.start("build", str(make_app("RUN echo first; sleep 1; echo last\n")), "-a", "app") as building:
            assert building.stdout is not None
            while not (builds := convox.builds("app") if convox.rack_path().exists() else []):
                assert building.poll() is None
            with convox.start("builds", "logs", builds[0].id, "-a", "app") as following:
                assert following.stdout is not None
                seen = ""
                while " first\n" not in seen:
                    line = following.stdout.readline()
                    assert line
                    seen += line
                assert building.poll() is None
                seen += following.stdout.read()
            shown = building.stdout.read()
        assert shown[len(STEPS) : shown.index("Build:   ")] == seen
