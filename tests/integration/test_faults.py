"""Whatever breaks, a build ends soon, with one clear error, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from buildkit_client import (
    BuildCancelledError,
    BuildKitError,
    Client,
    ConnectError,
    ConnectionLostError,
    ContextError,
    CredentialsError,
    DockerfileFrontend,
    ImageExporter,
    OciExporter,
    OutputDirectory,
    OutputLayout,
    OutputStream,
    RawExporter,
    RegistryCache,
    SolveError,
)
from buildkit_client.errors import LocalProtocolError
from buildkit_client.oci.credentials import Credentials, StaticCredentials
from buildkit_client.session import filesend
from buildkit_client.transport import liveness
from tests.support.own_buildkitd import OwnBuildkitd, running_processes

HERE = Path(__file__).parent
OUR_THREADS = ("session-", "build-")


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(OUR_THREADS)]


def until(condition, within_s=20.0):
    """Wait for a condition; say whether it came true in time."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.fixture(autouse=True)
def leaves_nothing_behind(capfd, tmp_path, monkeypatch):
    """No thread of ours lives on and nothing is written to stderr, whatever a test does."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    yield
    assert until(lambda: not our_threads(), 3), our_threads()
    assert capfd.readouterr().err == ""


@pytest.fixture
def own(services, tmp_path):
    with OwnBuildkitd(services, tmp_path) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def shared_own(services, tmp_path_factory):
    """A daemon for the tests of this module that leave it alone."""
    with OwnBuildkitd(services, tmp_path_factory.mktemp("own")) as daemon:
        yield daemon


def context(folder, dockerfile, **files):
    folder.mkdir(exist_ok=True)
    if dockerfile is not None:
        (folder / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        if isinstance(content, int):
            with (folder / name).open("wb") as out:
                out.truncate(content)
        else:
            (folder / name).write_text(content)
    return folder


def build(address, folder, *, on_status=None, client=None, **options):
    frontend = options.pop("frontend", DockerfileFrontend())
    with client or Client(address) as opened:
        return opened.solve(
            frontend, local_dirs={"context": folder, "dockerfile": folder}, on_status=on_status, **options
        )


@contextmanager
def fails_with(kind, *, within_s=10.0):
    """The block raises this error, in time, and the error says what, why and what to try."""
    started = time.monotonic()
    with pytest.raises(BuildKitError) as caught:
        yield caught
    assert time.monotonic() - started < within_s
    error = caught.value
    assert type(error) is kind, repr(error)
    assert str(error)
    assert "\n" not in f"{error}{error.why}{error.hint}"
    assert "StatusCode" not in f"{error}{error.why}"


def once(condition, act):
    """Return a status callback that acts the first time a message fulfils a condition."""
    done = []

    def on_status(update):
        if not done and condition(update):
            done.append(True)
            act()

    return on_status


def started(text):
    return lambda update: any(text in vertex.name and vertex.started_ns for vertex in update.vertexes)


def transferred(size):
    return lambda update: any(
        status.id == "transferring context:" and status.current > size for status in update.statuses
    )


# -- the daemon dies -------------------------------------------------------------------------------------------------


def test_daemon_killed_while_it_reads_the_context(own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nCOPY big /\n", big=4 << 30)
    with fails_with(ConnectionLostError) as caught:
        build(own.address, folder, on_status=once(transferred(1 << 20), own.kill))
    assert caught.value.phase == "context"
    assert "[internal] load build context" in str(caught.value)
    assert own.address in str(caught.value)
    assert caught.value.why
    assert "daemon" in caught.value.hint


def test_daemon_killed_while_a_step_runs(own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 61.25\n")
    with fails_with(ConnectionLostError) as caught:
        build(own.address, folder, on_status=once(started("RUN sleep"), own.kill))
    assert caught.value.phase == "solve"
    assert "RUN sleep 61.25" in str(caught.value)


class KillsWhenWritten:
    """A file object that kills the daemon after the first megabyte."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.size = 0

    def write(self, data):
        self.size += len(data)
        if self.size > 1 << 20:
            self.daemon.kill()
        return len(data)

    def flush(self):
        pass


