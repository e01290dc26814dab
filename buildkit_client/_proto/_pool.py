"""A descriptor pool of our own, so that our messages never collide with somebody else's.

protobuf's default pool is shared by the whole process and refuses a second file that defines a known name.
``google.rpc.Status`` (googleapis-common-protos), ``grpc.health.v1`` (grpcio-health-checking) and BuildKit's
own packages exist in other distributions too; in the default pool whichever came second would fail to import. The
generated modules therefore register here. Names, numbers and bytes on the wire stay exactly the same.

What follows from it: a class of ours and a class of the same name from another package are different Python types.
Bytes travel between them, ``CopyFrom`` does not. That includes ``google.protobuf.Timestamp`` and its siblings,
see `buildkit_client._proto.well_known`.

Only calls that exist unchanged from protobuf 6.30 to 7.x are used; upb and the pure Python implementation both work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from google.protobuf import descriptor_pool, message, reflection
from google.protobuf.internal import enum_type_wrapper

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from google.protobuf.descriptor import Descriptor, FileDescriptor

POOL = descriptor_pool.DescriptorPool()
"""Holds every file of ours and the well-known files they import."""


def build(file: FileDescriptor, module_name: str, namespace: MutableMapping[str, object]) -> None:
    """Fill a module with the classes and enums of one file, as protobuf's own builder would.

    That builder also tells the process-wide symbol database about each class; in the pure Python implementation
    this is the same registration that a private pool avoids, so it is left out here.

    Args:
        file: A file of `POOL`.
        module_name: Becomes ``__module__`` of the classes, so that they can be pickled and are found in tracebacks.
        namespace: The module's ``globals()``. Gets message classes, enum wrappers and enum values under their names,
            and descriptors under ``_NAME`` and ``_OUTER_NESTED``, where the generated code looks for them.
    """
    for enum in file.enum_types_by_name.values():
        namespace["_" + enum.name.upper()] = enum
        namespace[enum.name] = enum_type_wrapper.EnumTypeWrapper(enum)
        namespace.update((value.name, value.number) for value in enum.values)
    for service in file.services_by_name.values():
        namespace["_" + service.name.upper()] = service
    for descriptor in file.message_types_by_name.values():
        namespace[descriptor.name] = _message_class(descriptor, module_name, "", namespace)


def _message_class(
    descriptor: Descriptor, module_name: str, outer: str, namespace: MutableMapping[str, object]
) -> type[message.Message]:
    """Make the class of one message and, first, those nested in it (map entries among them)."""
    qualname = outer + descriptor.name
    constant = "_" + qualname.replace(".", "_").upper()
    namespace[constant] = descriptor
    for enum in descriptor.enum_types:
        namespace[f"{constant}_{enum.name.upper()}"] = enum
    attributes: dict[str, object] = {
        nested.name: _message_class(nested, module_name, qualname + ".", namespace)
        for nested in descriptor.nested_types
    }
    attributes |= {"DESCRIPTOR": descriptor, "__module__": module_name, "__qualname__": qualname}
    made = reflection.GeneratedProtocolMessageType(descriptor.name, (message.Message,), attributes)
    return cast("type[message.Message]", made)
