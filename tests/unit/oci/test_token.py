"""Token requests against a server that does what servers do."""

from __future__ import annotations

import base64
import socket
import sys
import time
import traceback
import urllib.parse
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import pytest

from buildkit_client.cli.build_options import parse_tls_contexts
from buildkit_client.errors import BuildKitError, CredentialsError, OptionError, RegistryError
from buildkit_client.oci import realm as realm_rules
from buildkit_client.oci.credentials import Credentials
from buildkit_client.oci.http_pool import _needs_no_proxy
from buildkit_client.oci.token import HostSecurity, HttpOptions, Token, fetch_token
from tests.support.certificates import Authority
from tests.support.fake_token_server import FakeTokenServer, Reply

CANARY = "s3cr3t-canary/+=&"
PLAIN_CANARY = "s3cr3tcanary"
BOB = Credentials("bob", CANARY)
SCOPES = ("repository:team/app:pull,push", "repository:team/base:pull")
GOOD = Reply(document={"token": "good-token", "expires_in": 300})


def fetch(
    server: FakeTokenServer, credentials: Credentials | None = None, *, realm: str = "", http: HttpOptions | None = None
) -> Token:
    return fetch_token(
        realm or server.realm,
        registry="127.0.0.1:5000",
        service="registry.test",
        scopes=SCOPES,
        credentials=credentials,
        http=http or HttpOptions(sleep=lambda _: None),
    )


def failure(server: FakeTokenServer, credentials: Credentials | None = None, **options: object) -> BuildKitError:
    with pytest.raises(BuildKitError) as caught:
        fetch(server, credentials, **options)  # type: ignore[arg-type]
    return caught.value


def test_anonymous_get_asks_for_service_and_every_scope() -> None:
    with FakeTokenServer(GOOD) as server:
        token = fetch(server)
    assert (token.token, token.expires_in_s, token.issued_at) == ("good-token", 300, 0)
    (request,) = server.requests
    assert request.method == "GET"
    assert request.query == [("service", "registry.test"), ("scope", SCOPES[0]), ("scope", SCOPES[1])]
    assert request.authorization is None


def test_query_of_the_realm_is_kept() -> None:
    with FakeTokenServer(GOOD) as server:
        fetch(server, realm=server.realm + "?account=a%20b#part")
    assert server.requests[0].query[:2] == [("account", "a b"), ("service", "registry.test")]


def test_login_goes_by_post_with_the_password_grant() -> None:
    with FakeTokenServer(
        Reply(document={"access_token": "posted", "issued_at": "2026-03-01T10:00:00.123456789Z"})
    ) as server:
        token = fetch(server, BOB)
    (request,) = server.requests
    assert request.method == "POST"
    assert request.form == {
        "service": "registry.test",
        "client_id": "buildkit-client",
        "scope": " ".join(SCOPES),
        "grant_type": "password",
        "username": "bob",
        "password": CANARY,
    }
    assert request.authorization is None
    assert token == Token("posted", 60, int(datetime(2026, 3, 1, 10, tzinfo=UTC).timestamp()))


def test_identity_token_goes_by_post_with_the_refresh_grant() -> None:
    with FakeTokenServer(GOOD) as server:
        fetch(server, Credentials("ignored", "ignored", identity_token=CANARY))
    form = server.requests[0].form
    assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", CANARY)
    assert "username" not in form
    assert "password" not in form


@pytest.mark.parametrize("status", [401, 404, 405])
def test_post_falls_back_to_get_with_basic(status: int) -> None:
    with FakeTokenServer(Reply(status), GOOD) as server:
        assert fetch(server, BOB).token == "good-token"
    assert server.methods == ["POST", "GET"]
    expected = base64.b64encode(f"bob:{CANARY}".encode()).decode()
    assert server.requests[1].authorization == f"Basic {expected}"


def test_405_without_a_user_is_final() -> None:
    with FakeTokenServer(Reply(405)) as server:
        error = failure(server, Credentials(identity_token=CANARY))
    assert server.methods == ["POST"]
    assert isinstance(error, RegistryError)
    assert error.status == 405