@pytest.mark.parametrize("kind", ["stream", "file", "layout", "directory"])
def test_daemon_killed_while_it_sends_the_result(own, services, tmp_path, monkeypatch, kind):
    folder = context(tmp_path / "c", "FROM scratch\nCOPY big* /\n", **{f"big{n}": 32 << 20 for n in range(4)})
    out = tmp_path / "out"
    out.mkdir()
    on_status = None
    match kind:
        case "stream":
            exporter = OciExporter(dest=OutputStream(KillsWhenWritten(own)), compression="uncompressed")
        case "file":
            write_all = filesend._write_all
            monkeypatch.setattr(filesend, "_write_all", lambda file, data: (write_all(file, data), own.kill()))
            exporter = OciExporter(dest=out / "image.tar", compression="uncompressed")
        case "layout":
            exporter = OciExporter(dest=OutputLayout(out / "layout"), compression="uncompressed")
            on_status = once(started("exporting to oci"), own.kill)
        case "directory":
            exporter = RawExporter("local", {}, OutputDirectory(out / "files"))
            on_status = once(started("exporting to client"), own.kill)
    with fails_with(ConnectionLostError) as caught:
        build(own.address, folder, exporters=[exporter], on_status=on_status)
    assert caught.value.phase == "export"
    assert "during exporting to " in str(caught.value)
    assert not (out / "image.tar").exists()
    assert [path.name for path in out.rglob("*.part")] == []


def test_daemon_stopped_before_the_connection(own):
    own.stop()
    with fails_with(ConnectError) as caught, Client(own.address) as client:
        client.info()
    assert caught.value.phase == "connect"
    assert "start buildkitd" in caught.value.hint


def test_daemon_killed_before_the_connection(own):
    own.kill()  # leaves its socket lying there
    with fails_with(ConnectError) as caught, Client(own.address) as client:
        client.list_workers()
    assert (caught.value.phase, "refused" in caught.value.why) == ("connect", True)


def test_daemon_frozen_before_the_connection(own):
    own.freeze()
    with fails_with(ConnectError, within_s=6) as caught, Client(own.address, connect_timeout_s=1) as client:
        client.info()
    assert caught.value.phase == "handshake"
    assert "stuck" in caught.value.hint


def test_a_client_finds_a_daemon_that_was_started_again(own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN true\n")
    with Client(own.address) as client:
        session = client.open_session(local_dirs={"context": folder, "dockerfile": folder})
        first = client.solve(DockerfileFrontend(), session=session)
        own.kill()
        assert until(lambda: not session.is_alive)
        own.start()
        end = time.monotonic() + 10
        while True:
            try:
                assert client.info().package
                break
            except ConnectionLostError:
                assert time.monotonic() < end
                time.sleep(0.2)
        session.close()
        with client.open_session(local_dirs={"context": folder, "dockerfile": folder}) as session:
            assert client.solve(DockerfileFrontend(), session=session).ref != first.ref


@pytest.mark.buildkit(">=0.22")  # 0.12 cancels it; the releases between were not tried
def test_a_build_in_progress_outlives_the_polite_end_of_its_daemon(own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 1\n")
    stopping = once(started("RUN sleep"), lambda: os.kill(own.pid, signal.SIGTERM))
    assert build(own.address, folder, on_status=stopping).ref


# -- the connection dies without a word ------------------------------------------------------------------------------


class SilentProxy:
    """A TCP port in front of a daemon's socket that passes on some bytes, in both directions together, and then none.

    Connections stay open: what comes after the limit is read and thrown away, as a broken network does it.
    """

    def __init__(self, target, limit):
        self._target = target
        self._left = limit
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open = [self._server]
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._target))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pass, args=(one, other), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source, sink):
        try:
            while data := source.recv(16_384):
                with self._lock:
                    taken = min(len(data), self._left)
                    self._left -= taken
                if taken:
                    sink.sendall(data[:taken])
        except OSError:
            pass

    def close(self):
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def short_silence(monkeypatch):
    monkeypatch.setattr(liveness, "SILENCE_S", 8.0)  # the daemon's health checks come every five seconds
    monkeypatch.setattr(liveness, "ANSWER_S", 4.0)


