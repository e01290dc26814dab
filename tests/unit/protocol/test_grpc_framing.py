import pytest

from buildkit_client.errors import RemoteProtocolError
from buildkit_client.protocol.grpc_framing import MessageDecoder, encode_message


def test_prefix_is_flag_and_big_endian_length():
    assert encode_message(b"abc") == b"\0\0\0\0\3abc"


def test_empty_message_is_a_message():
    assert MessageDecoder().feed(encode_message(b"")) == [b""]


def test_half_a_prefix_is_kept():
    decoder = MessageDecoder()
    assert decoder.feed(b"\0\0\0") == []
    assert decoder.is_mid_message
    assert decoder.feed(b"\0\1x\0") == [b"x"]


def test_compressed_message_is_refused():
    with pytest.raises(RemoteProtocolError, match="flag 1"):
        MessageDecoder().feed(b"\1\0\0\0\1x")


def test_announced_size_over_the_limit_is_refused_before_the_bytes_come():
    with pytest.raises(RemoteProtocolError, match="limit is 10"):
        MessageDecoder(10).feed(b"\0\0\0\0\x0b")