def test_404_with_an_identity_token_falls_back() -> None:
    with FakeTokenServer(Reply(404), GOOD) as server:
        fetch(server, Credentials(identity_token="refresh"))
    assert server.requests[1].authorization == "Basic " + base64.b64encode(b":refresh").decode()


def test_redirected_post_falls_back_instead_of_losing_the_login() -> None:
    with FakeTokenServer(Reply(302, headers={"Location": "/elsewhere"}), GOOD) as server:
        fetch(server, BOB)
    assert [(one.method, one.path) for one in server.requests] == [("POST", "/token"), ("GET", "/token")]
    assert server.requests[1].authorization is not None


def test_registry_token_is_returned_without_asking() -> None:
    with FakeTokenServer(GOOD) as server:
        token = fetch(server, Credentials("bob", "pw", registry_token="static"))
    assert token == Token("static", 60, 0)
    assert server.requests == []


@pytest.mark.parametrize(
    ("document", "token"),
    [
        ({"token": "a"}, "a"),
        ({"access_token": "b"}, "b"),
        ({"token": "a", "access_token": "b"}, "b"),
        ({"token": "a", "access_token": ""}, "a"),
    ],
)
def test_token_has_two_names(document: object, token: str) -> None:
    with FakeTokenServer(Reply(document=document)) as server:
        assert fetch(server).token == token


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, 60),
        (0, 60),
        (-5, 60),
        (1, 1),
        (299.9, 299),
        ("120", 120),
        ("soon", 60),
        (True, 60),
        (1e30, 31622400),
        ([], 60),
    ],
)
def test_expiry(given: object, expected: int) -> None:
    with FakeTokenServer(Reply(document={"token": "t", "expires_in": given})) as server:
        assert fetch(server).expires_in_s == expected


@pytest.mark.parametrize("given", [None, "", "yesterday", 5, "0001-01-01T00:00:00Z", "2026-03-01T10:00:00"])
def test_unusable_issue_times_count_as_none(given: object) -> None:
    with FakeTokenServer(Reply(document={"token": "t", "issued_at": given})) as server:
        assert fetch(server).issued_at == 0


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"null", b"{}", b'{"token": 5}', b'{"token": ""}', b'{"token": "a b"}',
        b'{"token": "a\\r\\nX: y"}', b'{"token": "\\u00e9"}', b"[" * 100_000, b"\xff\xfe",
    ],
)  # fmt: skip
def test_answers_without_a_usable_token(body: bytes) -> None:
    with FakeTokenServer(Reply(body=body)) as server:
        error = failure(server)
    assert isinstance(error, RegistryError)
    assert error.host == "127.0.0.1:5000"


def test_answer_of_more_than_a_mebibyte_is_refused() -> None:
    with FakeTokenServer(Reply(body=b" " * (1 << 20) + b"x")) as server:
        error = failure(server)
    assert "longer than 1048576 bytes" in error.why
    with FakeTokenServer(Reply(body=b'{"token": "t"}'.ljust(1 << 20))) as server:
        assert fetch(server).token == "t"


# -- busy servers and broken connections


def test_busy_server_is_asked_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    with FakeTokenServer(Reply(500), Reply(502), Reply(503), GOOD) as server:
        assert fetch(server, http=HttpOptions(sleep=pauses.append)).token == "good-token"
    assert pauses == [0.25, 0.5, 1.0]


def test_attempts_are_bounded() -> None:
    with FakeTokenServer(Reply(503)) as server:
        error = failure(server)
    assert len(server.requests) == 4
    assert isinstance(error, RegistryError)
    assert error.status == 503


def test_a_post_is_repeated_with_its_form() -> None:
    with FakeTokenServer(Reply(502), GOOD) as server:
        fetch(server, BOB)
    assert [one.form["password"] for one in server.requests] == [CANARY, CANARY]


def test_reset_in_the_body_is_repeated() -> None:
    with FakeTokenServer(Reply(body=b'{"token": ', ending="reset"), GOOD) as server:
        assert fetch(server).token == "good-token"
    with FakeTokenServer(Reply(body=b'{"token": ', ending="reset")) as server:
        assert failure(server).why == "the connection broke"
    assert len(server.requests) == 4


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(RegistryError) as caught:
            fetch_token(f"http://127.0.0.1:{port}/", registry="127.0.0.1:5000", http=HttpOptions(sleep=lambda _: None))
    assert caught.value.status == 0
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "refused" in caught.value.why


