"""The registry client against a strict registry on this machine; every test also fails when the client strays."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from buildkit_client.errors import (
    BlobNotFoundError,
    CredentialsError,
    DigestMismatchError,
    OptionError,
    RegistryError,
)
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import ImageIndex, ImageManifest
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry import RegistryClient
from buildkit_client.oci.token import HostSecurity, HttpOptions
from tests.support.certificates import Authority
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.registry_client import BLOB, CONFIG, CONFIG_DATA, LAYER, MANIFEST, Maker, other, ping, push, read

# --- reaching it ---


def test_plain_http_on_this_machine(connect: Maker) -> None:
    connect().ping()


def test_https_with_a_known_authority(tmp_path: Path, waits: list[float]) -> None:
    authority = Authority(tmp_path)
    with FakeRegistry(tls=authority.issue("registry")) as registry:
        options = HttpOptions(hosts={registry.host: HostSecurity(ca_path=authority.path)}, sleep=waits.append)
        with RegistryClient(registry.host, http=options) as client:
            client.ping()


def test_nobody_there(waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(RegistryError) as caught:
            ping(host, HttpOptions(sleep=waits.append))
    assert caught.value.host == host
    assert caught.value.status == 0
    assert "Connection refused" in caught.value.why
    assert host in caught.value.hint
    assert waits == []


def test_host_that_is_none() -> None:
    with pytest.raises(OptionError):
        RegistryClient("https://registry.example.com")


def test_hub_is_reached_under_its_real_name() -> None:
    assert RegistryClient("docker.io").host == "registry-1.docker.io"
    assert RegistryClient(Reference.parse("alpine")).host == "registry-1.docker.io"
    assert RegistryClient("localhost:5000/app:1").host == "localhost:5000"


def test_reference_of_another_registry_is_refused(connect: Maker) -> None:
    with pytest.raises(OptionError, match="not in registry"):
        connect().resolve(Reference.parse("alpine"))
    with pytest.raises(OptionError, match="not in registry"):
        push(connect(), Reference.parse("alpine"))


# --- manifests ---


def test_resolve(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    expected = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST)
    assert connect().resolve(ref) == expected
    assert connect().resolve(ref.with_digest(expected.digest)) == expected
    assert not registry.requests("GET", "manifests")


def test_resolve_without_head(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.has_head = False
    assert connect().resolve(ref) == Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST)


@pytest.mark.parametrize("header", ["", "sha256:abc", "md5:" + "0" * 32])
def test_resolve_when_head_says_too_little(connect: Maker, registry: FakeRegistry, ref: Reference, header: str) -> None:
    headers = {"Content-Type": media_types.OCI_IMAGE_MANIFEST, "Docker-Content-Digest": header}
    registry.faults.append(Fault("HEAD", "manifests", status=200, headers=headers))
    assert connect().resolve(ref).digest == Digest.of(MANIFEST)


def test_resolve_digest_with_a_lying_header(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    headers = {
        "Content-Type": media_types.OCI_IMAGE_MANIFEST,
        "Docker-Content-Digest": Digest.of(b"other"),
        "Content-Length": "5",
    }
    registry.faults.append(Fault("HEAD", "manifests", status=200, headers=headers))
    with pytest.raises(DigestMismatchError):
        connect().resolve(ref.with_digest(Digest.of(MANIFEST)))


def test_get_manifest(connect: Maker, ref: Reference) -> None:
    assert connect().get_manifest(ref) == (Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST), MANIFEST)


def test_manifest_that_is_another_one(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    digest = Digest.of(b"wanted")
    registry.manifests["app", digest] = (media_types.OCI_IMAGE_MANIFEST, MANIFEST)
    with pytest.raises(DigestMismatchError) as caught:
        connect().get_manifest(ref.with_digest(digest))
    assert digest in caught.value.why


@pytest.mark.parametrize(("header", "error"), [(Digest.of(b"other"), DigestMismatchError), ("sha256:x", RegistryError)])
def test_digest_header_is_compared(
    connect: Maker, registry: FakeRegistry, ref: Reference, header: str, error: type[Exception]
) -> None:
    registry.answer_headers = {"Docker-Content-Digest": header}
    with pytest.raises(error):
        connect().get_manifest(ref)


def test_manifest_without_media_type(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.answer_headers = {"Content-Type": "text/plain; charset=utf-8"}
    assert connect().get_manifest(ref)[0].media_type == media_types.OCI_IMAGE_MANIFEST


def test_manifest_that_is_too_large(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.add_manifest("app", MANIFEST + b" " * (4 << 20), media_types.OCI_IMAGE_MANIFEST, "1")
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert "longer than 4194304 bytes" in caught.value.why
    assert connect(max_manifest_bytes=8 << 20).get_manifest(ref)[0].size_bytes > 4 << 20


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        (media_types.DOCKER_SCHEMA1_SIGNED, b'{"schemaVersion":1}'),
        ("application/json", b'{"schemaVersion":1,"fsLayers":[]}'),
        ("text/html", b"<html>login</html>"),
        ("text/plain", b"{}"),
    ],
)
def test_what_is_no_manifest(
    connect: Maker, registry: FakeRegistry, ref: Reference, media_type: str, data: bytes
) -> None:
    registry.add_manifest("app", data, media_type, "1")
    with pytest.raises(RegistryError, match="cannot pull manifest"):
        connect().get_manifest(ref)


def test_unknown_image(connect: Maker, ref: Reference) -> None:
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref.with_tag("2"))
    assert str(caught.value) == f"cannot pull manifest {ref.with_tag('2')}"
    assert caught.value.status == 404
    assert caught.value.why == "HTTP 404: MANIFEST_UNKNOWN: manifest unknown"
    assert caught.value.hint


def test_push_manifest(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    stored = connect().push_manifest(ref.with_tag("2"), MANIFEST, media_types.OCI_IMAGE_MANIFEST)
    assert stored == Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST)
    assert registry.tags["app", "2"] == stored.digest


def test_push_manifest_under_a_wrong_digest(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    with pytest.raises(DigestMismatchError):
        connect().push_manifest(ref.with_digest(Digest.of(b"x")), MANIFEST, media_types.OCI_IMAGE_MANIFEST)
    assert not registry.requests("PUT", ".")


def test_registry_that_stores_something_else(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.answer_headers = {"Docker-Content-Digest": Digest.of(b"other")}
    with pytest.raises(RegistryError) as caught:
        connect().push_manifest(ref.with_tag("2"), MANIFEST, media_types.OCI_IMAGE_MANIFEST)
    assert "stored it as" in caught.value.why


def test_read_config(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    entry = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST)
    amd64 = Descriptor(entry.media_type, entry.digest, entry.size_bytes, platform=Platform("linux", "amd64"))
    index = ImageIndex((amd64,)).to_bytes()
    registry.add_manifest("app", index, media_types.OCI_INDEX, "all")
    client = connect()
    assert client.read_config(ref).entrypoint == ("/x",)
    assert client.read_config(ref.with_tag("all"), Platform("linux", "amd64")).entrypoint == ("/x",)
    with pytest.raises(RegistryError, match="read the config") as caught:
        client.read_config(ref.with_tag("all"), Platform("linux", "arm64"))
    assert "linux/amd64" in caught.value.why


def test_read_config_by_tag_or_digest_alone(registry: FakeRegistry, ref: Reference) -> None:
    with RegistryClient(str(ref)) as client:
        assert client.read_config("1").entrypoint == ("/x",)
        assert client.read_config(Digest.of(MANIFEST)).entrypoint == ("/x",)


# --- blobs ---


def test_has_blob(connect: Maker, ref: Reference) -> None:
    assert connect().has_blob(ref, LAYER.digest)
    assert not connect().has_blob(ref, Digest.of(b"other"))
    assert not connect().has_blob(other(ref), LAYER.digest)


def test_read_blob(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    assert read(connect(), ref) == BLOB
    empty = Descriptor.of("x/y", b"")
    registry.add_blob("app", b"")
    assert read(connect(), ref, empty) == b""


def test_missing_blob(connect: Maker, ref: Reference) -> None:
    with pytest.raises(BlobNotFoundError):
        read(connect(), ref, Descriptor.of("x/y", b"missing"))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (bytes([BLOB[0] ^ 1]) + BLOB[1:], DigestMismatchError),
        (BLOB[:-1] + bytes([BLOB[-1] ^ 1]), DigestMismatchError),
        (BLOB + b"x", RegistryError),
    ],
    ids=["first bit", "last bit", "longer"],
)
def test_blob_with_other_bytes(
    connect: Maker, registry: FakeRegistry, ref: Reference, data: bytes, error: type[Exception]
) -> None:
    registry.blobs["app", LAYER.digest] = data
    with pytest.raises(error):
        read(connect(), ref)


def test_blob_that_is_too_short(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.expect_violations = True  # the rest is asked for, and is not there
    registry.blobs["app", LAYER.digest] = BLOB[:-1]
    with pytest.raises(RegistryError):
        read(connect(), ref)


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("points", [[1], [100_000], [100_000, 50_000, 120_000], [0, 0]])
def test_broken_download_goes_on(
    connect: Maker, registry: FakeRegistry, ref: Reference, *, points: list[int], has_ranges: bool
) -> None:
    registry.has_ranges = has_ranges
    registry.faults += [Fault("GET", "blobs", reset_after=point) for point in points]
    assert read(connect(), ref) == BLOB
    requests = registry.requests("GET", "blobs")
    assert len(requests) == len(points) + 1
    assert ("range" in requests[-1].headers) == any(points)
    assert len(connect.waits) == len(points)


def test_download_that_breaks_for_ever(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.has_ranges = False
    registry.faults.append(Fault("GET", "blobs", count=100, reset_after=1000))
    with pytest.raises(RegistryError) as caught:
        read(connect(), ref)
    assert "1000 of 300000 bytes" in caught.value.why
    assert len(registry.requests("GET", "blobs")) <= 6


def test_wrong_range_is_refused(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults += [
        Fault("GET", "blobs", reset_after=1000),
        Fault("GET", "blobs", status=206, headers={"Content-Range": "bytes 0-9/300000"}, body=b"0123456789"),
    ]
    with pytest.raises(RegistryError) as caught:
        read(connect(), ref)
    assert "another range" in caught.value.why


def test_redirect_to_another_host_goes_without_the_login(
    connect: Maker, registry: FakeRegistry, ref: Reference
) -> None:
    registry.auth, registry.redirect_blobs_to = "basic", "localhost"
    assert read(connect(registry.login), ref) == BLOB
    (stored,) = registry.requests("GET", "^/store/")
    assert stored.host.startswith("localhost:")
    assert "authorization" not in stored.headers


def test_redirected_download_goes_on(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth, registry.redirect_blobs_to = "bearer", "localhost"
    registry.faults.append(Fault("GET", "^/store/", reset_after=70_000))
    assert read(connect(registry.login), ref) == BLOB
    assert registry.requests("GET", "^/store/")[-1].headers["range"] == "bytes=70000-"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://metadata.google.internal/x",
        "ftp://host/x",
        "http://user:pass@localhost/x",
        "http://[::1/x",
        "file:///etc/passwd",
    ],
)
def test_redirects_that_are_not_followed(connect: Maker, registry: FakeRegistry, ref: Reference, location: str) -> None:
    registry.faults.append(Fault("GET", "blobs", status=307, headers={"Location": location}))
    with pytest.raises(RegistryError):
        read(connect(), ref)


def test_redirect_circle(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    location = f"/v2/app/blobs/{LAYER.digest}"
    registry.faults.append(Fault("GET", "blobs", count=100, status=302, headers={"Location": location}))
    with pytest.raises(RegistryError) as caught:
        read(connect(), ref)
    assert "redirects more than 5 times" in caught.value.why


# --- logins ---


def test_basic(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth = "basic"
    client = connect(registry.login)
    assert client.get_manifest(ref)[1] == MANIFEST
    assert push(client, other(ref))


def test_bearer(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth = "bearer"
    client = connect(registry.login)
    assert client.get_manifest(ref)[1] == MANIFEST
    assert read(client, ref) == BLOB
    assert len([one for one in registry.seen if one.path == "/token"]) == 1
    assert push(client, other(ref))
    passwords = [
        one
        for one in registry.seen
        if one.path != "/token" and one.headers.get("authorization", "").startswith("Basic")
    ]
    assert passwords == []


def test_anonymous_bearer(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth = "bearer"
    assert connect().get_manifest(ref)[1] == MANIFEST
    with pytest.raises(RegistryError) as caught:
        push(connect(), other(ref))
    assert caught.value.status == 401
    assert "no login" in caught.value.hint


@pytest.mark.parametrize("chunk_bytes", [None, 60_000])
def test_token_that_ends_while_pushing(
    connect: Maker, registry: FakeRegistry, ref: Reference, chunk_bytes: int | None
) -> None:
    registry.auth, registry.token_uses = "bearer", 2
    client = connect(registry.login, chunk_bytes=chunk_bytes)
    assert push(client, other(ref))
    client.push_blob(other(ref), CONFIG, lambda: [CONFIG_DATA])
    client.push_manifest(other(ref), MANIFEST, media_types.OCI_IMAGE_MANIFEST)
    assert registry.blobs["new", LAYER.digest] == BLOB


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_no_login(connect: Maker, registry: FakeRegistry, ref: Reference, kind: str) -> None:
    registry.auth, registry.anonymous_pull = kind, False
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert caught.value.status == 401
    assert caught.value.hint == f"log in to {registry.host}; no login for it was found"


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_wrong_password_is_never_shown(connect: Maker, registry: FakeRegistry, ref: Reference, kind: str) -> None:
    registry.auth = kind
    with pytest.raises((RegistryError, CredentialsError)) as caught:
        connect(("bob", "canary-password")).get_manifest(ref)
    shown = repr(caught.value) + caught.value.why + caught.value.hint
    assert "canary" not in shown
    assert registry.host in shown


def test_registry_that_echoes_the_login(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth = "basic"
    client = connect(registry.login)
    client.resolve(ref)
    body = json.dumps({"errors": [{"code": "X", "message": f"wrong: {registry.login[1]}\x1b[2J\n"}]}).encode()
    registry.faults.append(Fault("GET", "manifests", status=400, body=body))
    with pytest.raises(RegistryError) as caught:
        client.get_manifest(ref)
    assert caught.value.why == "HTTP 400: X: wrong: *** [2J"


# --- TLS and plain HTTP mixed up ---


def test_tls_port_with_unknown_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    """A registry on this machine is not verified, so the name is taken for another machine's here."""
    monkeypatch.setattr("buildkit_client.oci.registry_http.is_loopback", lambda name: False)
    with FakeRegistry(tls=Authority(tmp_path).issue("registry")) as registry:
        with pytest.raises(RegistryError) as caught:
            ping(registry.host, HttpOptions(sleep=waits.append))
        assert "certificate is not trusted" in caught.value.why
        assert "CA certificate" in caught.value.hint
        with RegistryClient(registry.host, insecure=True) as client:
            client.ping()


