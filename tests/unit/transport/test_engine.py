"""A Docker Engine's API: where it is, upgrades, refusals, a process's streams; against stand-ins on real sockets."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest

from buildkit_client import Client
from buildkit_client.errors import ConnectError, OptionError
from buildkit_client.transport import carriers, engine_http
from buildkit_client.transport.address import parse_address
from buildkit_client.transport.carriers import EngineCarrier, ExecCarrier, carrier_for
from buildkit_client.transport.engine import DEFAULT_SOCKET, Engine
from buildkit_client.transport.process import CommandCarrier
from buildkit_client.transport.relay import CarrierError
from buildkit_client.transport.tls import TlsConfig
from tests.support.certificates import Authority

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


class StandIn:
    """Listens like an engine; each connection's head and body are recorded, then a function answers."""

    def __init__(self, listener, *answers, context=None):
        self.requests = []
        self._listener = listener
        self._answers = list(answers)
        self._context = context
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        for answer in self._answers:
            stream, _ = self._listener.accept()
            with suppress(OSError), stream:
                stream.settimeout(5)
                if self._context is not None:
                    stream = self._context.wrap_socket(stream, server_side=True)
                with stream:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += stream.recv(1024)
                    head, _, body = head.partition(b"\r\n\r\n")
                    lines = head.decode().split("\r\n")
                    fields = dict(line.split(": ", 1) for line in lines[1:])
                    while len(body) < int(fields["Content-Length"]):
                        body += stream.recv(1024)
                    self.requests.append((lines[0], fields, body))
                    if callable(answer):
                        answer(stream)
                    else:
                        stream.sendall(answer)

    def close(self):
        self._thread.join(5)
        self._listener.close()
        assert not self._thread.is_alive()


@contextmanager
def standing_in(tmp_path, *answers):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "docker.sock"))
    listener.listen()
    listener.settimeout(5)
    server = StandIn(listener, *answers)
    try:
        yield server, Engine(path=str(tmp_path / "docker.sock"))
    finally:
        server.close()


@contextmanager
def carried(carrier):
    """Run a carrier; yields our end, and the failure once the block is over."""
    near, far = socket.socketpair()
    near.settimeout(5)
    failures = []

    def run():
        try:
            carrier.carry(far)
        except CarrierError as exc:
            failures.append(exc.failure)
        finally:
            far.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with near:
        yield near, failures
        thread.join(5)
        assert not thread.is_alive()


def read_all(stream):
    data = b""
    while chunk := stream.recv(65536):
        data += chunk
    return data


def echo(stream):
    while data := stream.recv(65536):
        stream.sendall(data)


def test_the_request_and_bytes_that_come_with_the_answer(tmp_path):
    def answer(stream):
        for byte in UPGRADED:
            stream.sendall(bytes((byte,)))
        stream.sendall(b"first")
        echo(stream)

    for reply in (answer, lambda stream: (stream.sendall(UPGRADED + b"first"), echo(stream))):
        with standing_in(tmp_path, reply) as (server, found):
            with carried(EngineCarrier(found)) as (near, failures):
                assert near.recv(5) == b"first"
                near.sendall(b"x" * 500_000)
                received = b""
                while len(received) < 500_000:
                    received += near.recv(65536)
                near.close()
            assert failures == [], "it was our side that ended"
            ((line, fields, body),) = server.requests
            assert (line, body) == ("POST /grpc HTTP/1.1", b"")
            assert (fields["Connection"], fields["Upgrade"], fields["Host"]) == ("Upgrade", "h2c", "docker")
        (tmp_path / "docker.sock").unlink()


def test_an_engine_that_goes_away_is_told(tmp_path):
    with standing_in(tmp_path, UPGRADED) as (_, found):
        with carried(EngineCarrier(found)) as (near, failures):
            assert near.recv(1) == b""
        assert failures[0].why == f"the Docker Engine at {tmp_path}/docker.sock closed the connection"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            b'HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n{"message":"page not\\u001b found"}\n',
            "answered 404 to /grpc: page not  found",
        ),
        (
            b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n4;x=y\r\nness\r\n0\r\n\r\n",
            "answered 500 to /grpc: badness",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered 200 to /grpc"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nno", "answered 403 to /grpc: no"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no Docker Engine answers there: b'SSH-2.0-OpenSSH_9.2"),
        (b"HTTP/1.1 x y\r\nContent-Length: z\r\n\r\n", "answered 0 to /grpc"),
        (b"HTTP/1.1 %s y\r\nContent-Length: 0\r\n\r\n" % (b"9" * 5000), "answered 0 to /grpc"),
        (b"HTTP/1.1 500 y\r\nContent-Length: %s\r\n\r\nno" % (b"9" * 5000), "answered 500 to /grpc: no"),
        (b"HTTP/1.1 500 y\r\n\r\n" + b"[" * 200_000, "answered 500 to /grpc: [["),
        (b"HTTP/1.1 200", "it closed the connection"),
        (b"", "it closed the connection"),
    ],
)
def test_every_other_answer_is_a_refusal(tmp_path, answer, why):
    with standing_in(tmp_path, answer) as (_, found):
        with carried(EngineCarrier(found)) as (near, failures):
            assert near.recv(1) == b""
        assert why in failures[0].why
        assert failures[0].phase == "handshake"