def test_retry_after_in_seconds_is_waited_for() -> None:
    pauses: list[float] = []
    with FakeTokenServer(Reply(429, headers={"Retry-After": "7"}), GOOD) as server:
        fetch(server, http=HttpOptions(sleep=pauses.append))
    assert pauses == [7.0]


def test_retry_after_as_a_date_is_waited_for() -> None:
    pauses: list[float] = []
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=12), usegmt=True)
    with FakeTokenServer(Reply(429, headers={"Retry-After": date}), GOOD) as server:
        fetch(server, http=HttpOptions(sleep=pauses.append))
    assert 9 < pauses[0] <= 12


@pytest.mark.parametrize("value", ["nonsense", "-3", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_useless_retry_after_is_ignored(value: str) -> None:
    pauses: list[float] = []
    with FakeTokenServer(Reply(429, headers={"Retry-After": value}), GOOD) as server:
        fetch(server, http=HttpOptions(sleep=pauses.append))
    assert pauses == [0.25]


def test_a_long_wait_is_reported_instead_of_waited_for() -> None:
    pauses: list[float] = []
    with FakeTokenServer(Reply(429, headers={"Retry-After": "3600"})) as server:
        error = failure(server, http=HttpOptions(sleep=pauses.append))
    assert pauses == []
    assert isinstance(error, RegistryError)
    assert (error.status, error.why) == (429, "HTTP 429: it asks to wait 3600 s")


@pytest.mark.parametrize("ending", ["drip", "drip_headers"])
def test_total_time_holds_while_single_bytes_keep_coming(ending: Literal["drip", "drip_headers"]) -> None:
    start = time.monotonic()
    with FakeTokenServer(Reply(body=b"{", ending=ending)) as server:
        error = failure(server, http=HttpOptions(total_timeout_s=0.15, sleep=lambda _: None))
    assert "0.15 s" in error.why
    assert time.monotonic() - start < 3


# -- refusals


def test_refused_login_names_user_and_registry() -> None:
    refusal = Reply(401, {"errors": [{"code": "UNAUTHORIZED", "message": f"password {CANARY} is wrong"}]})
    with FakeTokenServer(refusal) as server:
        error = failure(server, BOB)
    assert isinstance(error, CredentialsError)
    assert str(error) == "registry 127.0.0.1:5000 refused the login of bob"
    assert error.why == "HTTP 401: password *** is wrong"
    assert error.host == "127.0.0.1:5000"


def test_wanted_login() -> None:
    with FakeTokenServer(Reply(403, {"details": "no anonymous access\x1b[2J"})) as server:
        error = failure(server)
    assert isinstance(error, CredentialsError)
    assert error.why == "HTTP 403: no anonymous access [2J"
    assert "docker login 127.0.0.1:5000" in error.hint


def test_bad_request_is_no_login_error_and_no_reason_to_fall_back() -> None:
    with FakeTokenServer(Reply(400, {"error": "invalid_scope", "error_description": "unknown scope"})) as server:
        error = failure(server, BOB)
    assert isinstance(error, RegistryError)
    assert error.why == "HTTP 400: unknown scope"
    assert server.methods == ["POST"]


# -- redirects


def test_redirect_on_the_same_origin_keeps_the_login() -> None:
    with FakeTokenServer(Reply(404), Reply(308, headers={"Location": "/other"}), GOOD) as server:
        fetch(server, BOB)
    assert server.requests[2].path == "/other"
    assert server.requests[2].authorization is not None


def test_redirect_to_another_host_drops_the_authorization() -> None:
    with (
        FakeTokenServer(GOOD) as other,
        FakeTokenServer(Reply(404), Reply(302, headers={"Location": other.realm})) as server,
    ):
        fetch(server, BOB)
    assert server.requests[1].authorization is not None
    assert other.requests[0].authorization is None


@pytest.mark.parametrize("status", [307, 308])
def test_redirect_of_a_post_to_another_host_is_refused(status: int) -> None:
    with FakeTokenServer(GOOD) as other, FakeTokenServer(Reply(status, headers={"Location": other.realm})) as server:
        error = failure(server, BOB)
    assert "redirects the login to another host" in error.why
    assert other.requests == []


def test_redirect_of_a_post_on_the_same_origin_keeps_the_form() -> None:
    with FakeTokenServer(Reply(307, headers={"Location": "/v2"}), GOOD) as server:
        fetch(server, BOB)
    assert (server.requests[1].path, server.requests[1].form["password"]) == ("/v2", CANARY)


def test_redirects_end() -> None:
    with FakeTokenServer(Reply(302, headers={"Location": "/again"})) as server:
        error = failure(server)
    assert "redirects more than 5 times" in error.why
    assert len(server.requests) == 6


def test_redirect_to_a_metadata_address_is_refused() -> None:
    with FakeTokenServer(Reply(302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})) as server:
        error = failure(server)
    assert "link-local or metadata address" in error.why


# -- realms


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/token", "https://169.254.1.1/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
        "http://[fd00:ec2::254]/", "https://metadata.google.internal/", "https://METADATA.google.internal./x",
        "http://[::ffff:169.254.169.254]/", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
        "http://169.254.43518/", "http://[64:ff9b::a9fe:a9fe]/", "http://100.100.100.200/", "http://169.254.169.254./",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_insecure", [False, True])
def test_metadata_realms_are_refused_even_for_insecure_registries(realm: str, is_insecure: bool) -> None:
    http = HttpOptions(hosts={"registry.test": HostSecurity(insecure=is_insecure)}, connect_timeout_s=0.1)
    with pytest.raises(RegistryError) as caught:
        fetch_token(realm, registry="registry.test", credentials=BOB, http=http)
    assert "link-local or metadata address" in caught.value.why


def test_a_name_that_leads_to_a_metadata_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from buildkit_client.oci import token_http

    # 127.0.0.1 plays the metadata service; "localhost" as text is no reason to refuse.
    monkeypatch.setattr(token_http, "is_metadata_address", lambda address: address == "127.0.0.1")
    with FakeTokenServer(GOOD) as server:
        error = failure(server, BOB, realm=server.realm_at("localhost"))
    assert "localhost resolves to a link-local or metadata address" in error.why
    assert server.requests == []


@pytest.mark.parametrize(
    ("realm", "is_asked"),
    [
        ("https://auth.other.test/token", True),
        ("http://auth.other.test/token", False),
        ("http://registry.test/token", True),
        ("http://REGISTRY.test.:8080/token", True),
        ("http://registry.test.evil.test/token", False),
        ("http://evil.test/registry.test", False),
    ],
)
def test_plain_http_is_for_the_registrys_own_host(realm: str, is_asked: bool) -> None:
    if is_asked:
        assert realm_rules.check_url(realm, "registry.test:5000", False).geturl()
    else:
        with pytest.raises(RegistryError, match="not asked") as caught:
            realm_rules.check_url(realm, "registry.test:5000", False)
        assert "not protected by TLS" in caught.value.why
    assert realm_rules.check_url(realm, "registry.test:5000", True).geturl()


@pytest.mark.parametrize(
    "realm",
    [
        "", "token", "/token", "ftp://registry.test/", "https://", "https:///x", "https://registry.test:0/",
        "https://registry.test:99999/", "https://[::1/", "https://registry.test/\r\nX: y", "https://registry.test/ x",
        "https://registry.test\\@evil.test/", "file:///etc/passwd", "https://é.test/",
    ],
)  # fmt: skip
def test_malformed_realms_are_refused(realm: str) -> None:
    with pytest.raises(RegistryError):
        fetch_token(realm, registry="registry.test", credentials=BOB)


def test_login_in_a_realm_is_refused_and_not_shown() -> None:
    with pytest.raises(RegistryError) as caught:
        fetch_token(f"https://bob:{PLAIN_CANARY}@registry.test/token", registry="registry.test")
    assert "carries a login" in caught.value.why
    assert PLAIN_CANARY not in shown(caught.value)


# -- TLS and proxies


def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    with FakeTokenServer(GOOD, tls=(str(cert), str(key))) as server:
        error = failure(server, BOB)
        assert "its certificate is not trusted" in error.why
        assert server.requests == []
        for host in ("127.0.0.1:5000", server.host, "127.0.0.1"):
            http = HttpOptions(hosts={host: HostSecurity(ca_path=authority.path)})
            assert fetch(server, BOB, http=http).token == "good-token"


def test_authorities_of_several_files_are_trusted_together(tmp_path: Path) -> None:
    authorities = [Authority(tmp_path, name) for name in ("one", "two")]
    security = HostSecurity(ca_path=authorities[0].path).merged(HostSecurity(ca_path=authorities[1].path))
    assert security.ca_paths == (authorities[0].path, authorities[1].path)
    for number, authority in enumerate(authorities):
        cert, key = authority.issue(f"server{number}")
        with FakeTokenServer(GOOD, tls=(str(cert), str(key))) as server:
            http = HttpOptions(hosts={"127.0.0.1:5000": security})
            assert fetch(server, http=http).token == "good-token"


def test_what_is_said_twice_about_a_host_is_taken_together() -> None:
    one = HostSecurity(ca_path=Path("a"), more_ca_paths=(Path("b"),))
    two = HostSecurity(cert_path=Path("c"), key_path=Path("k"), insecure=True)
    for both in (one.merged(two), two.merged(one)):
        assert set(both.ca_paths) == {Path("a"), Path("b")}
        assert (both.cert_path, both.key_path, both.insecure) == (Path("c"), Path("k"), True)
    with pytest.raises(OptionError, match="one client certificate"):
        two.merged(two)


@pytest.mark.parametrize(
    ("environ", "proxies"),
    [
        ({}, {}),
        ({"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "NO_PROXY": "c"}, {"https": "a", "http": "b", "no_proxy": "c"}),
        ({"https_proxy": "a", "http_proxy": "b", "no_proxy": "c"}, {"https": "a", "http": "b", "no_proxy": "c"}),
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, {"https": "a"}),
        ({"HTTPS_PROXY": "", "https_proxy": "b"}, {"https": "b"}),
        ({"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "REQUEST_METHOD": "GET"}, {"https": "a"}),
    ],
)
def test_proxies_of_the_environment(environ: dict[str, str], proxies: dict[str, str]) -> None:
    options = HttpOptions.from_environ(environ, hosts={"a.test": HostSecurity(insecure=True)})
    assert options.proxies == proxies
    assert options.hosts["a.test"].insecure
    assert "proxies" not in repr(options)


def test_insecure_skips_verification_without_a_warning(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("server", hosts=("other.test",), days=(-9, -2))
    with FakeTokenServer(GOOD, tls=(str(cert), str(key))) as server:
        http = HttpOptions(hosts={"127.0.0.1:5000": HostSecurity(insecure=True)})
        assert fetch(server, http=http).token == "good-token"


def test_redirect_from_tls_to_plain_http_is_refused(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("server")
    with (
        FakeTokenServer(GOOD) as other,
        FakeTokenServer(Reply(302, headers={"Location": other.realm}), tls=(str(cert), str(key))) as server,
    ):
        error = failure(server, http=HttpOptions(hosts={"127.0.0.1:5000": HostSecurity(insecure=True)}))
    assert "without TLS" in error.why
    assert other.requests == []


def test_unusable_ca_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    for text in (None, "no PEM"):
        if text is not None:
            path.write_text(text)
        http = HttpOptions(hosts={"registry.test": HostSecurity(ca_path=path)})
        with pytest.raises(OptionError, match=r"ca\.pem"):
            fetch_token("https://registry.test/token", registry="registry.test", http=http)


def test_plain_http_goes_through_the_proxy_with_its_login() -> None:
    with FakeTokenServer(GOOD) as proxy:
        http = HttpOptions(proxies={"http": f"http://u:p%40@127.0.0.1:{proxy.port}"})
        token = fetch_token("http://registry.test/token", registry="registry.test", http=http)
        assert token.token == "good-token"
        assert proxy.requests[0].headers["host"] == "registry.test"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"u:p@").decode()


@pytest.mark.parametrize("no_proxy", ["*", "test", ".registry.test", "x, registry.test"])
def test_no_proxy(no_proxy: str) -> None:
    with FakeTokenServer(GOOD) as proxy:
        http = HttpOptions(
            proxies={"http": f"127.0.0.1:{proxy.port}", "no_proxy": no_proxy},
            sleep=lambda _: None,
            connect_timeout_s=0.1,
        )
        with pytest.raises(RegistryError):
            fetch_token("http://registry.test/token", registry="registry.test", http=http)
        assert proxy.requests == []


def test_this_machine_needs_no_proxy() -> None:
    with FakeTokenServer(GOOD) as server:
        http = HttpOptions(proxies={"http": "http://proxy.invalid:1"})
        assert fetch(server, http=http).token == "good-token"


# -- secrets


def shown(error: BaseException) -> str:
    parts = ["".join(traceback.format_exception(error)), repr(error)]
    if isinstance(error, BuildKitError):
        parts += [error.why, error.hint]
    return "\n".join(parts)


@pytest.mark.parametrize("credentials", [BOB, Credentials(identity_token=CANARY)])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(401, {"message": CANARY}), Reply(400, {"error": CANARY}), Reply(500, {"errors": [{"code": CANARY}]}),
        Reply(429, {"details": CANARY}), Reply(200, {"token": CANARY + "\n"}), Reply(200, body=CANARY.encode()),
        Reply(200, body=CANARY.encode(), ending="reset"), Reply(307, headers={"Location": "https://user:pw@x/"}),
    ],
)  # fmt: skip
def test_no_error_shows_a_secret(credentials: Credentials, reply: Reply) -> None:
    with FakeTokenServer(reply) as server:
        error = failure(server, credentials)
    assert CANARY not in shown(error)


def test_no_repr_shows_a_secret() -> None:
    everything = [
        Token(CANARY), Credentials("bob", CANARY, CANARY, CANARY), HttpOptions(proxies={"http": f"http://u:{CANARY}@p"}),
    ]  # fmt: skip
    assert CANARY not in repr(everything)


def test_http_library_is_imported_late() -> None:
    import subprocess

    code = "import sys, buildkit_client.oci.token, buildkit_client.oci.credentials; print('urllib3' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "False"


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("10.0.0.0/8", True),
        ("x, 10.1.2.3/32", True),
        ("10.1.2.3", True),
        ("11.0.0.0/8", False),
        ("fd00::/8", False),
        ("10.1.2.3/33", False),
    ],
)
def test_no_proxy_for_a_range_of_addresses(no_proxy: str, is_direct: bool) -> None:
    parts = urllib.parse.urlsplit("https://10.1.2.3:5000/v2/")
    assert _needs_no_proxy(parts, HttpOptions(proxies={"https": "proxy:1", "no_proxy": no_proxy})) == is_direct


# -- the flag --registry-auth-tlscontext


def contexts(*texts: str) -> HttpOptions:
    return HttpOptions(hosts=parse_tls_contexts(texts))


def test_the_flags_authority_and_certificate_reach_a_token_server(tmp_path: Path) -> None:
    """Over real TLS: the server's certificate is of a private authority, and it demands one of ours."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    own_cert, own_key = authority.issue("client")
    with FakeTokenServer(GOOD, tls=(str(cert), str(key)), client_ca=authority.path) as server:
        ca = f"host=127.0.0.1:5000,ca={authority.path}"
        pair = f"host=127.0.0.1:5000,cert={own_cert},key={own_key}"
        for http in (contexts(f"{ca},cert={own_cert},key={own_key}"), contexts(ca, pair), contexts(pair, ca)):
            assert fetch(server, BOB, http=http).token == "good-token"
        count = len(server.requests)
        assert "its certificate is not trusted" in failure(server, BOB, http=contexts(pair)).why
        assert (
            "its certificate is not trusted"
            in failure(server, BOB, http=contexts(f"host=other.test,ca={authority.path}")).why
        )
        failure(server, BOB, http=contexts(ca))  # no certificate to show
        assert len(server.requests) == count


def test_the_flag_can_switch_verification_off_for_one_registry(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("server", hosts=("other.test",), days=(-9, -2))
    with FakeTokenServer(GOOD, tls=(str(cert), str(key))) as server:
        assert fetch(server, BOB, http=contexts("host=127.0.0.1:5000,insecure=true")).token == "good-token"
        count = len(server.requests)
        assert "certificate" in failure(server, BOB, http=contexts("host=127.0.0.1:5001,insecure=true")).why
        assert len(server.requests) == count
