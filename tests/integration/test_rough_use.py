"""What callers do wrong, or do at odd moments: one clear error each, no build that hangs, no thread that stays."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from buildkit_client import (
    AsyncClient,
    BuildCancelledError,
    Client,
    ConnectionLostError,
    ContextError,
    CredentialsError,
    DockerfileFrontend,
    DockerfileText,
    ExportError,
    GatewayResult,
    ImageExporter,
    LocalExporter,
    LocalProtocolError,
    OciExporter,
    OptionError,
    OutputLayout,
    OutputStream,
    PolicyAllow,
    PolicyDeny,
    SecretCallback,
    SecretError,
    SolveError,
    SourcePolicy,
    SourceRule,
    TarContext,
    TarExporter,
)

SMALL = DockerfileText("FROM scratch\nLABEL a=b\n")


@pytest.fixture
def client(services):
    with Client(services.buildkit_host) as client:
        yield client


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /file\n")
    return tmp_path / "app"


@pytest.fixture
def slow(services, tmp_path):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/Dockerfile").write_text(f"FROM {services.base_image}\nRUN sleep 300\n")
    return tmp_path / "slow"


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


class Broken(io.RawIOBase):
    """Fails in the way of some library: neither OSError nor ValueError."""

    def read(self, size=-1):
        raise RuntimeError("bad block")

    def write(self, data):
        raise RuntimeError("bad sector")


def build_slowly(gateway):
    return gateway.solve(DockerfileFrontend(no_cache=True), evaluate=True)


def dirs(folder):
    return {"context": folder, "dockerfile": folder}


# -- code of the caller that fails -----------------------------------------------------------------------------


def test_a_secret_callback_that_fails(client, services):
    def broken():
        raise RuntimeError("canary")

    text = f"FROM {services.base_image}\nRUN --mount=type=secret,id=token,required=true true\n"
    with pytest.raises(SecretError, match="callback of the secret 'token' failed") as caught:
        client.solve(
            DockerfileFrontend(context=DockerfileText(text), no_cache=True), secrets={"token": SecretCallback(broken)}
        )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_streams_that_fail(client, folder):
    with pytest.raises(ContextError, match="cannot read the upload") as caught:
        client.solve(DockerfileFrontend(context=TarContext(Broken())))
    assert caught.value.why == "bad block"
    closed = io.BytesIO()
    closed.close()
    for stream, why in ((Broken(), "bad sector"), (closed, "closed file"), (io.StringIO(), "memoryview")):
        with pytest.raises(ExportError, match="given stream") as failed:
            client.solve(DockerfileFrontend(context=folder), exporters=[TarExporter(dest=OutputStream(stream))])
        assert why in failed.value.why


def test_a_credentials_provider_that_fails(client, services, folder):
    class Broken:
        def lookup(self, host):
            raise RuntimeError("the keyring is locked")

    name = f"{services.registry_htpasswd}/tests/rough:1"
    with pytest.raises(CredentialsError, match="cannot be found out") as caught:
        client.solve(
            DockerfileFrontend(context=folder), credentials=Broken(), exporters=[ImageExporter(name=name, push=True)]
        )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_function_that_returns_something_else(client):
    with pytest.raises(LocalProtocolError, match="returned a str"):
        client.run_gateway(lambda gateway: "done")


def test_a_result_that_is_too_large_ends_the_build(client):
    with pytest.raises(LocalProtocolError, match="too large"):
        client.run_gateway(lambda gateway: GatewayResult(metadata={"x": bytes(17 << 20)}))


def test_an_error_whose_text_is_no_utf8_ends_the_build(client):
    with pytest.raises(FileNotFoundError):
        client.run_gateway(lambda gateway: Path("/none\udce9").stat())


# -- at odd moments --------------------------------------------------------------------------------------------


def test_waiting_again_has_the_same_outcome(client, folder):
    with client.start_solve(DockerfileFrontend(context=folder)) as build:
        assert build.wait() == build.wait()
    with client.start_solve(DockerfileFrontend(context=folder, target="none")) as build:
        for _ in range(2):
            with pytest.raises(SolveError, match="target stage"):
                build.wait()


def test_a_callback_that_fails_at_the_end_leaves_the_outcome(client, folder):
    def fail(update):
        raise ZeroDivisionError

    with client.start_solve(DockerfileFrontend(context=folder)) as build:
        with pytest.raises(ZeroDivisionError):
            build.wait(fail)
        assert build.wait().ref == build.ref


def test_functions_and_frontends_are_not_mixed_up(client, folder):
    with (
        client.start_solve(DockerfileFrontend(context=folder)) as build,
        pytest.raises(LocalProtocolError, match="takes no function"),
    ):
        build.run(lambda gateway: None)
    with client.start_gateway() as build, pytest.raises(LocalProtocolError, match="without its function"):
        build.wait()
    with client.start_gateway() as build:
        build.run(lambda gateway: None)
        assert build.wait().ref == build.ref
        with pytest.raises(LocalProtocolError, match="takes no function"):
            build.run(lambda gateway: None)


def test_what_outlives_its_build_says_so(client, folder):
    kept = []

    def keep(gateway):
        kept.append((gateway, gateway.solve(DockerfileFrontend())))
        return kept[0][1]

    client.run_gateway(keep, local_dirs=dirs(folder))
    gateway, result = kept[0]
    with pytest.raises(BuildCancelledError, match="the build is over"):
        result.ref.read_file("/file")
    with pytest.raises(BuildCancelledError, match="the build is over"):
        gateway.solve(DockerfileFrontend())


def test_a_closed_session_is_refused(client, folder):
    session = client.open_session(local_dirs=dirs(folder))
    client.solve(DockerfileFrontend(), session=session)
    session.close()
    with pytest.raises(LocalProtocolError, match="the session is closed"):
        client.solve(DockerfileFrontend(), session=session)


@pytest.mark.parametrize("after_s", [0, 0.05, 0.4, 1.5])
def test_a_gateway_build_is_cancelled_at_any_moment(client, slow, after_s):
    with client.start_gateway(local_dirs=dirs(slow)) as build:
        timer = threading.Timer(after_s, build.cancel)
        timer.start()
        with pytest.raises(BuildCancelledError):
            build.run(build_slowly)


@pytest.mark.parametrize("after_s", [0.1, 1.5])
def test_an_interrupt_ends_a_gateway_build(client, slow, after_s):
    timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.run_gateway(build_slowly, local_dirs=dirs(slow))
    assert time.monotonic() - started < after_s + 5


def test_closing_the_client_ends_what_runs(services, slow):
    def closing():
        client = Client(services.buildkit_host)
        threading.Timer(1, client.close).start()
        return client

    for run in (
        lambda client: client.solve(DockerfileFrontend(context=slow, no_cache=True)),
        lambda client: client.run_gateway(build_slowly, local_dirs=dirs(slow)),
    ):
        with pytest.raises(BuildCancelledError) as caught:
            run(closing())
        assert caught.value.why == "the client was closed"
    with pytest.raises(ConnectionLostError, match="was closed during a call"):
        list(closing().history.follow())


def test_a_closed_client_says_so(services, folder):
    client = Client(services.buildkit_host)
    history, status = client.history, client.history.status("x")
    client.close()
    client.close()
    for call in (
        client.info,
        client.open_session,
        history.list,
        lambda: client.solve(DockerfileFrontend(context=folder)),
        lambda: client.run_gateway(lambda gateway: None),
        lambda: list(client.prune(filters=["id==none"])),
        lambda: list(status),
    ):
        with pytest.raises(LocalProtocolError, match="is closed"):
            call()


# -- options that cannot work ----------------------------------------------------------------------------------


UNNAMED = "they share a stream, as standard output is one"


def test_two_exporters_for_one_place(client, folder, tmp_path):
    stream = io.BytesIO()
    (tmp_path / "link").symlink_to(tmp_path)
    for exporters in (
        [TarExporter(dest=tmp_path / "out"), OciExporter(dest=tmp_path / "link/out")],
        [LocalExporter(dest=tmp_path / "files"), LocalExporter(dest=tmp_path / "files")],
        [TarExporter(dest=OutputStream(stream)), OciExporter(dest=OutputStream(stream))],
    ):
        with pytest.raises(OptionError, match="same place") as caught:
            client.solve(DockerfileFrontend(context=folder), exporters=exporters)
        assert caught.value.why in (str(tmp_path / "out"), str(tmp_path / "files"), UNNAMED)
    assert not (tmp_path / "out").exists()
    assert not stream.getvalue()


def test_two_layouts_are_refused_before_one_is_made(client, folder, tmp_path):
    layouts = [OciExporter(dest=OutputLayout(tmp_path / "layouts" / name)) for name in "ab"]
    with pytest.raises(OptionError, match="one OCI image layout"):
        client.solve(DockerfileFrontend(context=folder), exporters=layouts)
    assert not (tmp_path / "layouts").exists()


@pytest.mark.buildkit(">=0.13")
def test_several_exporters_send_to_us_at_once(client, folder, tmp_path):
    stream = io.BytesIO()
    client.solve(
        DockerfileFrontend(context=folder),
        exporters=[
            LocalExporter(dest=str(tmp_path / "files")),
            TarExporter(dest=tmp_path / "files.tar"),
            OciExporter(dest=str(tmp_path / "oci.tar")),
            TarExporter(dest=OutputStream(stream)),
        ],
    )
    assert (tmp_path / "files/file").read_bytes() == (folder / "Dockerfile").read_bytes()
    assert (tmp_path / "files.tar").read_bytes() == stream.getvalue()
    assert (tmp_path / "oci.tar").stat().st_size > len(stream.getvalue())


@pytest.mark.parametrize("value", [1, "caf\udce9"])
def test_values_that_cannot_be_sent(client, value):
    with pytest.raises(OptionError, match="build-arg:A"):
        client.solve(DockerfileFrontend(context=SMALL, build_args={"A": value}))
    with pytest.raises(OptionError, match="build-arg:A"):
        client.run_gateway(lambda gateway: gateway.solve(DockerfileFrontend(context=SMALL, build_args={"A": value})))


def test_what_a_policy_says_reaches_the_error(client, services):
    frontend = DockerfileFrontend(context=DockerfileText(f"FROM {services.base_image}\n"), no_cache=True)
    rules = SourcePolicy((SourceRule(action="deny", identifier="docker-image://*"),))
    with pytest.raises(SolveError) as caught:
        client.solve(frontend, source_policy=rules)
    assert (caught.value.kind, caught.value.why) == ("other", "a source policy forbids it")


@pytest.mark.buildkit(">=0.26")
def test_what_a_policy_callback_says_reaches_the_error(client, services):
    def only_local(request):
        return PolicyDeny(("no images today",)) if "image" in request.identifier else PolicyAllow()

    frontend = DockerfileFrontend(context=DockerfileText(f"FROM {services.base_image}\n"), no_cache=True)
    with pytest.raises(SolveError) as denied:
        client.solve(frontend, policy=only_local)
    assert denied.value.why == "no images today"


# -- the asynchronous face -------------------------------------------------------------------------------------


def test_an_asynchronous_session_is_shared_and_closed(services, folder):
    async def main():
        async with (
            AsyncClient(services.buildkit_host) as client,
            await client.open_session(local_dirs=dirs(folder)) as session,
        ):
            results = await asyncio.gather(*(client.solve(DockerfileFrontend(), session=session) for _ in range(3)))
            assert {result.session_id for result in results} == {session.id}
            await session.aclose()
            assert not session.is_alive
            with pytest.raises(LocalProtocolError, match="the session is closed"):
                await client.solve(DockerfileFrontend(), session=session)

    asyncio.run(main())
