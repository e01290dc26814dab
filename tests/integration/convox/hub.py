"""A stand-in for Docker Hub under the hub's own names, in a network of its own, with a buildkitd in it.

A mirror would not do: the daemon asks for the mirror's login then, not for the hub's. So the daemon runs in network and
mount namespaces where ``registry-1.docker.io`` and ``auth.docker.io`` are this program, with a certificate that it and
the command trust. As at the hub, tokens are had from another host than images; every request is written down.

Run as a program, in a mount namespace of its own, it makes that network, starts the stand-in, and becomes buildkitd.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.integration.convox.harness import Convox
from tests.support.certificates import Authority
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

ADDRESS = "203.0.113.5"  # RFC 5737: nobody's; a token server on a loopback address would not be trusted
HUB_HOSTS = ("registry-1.docker.io", "auth.docker.io", "docker.io", "index.docker.io")
EVIL_HOST = "registry-1.docker.io.evil.example"
PRIVATE_IMAGE = "acme/private"
LOGIN = ("hub-user", "hub-passw0rd-canary")
RATE_LIMIT_PATH = "/v2/ratelimitpreview/test/manifests/latest"
PULLS_LEFT = {"Bearer anonymous": 76, "Bearer granted": 187}


class Hub:
    """The stand-in as tests see it.

    Attributes:
        convox: The command, in the stand-in's network.
        daemon: The buildkitd there.
    """

    def __init__(self, convox: Convox, daemon: OwnBuildkitd, folder: Path) -> None:
        self.convox = convox
        self.daemon = daemon
        self._requests = folder / "requests.jsonl"

    def requests(self) -> list[dict[str, str]]:
        """Return what was asked so far: ``host``, ``path``, ``authorization``, ``body``."""
        return [json.loads(line) for line in self._requests.read_text().splitlines()]

    def forget(self) -> None:
        """Begin a new list of requests, and let the daemon ask for everything again."""
        self._requests.write_text("")
        self.daemon.prune_all()


@contextmanager
def hub(services: Services, folder: Path, convox: Convox) -> Iterator[Hub]:
    """Run a stand-in and its buildkitd.

    Args:
        services: Name the programs and the image that the stand-in serves.
        folder: For everything that is made.
        convox: Is changed to run in the stand-in's network.
    """
    layout = folder / "image"
    source = f"docker://{services.base_image}"
    command = [str(services.skopeo), "copy", "--src-tls-verify=false", source, f"oci:{layout}:latest"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    authority = Authority(folder)
    authority.issue("hub", hosts=(*HUB_HOSTS, EVIL_HOST))
    (folder / "requests.jsonl").touch()
    (folder / "hosts").write_text("".join(f"{ADDRESS} {name}\n" for name in (*HUB_HOSTS, EVIL_HOST)))
    programs = folder / "bin"
    programs.mkdir()
    (programs / "buildctl").symlink_to(services.buildctl)
    (programs / "buildkitd").write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{Path(__file__).parents[3]}" SSL_CERT_FILE="{authority.path}"\n'
        f'exec unshare --net "{sys.executable}" -m {__name__} "{folder}" '
        f'"{services.buildctl.with_name("buildkitd")}" "$@"\n'
    )
    (programs / "buildkitd").chmod(0o755)
    with OwnBuildkitd(replace(services, buildctl=programs / "buildctl"), folder) as daemon:
        convox.prefix = [shutil.which("nsenter") or "nsenter", "--target", str(daemon.pid), "--net", "--mount"]
        convox.environ |= {"BUILDKIT_HOST": daemon.address, "SSL_CERT_FILE": str(authority.path)}
        yield Hub(convox, daemon, folder)


def main() -> None:
    """Make the network, start the stand-in, become buildkitd."""
    folder, *command = sys.argv[1:]
    _set_up_network()
    subprocess.run(["mount", "--bind", f"{folder}/hosts", "/etc/hosts"], check=True)
    server = _server(Path(folder))
    if os.fork() == 0:
        server.serve_forever()
    os.execv(command[0], command)


def _set_up_network() -> None:
    """Bring the loopback interface up, with our address on it.

    Reference: netdevice(7), SIOCSIFADDR and SIOCSIFFLAGS.
    """
    is_up, set_flags, set_address = 1, 0x8914, 0x8916
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", is_up))
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
        fcntl.ioctl(control, set_address, struct.pack("16s", b"lo:1") + address)


def _server(folder: Path) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((ADDRESS, 443), _handler(folder))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "hub.cert.pem", folder / "hub.key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def _handler(folder: Path) -> type[BaseHTTPRequestHandler]:
    blobs = folder / "image/blobs/sha256"
    index = json.loads((folder / "image/index.json").read_text())
    top: str = index["manifests"][0]["digest"]
    media_type: str = index["manifests"][0]["mediaType"]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            host = self.headers["Host"]
            seen = {
                "host": host,
                "path": self.path,
                "authorization": self.headers.get("Authorization", ""),
                "body": body,
            }
            with (folder / "requests.jsonl").open("a") as file:
                file.write(json.dumps(seen) + "\n")
            url = urlsplit(self.path)
            if host == "auth.docker.io" and url.path == "/token":
                self._token(parse_qs(url.query), dict(parse_qsl(body)))
            elif host == "registry-1.docker.io":
                self._registry(url.path)
            else:
                self._answer(401, {"WWW-Authenticate": 'Basic realm="give it to me"'})

        do_HEAD = do_POST = do_GET

        def _token(self, query: dict[str, list[str]], form: dict[str, str]) -> None:
            login = (form.get("username", ""), form.get("password", ""))
            if given := self.headers.get("Authorization", "").removeprefix("Basic "):
                name, _, password = base64.b64decode(given).decode().partition(":")
                login = (name, password)
            if login == LOGIN:
                self._json(200, {"token": "granted", "access_token": "granted", "expires_in": 300})
            elif login == ("", ""):  # as the hub: whoever has no login gets a token that opens nothing private
                self._json(200, {"token": "anonymous", "access_token": "anonymous", "expires_in": 300})
            else:
                self._json(401, {"details": "incorrect username or password"})

        def _registry(self, path: str) -> None:
            token = self.headers.get("Authorization", "")
            if path == RATE_LIMIT_PATH and token in PULLS_LEFT:
                self._rate_limit(PULLS_LEFT[token])
                return
            if token != "Bearer granted":
                challenge = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'
                challenge += f',scope="repository:{PRIVATE_IMAGE}:pull"' + (
                    ',error="insufficient_scope"' if token else ""
                )
                error = {"code": "UNAUTHORIZED", "message": "authentication required", "detail": None}
                self._json(401, {"errors": [error]}, {"WWW-Authenticate": challenge})
                return
            kind, _, name = path.removeprefix(f"/v2/{PRIVATE_IMAGE}/").partition("/")
            digest = top if name == "latest" else name
            blob = blobs / digest.removeprefix("sha256:")
            if kind not in ("manifests", "blobs") or not blob.is_file():
                self._json(404, {"errors": [{"code": "NAME_UNKNOWN", "message": "not known"}]})
                return
            content_type = media_type if kind == "manifests" else "application/octet-stream"
            self._answer(200, {"Content-Type": content_type, "Docker-Content-Digest": digest}, blob.read_bytes())

        def _rate_limit(self, left: int) -> None:
            """Say how many pulls are left, as the hub does for a HEAD; a GET would be one of them."""
            if self.command != "HEAD":
                left -= 1
            limit = 200 if left > 100 else 100
            headers = {"RateLimit-Limit": f"{limit};w=21600", "RateLimit-Remaining": f"{left};w=21600"}
            self._answer(200, {"Content-Type": media_type, **headers, "Docker-RateLimit-Source": ADDRESS})

        def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
            self._answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

        def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    main()
