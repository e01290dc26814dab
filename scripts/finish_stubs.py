"""Finish what protoc wrote: private descriptor pool, and .pyi files that pass a strict type checker.

``scripts/gen_protos.sh`` calls it with the folder that holds fresh ``*_pb2.py`` and ``*_pb2.pyi`` files. Each rule says
how often it must match, so that another generator version cannot slip through half converted.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WELL_KNOWN_IMPORT = re.compile(
    r"^from google\.protobuf import (?:any|empty|field_mask|timestamp)_pb2 as ", re.MULTILINE
)
OUR_WELL_KNOWN_IMPORT = "from buildkit_client._proto import well_known as "

# Text of a *_pb2.py file -> what replaces it. Each occurs exactly once.
PRIVATE_POOL_RULES = (
    (
        "from google.protobuf import descriptor_pool as _descriptor_pool\n",
        "from buildkit_client._proto import _pool\n",
    ),
    ("from google.protobuf import symbol_database as _symbol_database\n", ""),
    ("from google.protobuf.internal import builder as _builder\n", ""),
    ("_sym_db = _symbol_database.Default()\n\n", ""),
    ("_descriptor_pool.Default().AddSerializedFile(", "_pool.POOL.AddSerializedFile("),
    ("_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)\n", ""),
    ("_builder.BuildTopDescriptorsAndMessages(", "_pool.build("),
)

TOP_LEVEL_CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
CLASS_BLOCK = re.compile(r"^class \w+\(.*\n(?:[ ].*\n)*", re.MULTILINE)


def finish_module(text: str) -> str:
    """Return a ``*_pb2.py`` text that registers in our pool instead of protobuf's default pool.

    Raises:
        ValueError: The text is not what the pinned generator writes.
    """
    for old, new in PRIVATE_POOL_RULES:
        if text.count(old) != 1:
            raise ValueError(f"expected exactly one {old!r}, found {text.count(old)}")
        text = text.replace(old, new)
    return WELL_KNOWN_IMPORT.sub(OUR_WELL_KNOWN_IMPORT, text)


def finish_stub(text: str) -> str:
    """Return a ``*_pb2.pyi`` text without bare generics, untyped parameters or fields that hide a type.

    A field may have the name of a message (``Definition.Source``); inside the class the name then means the field,
    so the type is written as ``_SourceType``, an alias at the end of the file.
    """
    text = WELL_KNOWN_IMPORT.sub(OUR_WELL_KNOWN_IMPORT, text)
    text = text.replace(", _Mapping]", ", _Mapping[str, object]]").replace("**kwargs)", "**kwargs: object)")
    types = set(TOP_LEVEL_CLASS.findall(text))
    hidden: set[str] = set()

    def use_aliases(block: re.Match[str]) -> str:
        body = block[0]
        for name in sorted(types & set(re.findall(r"^    (\w+): ", body, re.MULTILINE))):
            body, uses = re.subn(rf"(?<=[\[ ]){name}(?=[\],\n])", f"_{name}Type", body)
            if uses:
                hidden.add(name)
        return body

    text = CLASS_BLOCK.sub(use_aliases, text)
    if hidden:
        text += "\n" + "".join(f"_{name}Type = {name}\n" for name in sorted(hidden))
    return text


def main(folder: Path) -> None:
    """Rewrite every generated file in a folder, in place."""
    for path in sorted(folder.glob("*_pb2.py*")):
        finish = finish_stub if path.suffix == ".pyi" else finish_module
        try:
            path.write_text(finish(path.read_text(encoding="utf-8")), encoding="utf-8")
        except ValueError as exc:
            sys.exit(f"{path.name}: {exc}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
