"""A marshalled graph: what the daemon solves and what other tools read and write as raw LLB.

Reference: client/llb/marshal.go, Definition, ReadFrom, WriteTo; solver/pb/ops.proto, Definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.oci.digest import Digest

if TYPE_CHECKING:
    from typing import NoReturn, Self

_HINT = "raw LLB is what State.marshal().to_bytes(), Go's llb.WriteTo and buildctl's own examples write"


class Definition:
    """A build graph in the daemon's own form; never changes.

    Two definitions are equal when they hold the same operations in the same order, with the same metadata.

    Reference: client/llb/marshal.go, Definition.
    """

    __slots__ = ("_data",)

    def __init__(self, message: ops_pb2.Definition) -> None:
        self._data = message.SerializeToString(deterministic=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read raw LLB, for example from another program's output.

        Raises:
            OptionError: The bytes are no definition, or its operations do not make one graph.
        """
        message = ops_pb2.Definition()
        try:
            message.ParseFromString(data)
        except DecodeError:
            _refuse("the bytes are no protobuf message")
        if not _ops(message):
            _refuse("there are no operations in it" if data else "the input is empty")
        _check(message)
        return cls(message)

    @property
    def ops(self) -> tuple[bytes, ...]:
        """The operations as serialized ``pb.Op``, inputs before what uses them; empty for :func:`scratch`.

        The last one only points to the result.
        """
        return tuple(_ops(self.to_proto()))

    @property
    def head(self) -> Digest | None:
        """The digest of the operation whose output is the result; None for :func:`scratch`."""
        ops = self.ops
        return Digest(ops_pb2.Op.FromString(ops[-1]).inputs[0].digest) if ops else None

    def to_proto(self) -> ops_pb2.Definition:
        """Return the message of the Solve request; the caller may change it."""
        return ops_pb2.Definition.FromString(self._data)

    def without_cache(self) -> Self:
        """Return the same graph with every operation run anew.

        Reference: cmd/buildctl/build.go, read, with ``--no-cache``.
        """
        message = self.to_proto()
        for data in _ops(message):
            message.metadata[Digest.of(data)].ignore_cache = True
        return type(self)(message)

    def to_bytes(self) -> bytes:
        """Return raw LLB, for a file or the input of ``buildctl build``; equal definitions give equal bytes."""
        return self._data

    def __eq__(self, other: object) -> bool:
        return self._data == other._data if isinstance(other, Definition) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return f"<Definition head={self.head} ops={len(self.ops)}>"


def _ops(message: ops_pb2.Definition) -> list[bytes]:
    """Return the field that has the name of a Python keyword."""
    return list(getattr(message, "def"))


def _check(message: ops_pb2.Definition) -> None:
    """Refuse what the daemon would refuse with an error that names no reason."""
    known = {Digest.of(data) for data in _ops(message)}
    op = ops_pb2.Op()
    for number, data in enumerate(_ops(message), 1):
        try:
            op = ops_pb2.Op.FromString(data)
        except DecodeError:
            _refuse(f"operation {number} of {len(known)} is damaged")
        missing = [source.digest for source in op.inputs if source.digest not in known]
        if missing:
            _refuse(f"operation {number} needs {missing[0][:80]!a}, which is not in it")
    if op.WhichOneof("op") is not None or len(op.inputs) != 1:
        _refuse("its last operation does not point to the result")


def _refuse(why: str) -> NoReturn:
    raise OptionError("not a build definition (LLB)", why=why, hint=_HINT)
