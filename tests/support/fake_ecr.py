"""Amazon's side of ECR's login: ``GetAuthorizationToken`` on 127.0.0.1, which checks what Amazon checks.

The signature is computed again from the request as it arrived, so a header that is signed and not sent, or sent and
not signed, is refused as Amazon refuses it.

Reference: Amazon ECR API, GetAuthorizationToken; AWS General Reference, "Signature Version 4 signing process".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"


class FakeEcr:
    """Hands out passwords of the user ``AWS``.

    Attributes:
        keys: Secret by access key id.
        session_tokens: Session token by access key id, for temporary keys.
        password: The password; ``{n}`` in it is the number of the request.
        lifetime_s: How long a password lives.
        answer: Status and body to send instead, None for the regular answer.
        asked: Region and registry ids of each request that was let in.
        refused: Why requests were refused.
    """

    def __init__(self) -> None:
        self.keys = {"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
        self.session_tokens: dict[str, str] = {}
        self.password = "ecr-password-{n}"
        self.lifetime_s = 12 * 3600.0
        self.answer: tuple[int, bytes, dict[str, str]] | None = None
        self.asked: list[tuple[str, list[str]]] = []
        self.refused: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(fake: FakeEcr) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if fake.answer is not None:
                self._send(*fake.answer)
                return
            region, why = self._check(body)
            if why:
                fake.refused.append(why)
                error = {"__type": f"com.amazon.coral.service#{why}", "message": "The request cannot be taken."}
                self._send(400, json.dumps(error).encode(), {})
                return
            fake.asked.append((region, json.loads(body).get("registryIds", [])))
            token = base64.b64encode(f"AWS:{fake.password.format(n=len(fake.asked))}".encode()).decode()
            entry = {
                "authorizationToken": token,
                "expiresAt": time.time() + fake.lifetime_s,
                "proxyEndpoint": "https://x",
            }
            self._send(200, json.dumps({"authorizationData": [entry]}).encode(), {})

        do_GET = do_POST

        def _check(self, body: bytes) -> tuple[str, str]:
            """Return the region, and why Amazon would refuse the request."""
            if self.command != "POST" or self.headers.get("X-Amz-Target") != TARGET:
                return "", "UnknownOperationException"
            match = re.fullmatch(
                r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([a-z0-9-]+)/ecr/aws4_request, "
                r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
                self.headers.get("Authorization", ""),
            )
            date = self.headers.get("X-Amz-Date", "")
            if match is None or not date.startswith(match[2]):
                return "", "IncompleteSignatureException"
            key_id, day, region, names, signature = match.groups()
            required = {
                "host",
                "content-type",
                *(name.lower() for name in self.headers if name.lower()[:6] == "x-amz-"),
            }
            if not required <= set(names.split(";")) or key_id not in fake.keys:
                return region, "UnrecognizedClientException"
            if self.headers.get("X-Amz-Security-Token", "") != fake.session_tokens.get(key_id, ""):
                return region, "ExpiredTokenException"
            lines = [self.command, self.path, ""]
            lines += [f"{name}:{self.headers[name].strip()}" for name in names.split(";")]
            lines += ["", names, hashlib.sha256(body).hexdigest()]
            digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
            text = f"AWS4-HMAC-SHA256\n{date}\n{day}/{region}/ecr/aws4_request\n{digest}"
            key = b"AWS4" + fake.keys[key_id].encode()
            for part in (day, region, "ecr", "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            return region, "" if expected == signature else "InvalidSignatureException"

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
