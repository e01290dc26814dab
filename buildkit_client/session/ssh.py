"""The ``SSH`` service: processes of a build talk to an SSH agent of ours.

Each connection that a process makes to its agent socket is one call, whose bytes are the agent protocol. Unless an
agent is given as raw, only requests to list keys and to sign pass; others are answered with a failure, so that a build
can use keys but neither add, remove nor lock them.

Reference: session/sshforward/ssh.go; session/sshforward/sshprovider/agentprovider.go; draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_client._proto import ssh_pb2
from buildkit_client.errors import BuildKitError, SshAgentError
from buildkit_client.protocol.grpc_framing import encode_message
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import CallCancelledError, RpcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.options.secrets import SshAgent
    from buildkit_client.session.call import Metadata, ServerCall, StreamHandler, UnaryHandler

CHECK_AGENT = "/moby.sshforward.v1.SSH/CheckAgent"
FORWARD_AGENT = "/moby.sshforward.v1.SSH/ForwardAgent"
KEY_SSH_ID = "buildkit.ssh.id"  # session/sshforward/ssh.go, KeySSHID
DEFAULT_ID = "default"

_CHUNK_BYTES = 32 << 10
_CONNECT_TIMEOUT_S = 10.0
_MAX_REQUEST_BYTES = 256 << 10  # as OpenSSH's agent has it

# draft-ietf-sshm-ssh-agent, 8.1
_FAILURE = struct.pack(">IB", 1, 5)
_REQUEST_IDENTITIES = 11
_SIGN_REQUEST = 13
_ALLOWED = frozenset((_REQUEST_IDENTITIES, _SIGN_REQUEST))


class SshService:
    """Connects processes of a build with agents.

    Args:
        agents: Agent by id; ``default`` is what a mount without an id means.
    """

    def __init__(self, agents: Mapping[str, SshAgent]) -> None:
        self._agents = {agent_id or DEFAULT_ID: agent for agent_id, agent in agents.items()}
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Agents that could not be reached, in order."""
        return tuple(self._errors)

    def check(self) -> None:
        """Find out, before the build runs, whether every agent answers.

        Raises:
            SshAgentError: One does not.
        """
        for agent_id, agent in self._agents.items():
            _connect(agent_id, agent).close()

    def unary_methods(self) -> Mapping[str, UnaryHandler]:
        """Return the handler of ``CheckAgent``."""
        return {CHECK_AGENT: self._check_agent}

    def streaming_methods(self) -> Mapping[str, StreamHandler]:
        """Return the handler of ``ForwardAgent``."""
        return {FORWARD_AGENT: self._forward}

    def _check_agent(self, data: bytes, _metadata: Metadata) -> bytes:
        self._agent(ssh_pb2.CheckAgentRequest.FromString(data).ID)
        return ssh_pb2.CheckAgentResponse().SerializeToString()

    def _agent(self, agent_id: str) -> tuple[str, SshAgent]:
        agent = self._agents.get(agent_id or DEFAULT_ID)
        if agent is None:
            raise RpcError(StatusCode.NOT_FOUND, f"unset ssh forward key {agent_id or DEFAULT_ID}")
        return agent_id or DEFAULT_ID, agent

    def _forward(self, call: ServerCall) -> None:
        agent_id, agent = self._agent(next(iter(call.metadata.get(KEY_SSH_ID, ())), ""))
        try:
            stream = _connect(agent_id, agent)
        except SshAgentError as exc:
            self._errors.append(exc)
            raise RpcError(StatusCode.UNAVAILABLE, str(exc)) from exc
        with stream:
            if agent.raw:
                _pass_all(call, stream)
            else:
                _pass_allowed(call, stream)


def _connect(agent_id: str, agent: SshAgent) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(_CONNECT_TIMEOUT_S)
    try:
        stream.connect(str(agent.socket_path))
    except OSError as exc:
        stream.close()
        raise SshAgentError(
            f"cannot reach the SSH agent {agent_id!r}",
            why=f"{agent.socket_path}: {exc.strerror or exc}",
            hint="start ssh-agent, add a key, and check SSH_AUTH_SOCK",
        ) from exc
    stream.settimeout(None)
    return stream


def _pass_allowed(call: ServerCall, stream: socket.socket) -> None:
    """Pass requests one by one, each with its answer, those that are not allowed with a failure."""
    buffer = b""
    while (message := call.receive()) is not None:
        buffer += ssh_pb2.BytesMessage.FromString(message).data
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if not 1 <= size <= _MAX_REQUEST_BYTES:
                raise RpcError(StatusCode.INVALID_ARGUMENT, f"a request of {size} bytes to the SSH agent")
            if len(buffer) < 4 + size:
                break
            request, buffer = buffer[: 4 + size], buffer[4 + size :]
            answer = _ask(stream, request) if request[4] in _ALLOWED else _FAILURE
            _send(call, answer)


def _ask(stream: socket.socket, request: bytes) -> bytes:
    """Send one request to the agent and return its whole answer."""
    try:
        stream.sendall(request)
        head = _read_exactly(stream, 4)
        return head + _read_exactly(stream, int.from_bytes(head, "big"))
    except OSError as exc:
        raise RpcError(StatusCode.UNAVAILABLE, f"the SSH agent does not answer: {exc.strerror or exc}") from exc


def _read_exactly(stream: socket.socket, size: int) -> bytes:
    if size > _MAX_REQUEST_BYTES:
        raise RpcError(StatusCode.INTERNAL, f"the SSH agent announces an answer of {size} bytes")
    data = b""
    while len(data) < size:
        chunk = stream.recv(size - len(data))
        if not chunk:
            raise RpcError(StatusCode.UNAVAILABLE, "the SSH agent ended the connection")
        data += chunk
    return data


def _pass_all(call: ServerCall, stream: socket.socket) -> None:
    """Pass bytes both ways until the agent closes; a half-close is passed on."""

    def to_agent() -> None:
        with suppress(OSError, CallCancelledError):
            try:
                while (message := call.receive()) is not None:
                    stream.sendall(ssh_pb2.BytesMessage.FromString(message).data)
                stream.shutdown(socket.SHUT_WR)
            except CallCancelledError:
                stream.shutdown(socket.SHUT_RDWR)

    sender = threading.Thread(target=to_agent, name="ssh-to-agent", daemon=True)
    sender.start()
    try:
        while chunk := stream.recv(_CHUNK_BYTES):
            _send(call, chunk)
    except OSError as exc:
        raise RpcError(StatusCode.UNAVAILABLE, f"the SSH agent broke off: {exc.strerror or exc}") from exc


def _send(call: ServerCall, data: bytes) -> None:
    for start in range(0, len(data), _CHUNK_BYTES):
        piece = data[start : start + _CHUNK_BYTES]
        call.write(encode_message(ssh_pb2.BytesMessage(data=piece).SerializeToString()))
