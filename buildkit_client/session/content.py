"""The session's content store: the daemon reads blobs from our image layouts and writes blobs into them.

One service stands for several stores; a metadata key says which. Only stores that the caller handed over exist, and
only those marked writable take blobs. Blobs that the daemon asks for by digest are sent as they lie on disk: the daemon
checks the digest. Blobs that it writes get their name only after we checked it.

What the daemon never calls (Update, List, Delete) is not offered. A write cannot be resumed, so Abort has nothing
to drop.

Reference: moby/buildkit session/content; containerd plugins/services/content/contentserver.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from google.protobuf.message import DecodeError, Message

from buildkit_client._proto import content_pb2
from buildkit_client.errors import BlobNotFoundError, BuildKitError, DigestError, DigestMismatchError
from buildkit_client.oci.digest import Digest, read_chunks
from buildkit_client.protocol.grpc_framing import encode_message, message_prefix
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError, ServerCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from buildkit_client.oci.blob_store import BlobStore, BlobWriter

SERVICE = "/containerd.services.content.v1.Content/"
HEADER_STORE_ID = "buildkit-attachable-store-id"  # session/content/attachable.go, GRPCHeaderID

EXPORT_STORE_ID = "export"
"""The store that the ``oci`` and ``docker`` exporters write to with ``tar=false``."""
LOCAL_STORE_PREFIX = "local:"
"""Before the ``src`` or ``dest`` attribute of a ``local`` cache."""
OCI_STORE_PREFIX = "oci:"
"""Before the store name of an ``oci-layout`` named context."""

_M = TypeVar("_M", bound=Message)

_DATA_FIELD_TAG = b"\x12"  # ReadContentResponse.data: field 2, length-delimited


@dataclass(frozen=True, slots=True)
class ContentStore:
    """A store that the daemon may use.

    Attributes:
        blobs: Where the blobs lie, usually an image layout.
        writable: Whether the daemon may add blobs.
    """

    blobs: BlobStore
    writable: bool = False


@dataclass(slots=True)
class _Write:
    """A write in progress, as Status shows it."""

    ref: str
    total: int
    expected: str
    started_ns: int
    updated_ns: int
    offset: int = 0


class ContentService:
    """Serves ``containerd.services.content.v1.Content`` inside the session.

    Args:
        stores: Stores by id: ``export``, ``local:<attribute>`` or ``oci:<name>``. Stores may be added to the mapping
            while the service runs.
    """

    def __init__(self, stores: Mapping[str, ContentStore]) -> None:
        self._stores = stores
        self._lock = threading.Lock()
        self._writes: list[tuple[str, _Write]] = []
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """What failed on this machine, such as a disk that is full; not what the daemon asked for in vain."""
        with self._lock:
            return tuple(self._errors)

    def methods(self) -> dict[str, Callable[[ServerCall], None]]:
        """Return the handlers by full method path; each serves one call and returns when it is done."""
        handlers: dict[str, Callable[[ServerCall], None]] = {
            "Info": self._info,
            "Read": self._read,
            "Write": self._write,
            "Status": self._status,
            "ListStatuses": self._list_statuses,
            "Abort": self._abort,
            "Update": self._refuse_unused,
            "List": self._refuse_unused,
            "Delete": self._refuse_unused,
        }
        return {SERVICE + name: handler for name, handler in handlers.items()}

    # --- reading ---

    def _info(self, call: ServerCall) -> None:
        _, store = self._choose(call)
        request = _single_request(call, content_pb2.InfoRequest())
        with self._errors_as_status():
            info = store.blobs.blob_info(Digest(request.digest))
        response = content_pb2.InfoResponse()
        response.info.digest = info.digest
        response.info.size = info.size_bytes
        response.info.created_at.FromNanoseconds(info.mod_time_ns)
        response.info.updated_at.FromNanoseconds(info.mod_time_ns)
        _send(call, response)

    def _read(self, call: ServerCall) -> None:
        _, store = self._choose(call)
        request = _single_request(call, content_pb2.ReadContentRequest())
        with self._errors_as_status():
            digest = Digest(request.digest)
            size = store.blobs.blob_size(digest)
            offset = max(request.offset, 0)
            if offset > size:
                raise RpcError(
                    StatusCode.OUT_OF_RANGE, f"read at {offset} is past the end of blob {digest}, {size} bytes"
                )
            wanted = size - offset if request.size <= 0 else min(request.size, size - offset)
            sent = 0
            with store.blobs.open_blob(digest, offset) as stream:
                for chunk in read_chunks(stream, wanted):
                    call.write(_read_response(sent, chunk))
                    sent += len(chunk)
            if sent < wanted:
                raise RpcError(StatusCode.DATA_LOSS, f"blob {digest} became shorter while it was read")

    # --- writing ---

    def _write(self, call: ServerCall) -> None:
        store_id, store = self._choose(call)
        first = _request(call, content_pb2.WriteContentRequest())
        if first is None:
            return
        if not first.ref:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "the first message of a write must name its ref")
        if not store.writable:
            raise RpcError(StatusCode.PERMISSION_DENIED, f"store {store_id} is read-only")
        now = time.time_ns()
        write = _Write(first.ref, first.total, first.expected, now, now)
        with self._listed(store_id, write), self._errors_as_status():
            expected = Digest(first.expected) if first.expected else None
            if expected is not None:
                _refuse_existing(store, expected, first.total)
            with store.blobs.begin_blob(expected) as writer:
                _serve_write(call, store, writer, write, first)

    # --- bookkeeping ---

    def _status(self, call: ServerCall) -> None:
        store_id, _ = self._choose(call)
        request = _single_request(call, content_pb2.StatusRequest())
        for status in self._statuses(store_id):
            if status.ref == request.ref:
                _send(call, content_pb2.StatusResponse(status=status))
                return
        raise RpcError(StatusCode.NOT_FOUND, f"no write with ref {request.ref} is under way")

    def _list_statuses(self, call: ServerCall) -> None:
        store_id, _ = self._choose(call)
        _single_request(call, content_pb2.ListStatusesRequest())
        _send(call, content_pb2.ListStatusesResponse(statuses=self._statuses(store_id)))

    def _abort(self, call: ServerCall) -> None:
        self._choose(call)
        request = _single_request(call, content_pb2.AbortRequest())
        raise RpcError(StatusCode.NOT_FOUND, f"no interrupted write with ref {request.ref} is kept")

    def _refuse_unused(self, call: ServerCall) -> None:
        raise RpcError(StatusCode.UNIMPLEMENTED, f"{call.method} is not offered by this client")

    def _choose(self, call: ServerCall) -> tuple[str, ContentStore]:
        values = call.metadata.get(HEADER_STORE_ID, ())
        if not values:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"the request lacks the metadata {HEADER_STORE_ID}")
        store = self._stores.get(values[0])
        if store is None:
            raise RpcError(StatusCode.NOT_FOUND, f"unknown store {values[0]}")
        return values[0], store

    @contextmanager
    def _listed(self, store_id: str, write: _Write) -> Iterator[None]:
        entry = (store_id, write)
        with self._lock:
            self._writes.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._writes.remove(entry)

    @contextmanager
    def _errors_as_status(self) -> Iterator[None]:
        """Turn our errors into the status codes that containerd's client knows."""
        try:
            yield
        except DigestError as exc:
            _fail(StatusCode.INVALID_ARGUMENT, exc)
        except BlobNotFoundError as exc:
            _fail(StatusCode.NOT_FOUND, exc)
        except DigestMismatchError as exc:
            _fail(StatusCode.FAILED_PRECONDITION, exc)
        except BuildKitError as exc:
            with self._lock:
                self._errors.append(exc)
            _fail(StatusCode.INTERNAL, exc)

    def _statuses(self, store_id: str) -> list[content_pb2.Status]:
        with self._lock:
            writes = [write for owner, write in self._writes if owner == store_id]
        statuses = []
        for write in writes:
            status = content_pb2.Status(ref=write.ref, offset=write.offset, total=write.total, expected=write.expected)
            status.started_at.FromNanoseconds(write.started_ns)
            status.updated_at.FromNanoseconds(write.updated_ns)
            statuses.append(status)
        return statuses