def test_plain_port_that_should_speak_tls(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    registry.expect_violations = True
    monkeypatch.setattr("buildkit_client.oci.registry_http.is_loopback", lambda name: False)
    with pytest.raises(RegistryError) as caught:
        ping(registry.host, HttpOptions(sleep=waits.append))
    assert caught.value.why == "the port does not speak TLS"
    assert "insecure" in caught.value.hint
    with RegistryClient(registry.host, insecure=True) as client:
        client.ping()


def test_certificate_is_verified_when_an_authority_is_given(tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / "other").mkdir()
    other_authority = Authority(tmp_path / "other")
    with FakeRegistry(tls=Authority(tmp_path).issue("registry")) as registry:
        options = HttpOptions(hosts={registry.host: HostSecurity(ca_path=other_authority.path)}, sleep=waits.append)
        with pytest.raises(RegistryError) as caught:
            ping(registry.host, options)
        assert "certificate is not trusted" in caught.value.why


def test_missing_ca_file(tmp_path: Path, registry: FakeRegistry) -> None:
    options = HttpOptions(hosts={registry.host: HostSecurity(ca_path=tmp_path / "missing.pem")})
    with pytest.raises(OptionError, match=r"missing\.pem"):
        ping(registry.host, options)


# --- discovery ---


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_tags(connect: Maker, registry: FakeRegistry, ref: Reference, count: int) -> None:
    registry.tags_a_page = count
    expected = sorted({"1", *(f"v{number}" for number in range(7))})
    for tag in expected:
        registry.tags["app", tag] = Digest.of(MANIFEST)
    assert connect().list_tags(ref) == expected


def test_no_tags(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("GET", "tags", status=200, body=b'{"name":"app","tags":null}'))
    assert connect().list_tags(ref) == []
    with pytest.raises(RegistryError) as caught:
        connect().list_tags(other(ref))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ('</v2/app/tags/list?n=1000>; rel="next"', "circle"),
        ('<http://evil.test/v2/app/tags/list>; rel="next"', "elsewhere"),
        ('</v2/other/tags/list>; rel="next"', "elsewhere"),
        ('<http://[::1/x>; rel="next"', "malformed"),
    ],
)
def test_bad_links(connect: Maker, registry: FakeRegistry, ref: Reference, link: str, complaint: str) -> None:
    registry.faults.append(Fault("GET", "tags", count=100, status=200, headers={"Link": link}, body=b'{"tags":["a"]}'))
    with pytest.raises(RegistryError) as caught:
        connect().list_tags(ref)
    assert complaint in caught.value.why
    assert len(registry.requests("GET", "tags")) <= 3