LIMITS = (0, *(int(30 * 1.48**step) for step in range(29)))  # up to two thirds of what such a build moves


def test_a_connection_that_goes_silent_at_any_point_is_noticed(shared_own, services, tmp_path, short_silence):
    """Limits from the first byte to the middle of the export; all at once, since each takes its time."""
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nCOPY data /\nRUN echo {time.time()}\n")
    (folder / "data").write_bytes(os.urandom(1_000_000))

    def attempt(limit):
        proxy = SilentProxy(shared_own.socket_path, limit)
        begun = time.monotonic()
        try:
            exporter = OciExporter(dest=tmp_path / f"{limit}.tar")
            build(proxy.address, folder, client=Client(proxy.address, connect_timeout_s=2), exporters=[exporter])
        except BuildKitError as exc:
            return exc, time.monotonic() - begun
        finally:
            proxy.close()
        return None, 0.0

    with ThreadPoolExecutor(len(LIMITS)) as pool:
        outcomes = dict(zip(LIMITS, pool.map(attempt, LIMITS), strict=True))
    for limit, (error, took_s) in outcomes.items():
        print(limit, f"{took_s:.1f} s", type(error).__name__, getattr(error, "phase", ""), error)
        assert isinstance(error, ConnectError | ConnectionLostError), f"{limit}: {error!r}"
        assert error.why
        assert error.hint
        assert took_s < 25, f"{limit}: {took_s}"
    assert isinstance(outcomes[0][0], ConnectError)
    lost = [error for error, _ in outcomes.values() if isinstance(error, ConnectionLostError)]
    assert {error.phase for error in lost} >= {"start", "context", "export"}
    assert all("seconds" in error.why for error in lost)
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".tar", ".part")] == []


def test_a_frozen_daemon_is_noticed(own, services, tmp_path, short_silence):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 62.5\n")
    with fails_with(ConnectionLostError, within_s=20) as caught:
        build(own.address, folder, on_status=once(started("RUN sleep"), own.freeze))
    assert caught.value.phase == "solve"
    assert "nothing was heard" in caught.value.why


def test_silence_of_a_daemon_that_lives_is_no_fault(shared_own, services, tmp_path, monkeypatch):
    """A quiet step far longer than the limit, and an interpreter that stands still as long, in the middle of it."""
    monkeypatch.setattr(liveness, "SILENCE_S", 0.5)
    monkeypatch.setattr(liveness, "ANSWER_S", 2.0)  # a busy machine may need more than a moment
    monkeypatch.setattr(liveness, "_STALL_S", 0.5)
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 6; echo {time.time()}\n")
    libc = ctypes.PyDLL(None)  # calls through it keep the interpreter's lock

    def stand_still():
        begun = time.monotonic()
        libc.usleep(3_000_000)
        assert time.monotonic() - begun >= 3

    assert build(shared_own.address, folder, on_status=once(started("RUN sleep"), stand_still)).ref


# -- somebody cancels ------------------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, threading, time
from pathlib import Path
from buildkit_client import Client, DockerfileFrontend, OciExporter

def ours():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("session-", "build-"))]

address, folder, ref = sys.argv[1:]
print("ready", flush=True)
try:
    with Client(address) as client:
        client.solve(
            DockerfileFrontend(), local_dirs={"context": folder, "dockerfile": folder}, ref=ref,
            exporters=[OciExporter(dest=Path(folder).with_suffix(".tar"))],
        )