def test_an_engine_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_http, "_ANSWER_TIMEOUT_S", 0.2)
    release = threading.Event()
    with standing_in(tmp_path, lambda stream: release.wait(5)) as (_, found):
        with carried(EngineCarrier(found)) as (near, failures):
            assert near.recv(1) == b""
            release.set()
        assert "does not answer" in failures[0].why


def test_a_head_without_end_is_given_up(tmp_path):
    def flood(stream):
        with suppress(OSError):
            while True:
                stream.sendall(b"HTTP/1.1 200 OK\r\nx: y" * 1000)

    with standing_in(tmp_path, flood) as (_, found), carried(EngineCarrier(found)) as (near, failures):
        assert near.recv(1) == b""
    assert "no Docker Engine" in failures[0].why


def test_no_engine_at_the_socket(tmp_path):
    with Client(f"docker://{tmp_path}/none.sock") as client, pytest.raises(ConnectError) as caught:
        client.info()
    error = caught.value
    assert (error.phase, error.why) == (
        "connect", f"no Docker Engine answers at {tmp_path}/none.sock: No such file or directory",
    )  # fmt: skip
    assert "DOCKER_HOST" in error.hint


# -- where the engine is


@pytest.mark.parametrize(
    ("address", "host", "expected"),
    [
        ("docker://", "", (DEFAULT_SOCKET, "", 0)),
        ("docker://", "unix:///run/user/1000/docker.sock", ("/run/user/1000/docker.sock", "", 0)),
        ("docker://", "tcp://engine:1234/", ("", "engine", 1234)),
        ("docker://", "tcp://engine", ("", "engine", 2375)),
        ("docker://", "tcp://[::1]", ("", "::1", 2375)),
        ("docker:///x.sock", "tcp://engine:1234", ("/x.sock", "", 0)),
        ("docker://other:99", "unix:///x", ("", "other", 99)),
    ],
)
def test_finding_the_engine(address, host, expected):
    found = Engine.find(parse_address(address), {"DOCKER_HOST": host} if host else {})
    assert (found.path, found.host, found.port) == expected
    assert found.tls is None


@pytest.mark.parametrize("host", ["ssh://me@host", "engine:2375", "tcp://:1", "tcp://a:b", "unix://", "fd://"])
def test_a_docker_host_of_no_use_is_told(host, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", host)
    if host == "unix://":
        Client("docker://").close()
        return
    with pytest.raises(ConnectError, match="DOCKER_HOST") as caught:
        Client("docker://")
    assert caught.value.phase == "address"
    assert "docker:///var/run/docker.sock" in caught.value.hint


def test_tls_files_for_a_unix_socket_are_refused(tmp_path):
    with pytest.raises(OptionError, match="Unix socket"):
        Client("docker:///x.sock", tls=TlsConfig(ca=tmp_path / "ca.pem"))


def test_a_container_is_reached_by_docker_or_without_it(monkeypatch):
    there = {"docker"}
    monkeypatch.setattr(carriers.shutil, "which", lambda name: name if name in there else None)
    assert isinstance(carrier_for(parse_address("docker-container://x"), {}, None), CommandCarrier)
    there.clear()
    assert isinstance(carrier_for(parse_address("docker-container://x"), {}, None), ExecCarrier)
    assert isinstance(carrier_for(parse_address("docker-container://x?context=y"), {}, None), CommandCarrier)
    assert isinstance(carrier_for(parse_address("podman-container://x"), {}, None), CommandCarrier)


# -- TLS


@pytest.fixture
def pki(tmp_path):
    """A CA, and a folder with a client's files as DOCKER_CERT_PATH has them."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("client")
    folder = tmp_path / "certs"
    folder.mkdir()
    for name, path in (("ca.pem", authority.path), ("cert.pem", cert), ("key.pem", key)):
        (folder / name).write_bytes(path.read_bytes())
    return authority, folder


@contextmanager
def tls_engine(authority, *answers):
    cert, key = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        server = StandIn(listener, *answers, context=context)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()


def test_an_engine_behind_tls_both_ways_at_once(pki):
    """Much data in both directions: reading must not wait for writing, nor the other way round."""
    authority, folder = pki
    size = 8_000_000

    def flood(stream):
        stream.sendall(UPGRADED)
        sender = threading.Thread(target=stream.sendall, args=(b"d" * size,))
        received = 0
        sender.start()
        while received < size:
            received += len(stream.recv(65536))
        sender.join()

    with tls_engine(authority, flood) as port:
        environ = {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
        found = Engine.find(parse_address("docker://"), environ)
        assert "BEGIN" not in repr(found)
        with carried(EngineCarrier(found)) as (near, _):
            sender = threading.Thread(target=near.sendall, args=(b"u" * size,))
            sender.start()
            assert len(read_all(near)) == size
            sender.join()


def test_tls_files_of_the_caller_and_the_default_port(pki):
    _, folder = pki
    found = Engine.find(parse_address("docker://"), {"DOCKER_HOST": "tcp://h"}, TlsConfig.from_directory(folder))
    assert (found.port, found.server_name) == (2376, "h")
    assert found.tls is not None


def test_a_certificate_of_somebody_else_is_told(pki, tmp_path):
    _, folder = pki
    (tmp_path / "other").mkdir()
    with tls_engine(Authority(tmp_path / "other"), b"") as port:
        found = Engine.find(parse_address(f"docker://127.0.0.1:{port}"), {}, TlsConfig.from_directory(folder))
        with pytest.raises(CarrierError) as caught:
            found.connect()
        assert caught.value.failure.phase == "tls"
        # The stand-in waits for one connection that works.
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(b"x")


# -- a process in a container


def frame(stream, data):
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4) + data


def made(stream):
    body = json.dumps({"Id": "abc123"}).encode()
    stream.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def started(*pieces):
    def answer(stream):
        stream.sendall(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n")
        for piece in pieces:
            stream.sendall(piece)

    return answer


def test_frames_cut_anywhere_give_the_processes_output(tmp_path):
    wire = frame(1, b"\0hello") + frame(2, b"noise\n") + frame(1, b"") + frame(1, b" world") + frame(2, b"last words")
    for size in (1, 3, 8, 11, len(wire)):
        pieces = [wire[start : start + size] for start in range(0, len(wire), size)]
        with standing_in(tmp_path, made, started(*pieces)) as (server, found):
            with carried(ExecCarrier(found, "box")) as (near, failures):
                assert read_all(near) == b"\0hello world"
            assert failures[0].why == "`buildctl dial-stdio` in the container box ended: noise; last words"
            create, start = server.requests
            assert create[0] == "POST /containers/box/exec HTTP/1.1"
            assert json.loads(create[2])["Cmd"] == ["buildctl", "dial-stdio"]
            assert start[0] == "POST /exec/abc123/start HTTP/1.1"
            assert json.loads(start[2]) == {"Detach": False, "Tty": False}
            assert start[1]["Upgrade"] == "tcp"
        (tmp_path / "docker.sock").unlink()


def test_plain_text_where_frames_should_be_is_the_reason(tmp_path):
    text = b'OCI runtime exec failed: exec: "buildctl": executable file not found in $PATH: unknown\r\n'
    for said in (text, frame(1, text)):
        with standing_in(tmp_path, made, started(said)) as (_, found):
            with carried(ExecCarrier(found, "box")) as (near, failures):
                assert read_all(near) == b""
            assert failures[0].why.endswith('"buildctl": executable file not found in $PATH: unknown')
        (tmp_path / "docker.sock").unlink()


@pytest.mark.parametrize("answer", [b"[]", b"{", b"[" * 200_000, b'{"Id": 7}', b'{"Id": "../x"}'])
def test_an_id_that_is_none_is_refused(tmp_path, answer):
    head = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(answer)
    with standing_in(tmp_path, head + answer) as (_, found):
        with carried(ExecCarrier(found, "box")) as (near, failures):
            assert near.recv(1) == b""
        assert failures[0].phase == "handshake"


def test_a_container_that_is_not_there(tmp_path):
    answer = b'HTTP/1.1 404 Not Found\r\nContent-Length: 38\r\n\r\n{"message":"No such container: \\"box\\""}'
    with standing_in(tmp_path, answer) as (_, found):
        with carried(ExecCarrier(found, "box")) as (near, failures):
            assert near.recv(1) == b""
        assert "answered 404 to /containers/box/exec" in failures[0].why


def test_a_host_that_no_name_can_have():
    for host in ("\u00fc" * 60, "a" * 70):
        with pytest.raises(CarrierError) as caught:
            Engine(host=host, port=2375).connect()
        assert caught.value.failure.phase == "resolve"
