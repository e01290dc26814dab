"""The content service, called as the daemon calls it: framed bytes through a bare call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message

from buildkit_client._proto import content_pb2
from buildkit_client.oci.blob_store import BlobStore
from buildkit_client.oci.digest import Digest
from buildkit_client.protocol.grpc_framing import MessageDecoder
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import CallCancelledError, RpcError
from buildkit_client.session.content import ContentService, ContentStore

M = TypeVar("M", bound=Message)
DATA = bytes(range(256)) * 100
DIGEST = Digest.of(DATA)
MEBIBYTE = 1 << 20


class FakeCall:
    """One call: the requests are ready, the responses are collected."""

    def __init__(
        self, name: str, requests: Sequence[Message | bytes], store_id: str | None, on_response: Callable[[int], None]
    ) -> None:
        self.method = f"/containerd.services.content.v1.Content/{name}"
        self.metadata = {} if store_id is None else {"buildkit-attachable-store-id": (store_id, "second")}
        self._requests = [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
        self._decoder = MessageDecoder()
        self._on_response = on_response
        self.responses: list[bytes] = []

    def receive(self) -> bytes | None:
        return self._requests.pop(0) if self._requests else None

    def receive_ready(self) -> list[bytes]:
        raise AssertionError("not used")

    def write(self, framed: Any) -> None:
        for part in [framed] if isinstance(framed, bytes) else framed:
            self.responses += self._decoder.feed(bytes(part))
        assert not self._decoder.is_mid_message
        self._on_response(len(self.responses))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


class Daemon:
    def __init__(self, stores: dict[str, ContentStore]) -> None:
        self.service = ContentService(stores)

    def call(
        self,
        name: str,
        response: type[M],
        *requests: Message | bytes,
        store_id: str | None = "export",
        on_response: Callable[[int], None] = lambda _: None,
    ) -> list[M]:
        call = FakeCall(name, requests, store_id, on_response)
        self.service.methods()[call.method](call)
        return [response.FromString(data) for data in call.responses]

    def write(
        self, *requests: content_pb2.WriteContentRequest, **options: Any
    ) -> list[content_pb2.WriteContentResponse]:
        return self.call("Write", content_pb2.WriteContentResponse, *requests, **options)

    def read(self, digest: str, offset: int = 0, size: int = 0) -> list[content_pb2.ReadContentResponse]:
        request = content_pb2.ReadContentRequest(digest=digest, offset=offset, size=size)
        return self.call("Read", content_pb2.ReadContentResponse, request)


@pytest.fixture
def daemon(store: BlobStore) -> Daemon:
    return Daemon({"export": ContentStore(store, writable=True), "oci:base": ContentStore(store)})


def _refused(code: StatusCode) -> Any:
    return pytest.raises(RpcError, check=lambda error: error.code == code)


def stat(**fields: Any) -> content_pb2.WriteContentRequest:
    return content_pb2.WriteContentRequest(action=content_pb2.STAT, **fields)


def write(offset: int, data: bytes, **fields: Any) -> content_pb2.WriteContentRequest:
    return content_pb2.WriteContentRequest(action=content_pb2.WRITE, offset=offset, data=data, **fields)


def commit(**fields: Any) -> content_pb2.WriteContentRequest:
    return content_pb2.WriteContentRequest(action=content_pb2.COMMIT, **fields)


def opening(digest: str = DIGEST, total: int = len(DATA)) -> content_pb2.WriteContentRequest:
    return stat(ref=f"layer-{digest}", total=total, expected=digest)


# --- reading ---


def test_info(daemon: Daemon, store: BlobStore) -> None:
    store.put_blob(DATA)
    request = content_pb2.InfoRequest(digest=DIGEST)
    (response,) = daemon.call("Info", content_pb2.InfoResponse, request, store_id="oci:base")
    assert (response.info.digest, response.info.size) == (DIGEST, len(DATA))
    assert response.info.updated_at.ToNanoseconds() == store.blob_info(DIGEST).mod_time_ns


@pytest.mark.parametrize(
    ("digest", "code"),
    [
        (DIGEST, StatusCode.NOT_FOUND),
        ("sha256:../../etc/passwd", StatusCode.INVALID_ARGUMENT),
        ("", StatusCode.INVALID_ARGUMENT),
    ],
)
def test_info_and_read_of_what_is_not_there(daemon: Daemon, digest: str, code: StatusCode) -> None:
    with _refused(code):
        daemon.call("Info", content_pb2.InfoResponse, content_pb2.InfoRequest(digest=digest))
    with _refused(code):
        daemon.read(digest)


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, 0, DATA),
        (0, -1, DATA),
        (-5, 0, DATA),
        (0, 512, DATA[:512]),
        (512, 256, DATA[512:768]),
        (len(DATA) - 10, 0, DATA[-10:]),
        (len(DATA) - 10, 1000, DATA[-10:]),
        (10, len(DATA), DATA[10:]),
        (len(DATA), 0, b""),
        (len(DATA), 10, b""),
    ],
)
def test_read_ranges(daemon: Daemon, store: BlobStore, offset: int, size: int, expected: bytes) -> None:
    store.put_blob(DATA)
    responses = daemon.read(DIGEST, offset, size)
    assert b"".join(response.data for response in responses) == expected


def test_read_past_the_end(daemon: Daemon, store: BlobStore) -> None:
    store.put_blob(DATA)
    with _refused(StatusCode.OUT_OF_RANGE):
        daemon.read(DIGEST, len(DATA) + 1)


def test_read_in_chunks_with_offsets_from_zero(daemon: Daemon, store: BlobStore) -> None:
    data = os.urandom(2 * MEBIBYTE + 300)
    responses = daemon.read(store.put_blob(data), 100)
    assert [(response.offset, len(response.data)) for response in responses] == [
        (0, MEBIBYTE),
        (MEBIBYTE, MEBIBYTE),
        (2 * MEBIBYTE, 200),
    ]
    assert b"".join(response.data for response in responses) == data[100:]


def test_read_of_an_empty_blob(daemon: Daemon, store: BlobStore) -> None:
    assert daemon.read(store.put_blob(b"")) == []


def test_read_of_a_blob_that_shrinks(daemon: Daemon, store: BlobStore) -> None:
    data = bytes(3 * MEBIBYTE)
    digest = store.put_blob(data)

    def cut(count: int) -> None:
        os.truncate(store.blob_path(digest), MEBIBYTE)

    with _refused(StatusCode.DATA_LOSS):
        daemon.call(
            "Read", content_pb2.ReadContentResponse, content_pb2.ReadContentRequest(digest=digest), on_response=cut
        )


def test_cancelled_read_stops(daemon: Daemon, store: BlobStore) -> None:
    digest = store.put_blob(bytes(3 * MEBIBYTE))
    seen = []

    def cancel(count: int) -> None:
        seen.append(count)
        raise CallCancelledError

    with pytest.raises(CallCancelledError):
        daemon.call(
            "Read", content_pb2.ReadContentResponse, content_pb2.ReadContentRequest(digest=digest), on_response=cancel
        )
    assert seen == [1]


# --- writing ---


def test_write_as_the_daemon_does_it(daemon: Daemon, store: BlobStore) -> None:
    responses = daemon.write(
        opening(),
        stat(),
        write(0, DATA[:1000]),
        stat(),
        write(1000, DATA[1000:]),
        commit(total=len(DATA), expected=DIGEST, offset=len(DATA), labels={"a": "b"}),
    )
    assert (
        [(response.action, response.offset, response.digest) for response in responses]
        == [
            (content_pb2.STAT, 0, Digest.of(b"")),
            (content_pb2.STAT, 0, Digest.of(b"")),
            (content_pb2.WRITE, 1000, ""),  # the answer does not wait for the digest
            (content_pb2.STAT, 1000, Digest.of(DATA[:1000])),
            (content_pb2.WRITE, len(DATA), ""),
            (content_pb2.COMMIT, len(DATA), DIGEST),
        ]
    )
    assert [response.total for response in responses[:2]] == [len(DATA)] * 2
    assert responses[0].started_at.ToNanoseconds() > 0
    assert b"".join(store.read_blob(DIGEST)) == DATA
    assert list((store.path / "ingest").iterdir()) == []


def test_write_without_knowing_the_digest(daemon: Daemon, store: BlobStore) -> None:
    responses = daemon.write(stat(ref="x"), write(0, DATA), commit(offset=len(DATA)))
    assert responses[-1].digest == DIGEST
    assert store.has_blob(DIGEST)


def test_commit_may_carry_the_data(daemon: Daemon, store: BlobStore) -> None:
    responses = daemon.write(commit(ref="x", data=DATA, total=len(DATA), expected=DIGEST))
    assert [(response.action, response.offset) for response in responses] == [(content_pb2.COMMIT, len(DATA))]
    assert store.has_blob(DIGEST)


def test_empty_blob(daemon: Daemon, store: BlobStore) -> None:
    empty = Digest.of(b"")
    assert daemon.write(opening(empty, 0), commit(expected=empty))[-1].digest == empty
    assert store.blob_size(empty) == 0


def test_what_exists_is_not_written_again(daemon: Daemon, store: BlobStore) -> None:
    store.put_blob(DATA)
    with _refused(StatusCode.ALREADY_EXISTS):
        daemon.write(opening())


def test_what_comes_to_exist_meanwhile(daemon: Daemon, store: BlobStore) -> None:
    def store_it(count: int) -> None:
        if count == 2:
            store.put_blob(DATA)

    with _refused(StatusCode.ALREADY_EXISTS):
        daemon.write(
            opening(),
            write(0, DATA),
            commit(total=len(DATA), expected=DIGEST, offset=len(DATA)),
            on_response=store_it,
        )
    assert list((store.path / "ingest").iterdir()) == []


def test_damaged_blob_is_replaced(daemon: Daemon, store: BlobStore) -> None:
    """A blob cut short by an earlier crash has the right name and the wrong size; it must not count as there."""
    store.put_blob(DATA)
    store.blob_path(DIGEST).write_bytes(b"")
    daemon.write(opening(), write(0, DATA), commit(total=len(DATA), expected=DIGEST, offset=len(DATA)))
    assert b"".join(store.read_blob(DIGEST)) == DATA


@pytest.mark.parametrize("action", [write, lambda offset, data: commit(offset=offset, data=data)])
def test_wrong_offset(daemon: Daemon, store: BlobStore, action: Callable[[int, bytes], Message]) -> None:
    with _refused(StatusCode.OUT_OF_RANGE):
        daemon.write(opening(), write(0, DATA[:100]), action(50, DATA[100:]))  # type: ignore[arg-type]
    assert list(store.blobs()) == []


def test_offset_zero_starts_over(daemon: Daemon, store: BlobStore) -> None:
    responses = daemon.write(
        opening(),
        write(0, b"something else"),
        write(0, DATA),
        commit(total=len(DATA), expected=DIGEST, offset=len(DATA)),
    )
    assert [response.offset for response in responses] == [0, 14, len(DATA), len(DATA)]
    assert store.has_blob(DIGEST)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (opening(), commit(total=len(DATA), expected=DIGEST, offset=3)),
        (stat(ref="x"), commit(expected=DIGEST, offset=3)),
        (stat(ref="x"), commit(total=4, offset=3)),
        (stat(ref="x", total=4), commit(offset=3)),
        (stat(ref="x", expected=DIGEST), commit(offset=3)),
    ],
)
def test_wrong_bytes_are_not_committed(
    daemon: Daemon, store: BlobStore, first: content_pb2.WriteContentRequest, last: content_pb2.WriteContentRequest
) -> None:
    with _refused(StatusCode.FAILED_PRECONDITION):
        daemon.write(first, write(0, b"abc"), last)
    assert list(store.blobs()) == []
    assert list((store.path / "ingest").iterdir()) == []


def test_stream_that_ends_without_commit_leaves_nothing(daemon: Daemon, store: BlobStore) -> None:
    assert len(daemon.write(opening(), write(0, DATA))) == 2
    assert list(store.blobs()) == []
    assert list((store.path / "ingest").iterdir()) == []


def test_cancelled_write_leaves_nothing(daemon: Daemon, store: BlobStore) -> None:
    def cancel(count: int) -> None:
        raise CallCancelledError

    with pytest.raises(CallCancelledError):
        daemon.write(opening(), on_response=cancel)
    assert list((store.path / "ingest").iterdir()) == []
    assert daemon.call("ListStatuses", content_pb2.ListStatusesResponse, b"") == [content_pb2.ListStatusesResponse()]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (stat(), StatusCode.INVALID_ARGUMENT),
        (stat(ref="x", expected="sha256:../../x"), StatusCode.INVALID_ARGUMENT),
        (content_pb2.WriteContentRequest(action=7, ref="x"), StatusCode.INVALID_ARGUMENT),  # type: ignore[arg-type]
        (b"\xff\xff\xff", StatusCode.INVALID_ARGUMENT),
    ],
)
def test_malformed_requests(daemon: Daemon, request_: Any, code: StatusCode) -> None:
    with _refused(code):
        daemon.write(request_)


def test_read_only_store_takes_nothing(daemon: Daemon, store: BlobStore) -> None:
    with _refused(StatusCode.PERMISSION_DENIED):
        daemon.write(opening(), store_id="oci:base")
    assert not (store.path / "ingest").exists()


def test_parallel_writes_of_one_blob(daemon: Daemon, store: BlobStore) -> None:
    barrier = threading.Barrier(4)
    outcomes: list[str] = []

    def meet(count: int) -> None:
        if count == 2:
            barrier.wait(10)

    def run() -> None:
        requests = (stat(ref="layer"), write(0, DATA), commit(total=len(DATA), offset=len(DATA)))
        outcomes.append(daemon.write(*requests, on_response=meet)[-1].digest)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [DIGEST] * 4
    assert [info.digest for info in store.blobs()] == [DIGEST]


# --- bookkeeping ---


def test_status_of_a_running_write(daemon: Daemon) -> None:
    seen: list[content_pb2.Status] = []

    def look(count: int) -> None:
        if count == 2:
            request = content_pb2.StatusRequest(ref=f"layer-{DIGEST}")
            seen.append(daemon.call("Status", content_pb2.StatusResponse, request)[0].status)
            (listed,) = daemon.call("ListStatuses", content_pb2.ListStatusesResponse, b"")
            seen.extend(listed.statuses)

    daemon.write(opening(), write(0, DATA), on_response=look)
    expected = (f"layer-{DIGEST}", len(DATA), len(DATA), DIGEST)
    assert [(one.ref, one.offset, one.total, one.expected) for one in seen] == [expected, expected]
    with _refused(StatusCode.NOT_FOUND):
        daemon.call("Status", content_pb2.StatusResponse, content_pb2.StatusRequest(ref=f"layer-{DIGEST}"))


def test_abort_finds_nothing_to_drop(daemon: Daemon) -> None:
    with _refused(StatusCode.NOT_FOUND):
        daemon.call("Abort", Message, content_pb2.AbortRequest(ref="x"))


@pytest.mark.parametrize("name", ["Update", "List", "Delete"])
def test_what_the_daemon_never_calls(daemon: Daemon, name: str) -> None:
    with _refused(StatusCode.UNIMPLEMENTED):
        daemon.call(name, Message, b"")


@pytest.mark.parametrize("name", ["Info", "Read", "Write", "Status", "ListStatuses", "Abort"])
@pytest.mark.parametrize(
    ("store_id", "code"),
    [
        (None, StatusCode.INVALID_ARGUMENT),
        ("", StatusCode.NOT_FOUND),
        ("oci:other", StatusCode.NOT_FOUND),
        ("local:/etc", StatusCode.NOT_FOUND),
    ],
)
def test_only_stores_that_were_given(daemon: Daemon, name: str, store_id: str | None, code: StatusCode) -> None:
    with _refused(code):
        daemon.call(name, Message, b"", store_id=store_id)


def test_every_method_of_the_service_has_a_handler(daemon: Daemon) -> None:
    service = content_pb2.DESCRIPTOR.services_by_name["Content"]
    expected = {f"/{service.full_name}/{method.name}" for method in service.methods}
    assert set(daemon.service.methods()) == expected
