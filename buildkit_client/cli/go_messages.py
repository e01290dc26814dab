"""Protobuf messages as the Go structs of the reference's generated code: for templates, for JSON, and as text.

JSON leaves out what is zero, empty or not set, names fields as the .proto files do, and writes enums as numbers.

Reference: google.golang.org/protobuf, cmd/protoc-gen-go, internal/strs (GoCamelCase) and encoding/prototext.
"""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.descriptor import FieldDescriptor

from buildkit_client._proto.well_known import Timestamp
from buildkit_client.cli.go_values import Named, Nil, Record, go_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

_TIMESTAMP = "google.protobuf.Timestamp"
_NS_PER_S = 1_000_000_000
_GO_PACKAGES = {"google.rpc": "status", "google.protobuf": "anypb"}
# Oddities of solver/pb/json.go: zeros that are shown, a name, and an action that is forgotten.
_SHOWN_WHOLE = frozenset({"pb.FileAction"})
_JSON_NAMES = {"byID": "byId"}
_NOT_IN_JSON = frozenset({"symlink"})
_GO_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}
_TEXT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def go_message(message: Message) -> Record:
    """A message as a Go struct; it prints as the text format has it, on one line."""
    fields: list[tuple[str, str, Any]] = []
    seen: set[str] = set()
    shows_all = message.DESCRIPTOR.full_name in _SHOWN_WHOLE
    for field in _fields(message):
        name = go_name(field.name)
        if field.containing_oneof is not None:
            fields += [] if field.containing_oneof.name in seen else [_oneof(message, field.containing_oneof.name)]
            seen.add(field.containing_oneof.name)
            continue
        value = _field_value(message, field)
        is_shown = message.HasField(field.name) if _is_message(field) else bool(getattr(message, field.name))
        is_shown = is_shown or shows_all
        fields += [(name, field.name if is_shown else "", value), (f"Get{name}", "", value)]
    if isinstance(message, Timestamp):
        text = go_time(message.seconds * _NS_PER_S + message.nanos)
        fields.append(("AsTime", "", Named(text, text, "time.Time")))
    return Record(tuple(fields), _message_type(message.DESCRIPTOR), partial(message_text, message))


def _oneof(message: Message, name: str) -> tuple[str, str, Any]:
    """The interface field of a oneof; JSON shows the chosen field below Go's name.

    Reference: solver/pb/json.go.
    """
    chosen = message.WhichOneof(name)
    outer = go_name(name)
    if chosen is None:
        return outer, outer, Record((), text=lambda: "<nil>")
    value = _field_value(message, next(field for field in _fields(message) if field.name == chosen))
    json_name = "" if value == 0 or chosen in _NOT_IN_JSON else _JSON_NAMES.get(chosen, chosen)
    inner = go_name(chosen)
    return outer, outer, Record(((inner, json_name, value),), f"{_message_type(message.DESCRIPTOR)}_{inner}")


def _field_value(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if _is_map(field):
        key_field, one = _entry_fields(field)
        items = {key: _value(value[key], one) for key in value}
        return items or Nil(f"map[{_type(key_field)}]{_type(one)}")
    if _is_repeated(field):
        return [_value(one, field) for one in value] or Nil(f"[]{_type(field)}")
    if _is_message(field) and not message.HasField(field.name):
        return Nil(_type(field))
    return _value(value, field)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return go_message(value)
    if field.enum_type is not None:
        return Named(value, _enum_name(field, value), _type(field))
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _enum_name(field: FieldDescriptor, number: int) -> str:
    one = field.enum_type.values_by_number.get(number) if field.enum_type is not None else None
    return str(number) if one is None else one.name


def _fields(message: Message) -> list[FieldDescriptor]:
    return cast("list[FieldDescriptor]", message.DESCRIPTOR.fields)  # in the order of the .proto file, as Go's structs


def _entry_fields(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Key and value of a map."""
    assert field.message_type is not None
    by_name = field.message_type.fields_by_name
    return by_name["key"], by_name["value"]


def _is_message(field: FieldDescriptor) -> bool:
    return field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and not _is_repeated(field)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.default_value == [])  # `label` is deprecated, and the oldest runtime has no `is_repeated`


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return _message_type(field.message_type)
    if field.enum_type is not None:
        return _message_type(field.enum_type)[1:]
    return "[]uint8" if field.type == FieldDescriptor.TYPE_BYTES else _GO_KINDS.get(field.cpp_type, "float64")


def _message_type(descriptor: Any) -> str:
    package, _, name = descriptor.full_name.rpartition(".")
    if descriptor.full_name == _TIMESTAMP:
        return "*timestamppb.Timestamp"
    return f"*{_GO_PACKAGES.get(package, package.replace('.', '_'))}.{name}"


def go_name(name: str) -> str:
    """The Go name of a field: ``media_type`` is ``MediaType``, ``numCachedSteps`` is ``NumCachedSteps``."""
    out = ""
    for place, character in enumerate(name):
        if character == "_" and name[place + 1 : place + 2].islower():
            continue
        starts = place == 0 or name[place - 1] == "_" or name[place - 1].isdigit()
        out += character.upper() if starts and character.islower() else character
    return out


def message_text(message: Message) -> str:
    """A message in the text format, on one line.

    Reference: google.golang.org/protobuf, encoding/prototext, MarshalOptions{Multiline: false}.
    """
    return " ".join(_text_pairs(message))


def _text_pairs(message: Message) -> Iterator[str]:
    for field in _fields(message):
        value = getattr(message, field.name)
        if _is_map(field):
            key_field, one = _entry_fields(field)
            for key in sorted(value):
                yield f"{field.name}:{{key:{_text(key, key_field)} value:{_text(value[key], one)}}}"
        elif _is_repeated(field):
            yield from (f"{field.name}:{_text(one, field)}" for one in value)
        elif message.HasField(field.name) if field.has_presence else value:
            yield f"{field.name}:{_text(value, field)}"


def _text(value: Any, field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return f"{{{message_text(value)}}}"
    if field.enum_type is not None:
        return _enum_name(field, value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return _text_quoted(value) if isinstance(value, str) else str(value)


def _text_quoted(text: str) -> str:
    out = ""
    for character in text:
        code = ord(character)
        if character in _TEXT_ESCAPES:
            out += _TEXT_ESCAPES[character]
        elif code < 0x20 or code == 0x7F:
            out += f"\\x{code:02x}"
        elif 0xDC80 <= code <= 0xDCFF:
            out += f"\\x{code - 0xDC00:02x}"
        else:
            out += character
    return f'"{out}"'
