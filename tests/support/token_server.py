"""A token server for a registry with token auth, as ``auth: token:`` of the distribution registry wants it.

The tokens are real: JWTs signed with a key whose certificate the registry has as ``rootcertbundle``, good for exactly
the scopes that were granted. Both ways to ask are served: ``GET`` with Basic credentials (or none) and the OAuth2
``POST`` with the grants ``password`` and ``refresh_token``.

Azure's registry is the model. It hands out an identity token (a refresh token) instead of a password, and it takes
that token in either place: as ``refresh_token`` of a POST, or as the password of a user that is all zeros.

In a test, or standing alone as ``scripts/services.sh`` runs it::

    with TokenServer(key=..., certificate=..., account=...) as server: ...  # server.realm

    python tests/support/token_server.py --port 5003 --state DIR --user NAME

Reference: distribution docs, "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "buildkit-client-tests"
TOKEN_PATH = "/oauth2/token"
# The user that goes with an identity token where only user and password fit; as Azure's registry has it.
ZERO_USER = "00000000-0000-0000-0000-000000000000"
MAX_FORM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Account:
    """The one account that the server knows."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(repr=False)

    def accepts_login(self, user: str, password: str) -> bool:
        """Say whether user and password are right, or the zero user has the identity token."""
        if user == ZERO_USER:
            return self.accepts_identity(password)
        return user == self.user and hmac.compare_digest(password.encode(), self.password.encode())

    def accepts_identity(self, token: str) -> bool:
        """Say whether this is the identity token."""
        return hmac.compare_digest(token.encode(), self.identity_token.encode())


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is asked for, for example "repository:library/busybox:pull,push"."""

    type: str
    name: str
    actions: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split a scope; the name may hold colons (a host with a port), type and actions may not.

        Raises:
            ValueError: It has fewer than three parts.
        """
        kind, rest = text.split(":", 1)
        name, actions = rest.rsplit(":", 1)
        return cls(kind, name, tuple(action for action in actions.split(",") if action))

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request that was answered; kept so that tests can see what a client asked for. Holds no secret."""

    method: Literal["GET", "POST"]
    grant: Literal["anonymous", "basic", "password", "refresh_token", "unknown"]
    user: str
    service: str
    scopes: tuple[str, ...]
    status: int


class TokenSigner:
    """Signs registry tokens; the certificate travels in each token (``x5c``) and the registry checks it."""

    def __init__(self, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        der = certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        self._header = _base64url(json.dumps(header).encode())

    @classmethod
    def load(cls, key_path: Path, certificate_path: Path) -> Self:
        """Read a private key and its certificate, both PEM."""
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError(f"{key_path} is not an RSA key")
        return cls(key, x509.load_pem_x509_certificate(certificate_path.read_bytes()))

    def sign(self, *, subject: str, audience: str, scopes: list[Scope], issued_at: int, lifetime_s: int) -> str:
        """Return a JWT that grants the scopes."""
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": audience,
            "iat": issued_at,
            "nbf": issued_at - 10,
            "exp": issued_at + lifetime_s,
            "jti": secrets.token_hex(16),
            "access": [{"type": s.type, "name": s.name, "actions": list(s.actions)} for s in scopes],
        }
        signed = f"{self._header}.{_base64url(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


class TokenServer:
    """The server; a context manager that serves in a thread of its own.

    Args:
        signer: Signs the tokens.
        account: Who may log in.
        port: 0 takes a free one.
        lifetime_s: How long tokens live. The registry itself allows 60 s on top.
        anonymous_pull: Whether a request without credentials gets a token for pulling.
        log: Whether each request is told on stderr, without secrets.
    """

    def __init__(
        self,
        signer: TokenSigner,
        account: Account,
        *,
        port: int = 0,
        lifetime_s: int = 300,
        anonymous_pull: bool = False,
        log: bool = False,
    ) -> None:
        self.signer = signer
        self.account = account
        self.lifetime_s = lifetime_s
        self.anonymous_pull = anonymous_pull
        self.log = log
        self.requests: list[TokenRequest] = []
        self._http = _HttpServer(("127.0.0.1", port), self)

    @property
    def realm(self) -> str:
        """The URL that belongs into the registry's configuration."""
        return f"http://127.0.0.1:{self._http.server_address[1]}{TOKEN_PATH}"

    def serve_forever(self) -> None:
        """Serve in this thread until ``close``."""
        self._http.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Stop serving and give the port back."""
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="token-server", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record(self, request: TokenRequest) -> None:
        """Keep what was answered."""
        self.requests.append(request)
        if self.log:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), request, file=sys.stderr, flush=True)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], owner: TokenServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _HttpServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != TOKEN_PATH:
            self._answer(404, {"error": "not_found"})
            return
        query = parse_qs(url.query)
        owner, scopes = self.server.owner, self._scopes(query.get("scope", []))
        credentials = self._basic_credentials()
        if credentials is None:
            allowed = owner.anonymous_pull
            # An anonymous token grants less than was asked for, down to nothing; the registry then refuses it.
            granted = [Scope(s.type, s.name, tuple(a for a in s.actions if a == "pull")) for s in scopes]
            self._finish("GET", "anonymous", "", query, [s for s in granted if s.type == "repository"], allowed=allowed)
            return
        user, password = credentials
        allowed = owner.account.accepts_login(user, password)
        offline = query.get("offline_token", [""])[0] == "true"
        self._finish("GET", "basic", user, query, scopes, allowed=allowed, with_refresh=offline)

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            self.close_connection = True
            self._answer(413, {"error": "invalid_request"})
            return
        form = parse_qs(body.decode("utf-8", "replace"))
        if urlsplit(self.path).path != TOKEN_PATH:
            self._answer(404, {"error": "not_found"})
            return
        account = self.server.owner.account

        def value(name: str) -> str:
            return form.get(name, [""])[0]

        scopes = self._scopes(form.get("scope", []))
        match value("grant_type"):
            case "password":
                allowed = account.accepts_login(value("username"), value("password"))
                offline = value("access_type") == "offline"
                self._finish("POST", "password", value("username"), form, scopes, allowed=allowed, with_refresh=offline)
            case "refresh_token":
                allowed = account.accepts_identity(value("refresh_token"))
                self._finish("POST", "refresh_token", "", form, scopes, allowed=allowed, with_refresh=True)
            case _:
                self._record("POST", "unknown", "", form, 400)
                self._answer(400, {"error": "unsupported_grant_type"})

    def _finish(
        self,
        method: Literal["GET", "POST"],
        grant: Literal["anonymous", "basic", "password", "refresh_token"],
        user: str,
        fields: Mapping[str, list[str]],
        scopes: list[Scope],
        *,
        allowed: bool,
        with_refresh: bool = False,
    ) -> None:
        """Answer with a token, or with 401; both spellings of the error, since clients read either."""
        owner = self.server.owner
        self._record(method, grant, user, fields, 200 if allowed else 401)
        if not allowed:
            detail = "incorrect username or password" if grant != "anonymous" else "a login is needed"
            refusal: dict[str, object] = {
                "error": "invalid_grant",
                "errors": [{"code": "UNAUTHORIZED", "message": detail}],
            }
            self._answer(401, refusal, challenge=method == "GET")
            return
        issued_at = int(time.time())
        token = owner.signer.sign(
            subject=owner.account.user if grant != "anonymous" else "",
            audience=fields.get("service", [""])[0],
            scopes=scopes,
            issued_at=issued_at,
            lifetime_s=owner.lifetime_s,
        )
        body: dict[str, object] = {
            "access_token": token,
            "expires_in": owner.lifetime_s,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued_at)),
        }
        if method == "GET":
            body["token"] = token
        else:
            body["scope"] = " ".join(map(str, scopes))
        if with_refresh:
            body["refresh_token"] = owner.account.identity_token
        self._answer(200, body)

    def _record(
        self,
        method: Literal["GET", "POST"],
        grant: Literal["anonymous", "basic", "password", "refresh_token", "unknown"],
        user: str,
        fields: Mapping[str, list[str]],
        status: int,
    ) -> None:
        asked = tuple(scope for text in fields.get("scope", []) for scope in text.split())
        service = fields.get("service", [""])[0]
        self.server.owner.record(TokenRequest(method, grant, user, service, asked, status))

    def _read_body(self) -> bytes | None:
        """Return the body, or None when it is too long. skopeo 1.9 sends its form in chunks, without a length."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length) if length <= MAX_FORM_BYTES else None
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            if len(body) + size > MAX_FORM_BYTES:
                return None
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _basic_credentials(self) -> tuple[str, str] | None:
        """Return user and password of the request, or None when it has none that can be read."""
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        return user, password

    @staticmethod
    def _scopes(values: list[str]) -> list[Scope]:
        """Parse scopes, given as several fields or as one field with spaces; what is no scope is not granted."""
        scopes = []
        for text in " ".join(values).split():
            try:
                scopes.append(Scope.parse(text))
            except ValueError:
                continue
        return scopes

    def _answer(self, status: int, body: dict[str, object], *, challenge: bool = False) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if challenge:
            self.send_header("WWW-Authenticate", f'Basic realm="{ISSUER}"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the request line of a GET may be logged, but requests are told by TokenServer.record."""


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Token server for a registry with token auth.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument(
        "--state", type=Path, required=True, help="folder with token.key, token.crt, token-password, token-identity"
    )
    parser.add_argument("--lifetime-s", type=int, default=300)
    parser.add_argument("--anonymous-pull", action="store_true")
    arguments = parser.parse_args()
    state: Path = arguments.state
    server = TokenServer(
        TokenSigner.load(state / "token.key", state / "token.crt"),
        Account(
            arguments.user,
            password=(state / "token-password").read_text().strip(),
            identity_token=(state / "token-identity").read_text().strip(),
        ),
        port=arguments.port,
        lifetime_s=arguments.lifetime_s,
        anonymous_pull=arguments.anonymous_pull,
        log=True,
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