except KeyboardInterrupt:
    end = time.monotonic() + 2
    while ours() and time.monotonic() < end:
        time.sleep(0.01)
    print("interrupted", ours())
# An interrupt inside exec(), which defining a dataclass calls, ends CPython by SIGINT even after the program
# caught it, unless the program says its exit status itself.
sys.exit(0)
"""


def active_builds(daemon):
    """Return the refs of the builds that the daemon says are running."""
    lines = daemon.buildctl("debug", "histories", "--format", "{{json .}}").stdout.splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    return [record["record"]["Ref"] for record in records if not record["record"].get("CompletedAt")]


DELAYS = (0.0, 0.004, 0.006, 0.008, 0.01, 0.03, 0.08, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.9, 1.2)


def test_an_interrupt_at_any_moment_ends_build_and_process(shared_own, services, tmp_path):
    command = "sleep 63.75"
    folder = context(
        tmp_path / "c", f"FROM {services.base_image}\nCOPY big /\nRUN --network=none {command}\n", big=120 << 20
    )
    for number, delay in enumerate(DELAYS):
        ref = f"interrupted{number:02}aaaaaaaaaaaa"
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, shared_own.address, folder, ref],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parents[1],
        )  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=20)
        assert time.monotonic() - begun < 5, delay
        assert (out, err) == ("interrupted []\n", ""), delay
        assert process.returncode == 0
        assert until(lambda ref=ref: ref not in active_builds(shared_own)), delay
        assert until(lambda: not running_processes(command)), delay
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".tar", ".part")] == []


@pytest.mark.buildkit(">=0.22")  # 0.12 lists it as active for long; the releases between were not tried
def test_cancel_from_another_thread(shared_own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 64.25\n")
    seen = threading.Event()
    with (
        Client(shared_own.address) as client,
        client.start_solve(DockerfileFrontend(), local_dirs={"context": folder, "dockerfile": folder}) as running,
    ):
        canceller = threading.Thread(target=lambda: seen.wait(20) and running.cancel())
        canceller.start()
        active = []
        with fails_with(BuildCancelledError):
            running.wait(once(started("RUN sleep"), lambda: (active.extend(active_builds(shared_own)), seen.set())))
        canceller.join()
    assert running.ref in active, "the daemon did not list the build while it ran: the test below proves nothing"
    assert until(lambda: running.ref not in active_builds(shared_own))
    assert until(lambda: not running_processes("sleep 64.25"))


def test_closing_the_client_cancels_its_builds(shared_own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 65.5\n")
    client = Client(shared_own.address)
    closer = threading.Thread(target=client.close)
    with fails_with(BuildCancelledError):
        build("", folder, client=client, on_status=once(started("RUN sleep"), closer.start))
    closer.join()
    with fails_with(LocalProtocolError):
        client.info()


def test_an_error_of_the_status_callback_cancels_the_build_and_comes_out(shared_own, services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN sleep 66.5\n")

    class MineError(BuildKitError):
        pass

    def fail():
        raise MineError("mine")

    with pytest.raises(MineError, match="mine"):
        build(shared_own.address, folder, on_status=once(started("RUN sleep"), fail))
    assert until(lambda: not running_processes("sleep 66.5"))


# -- builds that fail ------------------------------------------------------------------------------------------------


def test_a_step_that_fails(services, tmp_path):
    text = (
        f"FROM {services.base_image}\nRUN echo first\nRUN seq 1 30; echo last words {time.time()}; exit 7\nRUN never\n"
    )
    with fails_with(SolveError) as caught:
        build(services.buildkit_host, context(tmp_path / "c", text))
    error = caught.value
    assert (error.kind, error.exit_code) == ("run", 7)
    assert "exit code: 7" in str(error)
    assert error.vertex.startswith("sha256:")
    assert "RUN seq 1 30" in error.vertex_name
    (snippet,) = error.snippets
    assert (snippet.filename, snippet.ranges, snippet.data.decode()) == ("Dockerfile", ((3, 3),), text)
    assert error.last_output[-1].startswith("last words")
    assert error.last_output[-2] == "30"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (None, "failed to read dockerfile", "check the name of the Dockerfile"),
        ("", "cannot be empty", ""),
        ("FROM scratch\nRUNN x\n", "unknown instruction: RUNN", ""),
        ("FROM scratch\nCOPY a b\n", '"/a": not found', "build context"),
        ("FROM scratch AS a\nFROM b AS a\nCOPY --from=zz / /\n", "", ""),
    ],
    ids=["missing", "empty", "syntax", "copies nothing", "stage"],
)
def test_dockerfiles_that_cannot_work(services, tmp_path, text, what, hint):
    folder = context(tmp_path / "c", text)
    with fails_with(SolveError, within_s=15) as caught:
        build(services.buildkit_host, folder)
    assert what in str(caught.value)
    assert hint in caught.value.hint
    if what:
        assert caught.value.kind == "dockerfile"


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_base_images_that_cannot_be_had(services, tmp_path, closed_port):
    def failure(image):
        with fails_with(SolveError) as caught:
            build(services.buildkit_host, context(tmp_path / "c", f"FROM {image}\nRUN true\n"))
        assert caught.value.snippets[0].ranges == ((1, 1),)
        return caught.value

    error = failure(f"{services.registry}/library/busybox:none")
    assert (error.kind, error.why) == ("pull", "the registry has no such image")
    error = failure(f"127.0.0.1:{closed_port}/library/busybox")
    assert (error.kind, error.why) == ("pull", f"nothing answers at 127.0.0.1:{closed_port}")
    assert "host and port" in error.hint
    error = failure("no-such-host.invalid/library/busybox")
    assert (error.kind, "no-such-host.invalid" in error.why) == ("pull", True)
    error = failure(f"{services.registry_htpasswd}/library/busybox")
    assert (error.kind, services.registry_htpasswd in error.why) == ("auth", True)
    assert "log in" in error.hint


def test_pushes_that_are_refused(services, tmp_path, closed_port):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\n")

    def failure(registry, kind, credentials=None):
        exporter = ImageExporter(name=f"{registry}/tests/refused:latest", push=True)
        logins = StaticCredentials({registry: credentials} if credentials else {})
        with fails_with(kind, within_s=20) as caught:
            build(services.buildkit_host, folder, exporters=[exporter], credentials=logins)
        return caught.value

    wrong = Credentials("docker", "wrong-password")
    for credentials in (None, wrong):
        error = failure(services.registry_htpasswd, SolveError, credentials)
        assert (error.kind, services.registry_htpasswd in error.why) == ("auth", True)
        assert "log in" in error.hint
    error = failure(services.registry_token, CredentialsError)
    assert (error.host, "wants a login" in str(error)) == (services.registry_token, True)
    error = failure(services.registry_token, CredentialsError, wrong)
    assert "refused the login of docker" in str(error)
    assert "wrong-password" not in f"{error}{error.why}{error.hint}{error!r}{error.__cause__}"
    error = failure(f"127.0.0.1:{closed_port}", SolveError)
    assert (error.kind, error.why) == ("push", f"nothing answers at 127.0.0.1:{closed_port}")


def test_a_request_that_is_refused_is_told_at_once(services, tmp_path):
    """The daemon makes no job then, and lets whoever asks for the job's status wait for six seconds."""
    folder = context(tmp_path / "c", f"FROM {services.base_image}\n")
    with fails_with(SolveError, within_s=3) as caught:
        build(services.buildkit_host, folder, exporters=[RawExporter("none-such", {}, unchecked=True)])
    assert "none-such" in str(caught.value)


