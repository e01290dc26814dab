"""Uploads, source policies, exporters chosen late, directories with a filter, and logins, with a real daemon."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from contextlib import contextmanager

import pytest

from buildkit_client._proto import control_pb2
from buildkit_client.errors import ContextError, DaemonError, PolicyError
from buildkit_client.oci.credentials import StaticCredentials
from buildkit_client.options import OutputFile, RawExporter
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.session.auth import AuthService
from buildkit_client.session.exporter import ExporterService
from buildkit_client.session.filesend import FileReceiver, FileSendService
from buildkit_client.session.filesync import FileSyncService
from buildkit_client.session.policy import (
    PolicyAllow,
    PolicyConvert,
    PolicyDeny,
    PolicyLookup,
    PolicyService,
)
from buildkit_client.session.session import Session, new_id, shared_key_for
from buildkit_client.session.upload import URL_PREFIX, UploadService
from buildkit_client.transport.address import parse_address
from buildkit_client.transport.channel import CONTROL, Channel

CANARY = b"canary-1f7a"


@contextmanager
def served(services, *, unary=None, streaming=None, shared_key=""):
    """A session with some services and nothing else, and a function that solves in it."""
    channel = Channel(parse_address(services.buildkit_host))
    auth = AuthService(StaticCredentials({}))
    session = Session(
        channel.session_stream,
        unary={**auth.methods(), **(unary or {})},
        streaming=streaming or {},
        shared_key=shared_key,
    )

    def solve(attrs=None, *, frontend="dockerfile.v0", **fields) -> dict[str, str]:
        request = control_pb2.SolveRequest(
            Ref=new_id(), Session=session.id, Frontend=frontend, FrontendAttrs=attrs or {}, **fields
        )
        for exporter in request.Exporters:  # daemons before 0.13 know only these two fields
            request.ExporterDeprecated = exporter.Type
            request.ExporterAttrsDeprecated.update(exporter.Attrs)
        response = channel.unary(CONTROL + "Solve", request, control_pb2.SolveResponse.FromString, timeout_s=60)
        return dict(response.ExporterResponse)

    try:
        with session:
            solve.session = session
            yield solve
    finally:
        channel.close()


def tar_of(files: dict[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    stream.seek(0)
    return stream


def local_tar(folder, name="out.tar"):
    """An exporter that sends a tar here, and the service that takes it."""
    path = folder / name
    return control_pb2.Exporter(Type="tar"), FileSendService({0: FileReceiver(path)}).methods(), path


def names_in(path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers() if m.isfile()}


# -- uploads


def test_a_tar_is_the_context(services, tmp_path):
    uploads = UploadService({"ctx": tar_of({"Dockerfile": b"FROM scratch\nCOPY hello /\n", "hello": CANARY})})
    exporter, receive, path = local_tar(tmp_path)
    with served(services, streaming={**uploads.methods(), **receive}) as solve:
        solve({"context": URL_PREFIX + "ctx"}, Exporters=[exporter])
    assert names_in(path) == {"hello": CANARY}
    assert not uploads.errors


def test_a_dockerfile_is_a_stream_that_is_written_while_it_is_read(services, tmp_path):
    reader, writer = os.pipe()
    text = b"FROM scratch\nCOPY <<EOF /made\nhere\nEOF\n"

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as stream:
            for start in range(0, len(text), 7):
                stream.write(text[start : start + 7])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        uploads = UploadService({"dockerfile": stream})
        exporter, receive, path = local_tar(tmp_path)
        with served(services, streaming={**uploads.methods(), **receive}) as solve:
            solve({"context": URL_PREFIX + "dockerfile"}, Exporters=[exporter])
    thread.join()
    assert names_in(path) == {"made": b"here\n"}


def test_a_large_context_arrives(services, tmp_path):
    big = os.urandom(20 << 20)
    uploads = UploadService({"ctx": tar_of({"Dockerfile": b"FROM scratch\nCOPY big /\n", "big": big})})
    exporter, receive, path = local_tar(tmp_path)
    with served(services, streaming={**uploads.methods(), **receive}) as solve:
        solve({"context": URL_PREFIX + "ctx"}, Exporters=[exporter])
    assert names_in(path)["big"] == big


def test_an_unknown_upload_fails_the_build(services):
    uploads = UploadService({"ctx": tar_of({})})
    with served(services, streaming=uploads.methods()) as solve, pytest.raises(DaemonError, match="other"):
        solve({"context": URL_PREFIX + "other"})


def test_a_stream_that_breaks_fails_the_build_and_is_our_error(services):
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            raise OSError(5, "Input/output error")

    uploads = UploadService({"ctx": Broken()})
    with served(services, streaming=uploads.methods()) as solve:
        with pytest.raises(DaemonError) as caught:
            solve({"context": URL_PREFIX + "ctx"})
        assert isinstance(uploads.errors[0], ContextError)
        assert str(uploads.errors[0]) in str(caught.value)
        assert solve.session.is_alive


# -- source policies


def with_policy(services, tmp_path, callback, dockerfile, **fields):
    (tmp_path / "Dockerfile").write_text(dockerfile)
    directories = {"context": tmp_path, "dockerfile": tmp_path}
    policy = PolicyService(callback)
    with served(services, unary=policy.methods(), streaming=FileSyncService(directories).methods()) as solve:
        error = None
        try:
            solve({"no-cache": ""}, SourcePolicySession=solve.session.id, **fields)
        except DaemonError as exc:
            error = exc
    return policy, error


@pytest.mark.buildkit(">=0.26")
def test_the_policy_is_asked_about_every_source(services, tmp_path):
    asked = []
    _, error = with_policy(
        services,
        tmp_path,
        lambda request: asked.append(request) or PolicyAllow(),
        f"FROM {services.base_image}\nADD --chmod=644 Dockerfile /d\n",
    )
    assert error is None
    identifiers = {request.identifier for request in asked}
    assert f"docker-image://{services.base_image}" in identifiers
    assert {"local://context", "local://dockerfile"} <= identifiers


@pytest.mark.buildkit(">=0.26")
def test_a_denial_reaches_the_error(services, tmp_path):
    def deny(request):
        return PolicyDeny(["not in this house"]) if request.identifier.startswith("docker-image://") else PolicyAllow()

    _, error = with_policy(services, tmp_path, deny, f"FROM {services.base_image}\n")
    assert isinstance(error, DaemonError)
    assert "not allowed by policy" in str(error)
    assert error.details.deny_messages == ("not in this house",)


@pytest.mark.buildkit(">=0.26")
def test_a_lookup_tells_the_digest_and_decides(services, tmp_path):
    facts = []

    def pin(request):
        if not request.identifier.startswith("docker-image://"):
            return PolicyAllow()
        if not request.has_facts:
            return PolicyLookup(image_config=True)
        facts.append(request.image)
        return PolicyAllow()

    _, error = with_policy(services, tmp_path, pin, f"FROM {services.base_image}\n")
    assert error is None
    assert facts
    assert facts[0].digest.startswith("sha256:")
    assert b'"rootfs"' in facts[0].config


@pytest.mark.buildkit(">=0.26")
def test_a_conversion_loads_another_image(services, tmp_path):
    asked = []

    def mirror(request):
        asked.append(request.identifier)
        if request.identifier == "docker-image://mirror.invalid/busybox:latest":
            return PolicyConvert(f"docker-image://{services.base_image}")
        return PolicyAllow()

    _, error = with_policy(services, tmp_path, mirror, "FROM mirror.invalid/busybox:latest\nRUN true\n")
    assert error is None
    assert f"docker-image://{services.base_image}" in asked  # the one in its place is judged too


@pytest.mark.buildkit(">=0.26")
def test_a_policy_that_never_decides_is_ended_by_the_daemon(services, tmp_path):
    calls = []

    def never(request):
        if not request.identifier.startswith("docker-image://"):
            return PolicyAllow()
        calls.append(request)
        return PolicyLookup()

    _, error = with_policy(services, tmp_path, never, f"FROM {services.base_image}\n")
    assert "too many policy requests" in str(error)
    assert 1 <= len(calls) <= 20


@pytest.mark.buildkit(">=0.26")
def test_a_policy_that_breaks_allows_nothing(services, tmp_path):
    def broken(request):
        raise RuntimeError("my own bug")

    policy, error = with_policy(services, tmp_path, broken, f"FROM {services.base_image}\n")
    assert isinstance(policy.errors[0], PolicyError)
    assert str(policy.errors[0]) in str(error)
    assert "my own bug" not in str(error)  # what the function says is for whoever runs it, not for the daemon's log
    assert "my own bug" in policy.errors[0].why


# -- exporters chosen when the result is known


@pytest.mark.buildkit(">=0.32")  # which tells that the exports are done
def test_exporters_are_chosen_by_the_result_and_run(services, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /d\nLABEL a=b\n")
    receivers = {}
    seen, finished = [], []

    def choose(metadata, refs):
        seen.append((dict(metadata), refs))
        return [RawExporter("tar", {}, output=OutputFile(tmp_path / "late.tar"))]

    def receive(exporters):
        for index, exporter in enumerate(exporters, start=1):  # the request has one of its own
            receivers[index] = FileReceiver(exporter.output.path)

    service = ExporterService(choose, finish=lambda response: finished.append(dict(response)), on_chosen=receive)
    receivers[0] = FileReceiver(tmp_path / "early.tar")
    streaming = {
        **FileSyncService({"context": tmp_path, "dockerfile": tmp_path}).methods(),
        **FileSendService(receivers).methods(),
    }
    with served(services, unary=service.methods(), streaming=streaming) as solve:
        solve(EnableSessionExporter=True, Exporters=[control_pb2.Exporter(Type="tar")])
    ((metadata, refs),) = seen
    assert b'"Labels":{"a":"b"}' in metadata["containerimage.config"]
    assert len(refs) == 1
    assert names_in(tmp_path / "late.tar") == names_in(tmp_path / "early.tar") != {}
    assert len(finished) == 1
    assert not service.errors


@pytest.mark.buildkit(">=0.21")
def test_a_broken_choice_fails_the_build(services, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /d\n")

    def broken(_metadata, _refs):
        raise KeyError("x")

    service = ExporterService(broken)
    files = FileSyncService({"context": tmp_path, "dockerfile": tmp_path})
    with (
        served(services, unary=service.methods(), streaming=files.methods()) as solve,
        pytest.raises(DaemonError, match="the choice of exporters failed"),
    ):
        solve(EnableSessionExporter=True)


# -- directories with a filter of a folder above


def test_what_the_folder_above_ignores_does_not_reach_the_build(services, tmp_path):
    web = tmp_path / "web"
    web.mkdir()
    (web / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (web / ".dockerignore").write_text("own\n")
    for name in ("own", "kept", "secret.env", "root-only"):
        (web / name).write_bytes(CANARY)
    local = LocalDirectory(web, ["**/*.env", "root-only", "web/Dockerfile"], "web")
    directories = {"context": local, "dockerfile": web}
    exporter, receive, path = local_tar(tmp_path)
    files = FileSyncService(directories)
    with served(services, streaming={**files.methods(), **receive}, shared_key=shared_key_for(directories)) as solve:
        solve(Exporters=[exporter])
    # "root-only" stands at the root's top alone; the Dockerfile was read although the context goes without it.
    assert set(names_in(path)) == {"kept", "root-only", ".dockerignore"}


def test_another_filter_is_another_copy_on_the_daemon(services, tmp_path):
    """With one copy for both, the daemon could give the one service what was kept back from it."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / "a").write_bytes(CANARY)
    (context / "b").write_bytes(CANARY)
    found = []
    for number, ignore in enumerate(([], ["a"], ["b"], [])):
        directories = {"context": LocalDirectory(context, ignore), "dockerfile": context}
        exporter, receive, path = local_tar(tmp_path, f"{number}.tar")
        streaming = {**FileSyncService(directories).methods(), **receive}
        with served(services, streaming=streaming, shared_key=shared_key_for(directories)) as solve:
            solve(Exporters=[exporter])
        found.append(set(names_in(path)) - {"Dockerfile"})
    assert found == [{"a", "b"}, {"b"}, {"a"}, {"a", "b"}]
