"""The auth service of a session: registry logins for the daemon's pulls and pushes.

The daemon asks by host, when a registry answers 401. There are two ways to serve it:

- *client tokens* (the default): we accept the role of token authority, fetch each short-lived token ourselves and give
  the daemon only that. A password or identity token leaves this machine for the token server alone.
- *credentials*: the daemon gets user and secret. That is how registries with Basic authentication work always, and all
  others when client tokens are switched off.

Nothing is looked up before the daemon asks for a host, and an error of one host's login fails only what needs that
host. The daemon's error then carries our one-line text; the error itself, with cause and hint, is kept in
:attr:`AuthService.errors`.

Reference: session/auth/authprovider/authprovider.go; session/auth/auth.go; util/resolver/authorizer.go.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from buildkit_client._proto import auth_pb2
from buildkit_client.errors import BuildKitError, CredentialsError
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError
from buildkit_client.session.filesync import GO_TRUE
from buildkit_client.session.token_authority import TokenSeeds, authority_public_key, sign_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from buildkit_client.oci.credentials import Credentials, CredentialsProvider
    from buildkit_client.oci.token import HttpOptions, Token
    from buildkit_client.session.call import Metadata, UnaryHandler

CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
FETCH_TOKEN = "/moby.filesync.v1.Auth/FetchToken"
GET_TOKEN_AUTHORITY = "/moby.filesync.v1.Auth/GetTokenAuthority"
VERIFY_TOKEN_AUTHORITY = "/moby.filesync.v1.Auth/VerifyTokenAuthority"

_MAX_PAYLOAD_BYTES = 4096  # the daemon sends 32
_EXPIRY_SHARE = 0.9  # the daemon renews a token after this part of its life


def wants_client_tokens(environ: Mapping[str, str]) -> bool:
    """Tell whether an environment leaves client tokens on; ``BUILDKIT_NO_CLIENT_TOKEN=true`` switches them off.

    Reference: session/auth/authprovider/authprovider.go, getAuthorityKey.
    """
    return environ.get("BUILDKIT_NO_CLIENT_TOKEN", "") not in GO_TRUE


class AuthService:
    """Answers the daemon's four questions about a registry.

    Logins are asked of the provider each time the daemon wants one, so a build may last longer than a login lives; how
    long an answer is reused is the provider's business (:data:`~buildkit_client.oci.credentials.CACHE_S` for docker's
    configuration).

    Args:
        provider: Knows the logins.
        use_client_tokens: False gives the daemon passwords instead of tokens; see :func:`wants_client_tokens`.
            Registry tokens of a config are of no use then: the daemon has no way to take them.
        http: How token servers are reached: TLS files and verification by host, proxies, time limits.
        seeds: Keeps the token authority's seeds; None for this process's life.
        on_event: Gets one line per registry and kind of access, as progress shows it; called from the daemon's calls'
            threads.
    """

    def __init__(
        self,
        provider: CredentialsProvider,
        *,
        use_client_tokens: bool = True,
        http: HttpOptions | None = None,
        seeds: TokenSeeds | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self._provider = provider
        self._use_client_tokens = use_client_tokens
        self._http = http
        self._seeds = seeds or TokenSeeds()
        self._on_event = on_event
        self._lock = threading.Lock()
        self._shown: set[str] = set()
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Why questions could not be answered, in order: :class:`CredentialsError` or :class:`RegistryError`.

        Each names its registry in ``host``. They are kept whether or not the build needed the answer, so they explain
        a failed build and say nothing about one that succeeded.
        """
        with self._lock:
            return tuple(self._errors)

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the handlers by method path, for the session."""
        return {
            VERIFY_TOKEN_AUTHORITY: self._verify_token_authority,
            CREDENTIALS: self._credentials,
            FETCH_TOKEN: self._fetch_token,
            GET_TOKEN_AUTHORITY: self._get_token_authority,
        }

    def _credentials(self, data: bytes, _metadata: Metadata) -> bytes:
        request = auth_pb2.CredentialsRequest()
        _parse(request, data)
        credentials = self._lookup(request.Host)
        username, secret = credentials.login if credentials is not None else ("", "")
        if not secret:
            return auth_pb2.CredentialsResponse().SerializeToString()
        self._show(f"[auth] sharing credentials for {request.Host}")
        return auth_pb2.CredentialsResponse(Username=username, Secret=secret).SerializeToString()

    def _fetch_token(self, data: bytes, _metadata: Metadata) -> bytes:
        from buildkit_client.oci.token import HttpOptions, fetch_token  # noqa: PLC0415 - only builds that ask for one

        request = auth_pb2.FetchTokenRequest()
        _parse(request, data)
        credentials = self._lookup(request.Host)
        if credentials is not None and not credentials.is_empty:
            scopes = " ".join(scope.removeprefix("repository:") for scope in request.Scopes)
            self._show(f"[auth] {scopes} token for {request.Host}")
        try:
            token = fetch_token(
                request.Realm,
                registry=request.Host,
                service=request.Service,
                scopes=tuple(request.Scopes),
                credentials=credentials,
                http=self._http or HttpOptions(),
            )
        except BuildKitError as exc:
            raise self._failed(exc, exc.why) from exc
        return auth_pb2.FetchTokenResponse(
            Token=token.token, ExpiresIn=token.expires_in_s, IssuedAt=_issue_time(token, int(time.time()))
        ).SerializeToString()

    def _get_token_authority(self, data: bytes, _metadata: Metadata) -> bytes:
        request = auth_pb2.GetTokenAuthorityRequest()
        _parse(request, data)
        if not self._use_client_tokens:
            # UNAVAILABLE makes the daemon ask for credentials instead; see session/auth/auth.go.
            raise RpcError(StatusCode.UNAVAILABLE, "client side tokens disabled")
        key = authority_public_key(request.Salt, self._seed(request.Host, self._lookup(request.Host)))
        return auth_pb2.GetTokenAuthorityResponse(PublicKey=key).SerializeToString()

    def _verify_token_authority(self, data: bytes, _metadata: Metadata) -> bytes:
        request = auth_pb2.VerifyTokenAuthorityRequest()
        _parse(request, data)
        if not self._use_client_tokens:
            raise RpcError(StatusCode.UNIMPLEMENTED, "client side tokens disabled")
        if len(request.Payload) > _MAX_PAYLOAD_BYTES:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"payload is longer than {_MAX_PAYLOAD_BYTES} bytes")
        seed = self._seed(request.Host, self._lookup(request.Host))
        signed = sign_payload(request.Salt, seed, request.Payload)
        return auth_pb2.VerifyTokenAuthorityResponse(Signed=signed).SerializeToString()

    def _seed(self, host: str, credentials: Credentials | None) -> bytes:
        """Return the seed of the host's key; empty, so a key that anybody can make, for anonymous access.

        A registry token counts as a login here: what the daemon caches for it must not be open to others.
        """
        return b"" if credentials is None or credentials.is_empty else self._seeds.seed_for(host)

    def _lookup(self, host: str) -> Credentials | None:
        try:
            return self._provider.lookup(host)
        except BuildKitError as exc:
            # Without its cause: that may be a credential helper's own words, which stay on this machine.
            raise self._failed(exc, "") from exc
        except Exception as exc:
            error = CredentialsError(
                f"the credentials for {host} cannot be found out", host=host, why=f"looking raised {type(exc).__name__}"
            )
            error.__cause__ = exc
            raise self._failed(error, "") from exc

    def _failed(self, error: BuildKitError, why: str) -> RpcError:
        """Keep an error, and return what the daemon is told of it."""
        with self._lock:
            if str(error) not in map(str, self._errors):
                self._errors.append(error)
        # Not UNAVAILABLE and not UNIMPLEMENTED: the daemon takes these for "no such feature" and goes on without login.
        code = StatusCode.UNAUTHENTICATED if isinstance(error, CredentialsError) else StatusCode.UNKNOWN
        return RpcError(code, f"{error}: {why}" if why else str(error))

    def _show(self, line: str) -> None:
        with self._lock:
            if line in self._shown:
                return
            self._shown.add(line)
        if self._on_event is not None:
            self._on_event(line)


def _parse(request: Message, data: bytes) -> None:
    try:
        request.ParseFromString(data)
    except DecodeError as exc:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"not a {request.DESCRIPTOR.name}") from exc


def _issue_time(token: Token, now: int) -> int:
    """Return the token's issue time as the daemon may have it: Unix seconds, or 0 for "just now".

    The daemon reckons with its own clock. A token whose renewal lies in the past by then is kept for ever (it looks
    like one without an end), and one from the future is kept too long. Both come from clocks that disagree.

    Reference: util/resolver/authorizer.go, fetchToken.
    """
    is_plausible = token.issued_at <= now < token.issued_at + int(token.expires_in_s * _EXPIRY_SHARE)
    return token.issued_at if is_plausible else 0
