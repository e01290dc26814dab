"""Gateway builds against a real daemon: a function of ours is the frontend."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from buildkit_client import AsyncClient, Client, DockerfileFrontend, RawExporter, RawFrontend, SolveError
from buildkit_client.errors import BuildCancelledError, OptionError
from buildkit_client.gateway import Gateway, GatewayResult
from buildkit_client.options import DockerfileText, OutputDirectory
from tests.support.services import Services

DOCKERFILE = """\
FROM scratch AS files
COPY --chmod=4755 tool /bin/tool
COPY notes /notes
FROM files AS last
LABEL who=me
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "tool").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a").write_text("a")
    (tmp_path / "notes/link").symlink_to("a")
    return tmp_path


def dirs(folder: Path) -> dict[str, Path]:
    return {"context": folder, "dockerfile": folder}


@pytest.mark.buildkit(">=0.22")  # 0.12 drops the set-user-id bit of COPY --chmod; the releases between were not tried
def test_a_function_reads_what_it_built_and_its_result_is_exported(
    services: Services, folder: Path, tmp_path: Path
) -> None:
    seen: dict[str, object] = {}

    def build(gateway: Gateway) -> GatewayResult:
        result = gateway.solve(DockerfileFrontend(target="files"))
        assert result.ref is not None
        result.ref.evaluate()
        seen["all"] = result.ref.read_file("/bin/tool")
        seen["part"] = result.ref.read_file("/bin/tool", offset=250, length=10)
        seen["rest"] = result.ref.read_file("/bin/tool", offset=2040)
        seen["stat"] = result.ref.stat("/bin/tool")
        seen["notes"] = {entry.path: entry for entry in result.ref.read_dir("/notes")}
        seen["included"] = [entry.path for entry in result.ref.read_dir("/notes", include="l*")]
        seen["config"] = json.loads(result.metadata["containerimage.config"])["os"]
        return result

    out = tmp_path / "out"
    with Client(services.buildkit_host) as client:
        result = client.run_gateway(
            build, local_dirs=dirs(folder), exporters=[RawExporter("local", output=OutputDirectory(out))]
        )
    data = bytes(range(256)) * 8
    assert seen["all"] == data
    assert seen["part"] == data[250:260]
    assert seen["rest"] == data[2040:]
    assert (seen["stat"].mode, seen["stat"].size, seen["stat"].is_dir) == (0o4755, 2048, False)  # type: ignore[attr-defined]
    assert seen["notes"]["link"].link == "a"  # type: ignore[index]
    assert seen["included"] == ["link"]
    assert seen["config"] == "linux"
    assert (out / "bin/tool").read_bytes() == data
    assert (out / "notes/link").readlink() == Path("a")
    assert result.ref


def test_several_solves_make_one_result_for_several_platforms(services: Services, folder: Path, tmp_path: Path) -> None:
    def build(gateway: Gateway) -> GatewayResult:
        refs = {}
        for stage in ("files", "last"):
            ref = gateway.solve(DockerfileFrontend(target=stage)).ref
            assert ref is not None
            refs[f"linux/{stage}"] = ref
        platforms = [
            {"ID": key, "Platform": {"OS": "linux", "Architecture": arch}}
            for key, arch in zip(refs, ("amd64", "arm64"), strict=True)
        ]
        metadata = {"refs.platforms": json.dumps({"Platforms": platforms}).encode()}
        return GatewayResult(refs=refs, metadata=metadata)

    out = tmp_path / "out"
    with Client(services.buildkit_host) as client:
        client.run_gateway(
            build, local_dirs=dirs(folder), exporters=[RawExporter("local", output=OutputDirectory(out))]
        )
    assert (out / "linux_files/notes/a").read_text() == (out / "linux_last/notes/a").read_text() == "a"


def test_what_the_function_raises_comes_to_the_caller(services: Services) -> None:
    def build(_gateway: Gateway) -> GatewayResult:
        raise LookupError("of mine")

    with Client(services.buildkit_host) as client, pytest.raises(LookupError, match="of mine"):
        client.run_gateway(build)


