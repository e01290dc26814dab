"""The history's calls and what it makes of the answers, against a channel that answers from a list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from buildkit_client._proto import content_pb2, control_pb2, rpc_status_pb2
from buildkit_client.errors import (
    BlobNotFoundError,
    BuildCancelledError,
    DaemonError,
    DigestError,
    DigestMismatchError,
    NotRecordedError,
    RemoteProtocolError,
    SolveError,
    StatusDetails,
)
from buildkit_client.history import CONTENT, History
from buildkit_client.oci.digest import Digest
from buildkit_client.records import BlobDescriptor, BuildOutput, BuildRecord
from buildkit_client.transport.channel import CONTROL


class FakeStream:
    def __init__(self, answers: list[object]) -> None:
        self._answers = answers
        self.is_cancelled = False

    def __iter__(self) -> Iterator[object]:
        for answer in self._answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def cancel(self) -> bool:
        self.is_cancelled = True
        return True


class FakeChannel:
    """Records requests; answers streams by path and blobs by digest."""

    address = "unix:///fake"

    def __init__(self, *events: control_pb2.BuildHistoryEvent | Exception) -> None:
        self.events: list[object] = list(events)
        self.blobs: dict[str, list[bytes]] = {}
        self.updates: list[control_pb2.UpdateBuildHistoryRequest] = []
        self.requests: list[object] = []
        self.streams: list[FakeStream] = []
        self.on_update: Callable[[], object] = lambda: None
        self.daemon_version = "v0.34.2"

    def version(self) -> str:
        return self.daemon_version

    def unary(self, path: str, request: object, response: object, *, timeout_s: float | None = None) -> object:
        assert path == CONTROL + "UpdateBuildHistory"
        assert isinstance(request, control_pb2.UpdateBuildHistoryRequest)
        self.updates.append(request)
        self.on_update()
        return control_pb2.UpdateBuildHistoryResponse()

    def server_stream(self, path: str, request: object, response: object) -> FakeStream:
        self.requests.append(request)
        answers = self.events
        if isinstance(request, content_pb2.ReadContentRequest):
            assert path == CONTENT + "Read"
            missing = DaemonError("x", details=StatusDetails(code=5, message="not found"))
            found = self.blobs.get(request.digest)
            answers = [missing] if found is None else [content_pb2.ReadContentResponse(data=one) for one in found]
        self.streams.append(FakeStream(answers))
        return self.streams[-1]

    @contextmanager
    def translated(self, *, is_build: bool) -> Iterator[None]:
        assert not is_build
        yield


def event(ref: str, kind: int = 1, **fields: object) -> control_pb2.BuildHistoryEvent:
    message = control_pb2.BuildHistoryEvent(type=kind)
    message.record.Ref = ref
    for name, value in fields.items():
        if isinstance(value, control_pb2.Descriptor):
            getattr(message.record, name).CopyFrom(value)
        else:
            setattr(message.record, name, value)
    return message


def history(channel: FakeChannel) -> History:
    return History(channel)  # type: ignore[arg-type]


def descriptor(data: bytes, media_type: str = "m") -> control_pb2.Descriptor:
    return control_pb2.Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))


def test_a_record_has_everything_the_daemon_says() -> None:
    message = control_pb2.BuildHistoryRecord(
        Ref="r", Frontend="dockerfile.v0", FrontendAttrs={"a": "b"}, Generation=3, pinned=True,
        Exporters=[control_pb2.Exporter(Type="image", Attrs={"name": "x"})], ExporterResponse={"k": "v"},
        numCachedSteps=1, numTotalSteps=4, numCompletedSteps=2, numWarnings=5,
    )  # fmt: skip
    message.CreatedAt.FromNanoseconds(1_000_000_001)
    assert BuildRecord.from_proto(message).is_running
    message.CompletedAt.FromNanoseconds(2_000_000_002)
    message.error.code, message.error.message = 2, "failed"
    for name in ("logs", "trace", "externalError"):
        getattr(message, name).CopyFrom(descriptor(name.encode(), name))
    message.Result.ResultDeprecated.CopyFrom(descriptor(b"old"))
    message.Results["linux/arm64"].Results[1].CopyFrom(descriptor(b"one"))
    message.Results["linux/arm64"].Attestations.append(descriptor(b"said"))
    record = BuildRecord.from_proto(message)

    def blob(data: bytes, media_type: str = "m") -> BlobDescriptor:
        return BlobDescriptor(media_type, str(Digest.of(data)), len(data))

    assert (record.ref, record.frontend, record.frontend_attrs) == ("r", "dockerfile.v0", {"a": "b"})
    assert [(one.type, one.attrs) for one in record.exporters] == [("image", {"name": "x"})]
    assert record.exporter_response == {"k": "v"}
    assert (record.created_at_ns, record.completed_at_ns) == (1_000_000_001, 2_000_000_002)
    assert (record.error_code, record.error_message, record.has_failed) == (2, "failed", True)
    assert record.logs == blob(b"logs", "logs")
    assert (record.trace, record.external_error) == (blob(b"trace", "trace"), blob(b"externalError", "externalError"))
    assert record.output == BuildOutput({0: blob(b"old")})
    assert record.platform_outputs == {"linux/arm64": BuildOutput({1: blob(b"one")}, (blob(b"said"),))}
    assert (record.generation, record.is_pinned, record.is_running) == (3, True, False)
    assert (record.total_steps, record.cached_steps, record.completed_steps, record.warnings) == (4, 1, 2, 5)


def test_a_list_ends_with_what_is_known() -> None:
    channel = FakeChannel(event("a", 0), event("b"))
    assert [record.ref for record in history(channel).list(["status==error"], limit=2, ref="x")] == ["a", "b"]
    assert channel.requests == [
        control_pb2.BuildHistoryRequest(EarlyExit=True, Filter=["status==error"], Limit=2, Ref="x")
    ]


def test_following_goes_on_until_closed() -> None:
    channel = FakeChannel(event("a", 0), event("a", 1), event("a", 2), BuildCancelledError("x"))
    with history(channel).follow(active_only=True) as events:
        assert [next(events).kind for _ in range(3)] == ["started", "complete", "deleted"]
        events.close()
        assert list(events) == []
    assert channel.streams[0].is_cancelled
    assert channel.requests == [control_pb2.BuildHistoryRequest(ActiveOnly=True)]


def test_a_stream_that_the_daemon_cancels_is_an_error() -> None:
    with history(FakeChannel(BuildCancelledError("x"))).follow() as events, pytest.raises(BuildCancelledError):
        next(events)


@pytest.mark.parametrize(
    "events", [[], [DaemonError("x", details=StatusDetails(message="ref x is deleted: file does not exist"))]]
)
def test_a_build_that_is_not_recorded(events: list[Exception]) -> None:
    with pytest.raises(NotRecordedError, match="ref x not found"):
        history(FakeChannel(*events)).get("x")


def test_changes_of_a_record() -> None:
    channel = FakeChannel()
    records = history(channel)
    records.pin("a")
    records.unpin("b")
    records.delete("c")
    records.finalize("d")
    assert channel.updates == [
        control_pb2.UpdateBuildHistoryRequest(Ref="a", Pinned=True),
        control_pb2.UpdateBuildHistoryRequest(Ref="b"),
        control_pb2.UpdateBuildHistoryRequest(Ref="c", Delete=True),
        control_pb2.UpdateBuildHistoryRequest(Ref="d", Finalize=True),
    ]


def test_a_blob_is_checked() -> None:
    channel = FakeChannel()
    good, bad = str(Digest.of(b"content")), str(Digest.of(b"other"))
    channel.blobs = {good: [b"con", b"", b"tent"], bad: [b"content"]}
    records = history(channel)
    assert list(records.stream_blob(good)) == [b"con", b"tent"]
    assert records.read_blob(BlobDescriptor("m", good, 7)) == b"content"
    assert all(stream.is_cancelled for stream in channel.streams)
    with pytest.raises(DigestMismatchError, match="is damaged"):
        records.read_blob(bad)
    with pytest.raises(DigestMismatchError, match="has 7 bytes"):
        records.read_blob(BlobDescriptor("m", good, 8))
    with pytest.raises(BlobNotFoundError):
        records.read_blob(str(Digest.of(b"nothing")))
    with pytest.raises(DigestError):
        records.read_blob("../../etc")


def test_the_error_of_a_build_has_its_details() -> None:
    status = rpc_status_pb2.Status(code=2, message="the whole message")
    status.details.add(type_url="github.com/moby/buildkit/errdefs.Vertex+json", value=b'{"digest":"sha256:v"}')
    raw = status.SerializeToString()
    message = event("a", externalError=descriptor(raw))
    message.record.error.code, message.record.error.message = 2, "short"
    channel = FakeChannel(message)
    channel.blobs[Digest.of(raw)] = [raw]
    error = history(channel).error("a")
    assert isinstance(error, SolveError)
    assert (str(error), error.vertex) == ("the whole message", "sha256:v")
    message.record.ClearField("externalError")
    assert str(history(channel).error("a")) == "short"
    message.record.ClearField("error")
    assert history(channel).error("a") is None


def test_a_trace_is_waited_for() -> None:
    channel = FakeChannel(event("a"))
    channel.blobs[Digest.of(b"{}")] = [b"{}"]
    channel.on_update = lambda: channel.events.__setitem__(0, event("a", trace=descriptor(b"{}")))
    assert history(channel).trace("a") == b"{}"
    assert channel.updates == [control_pb2.UpdateBuildHistoryRequest(Ref="a", Finalize=True)]
    with pytest.raises(NotRecordedError, match="does not have trace"):
        history(FakeChannel(event("a"))).trace("a")


def test_provenance_is_found_among_the_attestations() -> None:
    raw = json.dumps({"runDetails": {}}).encode()
    message = event("a")
    for kind, data in (("https://spdx.dev/Document", b"sbom"), ("https://slsa.dev/provenance/v1", raw)):
        said = message.record.Result.Attestations.add()
        said.CopyFrom(descriptor(data))
        said.annotations["in-toto.io/predicate-type"] = kind
    channel = FakeChannel(message)
    channel.blobs[Digest.of(raw)] = [raw]
    assert history(channel).provenance("a") == {"runDetails": {}}
    assert history(channel).provenance("a", "linux/arm64") is None
    for broken in (b"[]", b"{"):
        message.record.Result.Attestations[1].digest = Digest.of(broken)
        message.record.Result.Attestations[1].size = len(broken)
        channel.blobs[Digest.of(broken)] = [broken]
        with pytest.raises(RemoteProtocolError):
            history(channel).provenance("a")
