from __future__ import annotations

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.reference import Reference, is_tag

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
        ("registry:5000/a", "registry:5000/a:latest", "registry:5000/a:latest"),
        ("127.0.0.1:5000/a.b_c__d--e/f", "127.0.0.1:5000/a.b_c__d--e/f:latest", "127.0.0.1:5000/a.b_c__d--e/f:latest"),
        ("[::1]:5000/app:2", "[::1]:5000/app:2", "[::1]:5000/app:2"),
        ("[2001:db8::1]/app", "[2001:db8::1]/app:latest", "[2001:db8::1]/app:latest"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        ("a:_tag.-X", "docker.io/library/a:_tag.-X", "a:_tag.-X"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:1@{DIGEST}", f"docker.io/library/alpine:1@{DIGEST}", f"alpine:1@{DIGEST}"),
        ("host:5000/app:web.BABCDEFGHIJ", "host:5000/app:web.BABCDEFGHIJ", "host:5000/app:web.BABCDEFGHIJ"),
    ],
)
def test_names(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar() == familiar
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "repository"),
        (" alpine", "repository"),
        ("alpine\n", "repository"),
        ("alpine:", "tag"),
        ("alpine:-x", "tag"),
        ("alpine:" + "x" * 129, "tag"),
        ("alpine:ü", "tag"),
        ("Alpine", "upper-case"),
        ("docker.io/Alpine", "upper-case"),
        ("a//b", "repository"),
        ("/a", "repository"),
        ("a/", "repository"),
        ("a/../b", "repository"),
        ("a_-b", "repository"),
        ("a...b", "repository"),
        ("ä/b", "repository"),
        ("x.y:port/app", "registry host"),
        ("host:65536/app", "registry host"),
        ("-host.com/app", "registry host"),
        ("user:pass@host.com/app", "@"),
        ("https://host.com/app", "registry host"),
        ("alpine@sha256:abc", "digest"),
        (f"alpine@{DIGEST}0", "digest"),
        ("alpine@", "digest"),
        ("a" * 64, "image id"),
        ("host.com/" + "a" * 256, "longer"),
    ],
)
def test_refuses(text: str, complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        Reference.parse(text)
    assert "not an image reference" in str(caught.value)
    assert complaint in caught.value.why


def test_hub_has_another_host() -> None:
    assert Reference.parse("alpine").registry_host == "registry-1.docker.io"
    assert Reference.parse("localhost:5000/alpine").registry_host == "localhost:5000"


def test_no_default_tag_on_request() -> None:
    assert str(Reference.parse("host.com/a", default_tag="")) == "host.com/a"
    assert Reference.parse("host.com/a", default_tag="").identifier == ""


def test_parts_are_replaced() -> None:
    reference = Reference.parse(f"host:5000/app:1@{DIGEST}")
    assert reference.identifier == DIGEST
    assert str(reference.with_tag("2")) == "host:5000/app:2"
    assert str(reference.with_digest(DIGEST)) == f"host:5000/app@{DIGEST}"
    with pytest.raises(OptionError):
        reference.with_tag("a/b")


def test_tags() -> None:
    assert is_tag("web.BABCDEFGHIJ")
    assert not is_tag("a/b")
    assert not is_tag("a\n")
