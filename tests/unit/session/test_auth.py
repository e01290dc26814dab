"""The auth service, asked as the daemon asks it."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import traceback
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from buildkit_client._proto import auth_pb2
from buildkit_client.errors import BuildKitError, CredentialsError, RegistryError
from buildkit_client.oci.credentials import Credentials, DockerConfig, StaticCredentials
from buildkit_client.oci.token import HostSecurity, HttpOptions, Token
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session import auth, ed25519
from buildkit_client.session.auth import AuthService, wants_client_tokens
from buildkit_client.session.call import RpcError
from buildkit_client.session.token_authority import TokenSeeds, authority_public_key, sign_payload
from tests.support.certificates import Authority
from tests.support.fake_token_server import FakeTokenServer, Reply

CANARY = "s3cr3t-canary"
HOST = "127.0.0.1:5000"
SALT = bytes(range(32))
LOGINS = StaticCredentials(
    {HOST: Credentials("bob", CANARY), "id.test": Credentials("bob", identity_token=CANARY),
     "static.test": Credentials(registry_token="rt")}
)  # fmt: skip
HTTP = HttpOptions(sleep=lambda _: None)


class Daemon:
    """Asks the four questions by path and bytes."""

    def __init__(self, service: AuthService) -> None:
        self.methods = service.methods()

    def credentials(self, host: str = HOST) -> tuple[str, str]:
        answer = self._call(auth.CREDENTIALS, auth_pb2.CredentialsRequest(Host=host))
        response = auth_pb2.CredentialsResponse.FromString(answer)
        return response.Username, response.Secret

    def token(self, realm: str, host: str = HOST, scopes: tuple[str, ...] = ("repository:foo/bar:pull",)):  # type: ignore[no-untyped-def]
        request = auth_pb2.FetchTokenRequest(ClientID="x", Host=host, Realm=realm, Service="s", Scopes=scopes)
        return auth_pb2.FetchTokenResponse.FromString(self._call(auth.FETCH_TOKEN, request))

    def authority(self, host: str = HOST, salt: bytes = SALT) -> bytes:
        answer = self._call(auth.GET_TOKEN_AUTHORITY, auth_pb2.GetTokenAuthorityRequest(Host=host, Salt=salt))
        return bytes(auth_pb2.GetTokenAuthorityResponse.FromString(answer).PublicKey)

    def verify(self, host: str = HOST, payload: bytes = b"p" * 32, salt: bytes = SALT) -> bytes:
        request = auth_pb2.VerifyTokenAuthorityRequest(Host=host, Payload=payload, Salt=salt)
        answer = self._call(auth.VERIFY_TOKEN_AUTHORITY, request)
        return bytes(auth_pb2.VerifyTokenAuthorityResponse.FromString(answer).Signed)

    def _call(self, path: str, request) -> bytes:  # type: ignore[no-untyped-def]
        return self.methods[path](request.SerializeToString(), {"traceparent": ("x",)})


def broken_config(folder: Path) -> DockerConfig:
    (folder / "config.json").write_text(json.dumps({"credHelpers": {"bad.test": "gone"}}))
    return DockerConfig(folder / "config.json", env={"PATH": str(folder)})


def shown(error: BaseException) -> str:
    parts = ["".join(traceback.format_exception(error)), repr(error)]
    if isinstance(error, BuildKitError):
        parts += [error.why, error.hint]
    return "\n".join(parts)


def test_paths() -> None:
    service = auth_pb2.DESCRIPTOR.services_by_name["Auth"]
    assert set(AuthService(LOGINS).methods()) == {f"/{service.full_name}/{method.name}" for method in service.methods}


# -- credentials


def test_credentials() -> None:
    daemon = Daemon(AuthService(LOGINS))
    assert daemon.credentials() == ("bob", CANARY)
    assert daemon.credentials("id.test") == ("", CANARY)
    assert daemon.credentials("static.test") == ("", "")
    assert daemon.credentials("unknown.test") == ("", "")
    assert daemon.credentials("127.0.0.1:5001") == ("", "")


def test_events_are_shown_once() -> None:
    events: list[str] = []
    daemon = Daemon(AuthService(LOGINS, http=HTTP, on_event=events.append))
    with FakeTokenServer(Reply(document={"token": "t"})) as server:
        for _ in range(2):
            daemon.credentials()
            daemon.credentials("unknown.test")
            daemon.token(server.realm, scopes=("repository:foo/bar:pull,push", "repository:x:pull"))
            daemon.token(server.realm, host="localhost:1")
    assert events == [f"[auth] sharing credentials for {HOST}", f"[auth] foo/bar:pull,push x:pull token for {HOST}"]


# -- tokens


def test_fetch_token() -> None:
    with FakeTokenServer(Reply(document={"access_token": "t0k", "expires_in": 300})) as server:
        response = Daemon(AuthService(LOGINS, http=HTTP)).token(server.realm)
    assert (response.Token, response.ExpiresIn, response.IssuedAt) == ("t0k", 300, 0)
    (request,) = server.requests
    assert request.form["scope"] == "repository:foo/bar:pull"
    assert (request.form["service"], request.form["client_id"]) == ("s", "buildkit-client")


def test_fetch_token_without_expiry_lives_60_s() -> None:
    with FakeTokenServer(Reply(document={"token": "t"})) as server:
        assert Daemon(AuthService(LOGINS, http=HTTP)).token(server.realm).ExpiresIn == 60


def test_fetch_token_of_a_registry_token_asks_nobody() -> None:
    response = Daemon(AuthService(LOGINS)).token("https://nobody.invalid/", host="static.test")
    assert (response.Token, response.ExpiresIn, response.IssuedAt) == ("rt", 60, 0)


@pytest.mark.parametrize(
    ("issued_at", "expires_in_s", "told"),
    [(1000, 300, 1000), (900, 300, 900), (731, 300, 731), (730, 300, 0), (10, 300, 0), (1001, 300, 0), (0, 300, 0)],
)
def test_issue_times_that_would_mislead_the_daemon_are_left_out(issued_at: int, expires_in_s: int, told: int) -> None:
    assert auth._issue_time(Token("t", expires_in_s, issued_at), now=1000) == told


def test_refused_login_reaches_the_daemon_and_is_kept() -> None:
    service = AuthService(LOGINS, http=HTTP)
    with FakeTokenServer(Reply(401, {"details": f"no {CANARY}"})) as server:
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                Daemon(service).token(server.realm)
    assert caught.value.code == StatusCode.UNAUTHENTICATED
    assert caught.value.message == f"registry {HOST} refused the login of bob: HTTP 401: no ***"
    assert CANARY not in shown(caught.value)
    (error,) = service.errors
    assert isinstance(error, CredentialsError)
    assert error.host == HOST


def test_failing_token_server_is_no_reason_to_go_on_without_login() -> None:
    service = AuthService(LOGINS, http=HTTP)
    with FakeTokenServer(Reply(503)) as server, pytest.raises(RpcError) as caught:
        Daemon(service).token(server.realm)
    # The daemon reads UNAVAILABLE and UNIMPLEMENTED as "this client has no such feature".
    assert caught.value.code == StatusCode.UNKNOWN
    assert isinstance(service.errors[0], RegistryError)


# -- errors of lookups


def test_a_broken_helper_fails_its_own_host_only(tmp_path: Path) -> None:
    service = AuthService(broken_config(tmp_path))
    daemon = Daemon(service)
    assert daemon.credentials("good.test") == ("", "")
    assert service.errors == ()
    for ask in (daemon.credentials, daemon.authority, daemon.verify):
        with pytest.raises(RpcError) as caught:
            ask("bad.test")
        assert caught.value.code == StatusCode.UNAUTHENTICATED
        assert caught.value.message == "credential helper docker-credential-gone failed for registry bad.test"
    (error,) = service.errors
    assert isinstance(error, CredentialsError)
    assert (error.why, error.host) == ("it is not installed", "bad.test")
    assert len(daemon.authority("good.test")) == 32


def test_a_helpers_own_words_stay_here(tmp_path: Path) -> None:
    (tmp_path / "docker-credential-gone").write_text("#!/bin/sh\necho 'words of the helper'; exit 1\n")
    (tmp_path / "docker-credential-gone").chmod(0o755)
    service = AuthService(broken_config(tmp_path))
    with pytest.raises(RpcError) as caught:
        Daemon(service).credentials("bad.test")
    assert "words" not in caught.value.message
    assert "words of the helper" in service.errors[0].why


@pytest.mark.parametrize(
    "path", [auth.CREDENTIALS, auth.FETCH_TOKEN, auth.GET_TOKEN_AUTHORITY, auth.VERIFY_TOKEN_AUTHORITY]
)
def test_requests_that_are_no_messages(path: str) -> None:
    with pytest.raises(RpcError) as caught:
        AuthService(LOGINS).methods()[path](b"\xff\xff", {})
    assert caught.value.code == StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("host", ["", "a b", "registry.test\n", "https://registry.test"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(RpcError, match="not a registry host"):
        Daemon(AuthService(LOGINS)).credentials(host)


# -- the token authority


def is_signed_by(public: bytes, signed: bytes, payload: bytes) -> bool:
    """Check as the daemon does: NaCl's sign format, 64 bytes of signature and the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed[:64], signed[64:])
    except InvalidSignature:
        return False
    return signed[64:] == payload


def test_authority_is_recognised_again() -> None:
    daemon = Daemon(AuthService(LOGINS))
    public = daemon.authority()
    assert is_signed_by(public, daemon.verify(payload=b"x" * 32), b"x" * 32)
    assert not is_signed_by(public, daemon.verify(payload=b"x" * 32), b"y" * 32)
    assert not is_signed_by(public, daemon.verify(salt=b"other salt"), b"p" * 32)
    assert daemon.authority("id.test") != public


def test_other_process_is_not_recognised_without_a_seed_file() -> None:
    public = Daemon(AuthService(LOGINS)).authority()
    assert not is_signed_by(public, Daemon(AuthService(LOGINS)).verify(), b"p" * 32)


def test_other_process_is_recognised_with_a_seed_file(tmp_path: Path) -> None:
    path = tmp_path / "seeds"
    public = Daemon(AuthService(LOGINS, seeds=TokenSeeds(path))).authority()
    assert is_signed_by(public, Daemon(AuthService(LOGINS, seeds=TokenSeeds(path))).verify(), b"p" * 32)


def test_anonymous_clients_share_one_key_and_clients_with_a_login_do_not() -> None:
    one, two = Daemon(AuthService(LOGINS)), Daemon(AuthService(LOGINS))
    assert one.authority("unknown.test") == two.authority("unknown.test") == authority_public_key(SALT, b"")
    for host in (HOST, "id.test", "static.test"):
        assert one.authority(host) != two.authority(host), host
        assert one.authority(host) != authority_public_key(SALT, b""), host


def test_client_tokens_switched_off() -> None:
    daemon = Daemon(AuthService(LOGINS, use_client_tokens=False))
    with pytest.raises(RpcError) as caught:
        daemon.authority()
    assert caught.value.code == StatusCode.UNAVAILABLE
    with pytest.raises(RpcError) as caught:
        daemon.verify()
    assert caught.value.code == StatusCode.UNIMPLEMENTED
    assert daemon.credentials() == ("bob", CANARY)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, True), ("", True), ("0", True), ("false", True), ("no", True), ("1", False), ("true", False), ("T", False)],
)
def test_client_tokens_are_switched_off_by_the_environment(value: str | None, wanted: bool) -> None:
    assert wants_client_tokens({} if value is None else {"BUILDKIT_NO_CLIENT_TOKEN": value}) is wanted


def test_a_build_may_last_longer_than_a_helpers_login(tmp_path: Path) -> None:
    """The helper's token of the first minute is of no use an hour later; the daemon gets one of then."""
    helper = tmp_path / "docker-credential-short"
    helper.write_text(
        '#!/bin/sh\necho x >> "$COUNT"\n'
        'printf \'{"Username":"bob","Secret":"canary-%s"}\' "$(wc -l < "$COUNT" | tr -d " ")"\n'
    )
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "short"}))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "COUNT": str(tmp_path / "count")}
    now = [0.0]
    config = DockerConfig(tmp_path / "config.json", env=env, clock=lambda: now[0])
    daemon = Daemon(AuthService(config, http=HTTP))
    secrets = []
    with FakeTokenServer(Reply(document={"token": "t", "expires_in": 60})) as server:
        for minute in range(0, 60, 10):
            now[0] = minute * 60.0
            secrets.append(daemon.credentials("registry.test")[1])
            daemon.token(server.realm, host="127.0.0.1:5000")
    assert secrets == [f"canary-{number}" for number in (1, 3, 5, 7, 9, 11)]
    assert [request.form["password"] for request in server.requests] == [f"canary-{n}" for n in (2, 4, 6, 8, 10, 12)]


def test_a_login_is_reused_for_4_minutes_and_50_seconds(tmp_path: Path) -> None:
    """As the reference does; workload identity tokens live five minutes."""
    (tmp_path / "config.json").write_text(json.dumps({"auths": {HOST: {"username": "bob", "password": "one"}}}))
    now = [0.0]
    daemon = Daemon(AuthService(DockerConfig(tmp_path / "config.json", env={}, clock=lambda: now[0])))
    assert daemon.credentials() == ("bob", "one")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {HOST: {"username": "bob", "password": "two"}}}))
    now[0] = 289.9
    assert daemon.credentials() == ("bob", "one")
    now[0] = 290.0
    assert daemon.credentials() == ("bob", "two")


def test_token_servers_are_reached_by_the_tls_files_of_their_registry(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    with FakeTokenServer(Reply(document={"token": "t0k"}), tls=(str(cert), str(key))) as server:
        service = AuthService(LOGINS, http=HTTP)
        with pytest.raises(RpcError, match="its certificate is not trusted"):
            Daemon(service).token(server.realm)
        http = HttpOptions(hosts={HOST: HostSecurity(ca_path=authority.path)}, sleep=lambda _: None)
        assert Daemon(AuthService(LOGINS, http=http)).token(server.realm).Token == "t0k"
        other = HttpOptions(hosts={"other.test": HostSecurity(ca_path=authority.path)}, sleep=lambda _: None)
        with pytest.raises(RpcError, match="its certificate is not trusted"):
            Daemon(AuthService(LOGINS, http=other)).token(server.realm)


def test_long_payloads_are_not_signed() -> None:
    daemon = Daemon(AuthService(LOGINS))
    assert len(daemon.verify(payload=b"p" * 4096)) == 64 + 4096
    with pytest.raises(RpcError) as caught:
        daemon.verify(payload=b"p" * 4097)
    assert caught.value.code == StatusCode.INVALID_ARGUMENT


# Made with Go's golang.org/x/crypto/nacl/sign and crypto/hmac: salt[j] = 7j + i, seed[j] = 200 - 3j + i, payload
# "payload i"; the third without a seed.
# fmt: off
GO_VECTORS = [
    (
        "381d9edbf6962650f91d500c62201ddaec699a19ce957ed5807e1a4015d32a33",
        ("41c48d6ee5464a1b0c97d2d53ca32165c26de9004061c3bfb1818172a92c8b83"
         "d8c7191406b42b890dd3eb1193b27d7b49e4df391028908648419ffabcdec009"),
    ),
    (
        "ea8da96d9062a30268391d806547d2f12d34718c57715272b843b0e43606d2a2",
        ("2f013ca18493ec28b23df050c67866d7c43c68474ce1c618e7cecf40e38ad03b"
         "86792be735f83429b0b818d3996285173f0322a3cbdfbb131f4683dafe819d0d"),
    ),
    (
        "ba34d9cbeb9e0c15493e2199462ecc649ff752309ce363a814b5f209d7474c9a",
        ("1a10384b9e8c7b1b02d839b71c5c4a5f6f8fb4b5726d3ede14318939cf420b0a"
         "891cef3090d1da08b62cc4139f1f17471b44dac53a798196e8b4c9c1a3979a0b"),
    ),
]
# fmt: on


@pytest.mark.parametrize("number", range(3))
def test_keys_and_signatures_equal_those_of_go(number: int) -> None:
    salt = bytes(7 * j + number for j in range(32))
    seed = bytes(200 - 3 * j + number for j in range(16)) if number < 2 else b""
    public, signature = GO_VECTORS[number]
    assert authority_public_key(salt, seed).hex() == public
    assert sign_payload(salt, seed, b"payload %d" % number) == bytes.fromhex(signature) + b"payload %d" % number


@pytest.mark.parametrize("length", [0, 1, 32, 127, 1000])
def test_ed25519_equals_another_implementation(length: int) -> None:
    seed, message = os.urandom(32), os.urandom(length)
    other = Ed25519PrivateKey.from_private_bytes(seed)
    assert ed25519.public_key(seed) == other.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert ed25519.sign(seed, message) == other.sign(message)


def test_ed25519_rfc_vector() -> None:
    # RFC 8032 section 7.1, TEST 1: the empty message.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert ed25519.public_key(seed).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert ed25519.sign(seed, b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    with pytest.raises(ValueError, match="32 bytes"):
        ed25519.sign(b"short", b"")


# -- the seed file


def test_seed_file_has_the_known_format_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".token_seed"
    old = os.umask(0)
    try:
        seed = TokenSeeds(path).seed_for("registry.test")
    finally:
        os.umask(old)
    assert len(seed) == 16
    assert json.loads(path.read_text()) == {"registry.test": {"Seed": base64.b64encode(seed).decode()}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name(".token_seed.lock").stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(one.name for one in path.parent.iterdir()) == [".token_seed", ".token_seed.lock"]


def test_seeds_are_kept_per_host_next_to_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "seeds"
    foreign = base64.b64encode(b"f" * 16).decode()
    path.write_text(json.dumps({"other.test": {"Seed": foreign}, "kept": 5}))
    seeds = TokenSeeds(path)
    first, second = seeds.seed_for("a.test"), seeds.seed_for("b.test")
    assert first != second
    assert TokenSeeds(path).seed_for("a.test") == seeds.seed_for("a.test") == first
    assert TokenSeeds(path).seed_for("other.test") == b"f" * 16
    assert json.loads(path.read_text())["kept"] == 5


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"a.test": {"Seed": "c2hvcnQ="}}', '{"a.test": {"Seed": "?"}}', '{"a.test": 5}'],
)
def test_damaged_seed_files_are_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "seeds"
    path.write_text(text)
    seed = TokenSeeds(path).seed_for("a.test")
    assert len(seed) == 16
    assert TokenSeeds(path).seed_for("a.test") == seed


