"""A strict registry: it speaks the distribution specification and notes whatever a client does outside it.

A request that the specification does not allow is answered with 400 and kept in ``violations``; leaving the ``with``
block with violations fails the test. What real registries get wrong is switched on by attributes and by ``faults``.

Reference: OCI distribution-spec v1.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

from buildkit_client.oci import media_types

NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"


@dataclass
class Upload:
    repository: str
    data: bytearray = field(default_factory=bytearray)
    state: str = ""
    last_chunk: int | None = None


@dataclass
class Fault:
    """What happens to the next matching requests instead of an answer.

    Attributes:
        method: Of the request.
        path: Regular expression for its path.
        count: How many requests it hits.
        status: Answered, unless one of the following is set.
        headers: Of that answer.
        body: Of that answer.
        delay_s: Wait so long before the request's body is read, then answer as always.
        reset_after: Break the connection after so many bytes of the regular answer's body; -1 before any answer.
        keep_body: Of an upload's request, read and keep so many bytes of its body, then break the connection.
    """

    method: str
    path: str
    count: int = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0
    reset_after: int | None = None
    keep_body: int | None = None


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    host: str


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients of these tests break off on purpose


class FakeRegistry:
    """Serves on 127.0.0.1 with a free port.

    Attributes:
        auth: ``none``, ``basic`` or ``bearer``.
        login: User and password.
        anonymous_pull: With ``bearer``: whether tokens to pull are given without a login.
        token_uses: With ``bearer``: how many requests a token is good for; None for any number.
        has_head: Whether HEAD works for manifests.
        has_ranges: Whether ranges of blobs are served.
        has_referrers: Whether the referrers API is there.
        redirect_blobs_to: Host that blobs are redirected to, for example ``localhost``; empty for none.
        absolute_locations: Whether upload locations are full URLs.
        monolithic_limit: A larger body is refused with 413.
        min_chunk: Announced and demanded; 0 for none.
        tags_a_page: The most tags in one answer.
        mounts: Whether blobs are shared between repositories.
        tells_uploads: Whether it says how much of an upload it has.
        faults: See :class:`Fault`.
        seen: Every request, in order.
        scopes_asked: Of the token server, in order.
        violations: What clients did outside the specification.
    """

    def __init__(self, *, tls: tuple[Path, Path] | None = None) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.uploads: dict[str, Upload] = {}
        self.auth = "none"
        self.login = ("bob", "pa55word")
        self.anonymous_pull = True
        self.token_uses: int | None = None
        self.has_head = True
        self.has_ranges = True
        self.has_referrers = True
        self.redirect_blobs_to = ""
        self.absolute_locations = False
        self.monolithic_limit: int | None = None
        self.min_chunk = 0
        self.tags_a_page = 1000
        self.mounts = True
        self.tells_uploads = True
        self.answer_headers: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.expect_violations = False
        self.scopes_asked: list[set[str]] = []
        self._tokens: dict[str, tuple[frozenset[tuple[str, str]], list[int]]] = {}
        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        if kind is None and not self.expect_violations:
            assert self.violations == []

    # --- content ---

    def add_blob(self, repository: str, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[repository, digest] = data
        return digest

    def add_manifest(self, repository: str, data: bytes, media_type: str, tag: str = "") -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifests[repository, digest] = (media_type, data)
        if tag:
            self.tags[repository, tag] = digest
        return digest

    def requests(self, method: str, pattern: str) -> list[Seen]:
        """Return the requests of a method whose path and query fit."""
        return [
            one
            for one in self.seen
            if one.method == method and re.search(pattern, one.path + (f"?{one.query}" if one.query else ""))
        ]

    # --- tokens ---

    def new_token(self, scopes: list[str], login: tuple[str, str] | None) -> str | None:
        granted: set[tuple[str, str]] = set()
        self.scopes_asked.append(set(scopes))
        if login is not None and login != self.login:
            return None
        for scope in scopes:
            match = re.fullmatch(rf"repository:({NAME}):([a-z,]+)", scope)
            if match is None:
                self.violations.append(f"scope {scope}")
                continue
            for action in match[2].split(","):
                if login is not None or (action == "pull" and self.anonymous_pull):
                    granted.add((match[1], action))
        token = secrets.token_urlsafe(16)
        self._tokens[token] = (frozenset(granted), [0])
        return token

    def token_allows(self, token: str, repository: str, action: str) -> bool:
        granted, uses = self._tokens.get(token, (frozenset(), [0]))
        uses[0] += 1
        if self.token_uses is not None and uses[0] > self.token_uses:
            return False
        return not repository or (repository, action) in granted

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.count > 0 and fault.method == method and re.search(fault.path, path):
                    fault.count -= 1
                    return fault
        return None


def _handler(registry: FakeRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        fault: Fault | None = None

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

        # --- one request ---

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            self.path_only, self.query = (
                parts.path,
                parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)),
            )
            self.body_read = False
            headers = {key.lower(): value for key, value in self.headers.items()}
            with registry.lock:
                registry.seen.append(Seen(self.command, parts.path, parts.query, headers, self.headers["Host"] or ""))
            self.fault = registry.take_fault(self.command, self.path)
            if self.fault is not None and self.fault.reset_after == -1:
                self._reset()
                return
            if self.fault is not None and self.fault.keep_body is not None:
                self._keep_body(self.fault.keep_body)
                return
            if self.fault is not None and self.fault.delay_s:
                time.sleep(self.fault.delay_s)
            elif self.fault is not None and self.fault.reset_after is None:
                self._read_body()
                self._answer(self.fault.status, self.fault.body, self.fault.headers)
                return
            if self.headers.get("Transfer-Encoding"):
                self._violate("a body without a length")
                return
            with suppress(ConnectionError):
                self._route()

        def _route(self) -> None:
            if (
                "Authorization" in self.headers
                and self.headers["Host"] != registry.host
                and not self._is_registry_name()
            ):
                self._violate(f"a login went to {self.headers['Host']}")
                return
            for pattern, methods in (
                (r"/token", {"GET": self._token, "POST": self._token_post}),
                (r"/v2/", {"GET": self._root}),
                (rf"/v2/({NAME})/blobs/({DIGEST})", {"GET": self._blob, "HEAD": self._blob}),
                (rf"/store/({NAME})/({DIGEST})", {"GET": self._stored_blob}),
                (
                    rf"/v2/({NAME})/manifests/({TAG}|{DIGEST})",
                    {"GET": self._manifest, "HEAD": self._manifest, "PUT": self._put_manifest},
                ),
                (rf"/v2/({NAME})/blobs/uploads/", {"POST": self._start_upload}),
                (
                    rf"/v2/({NAME})/blobs/uploads/([0-9a-f]+)",
                    {"PATCH": self._patch, "PUT": self._finish, "GET": self._tell},
                ),
                (rf"/v2/({NAME})/tags/list", {"GET": self._tags}),
                (rf"/v2/({NAME})/referrers/({DIGEST})", {"GET": self._referrers}),
            ):
                match = re.fullmatch(pattern, self.path_only)
                if match is not None and self.command in methods:
                    repository = match[1] if match.groups() else ""
                    if not pattern.startswith(("/token", "/store")) and not self._is_allowed(repository):
                        return
                    methods[self.command](*match.groups())
                    return
            self._violate("no such request")

        def _is_registry_name(self) -> bool:
            return not registry.redirect_blobs_to

        # --- logins ---

        def _is_allowed(self, repository: str) -> bool:
            given = self.headers.get("Authorization", "")
            action = "pull" if self.command in ("GET", "HEAD") else "push"
            if registry.auth == "none":
                if given:
                    self._violate("a login that nobody asked for")
                return not given
            if registry.auth == "basic":
                expected = "Basic " + base64.b64encode(":".join(registry.login).encode()).decode()
                if given == expected:
                    return True
                challenge = 'Basic realm="fake, registry"'
            else:
                scheme, _, token = given.partition(" ")
                if scheme == "Bearer" and registry.token_allows(token, repository, action):
                    return True
                actions = "pull" if action == "pull" else "pull,push"
                scope = f',scope="repository:{repository}:{actions}"' if repository else ""
                challenge = f'Bearer realm="{registry.scheme}://{registry.host}/token",service="fake"{scope}'
            if self.command in ("PUT", "PATCH", "POST"):
                self._read_body()
            self._fail(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
            return False

        def _token(self) -> None:
            login = None
            if given := self.headers.get("Authorization"):
                name, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
                login = (name, password)
            self._answer_token(self.query.get("scope", []), login)

        def _token_post(self) -> None:
            form = dict(parse_qsl(self._read_body().decode()))
            login = (form.get("username", ""), form.get("password", ""))
            self._answer_token(form.get("scope", "").split(), login)

        def _answer_token(self, scopes: list[str], login: tuple[str, str] | None) -> None:
            token = registry.new_token(scopes, login)
            if token is None:
                self._fail(401, "UNAUTHORIZED", "wrong password")
            else:
                self._json(200, {"token": token, "access_token": token, "expires_in": 300})

        # --- pull ---

        def _root(self) -> None:
            self._json(200, {})

        def _blob(self, repository: str, digest: str) -> None:
            data = registry.blobs.get((repository, digest))
            if data is None:
                self._fail(404, "BLOB_UNKNOWN", "blob unknown to registry")
            elif registry.redirect_blobs_to and self.command == "GET":
                host = f"{registry.redirect_blobs_to}:{registry.port}"
                self._answer(307, b"", {"Location": f"{registry.scheme}://{host}/store/{repository}/{digest}?sig=x"})
            else:
                self._send_blob(data, digest)

        def _stored_blob(self, repository: str, digest: str) -> None:
            if self.query != {"sig": ["x"]}:
                self._violate("a redirect's query was lost")
                return
            self._send_blob(registry.blobs[repository, digest], digest)

        def _send_blob(self, data: bytes, digest: str) -> None:
            headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
            wanted = self.headers.get("Range")
            if wanted is not None and registry.has_ranges:
                match = re.fullmatch(r"bytes=(\d+)-", wanted)
                if match is None or int(match[1]) >= len(data):
                    self._violate(f"range {wanted} of {len(data)} bytes")
                    return
                start = int(match[1])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self._answer(206, data[start:], headers)
            else:
                self._answer(200, data, headers)

        def _manifest(self, repository: str, reference: str) -> None:
            if self.command == "HEAD" and not registry.has_head:
                self._answer(405, b"", {})
                return
            digest = registry.tags.get((repository, reference), reference)
            found = registry.manifests.get((repository, digest))
            if found is None:
                self._fail(404, "MANIFEST_UNKNOWN", "manifest unknown")
                return
            accepted = [one.strip() for one in self.headers.get("Accept", "").split(",")]
            if found[0] not in accepted and found[0] in media_types.MANIFESTS:
                self._violate(f"{found[0]} is not accepted")
                return
            self._answer(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest})

        # --- push ---

        def _put_manifest(self, repository: str, reference: str) -> None:
            data, media_type = self._read_body(), self.headers.get("Content-Type", "")
            document = json.loads(data)
            if document.get("mediaType", media_type) != media_type:
                self._violate("the content type is not the manifest's")
                return
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            if ":" in reference and reference != digest:
                self._violate("another digest than the manifest's")
                return
            children = document.get("manifests") or [document["config"], *(document.get("layers") or [])]
            for child in children:
                store = registry.manifests if "manifests" in document else registry.blobs
                foreign = media_types.may_be_absent(child["mediaType"])
                if (repository, child["digest"]) not in store and not foreign:
                    self._violate(f"{child['digest']} is not there before its manifest")
                    return
            registry.add_manifest(repository, data, media_type, "" if ":" in reference else reference)
            self._answer(
                201, b"", {"Location": f"/v2/{repository}/manifests/{digest}", "Docker-Content-Digest": digest}
            )

        def _start_upload(self, repository: str) -> None:
            if self._read_body():
                self._violate("an upload starts without a body")
                return
            mount, source = self.query.get("mount", [""])[0], self.query.get("from", [""])[0]
            if mount and registry.mounts and (source, mount) in registry.blobs:
                registry.blobs[repository, mount] = registry.blobs[source, mount]
                self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{mount}"})
                return
            upload_id = secrets.token_hex(8)
            registry.uploads[upload_id] = Upload(repository)
            self._answer_upload(202, upload_id)

        def _answer_upload(self, status: int, upload_id: str) -> None:
            upload = registry.uploads[upload_id]
            upload.state = secrets.token_urlsafe(8)
            path = f"/v2/{upload.repository}/blobs/uploads/{upload_id}?_state={upload.state}%3D"
            base = f"{registry.scheme}://{registry.host}" if registry.absolute_locations else ""
            headers = {
                "Location": base + path,
                "Range": f"0-{max(len(upload.data) - 1, 0)}",
                "Docker-Upload-UUID": upload_id,
            }
            if registry.min_chunk:
                headers["OCI-Chunk-Min-Length"] = str(registry.min_chunk)
            self._answer(status, b"", headers)

        def _upload(self, repository: str, upload_id: str) -> Upload | None:
            upload = registry.uploads.get(upload_id)
            if upload is None or upload.repository != repository:
                self._read_body()
                self._fail(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
                return None
            if self.query.get("_state") != [upload.state + "="]:
                self._violate("not the URL of the last answer")
                return None
            return upload

        def _patch(self, repository: str, upload_id: str) -> None:
            upload = self._upload(repository, upload_id)
            if upload is None:
                return
            data = self._read_body()
            match = re.fullmatch(r"(\d+)-(\d+)", self.headers.get("Content-Range", ""))
            if match is None or int(match[2]) - int(match[1]) + 1 != len(data):
                self._violate("a chunk with a wrong Content-Range")
            elif int(match[1]) != len(upload.data):
                self._answer(416, b"", {"Range": f"0-{max(len(upload.data) - 1, 0)}"})
            elif upload.last_chunk is not None and upload.last_chunk < registry.min_chunk:
                self._violate(f"a chunk of less than {registry.min_chunk} bytes that was not the last")
            else:
                upload.data += data
                upload.last_chunk = len(data)
                self._answer_upload(202, upload_id)

        def _keep_body(self, count: int) -> None:
            upload = registry.uploads[self.path_only.rpartition("/")[2]]
            upload.data += self.rfile.read(count)
            upload.last_chunk = None
            self._reset()

        def _tell(self, repository: str, upload_id: str) -> None:
            upload = registry.uploads.get(upload_id)
            if upload is None or upload.repository != repository or not registry.tells_uploads:
                self._fail(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
            else:
                self._answer_upload(204, upload_id)

        def _finish(self, repository: str, upload_id: str) -> None:
            upload = self._upload(repository, upload_id)
            if upload is None:
                return
            length = int(self.headers["Content-Length"])
            if registry.monolithic_limit is not None and length > registry.monolithic_limit:
                self._read_body()
                self._fail(413, "SIZE_INVALID", "too large")
                return
            upload.data += self._read_body()
            digest = self.query.get("digest", [""])[0]
            if digest != f"sha256:{hashlib.sha256(upload.data).hexdigest()}":
                self._fail(400, "DIGEST_INVALID", "the digest does not fit")
                return
            registry.blobs[repository, digest] = bytes(upload.data)
            del registry.uploads[upload_id]
            self._answer(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

        # --- discovery ---

        def _tags(self, repository: str) -> None:
            tags = sorted(tag for name, tag in registry.tags if name == repository)
            if not tags:
                self._fail(404, "NAME_UNKNOWN", "repository unknown")
                return
            last = self.query.get("last", [""])[0]
            rest = [tag for tag in tags if tag > last]
            count = min(int(self.query.get("n", ["100"])[0]), registry.tags_a_page)
            page = rest[:count]
            headers = {}
            if len(rest) > count:
                headers["Link"] = f'</v2/{repository}/tags/list?n={count}&last={page[-1]}>; rel="next"'
            self._json(200, {"name": repository, "tags": page}, headers)

        def _referrers(self, repository: str, digest: str) -> None:
            if not registry.has_referrers:
                self._answer(404, b"404 page not found", {})
                return
            found = []
            for (name, own), (media_type, data) in registry.manifests.items():
                if name == repository and (json.loads(data).get("subject") or {}).get("digest") == digest:
                    found.append({"mediaType": media_type, "digest": own, "size": len(data)})
            self._json(
                200,
                {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": found},
                media_type=media_types.OCI_INDEX,
            )

        # --- answers ---

        def _read_body(self) -> bytes:
            self.body_read = True
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _violate(self, what: str) -> None:
            registry.violations.append(f"{self.command} {self.path}: {what}")
            self.close_connection = True
            self._answer(400, what.encode(), {"Connection": "close"})

        def _fail(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
            self._json(status, {"errors": [{"code": code, "message": message, "detail": None}]}, headers)

        def _json(
            self,
            status: int,
            document: object,
            headers: dict[str, str] | None = None,
            *,
            media_type: str = "application/json",
        ) -> None:
            self._answer(status, json.dumps(document).encode(), {"Content-Type": media_type, **(headers or {})})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers, **registry.answer_headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if self.fault is not None and self.fault.reset_after is not None and self.fault.reset_after >= 0:
                self.wfile.write(body[: self.fault.reset_after])
                self.wfile.flush()
                self._reset()
                return
            self.wfile.write(body)

        def _reset(self) -> None:
            """Break the connection; with a reset only when no body was sent, since that takes back what was."""
            self.close_connection = True
            with suppress(OSError):
                self.wfile.flush()
                if self.fault is None or not self.fault.reset_after or self.fault.reset_after < 0:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler
