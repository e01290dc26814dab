"""A token server that answers what a test tells it to, right or wrong, and keeps what it was asked.

The well-behaved one with real tokens is ``token_server.py``; this one is for everything that servers get wrong.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        document: Sent as JSON when ``body`` is None.
        ending: ``reset`` breaks the connection in the middle of the body; ``drip`` and ``drip_headers`` send
            single bytes for ever, of the body or of a header.
    """

    status: int = 200
    document: object = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    ending: Literal["whole", "reset", "drip", "drip_headers"] = "whole"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: list[tuple[str, str]]
    form: dict[str, str]
    headers: dict[str, str]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients of these tests break off on purpose


class FakeTokenServer:
    """Serves on 127.0.0.1; each reply is used once, the last one for all further requests.

    Args:
        replies: Answers.
        tls: Files of a certificate and its key, to speak TLS.
        client_ca: File of an authority; clients must show a certificate of it.
    """

    def __init__(self, *replies: Reply, tls: tuple[str, str] | None = None, client_ca: Path | None = None) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            if client_ca is not None:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def realm(self) -> str:
        return self.realm_at("127.0.0.1")

    def realm_at(self, name: str) -> str:
        return f"{self._scheme}://{name}:{self.port}/token"

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def log_message(self, format: str, *args: object) -> None:
                pass

            def _serve(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                form = dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True))
                url = urlsplit(self.path)
                headers = {key.lower(): value for key, value in self.headers.items()}
                request = Request(self.command, url.path, parse_qsl(url.query, keep_blank_values=True), form, headers)
                reply = outer._take(request)
                body = json.dumps(reply.document).encode() if reply.body is None else reply.body
                if reply.ending == "drip_headers":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Pad: ")
                    self._drip()
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) + 10_000 * (reply.ending != "whole")))
                self.end_headers()
                self.wfile.write(body)
                if reply.ending == "reset":
                    self.wfile.flush()
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                if reply.ending == "drip":
                    self._drip()

            def _drip(self) -> None:
                while not outer._closing.wait(0.02):
                    self.wfile.write(b" ")

        return Handler