@pytest.mark.parametrize("link", ["nonsense", '</x>; rel="prev"', "<", ""])
def test_links_that_mean_nothing(connect: Maker, registry: FakeRegistry, ref: Reference, link: str) -> None:
    registry.faults.append(Fault("GET", "tags", status=200, headers={"Link": link}, body=b'{"tags":["a"]}'))
    assert connect().list_tags(ref) == ["a"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags":"a"}', b'{"tags":[1]}'])
def test_tag_lists_that_are_none(connect: Maker, registry: FakeRegistry, ref: Reference, body: bytes) -> None:
    registry.faults.append(Fault("GET", "tags", status=200, body=body))
    with pytest.raises(RegistryError):
        connect().list_tags(ref)


def test_referrers(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    subject = Descriptor.of(media_types.OCI_IMAGE_MANIFEST, MANIFEST)
    signature = ImageManifest(CONFIG, (), subject=subject).to_bytes()
    digest = registry.add_manifest("app", signature, media_types.OCI_IMAGE_MANIFEST)
    by_digest = ref.with_digest(subject.digest)
    assert [one.digest for one in connect().list_referrers(by_digest)] == [digest]
    registry.has_referrers = False
    assert connect().list_referrers(by_digest) == ()
    fallback = ImageIndex((Descriptor.of(media_types.OCI_IMAGE_MANIFEST, signature),)).to_bytes()
    registry.add_manifest("app", fallback, media_types.OCI_INDEX, f"sha256-{subject.digest.hex}")
    assert [one.digest for one in connect().list_referrers(by_digest)] == [digest]
    with pytest.raises(OptionError):
        connect().list_referrers(ref)


def test_one_client_in_many_threads(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth = "bearer"
    client = connect(registry.login)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(read(client, ref))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [BLOB] * 8
    assert len(registry.requests("GET", "^/v2/$")) == 1


def test_module_needs_no_http_library_until_a_client_is_made() -> None:
    program = "import buildkit_client.oci, sys; sys.exit('urllib3' in sys.modules or 'ssl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_referrers_on_several_pages(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    entries = [Descriptor.of(media_types.OCI_IMAGE_MANIFEST, bytes([number])) for number in range(3)]
    path = f"/v2/app/referrers/{Digest.of(MANIFEST)}"
    for number, entry in enumerate(entries):
        link = {"Link": f'<{path}?page={number}>; rel="next"'} if number < 2 else {}
        body = ImageIndex((entry, entries[0])).to_bytes()
        registry.faults.append(Fault("GET", "referrers", status=200, headers=link, body=body))
    assert connect().list_referrers(ref.with_digest(Digest.of(MANIFEST))) == tuple(entries)


def test_pages_without_end(
    connect: Maker, registry: FakeRegistry, ref: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buildkit_client.oci.registry._MAX_PAGES", 5)
    for number in range(50):
        link = {"Link": f'</v2/app/tags/list?last={number}>; rel="next"'}
        registry.faults.append(Fault("GET", "tags", status=200, headers=link, body=b'{"tags":[]}'))
    with pytest.raises(RegistryError) as caught:
        connect().list_tags(ref)
    assert caught.value.why == "it has more than 5 pages"
    assert len(registry.requests("GET", "tags")) == 5
