"""The ``SSH`` service: processes of a build talk to an SSH agent of ours.

Each connection that a process makes to its agent socket is one call, whose bytes are the agent protocol. Unless an
agent is given as raw, only requests to list keys and to sign pass; others are answered with a failure, so that a build
can use keys but neither add, remove nor lock them. Behind an id stands the socket of an agent, or an agent in this
process with keys from files.

Reference: session/sshforward/ssh.go; session/sshforward/sshprovider/agentprovider.go; draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import socket
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_client._proto import ssh_pb2
from buildkit_client.errors import BuildKitError, OptionError, SshAgentError
from buildkit_client.options.secrets import SshAgent, SshKeys
from buildkit_client.protocol.grpc_framing import encode_message
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import CallCancelledError, RpcError
from buildkit_client.session.ssh_agent import FAILURE, REQUEST_IDENTITIES, SIGN_REQUEST, KeyAgent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from buildkit_client.options.secrets import SshSource
    from buildkit_client.session.call import Metadata, ServerCall, StreamHandler, UnaryHandler

CHECK_AGENT = "/moby.sshforward.v1.SSH/CheckAgent"
FORWARD_AGENT = "/moby.sshforward.v1.SSH/ForwardAgent"
KEY_SSH_ID = "buildkit.ssh.id"  # session/sshforward/ssh.go, KeySSHID
DEFAULT_ID = "default"

_CHUNK_BYTES = 32 << 10
_CONNECT_TIMEOUT_S = 10.0
_MAX_REQUEST_BYTES = 256 << 10  # as OpenSSH's agent has it

_ALLOWED = frozenset((REQUEST_IDENTITIES, SIGN_REQUEST))


def ssh_source(paths: Sequence[Path], *, raw: bool = False) -> SshSource:
    """Return what some paths mean: one agent's socket, or files of keys.

    Args:
        paths: One socket, or one or more files; not both.
        raw: Pass every request on; only for a socket.

    Raises:
        OptionError: There is no path, or the paths do not go together.
        SshAgentError: A path cannot be looked at.

    Reference: session/sshforward/sshprovider/agentprovider.go, toDialer.
    """
    try:
        sockets = [path for path in paths if stat.S_ISSOCK(path.stat().st_mode)]
    except OSError as exc:
        raise SshAgentError(
            f"cannot use the SSH agent or key {exc.filename}",
            why=exc.strerror or type(exc).__name__,
            hint="name an agent's socket, or files of private keys",
        ) from exc
    if not sockets and not raw:
        return SshKeys(tuple(paths))
    if len(sockets) > 1:
        raise OptionError("only single socket allowed", why="several SSH agents cannot share one id")
    if not sockets:
        raise OptionError("raw mode only supported with socket paths", hint="leave out raw, or name an agent's socket")
    if len(paths) > 1:
        raise OptionError("invalid combination of keys and sockets", hint="give keys and agents ids of their own")
    return SshAgent(sockets[0], raw=raw)


class SshService:
    """Connects processes of a build with agents.

    Args:
        agents: Agent or keys by id; ``default`` is what a mount without an id means.
    """

    def __init__(self, agents: Mapping[str, SshSource]) -> None:
        self._agents = {agent_id or DEFAULT_ID: agent for agent_id, agent in agents.items()}
        self._lock = threading.Lock()
        self._key_agents: dict[str, KeyAgent] = {}
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Agents that could not be reached and keys that could not be read, in order."""
        return tuple(self._errors)

    def check(self) -> None:
        """Find out, before the build runs, whether every agent answers, and read the keys.

        Raises:
            SshAgentError: An agent does not answer, or a key cannot be used.
        """
        for agent_id, agent in self._agents.items():
            match agent:
                case SshAgent():
                    _connect(agent_id, agent).close()
                case SshKeys():
                    self._key_agent(agent_id, agent)

    def unary_methods(self) -> Mapping[str, UnaryHandler]:
        """Return the handler of ``CheckAgent``."""
        return {CHECK_AGENT: self._check_agent}

    def streaming_methods(self) -> Mapping[str, StreamHandler]:
        """Return the handler of ``ForwardAgent``."""
        return {FORWARD_AGENT: self._forward}

    def _check_agent(self, data: bytes, _metadata: Metadata) -> bytes:
        self._agent(ssh_pb2.CheckAgentRequest.FromString(data).ID)
        return ssh_pb2.CheckAgentResponse().SerializeToString()

    def _agent(self, agent_id: str) -> tuple[str, SshSource]:
        agent = self._agents.get(agent_id or DEFAULT_ID)
        if agent is None:
            raise RpcError(StatusCode.NOT_FOUND, f"unset ssh forward key {agent_id or DEFAULT_ID}")
        return agent_id or DEFAULT_ID, agent

    def _forward(self, call: ServerCall) -> None:
        agent_id, agent = self._agent(next(iter(call.metadata.get(KEY_SSH_ID, ())), ""))
        try:
            match agent:
                case SshKeys():
                    _answer(call, self._key_agent(agent_id, agent).answer)
                case SshAgent():
                    with _connect(agent_id, agent) as stream:
                        if agent.raw:
                            _pass_all(call, stream)
                        else:
                            _answer(call, lambda request: _ask(stream, request))
        except SshAgentError as exc:
            self._errors.append(exc)
            raise RpcError(StatusCode.UNAVAILABLE, f"{exc}: {exc.why}") from exc

    def _key_agent(self, agent_id: str, keys: SshKeys) -> KeyAgent:
        """Return the agent that has these keys; they are read once."""
        with self._lock:
            if agent_id not in self._key_agents:
                self._key_agents[agent_id] = KeyAgent(keys.paths)
            return self._key_agents[agent_id]


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


def _answer(call: ServerCall, ask: Callable[[bytes], bytes]) -> None:
    """Answer requests one by one; those that are not allowed get a failure, and the agent never sees them."""
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
            _send(call, ask(request) if request[4] in _ALLOWED else FAILURE)


def _ask(stream: socket.socket, request: bytes) -> bytes:
    """Send one request to the agent and return its whole answer."""
    try:
        stream.sendall(request)
        head = _read_exactly(stream, 4)
        return head + _read_exactly(stream, int.from_bytes(head, "big"))
    except OSError as exc:
        raise SshAgentError("the SSH agent does not answer", why=exc.strerror or str(exc)) from exc


def _read_exactly(stream: socket.socket, size: int) -> bytes:
    if size > _MAX_REQUEST_BYTES:
        raise SshAgentError("the SSH agent does not answer", why=f"it announces an answer of {size} bytes")
    data = b""
    while len(data) < size:
        chunk = stream.recv(size - len(data))
        if not chunk:
            raise SshAgentError("the SSH agent does not answer", why="it ended the connection")
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
