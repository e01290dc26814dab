"""Load every generated module and send every message through bytes and back.

It needs nothing but protobuf, so that ``scripts/check_protobuf_runtimes.sh`` can run it with the runtimes at both ends
of the allowed range. It prints one line: the runtime, the number of messages, and a digest of all bytes. Two runtimes
agree when their digests do.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.protobuf
from google.protobuf import descriptor_pool, message
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor
from google.protobuf.internal import api_implementation

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE_PATH = Path(__file__).resolve().parents[1] / "buildkit_client"
MAX_DEPTH = 4  # Definition and Source contain each other

SCALARS: dict[int, object] = {
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_BYTES: b"\xff raw",
    FieldDescriptor.TYPE_INT32: -7,
    FieldDescriptor.TYPE_INT64: -(2**40),
    FieldDescriptor.TYPE_STRING: "täxt",
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_UINT64: 2**64 - 1,
}


def import_modules() -> list[types.ModuleType]:
    """Import every ``*_pb2`` module, sorted by name, without ``buildkit_client/__init__.py`` and what it imports."""
    package = types.ModuleType("buildkit_client")
    package.__path__ = [str(PACKAGE_PATH)]
    sys.modules["buildkit_client"] = package
    names = sorted(path.stem for path in PACKAGE_PATH.glob("_proto/*_pb2.py"))
    return [importlib.import_module(f"buildkit_client._proto.{name}") for name in names]


def message_classes(module: types.ModuleType) -> Iterator[type[message.Message]]:
    """Yield the message classes that one module defines."""
    for name in module.DESCRIPTOR.message_types_by_name:
        yield getattr(module, name)


def sample(field: Any) -> object:
    """Return a value for a scalar field that is not the default.

    ``field`` is a FieldDescriptor; upb and the pure Python implementation have classes of their own for it.
    """
    return field.enum_type.values[-1].number if field.enum_type is not None else SCALARS[field.type]


def fill(target: message.Message, depth: int = 0) -> None:
    """Set every field; of a oneof the last one stays, and recursion ends at `MAX_DEPTH`."""
    for field in target.DESCRIPTOR.fields:
        value = getattr(target, field.name)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            key = sample(entry.fields_by_name["key"])
            item = entry.fields_by_name["value"]
            if item.message_type is None:
                value[key] = sample(item)
            elif depth < MAX_DEPTH:
                fill(value[key], depth + 1)
        elif entry is not None:
            if depth < MAX_DEPTH:
                child = value.add() if hasattr(value, "add") else value
                child.SetInParent()
                fill(child, depth + 1)
        elif hasattr(value, "append"):
            value.extend([sample(field)] * 2)
        else:
            setattr(target, field.name, sample(field))


def add_to_default_pool(file: FileDescriptor) -> None:
    """Define the names of a file in the default pool, as another package of the same process may do."""
    for dependency in file.dependencies:
        add_to_default_pool(dependency)
    descriptor_pool.Default().AddSerializedFile(file.serialized_pb)


def main() -> None:
    """Check all messages; exits with a message at the first that does not survive."""
    modules = import_modules()
    digest = hashlib.sha256()
    count = 0
    for module in modules:
        add_to_default_pool(module.DESCRIPTOR)
        for message_class in message_classes(module):
            original = message_class()
            fill(original)
            wire = original.SerializeToString(deterministic=True)
            copy = message_class.FromString(wire)
            # Not ==: the pure Python implementation looks up the type of an Any for it, and fails on unknown ones.
            if str(copy) != str(original) or copy.SerializeToString(deterministic=True) != wire:
                sys.exit(f"{message_class.DESCRIPTOR.full_name} does not survive a round trip")
            digest.update(wire)
            count += 1
    if modules[0].DESCRIPTOR.pool is descriptor_pool.Default() or count == 0:
        sys.exit("the messages are not in a pool of their own")
    runtime = f"protobuf {google.protobuf.__version__} ({api_implementation.Type()})"
    print(f"{runtime}: {len(modules)} modules, {count} messages, digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
