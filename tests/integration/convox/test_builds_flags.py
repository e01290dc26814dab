"""What a build can be asked for beyond Convox's own flags, each with the real builder."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from convox.models import BuildStatus
from tests.integration.convox.conftest import MakeApp
from tests.integration.convox.harness import STEPS, Convox, outcome_of, steps_of
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

pytestmark = pytest.mark.services

TWO = "services:\n  web:\n    build: .\n  api:\n    build: api\n"
CANARY = "canary-71c2f0"


def skopeo(services: Services, *words: str) -> Any:
    done = subprocess.run([str(services.skopeo), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def two_services(make_app: MakeApp) -> Path:
    folder = make_app("COPY . /src\nRUN find /src | sort\n", manifest=TWO)
    (folder / "api").mkdir()
    shutil.copy(folder / "Dockerfile", folder / "api")
    return folder


class TestIgnoreFile:
    def test_that_of_the_app_counts_for_every_service(self, convox: Convox, two_services: Path) -> None:
        for name in ("a.log", "api/b.log", "api/keep.log", "api/tmp/x", "api/tmp/keep", "api/own.txt", "api/c.txt"):
            path = two_services / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        (two_services / ".dockerignore").write_text("# logs\n**/*.log\n!api/keep.log\napi/tmp/*\n!api/tmp/keep\n")
        (two_services / "api/.dockerignore").write_text("own.txt\n")
        log = convox.ok("build", str(two_services), "-a", "app").log
        found = {
            name: {line.split(" /src/")[1] for line in steps_of(log, name) if " /src/" in line}
            for name in ("web", "api")
        }
        api = {".dockerignore", "Dockerfile", "c.txt", "keep.log", "tmp", "tmp/keep"}
        assert found["api"] == api
        assert found["web"] == {
            ".dockerignore",
            "Dockerfile",
            "convox.yml",
            "api",
            "api/own.txt",
            *(f"api/{name}" for name in api),
        }

    def test_a_dockerfile_that_it_excludes_is_still_built(self, convox: Convox, two_services: Path) -> None:
        (two_services / ".dockerignore").write_text("**/Dockerfile\n")
        log = convox.ok("build", str(two_services), "-a", "app").log
        assert not any(line.endswith("Dockerfile") for line in steps_of(log, "api") if " /src/" in line)

    def test_one_that_excludes_a_build_path(self, convox: Convox, two_services: Path) -> None:
        (two_services / ".dockerignore").write_text("api\n")
        result = convox.run("build", str(two_services), "-a", "app")
        assert result.code == 1
        assert result.stderr == (
            "ERROR: convox.yml:5: service api: build path api is excluded by the app's .dockerignore\n"
            "  why: that file holds for every service, as on a Convox rack\n"
            "  try: write !api at its end, or take the pattern out\n"
        )
        (two_services / ".dockerignore").write_text("api\n!api\n")
        log = convox.ok("build", str(two_services), "-a", "app").log
        assert any(line.endswith(" /src/Dockerfile") for line in steps_of(log, "api"))

    def test_one_that_makes_no_sense(self, convox: Convox, two_services: Path) -> None:
        (two_services / ".dockerignore").write_text("a[\n")
        result = convox.run("build", str(two_services), "-a", "app")
        assert result.code != 0
        assert "a[" in result.stderr
        assert convox.build("app").status is BuildStatus.FAILED


class TestServices:
    def test_some(self, convox: Convox, two_services: Path) -> None:
        result = convox.ok("build", str(two_services), "-a", "app", "--service", "api")
        assert result.stderr == "NOTICE: the release will have no image of web: only api is built\n"
        assert {line.split(" |")[0] for line in result.log.splitlines()} == {"api"}
        build_id, release_id = result.ids
        assert set(convox.build("app", build_id).images) == {"api"}
        assert convox.release("app", release_id).manifest == TWO

    def test_one_that_is_not_there(self, convox: Convox, two_services: Path) -> None:
        result = convox.run("build", str(two_services), "-a", "app", "--service", "wed")
        assert (result.code, result.stderr) == (
            2,
            "ERROR: there is no service wed in convox.yml\n  try: its services are web, api\n",
        )


class TestTargetAndPlatform:
    def test_target(self, services: Services, convox: Convox, make_app: MakeApp) -> None:
        folder = make_app(f"CMD first\nFROM {services.base_image} AS Second\nCMD second\nFROM 0\nCMD third\n")
        build_id, _ = convox.ok("build", str(folder), "-a", "app", "--target", "second").ids
        config = skopeo(services, "inspect", "--config", f"oci:{convox.layout_path}:web.{build_id}")
        assert config["config"]["Cmd"][-1] == "second"
        result = convox.run("build", str(folder), "-a", "app", "--target", "fourth")
        assert result.code == 1
        assert result.stderr.startswith("ERROR: convox.yml:3: service web: Dockerfile has no stage fourth\n")

    @pytest.mark.parametrize("where", ["layout", "registry"])
    def test_several_platforms(self, services: Services, convox: Convox, make_app: MakeApp, where: str) -> None:
        app = f"app-{uuid.uuid4().hex[:12]}"
        if where == "registry":
            convox.set_params(registry=services.registry, platform="linux/s390x")
        folder = make_app("", file="x")
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY file /\nENTRYPOINT ["/file"]\n')
        result = convox.ok("build", str(folder), "-a", app, "--platform", "linux/amd64,linux/arm64/v8")
        build_id, _ = result.ids
        record = convox.build(app, build_id)
        assert record.entrypoint == "/file"
        image = (
            f"oci:{convox.layout_path}:web.{build_id}"
            if where == "layout"
            else f"docker://{services.registry}/{app}:web.{build_id}"
        )
        flags = ["--tls-verify=false"] if where == "registry" else []
        index = skopeo(services, "inspect", "--raw", *flags, image)
        platforms = [f"{one['platform']['os']}/{one['platform']['architecture']}" for one in index["manifests"]]
        assert platforms == ["linux/amd64", "linux/arm64"]
        bundle = convox.config.parent / "bundle.tgz"
        convox.ok("builds", "export", build_id, "-a", app, "-f", str(bundle))
        convox.ok("builds", "import", "-a", f"{app}-two", "-f", str(bundle))
        assert convox.build(f"{app}-two").images == record.images

    def test_that_of_the_app_is_used_where_none_is_named(self, convox: Convox, two_services: Path) -> None:
        convox.set_params(platform="linux/s390x")
        convox.ok("apps", "create", "app")
        convox.ok("apps", "params", "set", "BuildArch=arm64", "-a", "app")
        words = ("build", str(two_services), "-a", "app", "--print", "--output", "json")
        platforms = [
            json.loads(convox.ok(*words, *more).stdout)["images"][0]["platforms"]
            for more in ([], ["--platform", "linux/amd64"])
        ]
        assert platforms == [["linux/arm64"], ["linux/amd64"]]

    def test_one_that_is_none(self, convox: Convox, two_services: Path) -> None:
        result = convox.run("build", str(two_services), "-a", "app", "--platform", "linux amd64")
        assert (result.code, result.stdout) == (2, "")
        assert result.stderr.startswith("ERROR: invalid platform: 'linux amd64'\n")


class TestSecrets:
    def test_from_file_and_environment(self, convox: Convox, make_app: MakeApp) -> None:
        mounts = "--mount=type=secret,id=one --mount=type=secret,id=two"
        folder = make_app(f"RUN {mounts} cat /run/secrets/one /run/secrets/two | md5sum; cat /run/secrets/one\n")
        (convox.config.parent / "secret").write_text(CANARY)
        convox.environ["TWO"] = "canary-two-5d"
        words = ("--secret", "id=one,src=secret", "--secret", "type=env,id=two,env=TWO")
        result = convox.ok("build", str(folder), "-a", "app", *words)
        expected = subprocess.run(
            ["md5sum"], input=f"{CANARY}canary-two-5d".encode(), capture_output=True, check=True
        ).stdout.decode()
        assert expected.split()[0] in result.log
        assert "***" in result.log
        for path in convox.config.rglob("*"):
            if path.is_file():
                assert CANARY.encode() not in path.read_bytes(), path
        assert CANARY not in result.stdout + result.stderr

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("id=x,src=missing", "secret x cannot be read from missing"),
            ("id=x,env=NOT_SET_HERE", "secret x has no value"),
            ("src=missing", "--secret has no id"),
            ("id=x,what=y", "--secret has an unknown key what"),
            (CANARY, "--secret cannot be read"),
        ],
    )
    def test_wrong_ones_are_refused_before_a_record(self, convox: Convox, text: str, error: str) -> None:
        result = convox.run("build", "-a", "app", "--secret", text)
        assert (result.code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"ERROR: {error}\n")
        assert CANARY not in result.stderr

    def test_ssh_without_an_agent(self, convox: Convox) -> None:
        result = convox.run("build", "-a", "app", "--ssh", "default")
        assert result.code == 2
        assert result.stderr.startswith("ERROR: --ssh default names no agent, and none is running\n")

    @pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs OpenSSH's agent")
    def test_ssh_agent(self, convox: Convox, make_app: MakeApp, tmp_path: Path) -> None:
        socket = tmp_path / "agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
            try:
                while not socket.is_socket():
                    assert agent.poll() is None
                convox.environ["SSH_AUTH_SOCK"] = str(socket)
                folder = make_app("RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo agent is there\n")
                log = convox.ok("build", str(folder), "-a", "app", "--ssh", "default").log
                assert " agent is there\n" in log
            finally:
                agent.terminate()


class TestCaches:
    def test_registry_cache_of_the_command_line(
        self, services: Services, convox: Convox, two_services: Path, tmp_path: Path
    ) -> None:
        ref = f"{services.registry}/cache-{uuid.uuid4().hex[:12]}"
        cache_to = f"type=registry,ref={ref}:{{service}},mode=max,image-manifest=true,oci-mediatypes=true"
        convox.ok("build", str(two_services), "-a", "app", "--cache-to", cache_to)
        tags = skopeo(services, "list-tags", "--tls-verify=false", f"docker://{ref}")["Tags"]
        assert sorted(tags) == ["api", "web"]
        flags = ("--cache-from", f"type=registry,ref={ref}:{{service}}")
        log = convox.ok("build", str(two_services), "-a", "app", *flags).log
        for service in ("web", "api"):
            assert f"importing cache manifest from {ref}:{service}" in log
            assert outcome_of(log, service, "RUN find /src | sort") == "CACHED"

    def test_local_caches_of_two_images_of_one_folder(
        self, convox: Convox, make_app: MakeApp, own_buildkitd: OwnBuildkitd, tmp_path: Path
    ) -> None:
        manifest = "services:\n  web:\n    build: .\n  api:\n    build:\n      manifest: Api\n"
        folder = make_app("RUN echo web\n", manifest=manifest)
        (folder / "Api").write_text((folder / "Dockerfile").read_text() + "RUN echo api\n")
        convox.environ["BUILDKIT_HOST"] = own_buildkitd.address
        place = f"{tmp_path}/cache/{{service}}"
        convox.ok("build", str(folder), "-a", "app", "--cache-to", f"type=local,dest={place},mode=max")
        own_buildkitd.prune_all()
        log = convox.ok("build", str(folder), "-a", "app", "--cache-from", f"type=local,src={place}").log
        for service in ("web", "api"):
            assert outcome_of(log, service, f"RUN echo {service}") == "CACHED"

    def test_one_cache_for_two_images(self, convox: Convox, two_services: Path) -> None:
        result = convox.run("build", str(two_services), "-a", "app", "--cache-to", "type=registry,ref=r/x:y")
        assert result.code == 2
        assert result.stderr.startswith("ERROR: --cache-to names one cache for 2 images\n")

    @pytest.mark.parametrize("text", ["type=regisry,ref=x", "type=registry,reff=x", "ref=x,mode=max", "type=gha"])
    def test_wrong_ones_are_refused_before_a_record(self, convox: Convox, text: str) -> None:
        result = convox.run("build", "-a", "app", "--cache-from", text)
        assert (result.code, result.stdout) == (2, ""), result.stderr
        assert convox.run("builds", "-a", "app").stderr.startswith("ERROR: app not found: app\n")


class TestPush:
    def test_no_push_keeps_the_images_here(self, services: Services, convox: Convox, two_services: Path) -> None:
        app = f"app-{uuid.uuid4().hex[:12]}"
        convox.set_params(registry=services.registry)
        build_id, _ = convox.ok("build", str(two_services), "-a", app, "--no-push").ids
        record = convox.build(app, build_id)
        assert record.repository == f"localhost/{app}"
        image = skopeo(services, "inspect", f"oci:{convox.layout_path}:web.{build_id}")
        assert image["Digest"] == record.images["web"]
        command = [str(services.skopeo), "list-tags", "--tls-verify=false", f"docker://{services.registry}/{app}"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
        # What stayed here is found by the commands that need it.
        bundle = convox.config.parent / "bundle.tgz"
        convox.ok("builds", "export", build_id, "-a", app, "-f", str(bundle))

    def test_push_without_a_registry(self, convox: Convox, two_services: Path) -> None:
        result = convox.run("build", str(two_services), "-a", "app", "--push")
        assert (result.code, result.stderr) == (
            1,
            "ERROR: rack local has no registry to push to\n  try: convox rack params set registry=HOST/PATH\n",
        )


class TestPrint:
    def test_nothing_is_built(self, services: Services, convox: Convox, two_services: Path) -> None:
        convox.environ["BUILDKIT_HOST"] = "unix:///nowhere"
        convox.set_params(registry=f"{services.registry}/team")
        result = convox.ok("build", str(two_services), "-a", "app", "--print", "--platform", "linux/arm64")
        ref = f"{services.registry}/team/app"
        attrs = "mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true"
        assert result.stderr == ""
        web, api = (
            f"\nServices    {name}\nContext     {context}\nDockerfile  Dockerfile\nPlatforms   linux/arm64\n"
            f"Pushed to   {ref}:{name}.<build>\nCache from  type=registry,ref={ref}:{name}.buildcache\nCache to    "
            for name, context in (("web", "."), ("api", "api"))
        )
        head = "App       app\nRack      local\nManifest  convox.yml\n"
        blocks = result.stdout.split("type=registry,ref=" + ref)
        assert result.stdout.startswith(head + web)
        assert api in result.stdout
        assert len(blocks) == 5
        for attr in attrs.split(","):
            assert result.stdout.count(attr) == 2
        assert convox.run("builds", "-a", "app").code == 1

    def test_json(self, convox: Convox, two_services: Path) -> None:
        words = ("--print", "--output", "json", "--build-args", "X=1", "--service", "api")
        plan = json.loads(convox.ok("build", str(two_services), "-a", "app", *words).stdout)
        [image] = plan["images"]
        assert (image["services"], image["context"], image["push"]) == (["api"], "api", False)
        assert plan["notes"] == [
            "build argument X is not used: no Dockerfile declares it and convox.yml does not name it",
            "the release will have no image of web: only api is built",
        ]


class TestJson:
    def test_record(self, convox: Convox, two_services: Path) -> None:
        result = convox.ok("build", str(two_services), "-a", "app", "--output", "json")
        record = json.loads(result.stdout)
        assert record == convox.build("app").to_json()
        assert result.stderr.startswith(STEPS)
        assert result.stderr.endswith(f"Build:   {record['id']}\nRelease: {record['release']}\n")

    def test_not_with_id(self, convox: Convox) -> None:
        result = convox.run("build", "--id", "--output", "json", "-a", "app")
        assert result.code == 2
        assert result.stderr.startswith("ERROR: --id and --output json both want stdout for themselves\n")
