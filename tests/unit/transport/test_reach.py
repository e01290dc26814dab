"""Every way a daemon can be out of reach ends in a distinct error that names phase, cause and what to try."""

import contextlib
import os
import socket
import ssl
import threading
import time

import pytest

from buildkit_client import Client
from buildkit_client.errors import ConnectError, OptionError
from buildkit_client.transport.tls import TlsConfig
from tests.support.certificates import Authority


@contextlib.contextmanager
def listening(handle, *, context=None):
    """Accept connections on a port and give each to ``handle``; yields the port."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            try:
                stream, _ = server.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), stream:
                stream.settimeout(1)
                if context is not None:
                    with context.wrap_socket(stream, server_side=True) as wrapped:
                        handle(wrapped)
                else:
                    handle(stream)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        stop.set()
        server.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
        server.close()
        thread.join(5)


def reach_error(address, tls=None, timeout_s=1.5):
    with Client(address, tls=tls, connect_timeout_s=timeout_s) as client, pytest.raises(ConnectError) as caught:
        client.list_workers()
    assert address in str(caught.value)
    assert caught.value.address == address
    assert caught.value.hint
    return caught.value


def http_answer(stream):
    stream.recv(1024)
    stream.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def read_all(stream):
    while stream.recv(1024):
        pass


def test_no_socket(tmp_path):
    error = reach_error(f"unix://{tmp_path}/none.sock")
    assert (error.phase, "there is no socket" in error.why) == ("connect", True)


def test_socket_nobody_listens_on(tmp_path):
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(path))
    error = reach_error(f"unix://{path}")
    assert "refused" in error.why
    assert "start buildkitd again" in error.hint


def test_path_that_is_no_socket(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is not a socket" in reach_error(f"unix://{tmp_path}/file").why


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_socket_without_permission(tmp_path):
    path = tmp_path / "private.sock"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(path))
        stream.listen()
        path.chmod(0o600)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o1 == 0:
                folder.chmod(folder.stat().st_mode | 0o755)
        os.seteuid(65534)
        try:
            error = reach_error(f"unix://{path}")
        finally:
            os.seteuid(0)
    assert "permission denied" in error.why
    assert "0600" in error.why


def test_port_nobody_listens_on():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = reach_error(f"tcp://127.0.0.1:{port}")
    assert (error.phase, "refused" in error.why) == ("connect", True)


def test_host_that_does_not_exist():
    error = reach_error("tcp://no-such-host.invalid:1234")
    assert (error.phase, "no-such-host.invalid" in error.why) == ("resolve", True)


def test_port_that_speaks_http_1():
    with listening(http_answer) as port:
        error = reach_error(f"tcp://127.0.0.1:{port}")
    assert error.phase == "handshake"
    assert "HTTP/1.1 400" in error.why


def test_port_that_says_nothing_ends_within_the_timeout():
    started = time.monotonic()
    with listening(read_all) as port:
        error = reach_error(f"tcp://127.0.0.1:{port}", timeout_s=0.5)
    assert "does not answer" in error.why
    assert time.monotonic() - started < 4


def test_port_that_hangs_up():
    with listening(lambda stream: None) as port:
        assert "closed the connection" in reach_error(f"tcp://127.0.0.1:{port}").why


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def server_context(authority, *, name="server", client_ca=None, **issue):
    cert, key = authority.issue(name, **issue)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_five_tls_faults_have_five_messages(authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    trusts = TlsConfig(ca=authority.path)
    faults = {}
    with listening(http_answer, context=server_context(authority)) as port:
        faults["wrong CA"] = reach_error(f"tcp://127.0.0.1:{port}", TlsConfig(ca=other.path))
    with listening(http_answer, context=server_context(authority, days=(-9, -1))) as port:
        faults["expired"] = reach_error(f"tcp://127.0.0.1:{port}", trusts)
    with listening(http_answer, context=server_context(authority, hosts=("elsewhere.example",))) as port:
        faults["name"] = reach_error(f"tcp://127.0.0.1:{port}", trusts)
    with listening(http_answer, context=server_context(authority, client_ca=authority.path)) as port:
        faults["no client certificate"] = reach_error(f"tcp://127.0.0.1:{port}", trusts)
    with listening(http_answer) as port:
        faults["plain text"] = reach_error(f"tcp://127.0.0.1:{port}", trusts)
    why = {name: error.why for name, error in faults.items()}
    assert "not trusted" in why["wrong CA"]
    assert "expired" in why["expired"]
    assert "'127.0.0.1'" in why["name"]
    assert "asks for a client certificate" in why["no client certificate"]
    assert "no TLS" in why["plain text"]
    assert faults["wrong CA"].phase == "tls"


def test_tls_port_spoken_to_in_plain_text(authority):
    with listening(http_answer, context=server_context(authority)) as port:
        error = reach_error(f"tcp://127.0.0.1:{port}")
    assert error.phase == "tls"
    assert "speaks TLS" in error.why
    assert "--tlscacert" in error.hint


def test_client_certificate_of_a_stranger(authority, tmp_path):
    (tmp_path / "other").mkdir()
    cert, key = Authority(tmp_path / "other", "other").issue("client")
    with listening(http_answer, context=server_context(authority, client_ca=authority.path)) as port:
        error = reach_error(f"tcp://127.0.0.1:{port}", TlsConfig(ca=authority.path, cert=cert, key=key))
    assert "refused our certificate" in error.why


def test_certificate_without_key_is_refused():
    with pytest.raises(OptionError, match="both"):
        TlsConfig(cert="cert.pem")


def test_tls_folder_needs_all_three(authority, tmp_path):
    cert, key = authority.issue("client")
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.path.read_bytes())
    (folder / "tls.crt").write_bytes(cert.read_bytes())
    with pytest.raises(OptionError) as caught:
        TlsConfig.from_directory(folder)
    assert "key.pem" in caught.value.why
    (folder / "key.pem").write_bytes(key.read_bytes())
    config = TlsConfig.from_directory(folder)
    assert (config.ca, config.cert, config.key) == (folder / "ca.crt", folder / "tls.crt", folder / "key.pem")
    assert "BEGIN" not in repr(config.load().key is None) + repr(config)


def test_missing_tls_file_is_told(tmp_path):
    with pytest.raises(OptionError, match=r"none\.pem"):
        Client("tcp://127.0.0.1:1", tls=TlsConfig(ca=tmp_path / "none.pem"))
