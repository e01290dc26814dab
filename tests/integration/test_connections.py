"""Every way to a daemon carries whole builds, comes back after a loss, and fails with words that help.

The commands of containers, pods and remote machines are stand-ins on PATH that note their arguments and do what the
real ones do on the other side: they run ``buildctl dial-stdio``, which is ours. So every byte takes the real way.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from buildkit_client import (
    BuildKitError,
    Client,
    ConnectError,
    ConnectionLostError,
    DockerfileFrontend,
    OutputDirectory,
    RawExporter,
)
from buildkit_client.transport import liveness
from buildkit_client.transport.tls import TlsConfig
from tests.support.own_buildkitd import OwnBuildkitd, running_processes

ROOT = Path(__file__).parents[2]
OURS = (sys.executable, "-m", "buildkit_client")

STAND_IN = r"""#!/bin/sh
# Notes its name and arguments, then runs what follows the container, pod or host, as the other side would.
printf '%s\n' "${0##*/}" "$@" end >>"$STAND_IN_LOG"
echo "stand-in ${0##*/} was here" >&2
while [ "$1" != buildctl ]; do shift; done
exec "$@"
"""

BUILDCTL = f"""#!/bin/sh
exec {sys.executable} -m buildkit_client "$@"
"""


class StandIns:
    """The programs, and what they were called with."""

    def __init__(self, folder, daemon, monkeypatch):
        self.folder = folder
        self.log = folder / "log"
        for name in ("docker", "podman", "nerdctl", "kubectl", "ssh"):
            self.write(name, STAND_IN)
        self.write("buildctl", BUILDCTL)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("STAND_IN_LOG", str(self.log))
        monkeypatch.setenv("BUILDKIT_HOST", daemon)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o700)

    @property
    def calls(self):
        """The command lines so far."""
        lines = self.log.read_text().split("\n") if self.log.exists() else []
        calls, words = [], []
        for word in lines:
            if word == "end":
                calls.append(words)
                words = []
            else:
                words.append(word)
        return calls


@pytest.fixture
def stand_ins(services, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    return StandIns(folder, services.buildkit_host, monkeypatch)


@pytest.fixture
def own(services, tmp_path):
    with OwnBuildkitd(services, tmp_path) as daemon:
        yield daemon


@pytest.fixture
def folder(services, tmp_path):
    """An app whose build uploads some megabytes and some thousand files, and runs a step."""
    folder = tmp_path / "app"
    (folder / "many").mkdir(parents=True)
    (folder / "Dockerfile").write_text(
        f"FROM {services.base_image} AS run\nCOPY . /app\nRUN find /app/many -type f | wc -l > /count\n"
        "FROM scratch\nCOPY --from=run /count /app/large /\n"
    )
    (folder / "large").write_bytes(os.urandom(5_000_000))
    for number in range(1000):
        (folder / f"many/{number}").write_text(str(number))
    return folder


def build_and_check(client, folder, out):
    client.solve(
        DockerfileFrontend(no_cache=True),
        local_dirs={"context": folder, "dockerfile": folder},
        exporters=[RawExporter("local", {}, OutputDirectory(out))],
    )
    assert (out / "count").read_text().strip() == "1000"
    assert (out / "large").read_bytes() == (folder / "large").read_bytes()


def children():
    """Processes that this one has started, zombies included."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found.update((thread / "children").read_text().split())
    return found


def until_stopped(pid):
    """Wait until no thread of a process runs any more: a signal takes its time on a busy machine."""
    states = Path(f"/proc/{pid}/task")
    while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in states.iterdir()):
        time.sleep(0.01)


