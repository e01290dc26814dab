"""Our graphs next to what Go's package recorded for the same ones: bytes, order, metadata."""

from __future__ import annotations

import pytest

from buildkit_client._proto import ops_pb2
from buildkit_client.llb import Definition
from buildkit_client.oci import Digest
from tests.unit.llb.graphs import GRAPHS, Recorded, marshal, recorded

RECORDED = {one.name: one for one in recorded()}


def test_every_graph_is_recorded() -> None:
    assert len(GRAPHS) > 40
    assert sorted(RECORDED) == sorted(GRAPHS)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_same_definition(name: str) -> None:
    definition = marshal(name)
    expected = RECORDED[name]
    # Readable first: which operation differs, and how.
    assert _texts(definition) == _texts(_read(expected))
    assert [Digest.of(op) for op in definition.ops] == expected.ops
    assert definition == _read(expected)


@pytest.mark.parametrize("name", sorted(set(RECORDED) - {"scratch", "merge-none"}))
def test_recorded_definition_round_trips(name: str) -> None:
    definition = Definition.from_bytes(RECORDED[name].definition)
    assert Definition.from_bytes(definition.to_bytes()) == definition
    # Runtimes sort the keys of maps in different ways, so only the rest of the bytes is fixed.
    assert len(definition.to_bytes()) == len(RECORDED[name].definition)
    assert definition == marshal(name)
    assert definition.head == marshal(name).head is not None


def _read(one: Recorded) -> Definition:
    return Definition(ops_pb2.Definition.FromString(one.definition))


def _texts(definition: Definition) -> tuple[list[str], dict[str, str]]:
    message = definition.to_proto()
    ops = [str(ops_pb2.Op.FromString(op)) for op in definition.ops]
    return ops, {digest: str(metadata) for digest, metadata in message.metadata.items()}
