"""Stand-ins for the stores of cloud caches: S3, Azure Blob Storage, and GitHub's cache service in both versions.

One server in memory speaks what a daemon says to each of them. Signatures and tokens are taken as they come: what is
tested is what our options make the daemon do, not the clouds' logins.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_BLOCKS = re.compile(r"<(?:Latest|Uncommitted|Committed)>([^<]+)</")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def runtime_token() -> str:
    """Return a token as GitHub's runners have it; its signature is nobody's."""
    now = int(time.time())
    scopes = json.dumps([{"Scope": "refs/heads/main", "Permission": 3}])
    parts = ({"alg": "HS256", "typ": "JWT"}, {"ac": scopes, "nbf": now - 60, "exp": now + 3600})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*texts, "c2lnbmF0dXJl"])


class CloudStore:
    """What the stores hold, and what they were asked.

    Attributes:
        url: Address of the server.
        objects: Content by path: ``/bucket/key`` of S3, ``/container/name`` of Azure.
        entries: Content by key of GitHub's cache.
        requests: Method and path of every request, in order.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()
        self.objects: dict[str, bytes] = {}
        self.blocks: dict[str, dict[str, bytes]] = {}
        self.containers: set[str] = set()
        self.entries: dict[str, bytes] = {}
        self.reserved: dict[str, bytearray] = {}
        self.requests: list[tuple[str, str]] = []

    def newest(self, keys: list[str]) -> str:
        """Return the newest entry whose key begins with one of some texts, or an empty text."""
        found = [name for name in self.entries if any(name.startswith(key) for key in keys)]
        return found[-1] if found else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: CloudStore

    def log_message(self, *_args: object) -> None:
        """Print nothing."""

    def _serve(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        with self.store.lock:
            self.store.requests.append((self.command, self.path))
            if "/_apis/artifactcache/" in path:
                self._github_1(path.rpartition("/_apis/artifactcache/")[2], query, body)
            elif "/twirp/" in path:
                self._github_2(path.rpartition("/")[2], json.loads(body))
            elif "x-ms-version" in self.headers:
                self._azure(path, query, body)
            else:
                self._object(path, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, document: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(document).encode(), Content_Type="application/json")

    # -- S3 in path style, and reading of Azure's blobs --------------------------------------------------------

    def _object(self, path: str, body: bytes, missing: str = "NoSuchKey") -> None:
        if self.command == "PUT":
            self.store.objects[path] = body
            self._answer(200, ETag='"1"')
            return
        data = self.store.objects.get(path)
        if data is None:
            text = f"<?xml version='1.0'?><Error><Code>{missing}</Code><Message>none</Message></Error>"
            self._answer(404, text.encode(), Content_Type="application/xml", x_ms_error_code=missing)
            return
        span = _RANGE.fullmatch(self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        facts = {"ETag": '"1"', "Last_Modified": self.date_time_string(), "x_ms_blob_type": "BlockBlob"}
        if span is None:
            self._answer(200, data, **facts)
            return
        start, end = int(span[1]), int(span[2] or len(data) - 1)
        self._answer(206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}", **facts)

    # -- Azure -------------------------------------------------------------------------------------------------

    def _azure(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        what = query.get("comp", [""])[0]
        facts = {"x_ms_request_id": "1", "ETag": '"1"', "Last_Modified": self.date_time_string()}
        if query.get("restype") == ["container"]:
            if self.command == "PUT":
                self.store.containers.add(path)
                self._answer(201, **facts)
            elif path in self.store.containers:
                self._answer(200, **facts)
            else:
                self._answer(404, x_ms_error_code="ContainerNotFound")
        elif what == "block":
            self.store.blocks.setdefault(path, {})[query["blockid"][0]] = body
            self._answer(201, **facts)
        elif what == "blocklist":
            blocks = self.store.blocks.pop(path, {})
            self.store.objects[path] = b"".join(blocks[name] for name in _BLOCKS.findall(body.decode()))
            self._answer(201, **facts)
        elif self.command == "PUT":
            self.store.objects[path] = body
            self._answer(201, **facts)
        else:
            self._object(path, body, "BlobNotFound")

    # -- GitHub ------------------------------------------------------------------------------------------------

    def _github_1(self, method: str, query: dict[str, list[str]], body: bytes) -> None:
        store = self.store
        if method == "cache":
            found = store.newest(query["keys"][0].split(","))
            if not found:
                self._answer(204)
                return
            store.objects[f"/archive/{found}"] = store.entries[found]
            self._json({"cacheKey": found, "archiveLocation": f"{store.url}/archive/{found.replace('#', '%23')}"})
        elif method == "caches":
            key = json.loads(body)["key"]
            if key in store.entries:
                self._json({"typeKey": "ArtifactCacheItemAlreadyExistsException", "message": "exists"}, 409)
                return
            store.reserved[key] = bytearray()
            self._json({"cacheId": list(store.reserved).index(key) + 1})
        else:
            key = list(store.reserved)[int(method.partition("/")[2]) - 1]
            if self.command == "PATCH":
                start = int(self.headers["Content-Range"].removeprefix("bytes ").partition("-")[0])
                store.reserved[key][start : start + len(body)] = body
            else:
                store.entries[key] = bytes(store.reserved[key])
            self._answer(204)

    def _github_2(self, method: str, request: dict[str, Any]) -> None:
        store = self.store
        key = request["key"]
        blob = f"/github/{key.replace('#', '-')}"
        if method == "GetCacheEntryDownloadURL":
            found = store.newest(request["restore_keys"])
            blob = f"/github/{found.replace('#', '-')}"
            self._json({"ok": bool(found), "matched_key": found, "signed_download_url": store.url + blob})
        elif method == "CreateCacheEntry":
            self._json({"ok": key not in store.entries, "signed_upload_url": store.url + blob})
        else:
            store.entries[key] = store.objects[blob]
            self._json({"ok": True, "entry_id": "1"})


@contextmanager
def cloud_store() -> Iterator[CloudStore]:
    """Run a server with every stand-in on a port of its own."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        handler.store = CloudStore(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield handler.store
        finally:
            server.shutdown()
            thread.join()
