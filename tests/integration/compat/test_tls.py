"""TLS that does not name HTTP/2, as buildkitd's before 0.17: the gRPC library refuses it, so we speak it ourselves."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing, suppress

import pytest

from buildkit_client import Client, ConnectError
from buildkit_client.options import DockerfileFrontend, DockerfileText, ImageExporter
from buildkit_client.transport.tls import TlsConfig
from tests.support.certificates import Authority


class Terminator:
    """Takes TLS connections that demand a client certificate, and hands their bytes to the daemon's socket."""

    def __init__(self, authority: Authority, target: str) -> None:
        certificate, key = authority.issue("server")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._context.load_verify_locations(authority.path)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with suppress(OSError), stream, self._context.wrap_socket(stream, server_side=True) as tls:
            assert tls.selected_alpn_protocol() is None
            with socket.socket(socket.AF_UNIX) as daemon:
                daemon.connect(self._target)
                tls.settimeout(0.01)  # one thread may use it at a time, so it never waits for long
                daemon.settimeout(0.01)
                while self._copy(tls, daemon) and self._copy(daemon, tls):
                    pass

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> bool:
        try:
            data = source.recv(1 << 16)
        except TimeoutError:
            return True
        if data:
            target.settimeout(10)
            target.sendall(data)
            target.settimeout(0.01)
        return bool(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.fixture
def terminator(services, tmp_path):
    if not services.buildkit_host.startswith("unix://"):
        pytest.skip("the daemon in use has no Unix socket to hand bytes to")
    authority = Authority(tmp_path)
    with closing(Terminator(authority, services.buildkit_host.removeprefix("unix://"))) as server:
        certificate, key = authority.issue("client")
        yield server, TlsConfig(ca=authority.path, cert=certificate, key=key)


def test_a_build_goes_through(terminator, services):
    server, tls = terminator
    with Client(server.address, tls=tls) as client:
        assert client.info().version == services.buildkit_version()
        text = DockerfileText("FROM scratch\nLABEL through=tls\n")
        assert client.solve(DockerfileFrontend(context=text), exporters=[ImageExporter()]).digest


def test_certificates_are_checked_as_ever(terminator, tmp_path):
    server, tls = terminator
    (tmp_path / "other").mkdir()
    strangers = Authority(tmp_path / "other")
    for wrong in (
        TlsConfig(ca=strangers.path, cert=tls.cert, key=tls.key),
        TlsConfig(ca=tls.ca, cert=tls.cert, key=tls.key, server_name="other.example.com"),
        TlsConfig(ca=tls.ca),
    ):
        with Client(server.address, tls=wrong) as client, pytest.raises(ConnectError) as caught:
            client.info()
        assert caught.value.phase in ("tls", "handshake", "connect")