def _serve_write(
    call: ServerCall,
    store: ContentStore,
    writer: BlobWriter,
    write: _Write,
    request: content_pb2.WriteContentRequest | None,
) -> None:
    """Answer each request of a write with one response until the commit or the half-close.

    The daemon sends its next piece when it has the answer. So that comes before the digest of a piece is computed, and
    without it: nobody needs one before the commit.
    """
    while request is not None:
        if request.total > 0:
            write.total = request.total
        if request.expected:
            write.expected = request.expected
            _refuse_existing(store, Digest(request.expected), write.total)
        response = content_pb2.WriteContentResponse(action=request.action)
        is_commit = request.action == content_pb2.COMMIT
        if request.action == content_pb2.STAT:
            response.total = write.total
            response.started_at.FromNanoseconds(write.started_ns)
            response.updated_at.FromNanoseconds(write.updated_ns)
            response.digest = writer.digest
        elif is_commit or request.action == content_pb2.WRITE:
            _append(writer, request)
            if is_commit:
                response.digest = writer.commit(
                    Digest(write.expected) if write.expected else None, write.total if write.total > 0 else None
                )
        else:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"unknown write action {request.action}")
        response.offset = write.offset = writer.size_bytes
        write.updated_ns = time.time_ns()
        _send(call, response)
        if is_commit:
            return
        writer.catch_up()
        request = _request(call, content_pb2.WriteContentRequest())


