"""Timestamp, Any, Empty and FieldMask as our messages hold them.

A private pool needs its own copy of the well-known files (`buildkit_client._proto._pool` says why), hence its own
classes. They behave like protobuf's: ``ToDatetime()``, ``FromNanoseconds()``, ``Pack()`` and the like are there. One
thing differs: a ``google.protobuf.timestamp_pb2.Timestamp`` cannot be put into a message of ours. Fill the field in
place (``vertex.started.FromDatetime(now)``) or pass an object of a class of this module. Type checkers see distinct
classes, so a mix-up is an error there before it is one at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import any_pb2, empty_pb2, field_mask_pb2, timestamp_pb2

from buildkit_client._proto import _pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf import message
    from google.protobuf.internal import containers, well_known_types

    class Any(message.Message, well_known_types.Any):
        """A message of any type, as its type URL and bytes."""

        def __init__(self, *, type_url: str = ..., value: bytes = ...) -> None: ...

    class Empty(message.Message):
        """A message without fields."""

        def __init__(self) -> None: ...

    class FieldMask(message.Message, well_known_types.FieldMask):
        """Names of fields, for partial updates."""

        paths: containers.RepeatedScalarFieldContainer[str]

        def __init__(self, *, paths: Iterable[str] = ...) -> None: ...

    class Timestamp(message.Message, well_known_types.Timestamp):
        """A moment in UTC: seconds since 1970 and nanoseconds."""

        def __init__(self, *, seconds: int = ..., nanos: int = ...) -> None: ...

else:
    for _module in (any_pb2, empty_pb2, field_mask_pb2, timestamp_pb2):
        _pool.build(_pool.POOL.AddSerializedFile(_module.DESCRIPTOR.serialized_pb), __name__, globals())

__all__ = ["Any", "Empty", "FieldMask", "Timestamp"]
