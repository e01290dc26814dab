"""The graph behind the states: operations, their outputs, and how all of it becomes a definition.

An operation is serialized once and named by the digest of its bytes; what uses it names that digest. So the bytes have
to be those that Go's library writes, and the definition lists inputs before what uses them.

Reference: client/llb/state.go, Vertex, Output, State.Marshal; marshal.go, MarshalConstraints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from google.protobuf.message import EncodeError

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.llb.constraints import Constraints, Metadata, default_platform
from buildkit_client.llb.definition import Definition
from buildkit_client.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_client.oci.descriptor import Platform

EMPTY = -1  # solver/pb/const.go, Empty: an input that is nothing; also SkipOutput
_LENGTH_DELIMITED = 2


class Vertex(ABC):
    """An operation of the graph; compared by identity."""

    constraints: Constraints

    @abstractmethod
    def inputs(self) -> list[Output]:
        """Return what the operation uses, in the order in which the definition lists it."""

    @abstractmethod
    def fill(self, op: ops_pb2.Op, graph: Graph, /) -> Metadata:
        """Write what the operation does, and the digests of what it uses.

        Args:
            op: Has platform and worker filters already; an operation that runs anywhere clears the platform.
            graph: Knows all inputs, and what the caller of ``marshal`` asked for.

        Returns:
            Facts beside the operation, complete.
        """


@dataclass(frozen=True, eq=False, slots=True)
class Output:
    """One result of an operation.

    Attributes:
        vertex: The operation.
        index: Which of its results.
        platform: What the operation was told to run on; None when it was told nothing.
    """

    vertex: Vertex
    index: int = 0
    platform: Platform | None = None


class Graph:
    """One ``marshal``: the operations serialized so far.

    Args:
        base: What counts where an operation says nothing else: a platform, worker filters.
        local_unique_id: Sets local directories of one build apart from those of others.
    """

    def __init__(self, base: Constraints, local_unique_id: str) -> None:
        self.local_unique_id = local_unique_id
        self._base = base
        self._digests: dict[Vertex, Digest] = {}
        self._ops: dict[Digest, bytes] = {}
        self._metadata: dict[Digest, Metadata] = {}

    def input(self, output: Output) -> ops_pb2.Input:
        """Return the pointer to an operation that is serialized already."""
        return ops_pb2.Input(digest=self._digests[output.vertex], index=output.index)

    def add_input(self, op: ops_pb2.Op, output: Output) -> int:
        """Return the position of an input among those of an operation, which uses each only once."""
        pointer = self.input(output)
        for position, known in enumerate(op.inputs):
            if known == pointer:
                return position
        op.inputs.append(pointer)
        return len(op.inputs) - 1

    def platform_of(self, constraints: Constraints) -> Platform:
        """Return what an operation runs on."""
        return constraints.platform or self._base.platform or default_platform()

    def marshal(self, result: Output) -> Definition:
        """Return the definition of one output.

        Raises:
            OptionError: A value does not fit its field.

        Reference: client/llb/state.go, State.Marshal.
        """
        try:
            return self._marshal(result)
        except (TypeError, ValueError, EncodeError) as exc:
            raise OptionError("the graph cannot be marshalled", why=f"a value does not fit its field: {exc}") from exc

    def _marshal(self, result: Output) -> Definition:
        for vertex in _inputs_first(result.vertex):
            self._add(vertex)
        last = ops_pb2.Op(inputs=[self.input(result)]).SerializeToString()
        caps = {"constraints", "platform"}
        for metadata in self._metadata.values():
            caps.update(
                cap
                for cap, used in (
                    ("meta.ignorecache", metadata.ignore_cache),
                    ("meta.description", bool(metadata.description)),
                    ("meta.exportcache", metadata.export_cache is not None),
                )
                if used
            )
        message = ops_pb2.Definition()
        for digest in self._ops:
            message.Source.locations[digest].SetInParent()  # no places in source files, said of every operation
        self._metadata[Digest.of(last)] = Metadata(caps=frozenset(caps))
        getattr(message, "def").extend([*self._ops.values(), last])  # the field has the name of a keyword
        for digest, metadata in self._metadata.items():
            message.metadata[digest].CopyFrom(metadata.to_proto())
        return Definition(message)

    def _add(self, vertex: Vertex) -> None:
        op = ops_pb2.Op()
        platform = self.platform_of(vertex.constraints)
        op.platform.CopyFrom(
            ops_pb2.Platform(
                OS=platform.os,
                Architecture=platform.architecture,
                Variant=platform.variant,
                OSVersion=platform.os_version,
                OSFeatures=platform.os_features,
            )
        )
        op.constraints.filter.extend([*self._base.require, *vertex.constraints.require])
        op.constraints.SetInParent()
        metadata = vertex.fill(op, self)
        data = _serialize(op)
        digest = Digest.of(data)
        self._digests[vertex] = digest
        self._ops.setdefault(digest, data)
        self._metadata[digest] = self._metadata.get(digest, Metadata()).merged(metadata)


def _serialize(op: ops_pb2.Op) -> bytes:
    """Return the bytes that Go's protobuf library writes: a oneof behind all other fields, maps sorted by key.

    Python's runtimes put a oneof where its number belongs, and each sorts keys in its own way where one is the
    beginning of another.

    Reference: google.golang.org/protobuf, internal/order, LegacyFieldOrder, GenericKeyOrder.
    """
    kind = op.WhichOneof("op")
    if kind is None:
        return op.SerializeToString()
    rest = ops_pb2.Op()
    rest.CopyFrom(op)
    rest.ClearField(kind)
    body = _serialize_source(op.source) if kind == "source" else getattr(op, kind).SerializeToString()
    number = op.DESCRIPTOR.fields_by_name[kind].number
    return rest.SerializeToString() + bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(body)) + body


def _serialize_source(source: ops_pb2.SourceOp) -> bytes:
    entries = sorted(source.attrs.items(), key=lambda entry: entry[0].encode())
    parts = [ops_pb2.SourceOp(identifier=source.identifier), *(ops_pb2.SourceOp(attrs=dict([e])) for e in entries)]
    return b"".join(part.SerializeToString() for part in parts)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _inputs_first(vertex: Vertex) -> Iterator[Vertex]:
    """Yield each operation once, behind everything it uses; a loop, for chains of thousands of steps are usual."""
    seen = {vertex}
    stack = [(vertex, iter(vertex.inputs()))]
    while stack:
        current, inputs = stack[-1]
        following = next((output.vertex for output in inputs if output.vertex not in seen), None)
        if following is None:
            stack.pop()
            yield current
        else:
            seen.add(following)
            stack.append((following, iter(following.inputs())))


def no_platform(op: ops_pb2.Op) -> None:
    """Take the platform off an operation that does the same everywhere, so that all platforms share its result."""
    op.ClearField("platform")


def with_platform(constraints: Constraints, platform: Platform | None) -> Constraints:
    """Return constraints with a platform where they have none."""
    return constraints if constraints.platform else replace(constraints, platform=platform)