def _append(writer: BlobWriter, request: content_pb2.WriteContentRequest) -> None:
    if request.offset not in (0, writer.size_bytes):
        raise RpcError(
            StatusCode.OUT_OF_RANGE, f"write at {request.offset} must be at the current offset {writer.size_bytes}"
        )
    if request.offset == 0 and writer.size_bytes > 0:
        writer.truncate()
    if request.data:
        writer.append(request.data)


def _refuse_existing(store: ContentStore, digest: Digest, total: int) -> None:
    """End a write of a blob that is there, of the right size where one is known; the daemon takes this for success."""
    if store.blobs.keep_blob(digest, total if total > 0 else None):
        raise RpcError(StatusCode.ALREADY_EXISTS, f"blob {digest} exists already")


def _read_response(offset: int, data: bytes) -> list[bytes]:
    """Return a framed ReadContentResponse in parts, so that a chunk is copied neither into a message nor a frame."""
    head = content_pb2.ReadContentResponse(offset=offset).SerializeToString() + _DATA_FIELD_TAG + _varint(len(data))
    return [message_prefix(len(head) + len(data)) + head, data]


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _send(call: ServerCall, message: Message) -> None:
    call.write(encode_message(message.SerializeToString()))


def _request(call: ServerCall, message: _M) -> _M | None:
    """Read the next request into a message; None after the half-close."""
    data = call.receive()
    if data is None:
        return None
    try:
        message.ParseFromString(data)
    except DecodeError as exc:
        raise RpcError(
            StatusCode.INVALID_ARGUMENT, f"{call.method}: the request is no {message.DESCRIPTOR.name}"
        ) from exc
    return message


def _single_request(call: ServerCall, message: _M) -> _M:
    request = _request(call, message)
    if request is None:
        raise RpcError(StatusCode.INVALID_ARGUMENT, f"{call.method}: the request is missing")
    return request


def _fail(code: StatusCode, error: BuildKitError) -> NoReturn:
    raise RpcError(code, f"{error}: {error.why}" if error.why else str(error)) from error
