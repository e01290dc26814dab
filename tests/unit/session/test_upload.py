"""Streams that the daemon reads: what arrives, what is refused, whose fault a broken one is."""

from __future__ import annotations

import io
import os
import threading

import pytest

from buildkit_client._proto import upload_pb2
from buildkit_client.errors import ContextError, OptionError
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import CallCancelledError, RpcError
from buildkit_client.session.session import Session
from buildkit_client.session.upload import PULL, UploadService
from tests.support.calls import MemoryCall
from tests.support.session_peer import FakeDaemon


def pull(service: UploadService, path: str = "/id") -> bytes:
    call = MemoryCall({"urlpath": (path,), "urlhost": ("buildkit-session",)})
    service.methods()[PULL](call)
    return b"".join(upload_pb2.BytesMessage.FromString(message).data for message in call.sent)


@pytest.mark.parametrize("size", [0, 1, 262_144, 3_000_000])
def test_a_stream_arrives_byte_for_byte(size):
    data = os.urandom(size)
    assert pull(UploadService({"id": io.BytesIO(data)})) == data


def test_a_stream_is_read_from_where_it_stands_and_not_closed():
    stream = io.BytesIO(b"read and to be read")
    stream.seek(9)
    assert pull(UploadService({"id": stream})) == b"to be read"
    assert not stream.closed


def test_no_message_is_larger_than_the_daemon_takes():
    call = MemoryCall({"urlpath": ("/id",)})
    UploadService({"id": io.BytesIO(bytes(20 << 20))}).methods()[PULL](call)
    assert max(map(len, call.sent)) < 3 << 20  # uploadprovider's limit for a piece


def test_the_last_name_of_the_path_counts():
    assert pull(UploadService({"id": io.BytesIO(b"x")}), "/some/where/id") == b"x"


@pytest.mark.parametrize("path", ["", "/", "/other", "/id/", "/../id/x"])
def test_only_known_ids(path):
    service = UploadService({"id": io.BytesIO(b"x")})
    with pytest.raises(RpcError) as caught:
        pull(service, path)
    assert caught.value.code == StatusCode.NOT_FOUND
    assert not service.errors  # the daemon's mistake


def test_a_stream_is_served_once_even_to_calls_at_the_same_time():
    service = UploadService({"id": io.BytesIO(bytes(1 << 20))})
    got, refused = [], []

    def ask() -> None:
        try:
            got.append(pull(service))
        except RpcError as exc:
            refused.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [bytes(1 << 20)]
    assert len(refused) == len(service.errors) == 7
    assert "read already" in refused[0].message


class Broken(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        raise OSError(5, "Input/output error")


class Impatient(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> None:
        return None


class Foreign(io.RawIOBase):
    """Fails in the way of some library: neither OSError nor ValueError."""

    def read(self, size: int = -1) -> bytes:
        raise RuntimeError("bad block")


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (Broken(), "Input/output error"),
        (Impatient(), "its stream does not wait for data"),
        (io.StringIO("text"), "its stream gives text"),
        (Foreign(), "bad block"),
    ],
)
def test_a_stream_that_cannot_be_read_is_our_error(stream, why):
    service = UploadService({"id": stream})
    with pytest.raises(RpcError):
        pull(service)
    (error,) = service.errors
    assert isinstance(error, ContextError)
    assert str(error) == "cannot read the upload id"
    assert error.why == why


def test_a_closed_stream_is_our_error():
    stream = io.BytesIO(b"x")
    stream.close()
    service = UploadService({"id": stream})
    with pytest.raises(RpcError):
        pull(service)
    assert "closed" in service.errors[0].why


def test_a_cancelled_call_is_no_error_of_ours():
    service = UploadService({"id": io.BytesIO(b"x")})
    call = MemoryCall({"urlpath": ("/id",)}).cancel()
    with pytest.raises(CallCancelledError):
        service.methods()[PULL](call)
    assert not service.errors


@pytest.mark.parametrize("upload_id", ["", "a/b", "/a", "a?b", "a#b", "a%2fb", "a b"])
def test_ids_that_could_not_stand_in_a_url(upload_id):
    with pytest.raises(OptionError):
        UploadService({upload_id: io.BytesIO()})


def test_health_is_answered_while_a_stream_has_nothing_to_give():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        service = UploadService({"id": stream})
        daemon = FakeDaemon()
        with Session(daemon.open_stream, streaming=service.methods()):
            stream_id = daemon.start_call(PULL, (("urlpath", "/id"),))
            daemon.end(stream_id)
            assert daemon.unary("/grpc.health.v1.Health/Check").status == 0
            assert not daemon.call_of(stream_id).done.is_set()
            os.write(writer, b"late")
            os.close(writer)
            assert daemon.call_of(stream_id).done.wait(5)
            message = daemon.call_of(stream_id).messages.get(timeout=5)
            assert upload_pb2.BytesMessage.FromString(message).data == b"late"
