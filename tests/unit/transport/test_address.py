import pytest

from buildkit_client.errors import ConnectError
from buildkit_client.transport.address import DEFAULT_ADDRESS, default_address, parse_address


def test_unix_and_tcp_addresses_are_read():
    assert parse_address("unix:///run/buildkit/buildkitd.sock").path == "/run/buildkit/buildkitd.sock"
    address = parse_address("tcp://builder.example.com:1234")
    assert (address.host, address.port, str(address)) == ("builder.example.com", 1234, "tcp://builder.example.com:1234")
    assert parse_address("tcp://[::1]:1234").host == "::1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no scheme"),
        ("/run/buildkitd.sock", "no scheme"),
        ("unix://relative.sock", "absolute"),
        ("unix:///" + "x" * 120, "107"),
        ("tcp://host", "port"),
        ("tcp://:1234", "no host"),
        ("tcp://host:99999", "ange"),
        ("tcp://host:12/path", "nothing else"),
        ("tcp://user@host:12", "nothing else"),
        ("http://host:80", "'http' is not known"),
    ],
)
def test_what_is_no_address_is_told_with_a_right_one(text, why):
    with pytest.raises(ConnectError) as caught:
        parse_address(text)
    assert caught.value.phase == "address"
    assert why in caught.value.why
    assert "unix:///run/buildkit/buildkitd.sock" in caught.value.hint


def test_environment_names_the_default():
    assert default_address({}) == DEFAULT_ADDRESS
    assert default_address({"BUILDKIT_HOST": "tcp://a:1"}) == "tcp://a:1"
    assert default_address({"BUILDKIT_HOST": ""}) == DEFAULT_ADDRESS
