"""Our messages live beside other packages that define the same names, and still behave like ordinary messages."""

from __future__ import annotations

import copy
import datetime
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, json_format, timestamp_pb2

from buildkit_client._proto import (
    content_pb2,
    control_pb2,
    errdefs_pb2,
    fsutil_pb2,
    health_pb2,
    ops_pb2,
    rpc_status_pb2,
    well_known,
)

ROOT = Path(__file__).parents[3]
MOMENT = datetime.datetime(2026, 3, 4, 5, 6, 7, 890000)

# Runs in a fresh interpreter, because what is imported first matters and an import cannot be taken back.
NEIGHBOURS = """
import sys

def import_theirs():
    from google.rpc import status_pb2
    from grpc_health.v1 import health_pb2
    return status_pb2, health_pb2

def import_ours():
    from buildkit_client._proto import gateway_pb2, health_pb2, rpc_status_pb2
    return rpc_status_pb2, health_pb2

if sys.argv[1] == "theirs first":
    theirs, ours = import_theirs(), import_ours()
else:
    ours, theirs = import_ours(), import_theirs()

their_status, their_health = theirs
our_status, our_health = ours
assert their_status.Status is not our_status.Status
assert their_status.Status.DESCRIPTOR.full_name == our_status.Status.DESCRIPTOR.full_name == "google.rpc.Status"

sent = their_status.Status(code=5, message="gone")
sent.details.add().Pack(their_health.HealthCheckRequest(service="web"))
received = our_status.Status.FromString(sent.SerializeToString())
request = our_health.HealthCheckRequest()
assert received.details[0].Unpack(request) and request.service == "web"
assert their_status.Status.FromString(received.SerializeToString()) == sent
print("both work")
"""


@pytest.mark.parametrize("order", ["theirs first", "ours first"])
@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_same_names_from_other_packages(order: str, implementation: str) -> None:
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NEIGHBOURS, order],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("both work\n", "", 0)


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_every_message_survives_a_round_trip(implementation: str) -> None:
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "scripts" / "round_trip_stubs.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"({implementation}): 19 modules, 199 messages" in done.stdout


def test_the_default_pool_does_not_know_our_names() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("moby.buildkit.v1.SolveRequest")


def test_timestamps_convert_in_place() -> None:
    vertex = control_pb2.Vertex()
    assert not vertex.HasField("started")
    vertex.started.FromDatetime(MOMENT)
    received = control_pb2.Vertex.FromString(vertex.SerializeToString())
    assert received.started.ToDatetime() == MOMENT
    assert received.started.ToDatetime(tzinfo=datetime.UTC) == MOMENT.replace(tzinfo=datetime.UTC)
    assert received.started.ToNanoseconds() % 10**9 == 890_000_000


def test_timestamps_can_be_passed_to_a_constructor() -> None:
    stamp = well_known.Timestamp(seconds=7, nanos=9)
    vertex = control_pb2.Vertex(started=stamp, completed={"seconds": 8})
    assert isinstance(vertex.started, well_known.Timestamp)
    assert (vertex.started.ToNanoseconds(), vertex.completed.seconds) == (7_000_000_009, 8)


def test_timestamps_exchange_bytes_with_the_default_pool() -> None:
    theirs = timestamp_pb2.Timestamp(seconds=7, nanos=9)
    vertex = control_pb2.Vertex()
    with pytest.raises(TypeError):
        vertex.started.CopyFrom(theirs)  # type: ignore[arg-type]
    vertex.started.ParseFromString(theirs.SerializeToString())
    assert (vertex.started.seconds, vertex.started.nanos) == (7, 9)


def test_the_other_well_known_types() -> None:
    status = rpc_status_pb2.Status(details=[well_known.Any(type_url="x/y+json", value=b"{}")])
    status.details.add().Pack(errdefs_pb2.Vertex(digest="sha256:1"))
    vertex = errdefs_pb2.Vertex()
    assert status.details[1].type_url == "type.googleapis.com/errdefs.Vertex"
    assert status.details[1].Unpack(vertex)
    assert vertex.digest == "sha256:1"
    request = content_pb2.UpdateRequest(update_mask=well_known.FieldMask(paths=["labels.a"]))
    assert request.update_mask.ToJsonString() == "labels.a"
    assert well_known.Empty().SerializeToString() == b""


def test_messages_can_be_copied_and_pickled() -> None:
    request = control_pb2.SolveRequest(Ref="r", FrontendAttrs={"target": "web"}, Definition={"def": [b"op"]})
    for twin in (copy.deepcopy(request), pickle.loads(pickle.dumps(request))):
        assert twin == request
        assert twin is not request
        assert type(twin) is control_pb2.SolveRequest
    assert repr(control_pb2.SolveRequest) == "<class 'buildkit_client._proto.control_pb2.SolveRequest'>"


def test_messages_convert_to_json() -> None:
    solve = errdefs_pb2.Solve(inputIDs=["a"], file={"index": 2})
    assert json_format.MessageToDict(solve) == {"inputIDs": ["a"], "file": {"index": "2"}}
    assert json_format.Parse('{"inputIDs": ["a"], "file": {"index": "2"}}', errdefs_pb2.Solve()) == solve
    vertex = json_format.Parse('{"started": "2026-03-04T05:06:07.89Z"}', control_pb2.Vertex())
    assert vertex.started.ToDatetime() == MOMENT


def test_enums_have_names_and_values() -> None:
    assert ops_pb2.MountType.Name(4) == "TMPFS"
    assert ops_pb2.MountType.SECRET == ops_pb2.SECRET == 1
    assert fsutil_pb2.Packet.PacketType.Value("PACKET_ERR") == fsutil_pb2.Packet.PACKET_ERR == 4
    assert health_pb2.HealthCheckResponse.SERVING == 1


def test_file_names_are_bytes() -> None:
    # field 1 with the name "\xff" and field 7 with "a\xfe", as BuildKit sends them
    wire = b"\x0a\x01\xff\x3a\x02a\xfe"
    stat = fsutil_pb2.Stat.FromString(wire)
    assert (stat.path, stat.linkname) == (b"\xff", b"a\xfe")
    assert stat.SerializeToString() == wire


def test_an_empty_packet_lists_nothing() -> None:
    packet = fsutil_pb2.Packet.FromString(b"")
    assert packet.type == fsutil_pb2.Packet.PACKET_STAT
    assert not packet.HasField("stat")