def test_a_cache_that_cannot_be_written(services, tmp_path, closed_port):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nRUN echo {time.time()}\n")
    gone = {"ref": f"127.0.0.1:{closed_port}/tests/cache:gone", "mode": "max"}
    with fails_with(SolveError, within_s=20) as caught:
        build(services.buildkit_host, folder, cache_exports=[RegistryCache(**gone)])
    assert (caught.value.kind, str(closed_port) in caught.value.why) == ("push", True)
    assert build(services.buildkit_host, folder, cache_exports=[RegistryCache(**gone, ignore_error=True)]).ref


# -- the context -----------------------------------------------------------------------------------------------------


def test_contexts_that_are_no_folders(services, tmp_path):
    folder = context(tmp_path / "c", "FROM scratch\n")
    with Client(services.buildkit_host) as client:
        for path, said in ((tmp_path / "none", "no such directory"), (folder / "Dockerfile", "is a file")):
            with fails_with(ContextError, within_s=3) as caught:
                client.solve(DockerfileFrontend(), local_dirs={"context": path, "dockerfile": folder})
            assert str(path) in str(caught.value)
            assert said in f"{caught.value} {caught.value.why}"
            assert caught.value.hint


AS_NOBODY = """
import os, sys
from buildkit_client import Client, BuildKitError, DockerfileFrontend
address, first, folder = sys.argv[1:]
with Client(address) as client:
    for path in (first, folder):  # the first fails while we may still read the code, which then is loaded
        try:
            client.solve(DockerfileFrontend(), local_dirs={"context": path, "dockerfile": path})
        except BuildKitError as exc:
            print(type(exc).__name__, exc, exc.why, exc.hint, sep="|")
        if path == first:
            os.setresuid(65534, 65534, 65534)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize("closed", ["the context", "a folder in it", "a file in it"])
def test_contexts_without_permission(services, tmp_path, closed):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nCOPY . /\n")
    (folder / "sub").mkdir()
    (folder / "private").write_text("x")
    target, shown = {
        "the context": (folder, str(folder)),
        "a folder in it": (folder / "sub", "sub"),
        "a file in it": (folder / "private", "private"),
    }[closed]
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0:
            above.chmod(above.stat().st_mode | 0o755)
    target.chmod(0)
    first = context(tmp_path / "first", "FROM scratch\nCOPY none /\n")
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, services.buildkit_host, first, folder],
        check=False, capture_output=True, text=True, timeout=60, cwd=HERE.parents[1],
    )  # fmt: skip
    assert done.stderr == ""
    kind, what, why, hint = done.stdout.splitlines()[1].split("|")
    assert kind == "ContextError"
    assert shown in what
    assert why == "Permission denied"
    assert "permissions" in hint or "readable" in hint


def test_files_that_vanish_grow_and_shrink_during_the_walk_do_no_harm(services, tmp_path):
    folder = context(tmp_path / "c", f"FROM {services.base_image}\nCOPY . /ctx/\nRUN cat /ctx/kept\n", kept="kept")
    for number in range(300):
        (folder / f"d{number % 10}").mkdir(exist_ok=True)
        (folder / f"d{number % 10}/f{number}").write_text("x" * number)
    stop = threading.Event()
    rounds = []

    def churn():
        while not stop.is_set():
            number = len(rounds) * 7 % 300
            path = folder / f"d{number % 10}/f{number}"
            match len(rounds) % 5:
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    path.write_text("y" * 20_000)
                case 2:
                    path.write_text("")
                case 3:
                    path.unlink(missing_ok=True)
                    path.symlink_to("nowhere")
                case 4:
                    shutil.rmtree(folder / "gone", ignore_errors=True)
                    (folder / "gone/deep").mkdir(parents=True)
                    (folder / "gone/deep/file").write_text("z")
            rounds.append(number)
            if path.is_symlink():
                path.unlink()
            time.sleep(0.0002)

    churner = threading.Thread(target=churn)
    churner.start()
    try:
        for _ in range(6):
            assert build(services.buildkit_host, folder).ref
    finally:
        stop.set()
        churner.join()
    assert len(rounds) > 300
