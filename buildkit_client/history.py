"""The daemon's history of builds: what ran, how it ended, and what it left in the daemon's content store.

A record holds counts, options and answers. What is larger (progress, the whole failure, the trace, images and
attestations) lies in the content store, named by digest; :meth:`History.read_blob` reads it and checks the digest. The
daemon keeps the newest 50 builds and those of the last two days, unless it is configured otherwise; pinned ones stay.

Reference: api/services/control/control.proto, ListenBuildHistory and UpdateBuildHistory;
solver/llbsolver/history/buildhistory.go.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from buildkit_client._proto import content_pb2, control_pb2
from buildkit_client.errors import (
    BlobNotFoundError,
    BuildCancelledError,
    BuildKitError,
    ConnectionLostError,
    DaemonError,
    DigestMismatchError,
    NotRecordedError,
    RemoteProtocolError,
)
from buildkit_client.oci.digest import Digest
from buildkit_client.progress.model import StatusUpdate, decode_status
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.requirements import HISTORY_FILTERS, HISTORY_FINALIZE, HISTORY_LIMIT, require
from buildkit_client.transport.channel import CONTROL, QUICK_S, Channel
from buildkit_client.transport.lenient import parse_message
from buildkit_client.transport.status import DETAILS_TRAILER, error_from_rpc

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from buildkit_client.progress.model import VertexLog
    from buildkit_client.records import BlobDescriptor, BuildEvent, BuildRecord

CONTENT = "/containerd.services.content.v1.Content/"
ANNOTATION_PREDICATE_TYPE = "in-toto.io/predicate-type"  # solver/llbsolver/provenance.go
_PROVENANCE = "https://slsa.dev/provenance/"


class BuildEvents:
    """Changes in the history as they happen; made by :meth:`History.follow`.

    Iterate it, or use it as a context manager, too. :meth:`close` ends it, also from another thread.
    """

    def __init__(self, channel: Channel, request: control_pb2.BuildHistoryRequest) -> None:
        self._channel = channel
        self._is_closed = False
        self._stream = channel.server_stream(
            CONTROL + "ListenBuildHistory", request, partial(parse_message, control_pb2.BuildHistoryEvent)
        )
        self._events = self._read()

    def _read(self) -> Iterator[BuildEvent]:
        from buildkit_client.records import BuildEvent  # noqa: PLC0415 - not for those who read a blob

        try:
            with self._channel.translated(is_build=False):
                for message in self._stream:
                    yield BuildEvent.from_proto(message)
        except (BuildCancelledError, ConnectionLostError):
            if not self._is_closed:
                raise

    def close(self) -> None:
        """End the iteration; a second call does nothing."""
        self._is_closed = True
        self._stream.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BuildEvent:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class History:
    """The history of one daemon; see :attr:`Client.history`.

    Args:
        channel: The connection to it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    # -- records -----------------------------------------------------------------------------------------------

    def list(self, filters: Sequence[str] = (), *, limit: int = 0, ref: str = "") -> builtins.list[BuildRecord]:
        """Return builds: first those that run, then those that ended, in the order of their refs; see ``limit``.

        Args:
            filters: Of builds that ended, one must match; the terms of one, separated by commas, must all match.
                For example ``status==error``, ``repository~=example``, ``startedAt>1h``, ``duration>=30s``.
            limit: Of builds that ended, only so many, the newest, and the newest first; 0 for all.
            ref: Only this build.

        Raises:
            DaemonError: A filter makes no sense to the daemon.
        """
        return [event.record for event in self.follow(filters, limit=limit, ref=ref, is_live=False)]

    def follow(
        self,
        filters: Sequence[str] = (),
        *,
        limit: int = 0,
        ref: str = "",
        active_only: bool = False,
        is_live: bool = True,
    ) -> BuildEvents:
        """Yield what is known of builds, and then what happens to builds until closed.

        Args:
            filters: See :meth:`list`; for builds that ended before the call.
            limit: See :meth:`list`; for builds that ended before the call.
            ref: Only this build; it need not exist. Its record is not removed as long as somebody follows it so.
            active_only: Leave out builds that ended before the call.
            is_live: Go on with what happens; otherwise end with what is known.

        Raises:
            OptionError: The daemon is too old for filters or a limit.
        """
        wanted = [feature for feature, is_wanted in ((HISTORY_FILTERS, filters), (HISTORY_LIMIT, limit)) if is_wanted]
        if wanted:
            require(wanted, self._channel.version())
        request = control_pb2.BuildHistoryRequest(
            ActiveOnly=active_only, Ref=ref, EarlyExit=not is_live, Filter=filters, Limit=limit
        )
        return BuildEvents(self._channel, request)

    def get(self, ref: str) -> BuildRecord:
        """Return one build.

        Raises:
            NotRecordedError: There is none, or its record was deleted.
        """
        try:
            for record in self.list(ref=ref):
                return record
        except DaemonError as exc:
            if "is deleted" not in exc.details.message:
                raise
            raise _no_record(ref) from exc
        raise _no_record(ref)

    def pin(self, ref: str) -> None:
        """Keep a build's record until it is unpinned.

        Raises:
            DaemonError: There is none, or it has not ended.
        """
        self._update(control_pb2.UpdateBuildHistoryRequest(Ref=ref, Pinned=True))

    def unpin(self, ref: str) -> None:
        """Let the daemon remove a build's record when it is old; see :meth:`pin`."""
        self._update(control_pb2.UpdateBuildHistoryRequest(Ref=ref))

    def delete(self, ref: str) -> None:
        """Remove a build's record, and what only it keeps in the content store.

        Raises:
            DaemonError: There is none.
        """
        self._update(control_pb2.UpdateBuildHistoryRequest(Ref=ref, Delete=True))

    def finalize(self, ref: str) -> None:
        """Wait until the daemon has stored a build's trace, which it does some time after the end.

        Raises:
            DaemonError: There is no such build.
            OptionError: The daemon is too old; it would take the request for one to unpin the build.
        """
        require([HISTORY_FINALIZE], self._channel.version())
        self._update(control_pb2.UpdateBuildHistoryRequest(Ref=ref, Finalize=True), timeout_s=None)

    def _update(self, request: control_pb2.UpdateBuildHistoryRequest, *, timeout_s: float | None = QUICK_S) -> None:
        response = control_pb2.UpdateBuildHistoryResponse.FromString
        self._channel.unary(CONTROL + "UpdateBuildHistory", request, response, timeout_s=timeout_s)

    # -- what a build said and left ----------------------------------------------------------------------------

    def status(self, ref: str) -> Iterator[StatusUpdate]:
        """Yield a build's progress from its start; of one that runs also what follows, to its end.

        Raises:
            DaemonError: There is no such build; the daemon waits some seconds for one to start.
        """
        with self._channel.translated(is_build=False):
            stream = self._channel.server_stream(
                CONTROL + "Status",
                control_pb2.StatusRequest(Ref=ref),
                partial(parse_message, control_pb2.StatusResponse),
            )
            try:
                for response in stream:
                    yield decode_status(response)
            finally:
                stream.cancel()

    def logs(self, ref: str) -> Iterator[VertexLog]:
        """Yield what a build's steps wrote, in pieces; see :meth:`status`."""
        for update in self.status(ref):
            yield from update.logs

    def error(self, ref: str) -> BuildKitError | None:
        """Return the error a build ended with, as waiting for it would have raised it; None when it did not fail.

        Raises:
            NotRecordedError: There is no such build.
        """
        record = self.get(ref)
        if not record.has_failed:
            return None
        trailers: tuple[tuple[str, bytes], ...] = ()
        if record.external_error is not None:
            trailers = ((DETAILS_TRAILER, self.read_blob(record.external_error)),)
        address = str(self._channel.address)
        return error_from_rpc(record.error_code, record.error_message, trailers, address=address, established=True)

    def trace(self, ref: str) -> bytes:
        """Return a build's trace, in OpenTelemetry's JSON; waits until the daemon has stored it.

        Raises:
            NotRecordedError: There is no such build, or it has no trace.
        """
        record = self.get(ref)
        if record.trace is None:
            self.finalize(ref)
            record = self.get(ref)
        if record.trace is None:
            raise NotRecordedError(f"ref {ref} does not have trace", why="the daemon records none")
        return self.read_blob(record.trace)

    def provenance(self, ref: str, platform: str = "") -> Mapping[str, Any] | None:
        """Return how a build came about, as SLSA's provenance predicate; None when the daemon kept none.

        Args:
            ref: The build.
            platform: Which one's, for example ``linux/arm64``, of a build for several platforms.

        Raises:
            NotRecordedError: There is no such build.
            RemoteProtocolError: It cannot be read.
        """
        record = self.get(ref)
        output = record.platform_outputs.get(platform) if platform else record.output
        for descriptor in output.attestations if output is not None else ():
            if descriptor.annotations.get(ANNOTATION_PREDICATE_TYPE, "").startswith(_PROVENANCE):
                try:
                    predicate = json.loads(self.read_blob(descriptor))
                except ValueError as exc:
                    raise RemoteProtocolError("the build's provenance is no JSON", why=str(exc)) from exc
                if not isinstance(predicate, dict):
                    raise RemoteProtocolError("the build's provenance is no JSON object")
                return predicate
        return None

    # -- the daemon's content store ----------------------------------------------------------------------------

    def read_blob(self, blob: BlobDescriptor | str) -> bytes:
        """Return a blob of the daemon's content store; see :meth:`stream_blob`."""
        return b"".join(self.stream_blob(blob))

    def stream_blob(self, blob: BlobDescriptor | str) -> Iterator[bytes]:
        """Yield a blob of the daemon's content store.

        Args:
            blob: Its descriptor or digest. The digest is checked, of a descriptor the size as well.

        Yields:
            Chunks in order, none empty.

        Raises:
            DigestError: The digest is malformed.
            BlobNotFoundError: The daemon has no such blob.
            DigestMismatchError: After the last chunk: the bytes are others than announced.
        """
        digest = Digest(blob if isinstance(blob, str) else blob.digest)
        size_bytes = None if isinstance(blob, str) else blob.size_bytes
        hasher, received = digest.new_hash(), 0
        for chunk in self._read_content(digest):
            hasher.update(chunk)
            received += len(chunk)
            yield chunk
        actual = Digest.from_hash(hasher)
        if actual != digest:
            raise DigestMismatchError(f"the daemon's blob {digest} is damaged", why=f"its bytes have digest {actual}")
        if size_bytes is not None and size_bytes != received:
            raise DigestMismatchError(
                f"the daemon's blob {digest} has {received} bytes", why=f"its descriptor says {size_bytes}"
            )

    def _read_content(self, digest: Digest) -> Iterator[bytes]:
        request = content_pb2.ReadContentRequest(digest=digest)
        try:
            with self._channel.translated(is_build=False):
                stream = self._channel.server_stream(
                    CONTENT + "Read", request, content_pb2.ReadContentResponse.FromString
                )
                try:
                    for response in stream:
                        if response.data:
                            yield response.data
                finally:
                    stream.cancel()
        except DaemonError as exc:
            if exc.details.code != StatusCode.NOT_FOUND:
                raise
            raise BlobNotFoundError(f"the daemon has no blob {digest}", why=exc.details.message) from exc


def _no_record(ref: str) -> NotRecordedError:
    return NotRecordedError(
        f"ref {ref} not found",
        why="the daemon's history has no such build",
        hint="the daemon removes old records unless they are pinned",
    )
