"""Our descriptors against the table of BuildKit's wire facts, line by line and in both directions."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2

from buildkit_client import _proto

if TYPE_CHECKING:
    from collections.abc import Iterator

FACTS_PATH = Path(__file__).parents[2] / "wire" / "wire_facts.tsv"

# What BuildKit declares -> what we declare. File names need not be UTF-8, and Python refuses such strings; bytes has
# the same wire format. See protos/fsutil.proto.
DEVIATIONS = {
    "field\tfsutil.types.Stat\t1\tpath\tstring\t-": "field\tfsutil.types.Stat\t1\tpath\tbytes\t-",
    "field\tfsutil.types.Stat\t7\tlinkname\tstring\t-": "field\tfsutil.types.Stat\t7\tlinkname\tbytes\t-",
}

MODULES = [
    "apicaps_pb2",
    "auth_pb2",
    "content_pb2",
    "control_pb2",
    "errdefs_pb2",
    "exporter_pb2",
    "filesync_pb2",
    "fsutil_pb2",
    "gateway_pb2",
    "health_pb2",
    "ops_pb2",
    "policysession_pb2",
    "rpc_status_pb2",
    "secrets_pb2",
    "sourcepolicy_pb2",
    "ssh_pb2",
    "stack_pb2",
    "upload_pb2",
    "worker_pb2",
]

FIELD = descriptor_pb2.FieldDescriptorProto
KINDS = {(False, False): "unary", (False, True): "server stream", (True, True): "bidi stream"}


def our_files() -> list[descriptor_pb2.FileDescriptorProto]:
    names = sorted(module.name for module in pkgutil.iter_modules(_proto.__path__) if module.name.endswith("_pb2"))
    modules = [importlib.import_module(f"buildkit_client._proto.{name}") for name in names]
    return [descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in modules]


def type_text(field: descriptor_pb2.FieldDescriptorProto, entries: dict[str, descriptor_pb2.DescriptorProto]) -> str:
    name = field.type_name.removeprefix(".")
    if name in entries:
        key, value = entries[name].field
        return f"map<{type_text(key, {})}, {type_text(value, {})}>"
    if field.type == FIELD.TYPE_ENUM:
        return f"enum {name}"
    return name or FIELD.Type.Name(field.type).removeprefix("TYPE_").lower()


def label_text(
    field: descriptor_pb2.FieldDescriptorProto,
    message: descriptor_pb2.DescriptorProto,
    entries: dict[str, descriptor_pb2.DescriptorProto],
) -> str:
    if field.type_name.removeprefix(".") in entries:
        return "map"
    if field.HasField("oneof_index"):
        return f"oneof {message.oneof_decl[field.oneof_index].name}"
    if field.label == FIELD.LABEL_REPEATED:
        return "repeated"
    return "deprecated" if field.options.deprecated else "-"


def enum_lines(enum: descriptor_pb2.EnumDescriptorProto, outer: str) -> Iterator[str]:
    for value in enum.value:
        yield f"value\t{outer}.{enum.name}\t{value.number}\t{value.name}"


def message_lines(message: descriptor_pb2.DescriptorProto, outer: str) -> Iterator[str]:
    full_name = f"{outer}.{message.name}"
    yield f"message\t{full_name}"
    entries = {f"{full_name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    for field in message.field:
        columns = [full_name, str(field.number), field.name, type_text(field, entries)]
        yield "\t".join(["field", *columns, label_text(field, message, entries)])
    for enum in message.enum_type:
        yield from enum_lines(enum, full_name)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from message_lines(nested, full_name)


def file_lines(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    for message in file.message_type:
        yield from message_lines(message, file.package)
    for enum in file.enum_type:
        yield from enum_lines(enum, file.package)
    for service in file.service:
        for method in service.method:
            path = f"/{file.package}.{service.name}/{method.name}"
            kind = KINDS[method.client_streaming, method.server_streaming]
            types = (method.input_type.removeprefix("."), method.output_type.removeprefix("."))
            yield "\t".join(["method", path, kind, *types])


@pytest.fixture(scope="module")
def ours() -> list[str]:
    return [line for file in our_files() for line in file_lines(file)]


@pytest.fixture(scope="module")
def facts() -> list[str]:
    lines = FACTS_PATH.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_table_is_not_empty_and_has_no_line_twice(facts: list[str]) -> None:
    assert len(facts) == len(set(facts))
    kinds = [line.partition("\t")[0] for line in facts]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "field": 615,
        "message": 199,
        "method": 52,
        "value": 47,
    }


def test_every_fact_is_declared(ours: list[str], facts: list[str]) -> None:
    assert [fact for fact in facts if DEVIATIONS.get(fact, fact) not in set(ours)] == []


def test_nothing_else_is_declared(ours: list[str], facts: list[str]) -> None:
    expected = {DEVIATIONS.get(fact, fact) for fact in facts}
    assert [line for line in ours if line not in expected] == []


def test_every_deviation_is_still_needed(ours: list[str], facts: list[str]) -> None:
    assert set(DEVIATIONS) <= set(facts)
    assert set(DEVIATIONS.values()) <= set(ours)


def test_fields_are_sent_as_proto3_sends_them() -> None:
    for file in our_files():
        assert file.syntax == "proto3", file.name
        for message in file.message_type:
            for field in message.field:
                assert not field.proto3_optional, f"{message.name}.{field.name}"
                assert not field.options.HasField("packed"), f"{message.name}.{field.name}"


def test_module_names() -> None:
    names = {file.name.removeprefix("buildkit_client/_proto/").replace(".proto", "_pb2") for file in our_files()}
    assert sorted(names) == MODULES