def test_a_step_that_fails_in_the_function_is_explained_as_in_any_build(services: Services, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {services.base_image}\nRUN echo before; exit 7\n")

    def build(gateway: Gateway) -> GatewayResult:
        return gateway.solve(DockerfileFrontend(no_cache=True), evaluate=True)

    with Client(services.buildkit_host) as client, pytest.raises(SolveError) as caught:
        client.run_gateway(build, local_dirs=dirs(tmp_path))
    assert caught.value.exit_code == 7
    assert caught.value.last_output == ("before",)
    assert "RUN echo before" in caught.value.vertex_name
    assert caught.value.snippets[0].filename == "Dockerfile"


def test_an_error_of_the_function_that_is_caught_there_does_not_fail_the_build(
    services: Services, folder: Path
) -> None:
    def build(gateway: Gateway) -> GatewayResult:
        with pytest.raises(SolveError, match="could not be found"):
            gateway.solve(DockerfileFrontend(target="nowhere"))
        return gateway.solve(DockerfileFrontend())

    with Client(services.buildkit_host) as client:
        assert client.run_gateway(build, local_dirs=dirs(folder)).ref


def test_nothing_returned_exports_nothing(services: Services) -> None:
    with Client(services.buildkit_host) as client:
        assert dict(client.run_gateway(lambda _gateway: None).exporter_response) == {}


def test_an_exporter_that_does_not_exist_ends_the_build_before_the_function_does(services: Services) -> None:
    never = threading.Event()

    def build(_gateway: Gateway) -> None:
        never.wait(20)

    with Client(services.buildkit_host) as client, pytest.raises(SolveError, match='exporter "nothing"'):
        client.run_gateway(build, exporters=[RawExporter("nothing", unchecked=True)])
    never.set()


def test_cancelling_ends_a_function_that_waits_for_the_daemon(services: Services, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {services.base_image}\nRUN sleep 60 # {tmp_path}\n")
    ended = threading.Event()

    def build(gateway: Gateway) -> GatewayResult:
        try:
            return gateway.solve(DockerfileFrontend(), evaluate=True)
        finally:
            ended.set()

    with Client(services.buildkit_host) as client, client.start_gateway(local_dirs=dirs(tmp_path)) as running:
        threading.Timer(1.5, running.cancel).start()
        with pytest.raises(BuildCancelledError):
            running.run(build)
        assert ended.wait(10)


def test_an_image_is_looked_up(services: Services) -> None:
    found = {}

    def build(gateway: Gateway) -> None:
        found["image"] = gateway.resolve_image(services.base_image, platform="linux/amd64")

    with Client(services.buildkit_host) as client:
        client.run_gateway(build)
    assert found["image"].digest.startswith("sha256:")
    assert found["image"].config["os"] == "linux"


@pytest.mark.buildkit(">=0.14")
def test_subrequests_tell_about_a_dockerfile_without_building_it(services: Services, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch as small\nARG version=1\nCOPY Dockerfile /\nFROM small AS last\n"
    )
    with Client(services.buildkit_host) as client:
        lint = client.lint(DockerfileFrontend(), local_dirs=dirs(tmp_path))
        targets = client.list_targets(DockerfileFrontend(), local_dirs=dirs(tmp_path))
        outline = client.outline(DockerfileFrontend(), local_dirs=dirs(tmp_path))
    assert [warning.rule for warning in lint.warnings] == ["FromAsCasing"]
    assert [(one.name, one.is_default) for one in targets.targets] == [("small", False), ("last", True)]
    assert [(arg.name, arg.value) for arg in outline.args] == [("version", "1")]


def test_the_asynchronous_face_runs_functions_too(services: Services, folder: Path) -> None:
    def build(gateway: Gateway) -> GatewayResult:
        return gateway.solve(RawFrontend("dockerfile.v0"))

    async def run() -> str:
        async with AsyncClient(services.buildkit_host) as client:
            statuses = []
            result = await client.run_gateway(build, local_dirs=dirs(folder), on_status=statuses.append)
            await asyncio.sleep(0)
            assert statuses
            return result.ref

    assert asyncio.run(run())


def test_a_path_that_is_not_utf8_is_one_clear_error(services: Services, folder: Path) -> None:
    """A listing can give such a name; the gateway's calls cannot carry it back."""
    name = b"/notes/\xff".decode("utf-8", "surrogateescape")
    errors: list[OptionError] = []

    def build(gateway: Gateway) -> GatewayResult:
        ref = gateway.solve(DockerfileFrontend(target="files")).ref
        assert ref is not None
        for read in (ref.read_file, ref.read_dir, ref.stat, lambda path: ref.read_dir("/", include=path)):
            with pytest.raises(OptionError) as caught:
                read(name)
            errors.append(caught.value)
        return GatewayResult(ref=ref)

    with Client(services.buildkit_host) as client:
        client.run_gateway(build, local_dirs=dirs(folder))
    assert {str(error) for error in errors} == {"cannot ask the daemon for the path '/notes/\\udcff'"}
    assert all("not UTF-8" in error.why and error.hint for error in errors)


def test_the_text_of_a_dockerfile_may_have_a_name_in_a_folder(services: Services, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "file").write_text("x")
    frontend = DockerfileFrontend(
        context=tmp_path / "context",
        dockerfile=DockerfileText("FROM scratch\nCOPY file /\n"),
        filename="docker/web/Dockerfile",
    )
    with Client(services.buildkit_host) as client:
        client.solve(frontend, exporters=[RawExporter("local", output=OutputDirectory(tmp_path / "out"))])
    assert (tmp_path / "out" / "file").read_text() == "x"
