"""Raw LLB: what is read, and what is refused with which reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from buildkit_client import OptionError, llb
from buildkit_client._proto import ops_pb2
from buildkit_client.oci import Digest
from tests.unit.llb.graphs import chain, marshal


def message(*ops: bytes) -> bytes:
    definition = ops_pb2.Definition()
    getattr(definition, "def").extend(ops)
    return definition.SerializeToString()


SOURCE = ops_pb2.Op(source=ops_pb2.SourceOp(identifier="docker-image://a")).SerializeToString()
RESULT = ops_pb2.Op(inputs=[ops_pb2.Input(digest=Digest.of(SOURCE))]).SerializeToString()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the input is empty"),
        (b"FROM alpine\nRUN true\n", "the bytes are no protobuf message"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "the bytes are no protobuf message"),
        (message(SOURCE, RESULT)[:-1], "the bytes are no protobuf message"),
        (ops_pb2.Op(platform=ops_pb2.Platform(OS="linux")).SerializeToString(), "there are no operations in it"),
        (message(SOURCE, b"\xff\xff", RESULT), "operation 2 of 3 is damaged"),
        (message(SOURCE), "its last operation does not point to the result"),
        (message(SOURCE, b""), "its last operation does not point to the result"),
        (message(RESULT), f"operation 1 needs '{Digest.of(SOURCE)}', which is not in it"),
    ],
)
def test_refuses(data: bytes, why: str) -> None:
    with pytest.raises(OptionError, match="not a build definition") as caught:
        llb.Definition.from_bytes(data)
    assert caught.value.why == why
    assert caught.value.hint


def test_an_order_that_is_not_ours_is_read() -> None:
    step = ops_pb2.Op(inputs=[ops_pb2.Input(digest=Digest.of(SOURCE))], exec=ops_pb2.ExecOp()).SerializeToString()
    last = ops_pb2.Op(inputs=[ops_pb2.Input(digest=Digest.of(step), index=2)]).SerializeToString()
    definition = llb.Definition.from_bytes(message(step, SOURCE, last))
    assert definition.ops == (step, SOURCE, last)
    assert definition.head == Digest.of(step)


def test_fields_that_we_do_not_know_travel_along() -> None:
    newer = SOURCE + b"\xaa\x06\x03new"
    last = ops_pb2.Op(inputs=[ops_pb2.Input(digest=Digest.of(newer))]).SerializeToString()
    data = message(newer, last) + b"\xaa\x06\x03new"
    assert llb.Definition.from_bytes(data).to_bytes() == data


def test_a_definition_never_changes() -> None:
    definition = marshal("image")
    before = definition.to_bytes()
    changed = definition.to_proto()
    getattr(changed, "def").append(b"more")
    changed.metadata.clear()
    assert definition.to_bytes() == before
    assert definition == marshal("image") != marshal("image-short-name")
    assert len({definition, marshal("image"), marshal("image-short-name")}) == 2
    assert repr(definition) == f"<Definition head={definition.head} ops=2>"


def test_every_public_name_is_there() -> None:
    assert sorted(llb.__all__) == sorted(name for name in llb.__all__ if getattr(llb, name) is not None)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llb.nothing


def test_scratch_has_no_operations() -> None:
    definition = llb.scratch().marshal()
    assert definition.head is None
    assert definition.ops == ()
    assert definition.to_bytes() == b""


def test_thousands_of_steps() -> None:
    assert len(chain(llb.image("a"), range(3000)).marshal().ops) == 3002


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_bytes_do_not_depend_on_the_protobuf_runtime(implementation: str) -> None:
    program = (
        "from google.protobuf.internal import api_implementation as api; print(api.Type());"
        "from tests.unit.llb.graphs import *; from buildkit_client.oci import Digest;"
        "print([[Digest.of(op) for op in marshal(one.name).ops] == one.ops for one in recorded()].count(False))"
    )
    environ = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [implementation, "0"]