@contextmanager
def leaves_nothing():
    """No process, thread or socket is left when the block is over."""
    before = children()
    with tempfile.TemporaryDirectory(prefix="own-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)  # the usual one has the sockets of every other process, too
        yield
        assert list(Path(folder).glob("buildkit-*")) == []
    assert children() - before == set()
    for thread in threading.enumerate():
        if thread.name.startswith("build-"):
            thread.join(1)  # one that did its work and took itself off the list may not quite have ended
            assert not thread.is_alive(), thread.name


SOCKET = "/run/other.sock"
ADDRESSES = {
    "docker-container://bk?context=ctx": "docker --context=ctx exec -i bk buildctl dial-stdio",
    "docker-container://bk": "docker exec -i bk buildctl dial-stdio",
    "podman-container://bk": "podman exec -i bk buildctl dial-stdio",
    "nerdctl-container://bk?namespace=ns": "nerdctl exec --namespace ns -i bk buildctl dial-stdio",
    "kube-pod://bk-0": "kubectl --context= --namespace= exec --container= -i bk-0 -- buildctl dial-stdio",
    "kube-pod://bk-0?context=u@c&namespace=ns&container=b": (
        "kubectl --context=u@c --namespace=ns exec --container=b -i bk-0 -- buildctl dial-stdio"
    ),
    "ssh://me@builder:2222": "ssh -l me -p 2222 -- builder buildctl dial-stdio",
    "ssh://builder{socket}": "ssh -- builder buildctl --addr unix://{socket} dial-stdio",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_whole_build_through_each_command(stand_ins, services, folder, tmp_path, address, monkeypatch):
    socket_path = services.buildkit_host.removeprefix("unix://")
    expected = ADDRESSES[address].format(socket=socket_path).split()
    if "{socket}" in address:
        monkeypatch.setenv("BUILDKIT_HOST", "unix:///nowhere")
    with leaves_nothing(), Client(address.format(socket=socket_path)) as client:
        assert client.info().version
        build_and_check(client, folder, tmp_path / "out")
        assert client.list_workers() != []
    assert stand_ins.calls == [expected], "one process carries everything"


def test_the_command_of_ours_takes_the_same_addresses(stand_ins, folder, tmp_path):
    done = subprocess.run(
        [*OURS, "--addr", "kube-pod://bk-0", "build", "--frontend", "dockerfile.v0", "--local", f"context={folder}",
         "--local", f"dockerfile={folder}", "--output", f"type=local,dest={tmp_path}/out", "--progress", "plain"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/count").read_text().strip() == "1000"
    assert "stand-in" not in done.stderr, "a command that works has nothing to say to the user"
    assert [call[0] for call in stand_ins.calls] == ["kubectl"]


# -- loss and return


@pytest.mark.parametrize("way", ["unix", "command"])
def test_a_client_survives_a_restart_of_the_daemon(own, stand_ins, folder, tmp_path, monkeypatch, way):
    monkeypatch.setenv("BUILDKIT_HOST", own.address)
    with Client(own.address if way == "unix" else "docker-container://bk") as client:
        build_and_check(client, folder, tmp_path / "before")
        own.stop()
        own.start()
        assert client.info().version
        build_and_check(client, folder, tmp_path / "after")
    assert len(stand_ins.calls) == (0 if way == "unix" else 2), "a new process for a new connection"


def test_a_client_that_failed_for_a_while_comes_back_soon(own, stand_ins, monkeypatch):
    """The library alone would wait longer and longer before it tries again."""
    monkeypatch.setenv("BUILDKIT_HOST", own.address)
    with Client("docker-container://bk") as client:
        client.info()
        own.stop()
        end = time.monotonic() + 6
        while time.monotonic() < end:
            with pytest.raises(BuildKitError):
                client.info()
            time.sleep(0.5)
        own.start()
        end = time.monotonic() + 4
        while True:
            try:
                client.info()
                break
            except BuildKitError:
                assert time.monotonic() < end
                time.sleep(0.2)


def test_a_command_that_dies_in_a_build_is_told(stand_ins, services, tmp_path):
    dies = 'exec 3<&0; "$@" <&3 & echo $! >"$0.pid"; wait; echo evicted >&2; exit 137'
    stand_ins.write("docker", STAND_IN.replace('exec "$@"', dies))
    (tmp_path / "Dockerfile").write_text(f"FROM {services.base_image}\nRUN sleep 30\n")

    def kill(update):
        if any(vertex.started_ns and "sleep 30" in vertex.name for vertex in update.vertexes):
            with suppress(ProcessLookupError):
                os.kill(int((stand_ins.folder / "docker.pid").read_text()), 9)

    with leaves_nothing(), Client("docker-container://bk") as client, pytest.raises(ConnectionLostError) as caught:
        client.solve(
            DockerfileFrontend(no_cache=True),
            local_dirs={"context": tmp_path, "dockerfile": tmp_path}, on_status=kill,
        )  # fmt: skip
    assert "exit code 137" in caught.value.why
    assert "evicted" in caught.value.why
    assert "sleep 30" in str(caught.value)


@pytest.mark.parametrize("call", [lambda client: client.disk_usage(), lambda client: list(client.prune())])
@pytest.mark.parametrize("is_main", [True, False])
def test_calls_that_may_last_end_soon_on_a_dead_connection(own, monkeypatch, call, is_main):
    monkeypatch.setattr(liveness, "SILENCE_S", 0.5)
    monkeypatch.setattr(liveness, "ANSWER_S", 2.0)
    with leaves_nothing(), Client(own.address) as client:
        client.info()
        assert isinstance(call(client), list), "a daemon that lives is not called dead"
        own.freeze()
        until_stopped(own.pid)
        started = time.monotonic()
        outcome = []

        def run():
            try:
                outcome.append(call(client))
            except BuildKitError as exc:
                outcome.append(exc)

        if is_main:
            run()
        else:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join(20)
        assert isinstance(outcome[0], ConnectionLostError)
        assert "nothing was heard" in outcome[0].why
        assert time.monotonic() - started < 10
        own.kill()


def test_wait_waits_for_a_daemon_behind_a_command(own, stand_ins, monkeypatch):
    monkeypatch.setenv("BUILDKIT_HOST", own.address)
    own.stop()
    waiting = subprocess.Popen(
        [*OURS, "--addr", "ssh://builder", "--timeout", "30", "--wait", "debug", "workers"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 20
    while len(stand_ins.calls) < 3:
        assert waiting.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    own.start()
    out, errors = waiting.communicate(timeout=20)
    assert (waiting.returncode, errors) == (0, "")
    assert out.startswith("ID")


# -- ways that do not lead to a daemon


def failure(address, **options):
    with leaves_nothing(), Client(address, **options) as client, pytest.raises(ConnectError) as caught:
        client.info()
    error = caught.value
    assert str(error) == f"cannot reach buildkitd at {address}"
    assert error.hint
    assert "\n" not in error.why
    return error


def test_no_daemon_behind_the_command(stand_ins, monkeypatch):
    monkeypatch.setenv("BUILDKIT_HOST", "unix:///nowhere.sock")
    error = failure("ssh://me@builder")
    assert error.why.startswith(
        "`ssh -l me -- builder buildctl dial-stdio` ended with exit code 1: stand-in ssh was here"
    )
    assert error.why.endswith("error: dial unix /nowhere.sock: connect: no such file or directory")


def test_a_command_that_is_not_installed(services, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert failure("nerdctl-container://bk").why == "there is no program 'nerdctl' on PATH"


def test_a_login_script_that_greets(stand_ins):
    stand_ins.write("ssh", STAND_IN.replace("while", "echo 'Last login: Monday'\nwhile"))
    error = failure("ssh://builder")
    assert "printed something else than HTTP/2: Last login: Monday" in error.why


def test_a_command_that_never_answers(stand_ins):
    stand_ins.write("kubectl", "#!/bin/sh\necho 'waiting for the pod' >&2\nexec sleep 60\n")
    started = time.monotonic()
    error = failure("kube-pod://bk-0", connect_timeout_s=1.0)
    assert error.why.endswith("buildctl dial-stdio`: waiting for the pod")
    assert "--timeout" in error.hint
    assert time.monotonic() - started < 6
    assert running_processes("sleep 60") == []


@pytest.mark.parametrize("address", ["command", "unix"])
def test_tls_where_none_is_spoken(stand_ins, services, address):
    """As buildctl has it: TLS is spoken wherever files are given, and the socket does not answer it."""
    tls = TlsConfig.from_directory(services.tls_dir)
    error = failure(services.buildkit_host if address == "unix" else "docker-container://bk", tls=tls)
    assert error.phase == "tls"
    words = ["--tlscacert", f"{services.tls_dir}/ca.pem", "debug", "workers"]
    theirs = subprocess.run([services.buildctl, *words], capture_output=True, text=True, check=False)
    ours = subprocess.run([*OURS, *words], capture_output=True, text=True, check=False)
    assert (theirs.returncode, ours.returncode) == (1, 1)
    assert "TLS" in theirs.stderr
    assert "TLS" in ours.stderr


def test_tls_over_tcp_still_works(services):
    if services.tls_addr is None or services.tls_dir is None:
        pytest.skip("the daemon is not ours")
    with Client(services.tls_addr, tls=TlsConfig.from_directory(services.tls_dir)) as client:
        assert client.info().version


# -- what buildctl says

SAME = [
    "docker-container://", "docker-container:///x", "podman-container://", "nerdctl-container://", "kube-pod://",
    "kube-pod://A_b", "kube-pod://a?namespace=A_b", "kube-pod://a?container=-x_", "ssh://", "ssh://u:p@h", "ssh://h?x",
    "ssh://h#x", "ssh://h:abc", "npipe:////./pipe/x", "tcp://a b:1", "tcp://[::1:1", "ssh://[::1",
]  # fmt: skip


@pytest.mark.parametrize("address", SAME)
def test_malformed_addresses_in_the_words_of_buildctl(services, address):
    def run(*program):
        command = [*program, "--addr", address, "--timeout", "3", "debug", "workers"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    theirs, ours = run(services.buildctl), run(*OURS)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout) == (1, "")
    first, hint = ours.stderr.splitlines()
    assert first == theirs.stderr.rstrip("\n")
    assert hint.startswith("  try: write it like ")


@pytest.mark.parametrize("address", [
    "foo", "unix", "unix://", "unix://relative.sock", "tcp://", "tcp://host", "tcp://127.0.0.1:99999",
    "http://127.0.0.1:1", "foo://bar", "docker-container://-x", "tcp://127.0.0.1:1", "unix:///nowhere.sock",
])  # fmt: skip
def test_addresses_that_both_refuse(services, address):
    """Here buildctl tries to connect and shows what its libraries say; ours says what is wrong with the address."""
    for program in ((services.buildctl,), OURS):
        command = [*program, "--addr", address, "--timeout", "3", "debug", "workers"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")


# -- dial-stdio beside buildctl's


@pytest.fixture(params=["buildctl", "ours"])
def dial(request, services):
    """Starts ``dial-stdio`` of one of the two."""
    program = [str(services.buildctl)] if request.param == "buildctl" else list(OURS)

    def start(address):
        return subprocess.Popen(
            [*program, "--addr", address, "dial-stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


@contextmanager
def serving(tmp_path, handle):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.settimeout(10)

        def serve():
            stream, _ = listener.accept()
            with stream:
                stream.settimeout(10)
                handle(stream)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix://{tmp_path}/s"
        thread.join(10)
        assert not thread.is_alive()


def test_dial_stdio_gives_the_daemons_first_word(services, dial):
    process = dial(services.buildkit_host)
    head = process.stdout.read(9)
    assert (head[3], head[5:]) == (4, bytes(4)), "a SETTINGS frame, before we said anything"
    process.stdin.close()
    process.stdout.read()
    assert process.wait(10) == 0
    assert process.stderr.read() == b""
    process.stdout.close()
    process.stderr.close()


def test_dial_stdio_passes_the_end_of_input_on_and_what_comes_after_it(tmp_path, dial):
    def handle(stream):
        received = b""
        while data := stream.recv(65536):
            received += data
        stream.sendall(received[::-1] * 2)

    sent = os.urandom(300_000)
    with serving(tmp_path, handle) as address:
        out, errors = dial(address).communicate(sent, timeout=20)
    assert out == sent[::-1] * 2
    assert errors == b""


def test_dial_stdio_ends_with_the_connection_while_input_stays_open(tmp_path, dial):
    with serving(tmp_path, lambda stream: stream.sendall(b"bye")) as address:
        process = dial(address)
        assert process.stdout.read() == b"bye"
        assert process.wait(10) == 0
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


@pytest.mark.parametrize("address", ["foo", "tcp://127.0.0.1:1", "unix:///nowhere.sock", "ssh://x", "unix://"])
def test_dial_stdio_refuses_with_the_same_words(services, address):
    said = []
    for program in ((services.buildctl,), OURS):
        command = [*program, "--addr", address, "dial-stdio"]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20, check=False
        )
        said.append((done.returncode, done.stdout, done.stderr))
    assert said[0] == said[1]
    assert said[0][0] == 1


def test_the_stand_ins_log_is_read_right(stand_ins):
    """A test of the tests: a stand-in that is called wrongly shows."""
    subprocess.run([stand_ins.folder / "docker", "a b", "buildctl", "--version"], capture_output=True, check=True)
    assert stand_ins.calls == [["docker", "a b", "buildctl", "--version"]]