@pytest.mark.parametrize("name", ["seeds", "seeds.lock"])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    target.write_text(json.dumps({"a.test": {"Seed": base64.b64encode(b"f" * 16).decode()}}))
    before = target.read_text()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).symlink_to(target)
    seeds = TokenSeeds(folder / "seeds")
    seed = seeds.seed_for("a.test")
    assert seed != b"f" * 16
    assert seeds.seed_for("a.test") == seed
    assert target.read_text() == before
    assert (folder / name).is_symlink()


def test_seeds_stay_in_memory_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seeds = TokenSeeds(tmp_path / "file" / "seeds")
    assert seeds.seed_for("a.test") == seeds.seed_for("a.test") != seeds.seed_for("b.test")


def test_a_lock_that_stays_taken_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    from buildkit_client.session import token_authority

    monkeypatch.setattr(token_authority, "_LOCK_TIMEOUT_S", 0.1)
    with (tmp_path / "seeds.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start = time.monotonic()
        assert len(TokenSeeds(tmp_path / "seeds").seed_for("a.test")) == 16
        assert time.monotonic() - start < 3
    assert not (tmp_path / "seeds").exists()


def test_threads_with_seed_objects_of_their_own_agree(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(TokenSeeds(tmp_path / "seeds").seed_for("a.test")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


# -- secrets


def test_nothing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []
    service = AuthService(LOGINS, http=HTTP, on_event=events.append)
    daemon = Daemon(service)
    texts = [repr(service), repr(LOGINS), repr(vars(service))]
    with caplog.at_level(0), FakeTokenServer(Reply(403, {"message": CANARY})) as server:
        daemon.credentials()
        for host in (HOST, "id.test"):
            with pytest.raises(RpcError) as caught:
                daemon.token(server.realm, host=host)
            texts.append(shown(caught.value))
    texts += [*events, caplog.text, *(shown(error) for error in service.errors)]
    assert len(texts) > 6
    for text in texts:
        assert CANARY not in text
        assert base64.b64encode(f"bob:{CANARY}".encode()).decode() not in text


def test_a_provider_that_breaks_is_our_error_and_its_words_stay_here() -> None:
    class Broken:
        def lookup(self, host: str) -> None:
            raise RuntimeError("canary")

    service = AuthService(Broken())
    with pytest.raises(RpcError, match=f"the credentials for {HOST} cannot be found out") as caught:
        Daemon(service).credentials()
    assert caught.value.code == StatusCode.UNAUTHENTICATED
    (error,) = service.errors
    assert isinstance(error, CredentialsError)
    assert (error.host, error.why) == (HOST, "looking raised RuntimeError")
    assert "canary" not in f"{caught.value}{error}"
