"""Forwarding an agent: what passes, what is refused, what happens when an end goes away."""

import os
import shutil
import socket
import struct
import subprocess
import threading

import pytest

from buildkit_client._proto import ssh_pb2
from buildkit_client.errors import OptionError, SshAgentError
from buildkit_client.options.secrets import SshAgent
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError
from buildkit_client.session.session import Session
from buildkit_client.session.ssh import CHECK_AGENT, FORWARD_AGENT, SshService
from tests.support.session_peer import FakeDaemon

LIST_KEYS = struct.pack(">IB", 1, 11)
REMOVE_ALL = struct.pack(">IB", 1, 19)
FAILURE = struct.pack(">IB", 1, 5)


class EchoAgent:
    """Answers every request with its own bytes and keeps what it got."""

    def __init__(self, path):
        self.path = path
        self.requests = []
        self.half_closed = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                stream, _ = self._server.accept()
            except OSError:
                return
            self._stream = stream
            with stream:
                while data := stream.recv(65536):
                    self.requests.append(data)
                    stream.sendall(data)
                self.half_closed.set()

    def hang_up(self):
        self._stream.shutdown(socket.SHUT_RDWR)
        assert self.half_closed.wait(5)

    def close(self):
        self._server.close()


@pytest.fixture
def agent(tmp_path):
    agent = EchoAgent(tmp_path / "agent.sock")
    yield agent
    agent.close()


def session_with(daemon, agents):
    service = SshService(agents)
    session = Session(daemon.open_stream, unary=service.unary_methods(), streaming=service.streaming_methods())
    return session.start(), service


def ask(daemon, stream_id, data):
    daemon.send_message(stream_id, ssh_pb2.BytesMessage(data=data).SerializeToString())
    return ssh_pb2.BytesMessage.FromString(daemon.call_of(stream_id).messages.get(timeout=5)).data


@pytest.mark.parametrize(("asked", "known"), [("", True), ("default", True), ("other", True), ("none", False)])
def test_check_agent(agent, asked, known):
    daemon = FakeDaemon()
    session, _ = session_with(daemon, {"default": SshAgent(agent.path), "other": SshAgent(agent.path)})
    with session:
        call = daemon.unary(CHECK_AGENT, ssh_pb2.CheckAgentRequest(ID=asked).SerializeToString())
        assert (call.status == 0) is known


def test_listing_and_signing_pass_and_others_get_a_failure(agent):
    daemon = FakeDaemon()
    session, _ = session_with(daemon, {"": SshAgent(agent.path)})
    with session:
        stream_id = daemon.start_call(FORWARD_AGENT, (("buildkit.ssh.id", "default"),))
        assert ask(daemon, stream_id, LIST_KEYS) == LIST_KEYS
        assert ask(daemon, stream_id, REMOVE_ALL) == FAILURE
        sign = struct.pack(">IB", 3, 13) + b"xy"
        daemon.send_message(stream_id, ssh_pb2.BytesMessage(data=sign[:2]).SerializeToString())
        assert ask(daemon, stream_id, sign[2:]) == sign
        daemon.end(stream_id)
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == 0
    assert agent.requests == [LIST_KEYS, sign]


def test_raw_passes_everything_and_half_closes(agent):
    daemon = FakeDaemon()
    session, _ = session_with(daemon, {"default": SshAgent(agent.path, raw=True)})
    with session:
        stream_id = daemon.start_call(FORWARD_AGENT)
        assert ask(daemon, stream_id, REMOVE_ALL) == REMOVE_ALL
        daemon.end(stream_id)
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == 0
    assert agent.half_closed.wait(5)


def test_a_reset_lets_go_of_the_agent(agent):
    daemon = FakeDaemon()
    session, _ = session_with(daemon, {"default": SshAgent(agent.path, raw=True)})
    with session:
        stream_id = daemon.start_call(FORWARD_AGENT)
        ask(daemon, stream_id, LIST_KEYS)
        daemon.reset(stream_id)
        assert agent.half_closed.wait(5)


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_request_without_sense_ends_the_call(agent, size):
    daemon = FakeDaemon()
    session, _ = session_with(daemon, {"default": SshAgent(agent.path)})
    with session:
        stream_id = daemon.start_call(FORWARD_AGENT)
        daemon.send_message(stream_id, ssh_pb2.BytesMessage(data=struct.pack(">I", size)).SerializeToString())
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == StatusCode.INVALID_ARGUMENT


def test_an_agent_that_is_gone_is_told_early_and_late(tmp_path):
    service = SshService({"default": SshAgent(tmp_path / "none.sock")})
    with pytest.raises(SshAgentError, match="'default'") as caught:
        service.check()
    assert "SSH_AUTH_SOCK" in caught.value.hint
    daemon = FakeDaemon()
    with Session(daemon.open_stream, streaming=service.streaming_methods()):
        stream_id = daemon.start_call(FORWARD_AGENT)
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == StatusCode.UNAVAILABLE
    assert len(service.errors) == 1


def test_an_unknown_id_is_not_found():
    with pytest.raises(RpcError) as caught:
        SshService({})._agent("x")
    assert caught.value.code == StatusCode.NOT_FOUND


def test_an_empty_path_is_refused():
    with pytest.raises(OptionError, match="socket"):
        SshAgent("")


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs OpenSSH's agent")
def test_a_real_agent_lists_its_keys_and_keeps_them(tmp_path):
    path = tmp_path / "real.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if path.exists():
                break
            threading.Event().wait(0.05)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
        environ = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        subprocess.run(["ssh-add", "-q", tmp_path / "key"], check=True, env=environ)
        daemon = FakeDaemon()
        session, _ = session_with(daemon, {"default": SshAgent(path)})
        with session:
            stream_id = daemon.start_call(FORWARD_AGENT)
            answer = ask(daemon, stream_id, LIST_KEYS)
            assert answer[4] == 12
            assert int.from_bytes(answer[5:9], "big") == 1
            assert ask(daemon, stream_id, REMOVE_ALL) == FAILURE
            assert int.from_bytes(ask(daemon, stream_id, LIST_KEYS)[5:9], "big") == 1
    finally:
        process.terminate()
        process.wait()


def test_an_agent_that_goes_away_in_the_middle_is_kept(agent):
    daemon = FakeDaemon()
    session, service = session_with(daemon, {"default": SshAgent(agent.path)})
    with session:
        stream_id = daemon.start_call(FORWARD_AGENT)
        assert ask(daemon, stream_id, LIST_KEYS) == LIST_KEYS
        agent.hang_up()
        daemon.send_message(stream_id, ssh_pb2.BytesMessage(data=LIST_KEYS).SerializeToString())
        assert daemon.call_of(stream_id).done.wait(5)
        assert daemon.call_of(stream_id).status == StatusCode.UNAVAILABLE
    (error,) = service.errors
    assert isinstance(error, SshAgentError)
    assert str(error) == "the SSH agent does not answer"
    assert error.why
