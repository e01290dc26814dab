"""Which texts are addresses, and what is said about those that are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.errors import ConnectError
from buildkit_client.transport.address import DEFAULT_ADDRESS, EXAMPLES, Address, default_address, parse_address
from buildkit_client.transport.commands import command_for


def fields(text: str) -> dict[str, object]:
    """What an address says besides its text and scheme."""
    address = parse_address(text)
    assert str(address) == text
    names = [name for name in Address.__slots__ if name not in ("text", "scheme")]
    return {name: value for name in names if (value := getattr(address, name))}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:///run/buildkit/buildkitd.sock", {"path": "/run/buildkit/buildkitd.sock"}),
        ("unix:///with%20space/and a?mark", {"path": "/with space/and a?mark"}),
        ("tcp://builder.example.com:1234", {"host": "builder.example.com", "port": 1234}),
        ("tcp://[::1]:1234/", {"host": "::1", "port": 1234}),
        ("docker://", {}),
        ("docker:///run/docker.sock", {"path": "/run/docker.sock"}),
        ("docker://engine.example.com:2375", {"host": "engine.example.com", "port": 2375}),
        ("docker-container://Build_kit.d-0", {"name": "Build_kit.d-0"}),
        ("docker-container://b?context=my ctx", {"name": "b", "context": "my ctx"}),
        ("podman-container://b", {"name": "b"}),
        ("nerdctl-container://b?namespace=k8s.io", {"name": "b", "namespace": "k8s.io"}),
        ("kube-pod://b-0", {"name": "b-0"}),
        (
            "kube-pod://pod?container=c&namespace=ns&context=user@cluster",
            {"name": "pod", "container": "c", "namespace": "ns", "context": "user@cluster"},
        ),
        ("kube-pod://pod?namespace=a&namespace=b", {"name": "pod", "namespace": "a"}),
        ("ssh://foo", {"host": "foo"}),
        ("ssh://foo/", {"host": "foo"}),
        ("ssh://me@foo:10022/s/o.sock", {"user": "me", "host": "foo", "port": 10022, "path": "/s/o.sock"}),
        ("ssh://me%40corp@foo", {"user": "me@corp", "host": "foo"}),
        ("ssh://[fe80::1%eth0]", {"host": "fe80::1%eth0"}),
    ],
)
def test_addresses_are_read(text, expected):
    assert fields(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no scheme"),
        ("/run/buildkitd.sock", "no scheme"),
        ("tcp:host", "no scheme"),
        ("unix://relative.sock", "absolute"),
        ("unix://", "absolute"),
        ("unix:///" + "x" * 120, "107"),
        ("unix:///a\0b", "control character"),
        ("unix:///a%00b", "107"),
        ("tcp://host", "port"),
        ("tcp://host:", "port"),
        ("tcp://:1234", "no host"),
        ("tcp://host:99999", "out of the range"),
        ("tcp://host:0", "out of the range"),
        ("tcp://host:٣", "invalid port"),
        ("tcp://[::1:1", "missing ']' in host"),
        ("tcp://a b:1", 'invalid character " " in host name'),
        ("tcp://host:12/path", "nothing else"),
        ("tcp://user@host:12", "nothing else"),
        ("http://host:80", "'http' is not known"),
        ("docker://host", "needs a port"),
        ("docker://host:1/path", "nothing more"),
        ("docker:///path?x=y", "nothing more"),
        ("docker-container://", "url lacks container name"),
        ("docker-container:///x", "url lacks container name"),
        ("docker-container://-privileged", "unsupported container name"),
        ("docker-container://a b", "unsupported container name"),
        ("docker-container://a/b", "unsupported container name"),
        ("docker-container://a?kontext=x", 'it takes context'),
        ("docker-container://a?context=a%0ab", "control character"),
        ("podman-container://a?context=x", "it takes none"),
        ("nerdctl-container://a?namespace=-x", "unsupported namespace name"),
        ("kube-pod://", "url lacks pod name"),
        ("kube-pod://Upper", 'unsupported pod name: "Upper"'),
        ("kube-pod://-x", "unsupported pod name"),
        ("kube-pod://a?namespace=A_b", 'unsupported namespace name: "A_b"'),
        ("kube-pod://a?container=-x", "unsupported container name"),
        ("ssh://", "no host specified"),
        ("ssh://user@", "no host specified"),
        ("ssh://foo?bar", 'extra query after the host: "bar"'),
        ("ssh://foo#bar", 'extra fragment after the host: "bar"'),
        ("ssh://foo:abc", 'invalid port ":abc" after host'),
        ("tcp://a..b:1", "between the dots of a host name"),
        ("tcp://" + "a" * 64 + ".test:1", "between the dots of a host name"),
        ("docker://.b:1", "between the dots of a host name"),
        ("ssh://-oProxyCommand=x", "unsupported host name"),
        ("ssh://$(reboot)", "unsupported host name"),
        ("ssh://-l@foo", "unsupported user name"),
        ("ssh://a;b@foo", "unsupported user name"),
        ("ssh://foo/run/$(reboot)", "unsupported socket path"),
        ("ssh://foo/run/a%20b", "unsupported socket path"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_told_with_a_right_one(text, why):
    with pytest.raises(ConnectError) as caught:
        parse_address(text)
    error = caught.value
    assert error.phase == "address"
    assert why in error.why
    example = EXAMPLES.get(text.partition("://")[0] if "://" in text else "", EXAMPLES["unix"])
    assert example in error.hint


@pytest.mark.parametrize(
    ("text", "example"),
    [("docker-containr://x", "docker-container://buildkitd"), ("kubepod://x", "kube-pod://"), ("shh://x", "ssh://")],
)
def test_a_misspelt_scheme_is_told_the_nearest(text, example):
    with pytest.raises(ConnectError) as caught:
        parse_address(text)
    assert f"write it like {example}" in caught.value.hint


@pytest.mark.parametrize("text", ["ssh://me:s3cret@h", "ssh://:s3cret@h", "ssh://me:s3/cr?et@h", "tcp://me:s3cret@h:1",
                                  "foo://me:s3cret@h"])  # fmt: skip
def test_a_password_is_refused_and_never_repeated(text):
    with pytest.raises(ConnectError) as caught:
        parse_address(text)
    error = caught.value
    for part in ("s3cret", "s3", "cr?et"):
        assert part not in f"{error} {error.address} {error.why} {error.hint}"


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_named_pipes_are_refused_in_the_words_of_buildctl(platform, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(ConnectError) as caught:
        parse_address("npipe:////./pipe/buildkitd")
    assert caught.value.why == "npipe connections are only supported on windows"
    assert "unix:///run/buildkit/buildkitd.sock" in caught.value.hint


def test_every_example_is_an_address():
    for scheme, example in EXAMPLES.items():
        assert [parse_address(text).scheme for text in example.split(" or ")] == [scheme] * len(example.split(" or "))


@given(st.sampled_from(sorted(EXAMPLES)), st.text(max_size=30))
def test_any_text_is_an_address_or_one_clear_error(scheme, rest):
    try:
        address = parse_address(f"{scheme}://{rest}")
    except ConnectError as exc:
        assert exc.why
        assert exc.hint
    else:
        words = command_for(address)
        assert not any(ord(character) < 32 for word in words for character in word)
        names = (address.name, address.host, address.user, address.namespace, address.container)
        assert not any(name.startswith("-") for name in names), "it would be read as a flag"


def test_environment_names_the_default():
    assert default_address({}) == DEFAULT_ADDRESS
    assert default_address({"BUILDKIT_HOST": "tcp://a:1"}) == "tcp://a:1"
    assert default_address({"BUILDKIT_HOST": ""}) == DEFAULT_ADDRESS


@pytest.mark.parametrize("host", ["a.test.", "a" * 63 + ".test", "127.0.0.1", "x_y"])
def test_host_names_that_can_be(host):
    assert parse_address(f"tcp://{host}:1").host == host
