"""A registry of the tests' own whose tokens are soon over, behind a link that is slow.

Debian's docker-registry takes a token for another minute after its end, so tokens here say that they ended a minute
earlier than whoever asked for them is told: then the registry refuses them when they are over, to the second.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.support.token_server import ISSUER, Account, Scope, TokenServer, TokenSigner

_LEEWAY_S = 60  # registry/auth/token/token.go of distribution 2.8, Leeway


class PunctualSigner(TokenSigner):
    """Signs tokens that the registry refuses as soon as they are over."""

    def sign(self, *, subject: str, audience: str, scopes: list[Scope], issued_at: int, lifetime_s: int) -> str:
        """Return a JWT that grants the scopes."""
        return super().sign(
            subject=subject,
            audience=audience,
            scopes=scopes,
            issued_at=issued_at,
            lifetime_s=lifetime_s - _LEEWAY_S,
        )


class SlowLink:
    """Listens on a port and hands what comes there on to another, so many bytes a second and connection.

    Args:
        target: The port that it leads to.
        bytes_per_s: How fast; for what goes to the target alone.
    """

    def __init__(self, target: int, bytes_per_s: int) -> None:
        self._target = target
        self._bytes_per_s = bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Cut everything off."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                self._start(partial(self._hand_on, client, server, 1 / self._bytes_per_s))
                self._start(partial(self._hand_on, server, client, 0.0))

    @staticmethod
    def _hand_on(source: socket.socket, target: socket.socket, s_per_byte: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                time.sleep(len(data) * s_per_byte)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Return a certificate that a key signed for itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


@contextlib.contextmanager
def token_registry(
    folder: Path, account: Account, *, lifetime_s: int, bytes_per_s: int
) -> Iterator[tuple[str, TokenServer]]:
    """Run a registry; skips the test where there is no program for one.

    Args:
        folder: Where its state lies.
        account: Who may use it.
        lifetime_s: How long tokens live.
        bytes_per_s: How fast uploads are.

    Yields:
        Its ``host:port``, and the server of its tokens.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    own = certificate(key)
    folder.mkdir()
    (folder / "token.crt").write_bytes(own.public_bytes(serialization.Encoding.PEM))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    link = SlowLink(port, bytes_per_s)
    host = f"127.0.0.1:{link.port}"
    with TokenServer(PunctualSigner(key, own), account, lifetime_s=lifetime_s) as tokens:
        config = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}", "host": f"http://{host}", "secret": "tests"},
            "auth": {
                "token": {
                    "realm": tokens.realm,
                    "service": host,
                    "issuer": ISSUER,
                    "rootcertbundle": str(folder / "token.crt"),
                }
            },
        }
        (folder / "config.yml").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "serve", str(folder / "config.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={}
            )
        try:
            _wait_for(port, process, folder / "log")
            yield host, tokens
        finally:
            link.close()
            process.terminate()
            process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
        except urllib.error.HTTPError as exc:
            exc.close()
            return  # it wants a token, so it is there
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.1)
