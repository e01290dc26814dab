"""Values as Go's tools see them, for templates and JSON: structs with two names for each field, typed nils, quoting.

The reference prints Go structs, so what a template can name, what JSON shows and what error texts say follows from Go
types. Plain Python values stand for Go's texts, numbers, truth values, slices and maps; the classes here for the rest.

Reference: Go, fmt, strconv and encoding/json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

_NS_PER_S = 1_000_000_000
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}
_SHORT = {value: f"\\{name}" for name, value in _ESCAPES.items() if name not in "'"}
_JSON_ESCAPES = str.maketrans({"\u2028": "\\u2028", "\u2029": "\\u2029"})
_HTML_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


class TemplateError(OptionError):
    """A template cannot be read or filled in."""


@dataclass(frozen=True, slots=True)
class Record:
    """A Go struct: its fields by the name that templates use, each with the name that JSON uses.

    Attributes:
        fields: Field name, JSON name, value; in order. An empty JSON name leaves the field out of JSON.
        go_type: Its type, as errors name it.
        text: Gives how it prints, where that is not its fields.
    """

    fields: tuple[tuple[str, str, Any], ...]
    go_type: str = "struct"
    text: Callable[[], str] | None = None

    def field(self, name: str) -> Any:
        """Value of a field by the name that templates use.

        Raises:
            KeyError: There is no such field.
        """
        for field_name, _, value in self.fields:
            if field_name == name:
                return value
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Nil:
    """A pointer, slice or map that is nil.

    Attributes:
        go_type: Its type; ``*T`` is a pointer, ``[]T`` a slice, ``map[K]T`` a map.
    """

    go_type: str


@dataclass(frozen=True, slots=True)
class Named:
    """A value whose Go type has a name and a text of its own, such as a time, a duration or an enum.

    Attributes:
        value: What JSON shows and comparisons compare.
        text: How it prints.
        go_type: Its type.
    """

    value: str | int
    text: str
    go_type: str


class NoValue:
    """What a map gives for a key that it does not have."""


NO_VALUE = NoValue()


def go_type(value: Any) -> str:
    """Name a value's Go type, as far as it is known."""
    match value:
        case Record() | Nil() | Named():
            return value.go_type
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case list() | tuple():
            return f"[]{go_type(value[0])}" if value else "[]interface {}"
        case dict():
            key, one = next(iter(value.items()), ("", ""))
            return f"map[{go_type(key)}]{go_type(one)}"
    return "<nil>"


def is_true(value: Any) -> bool:
    """Whether ``if`` takes a value for true: not nil, zero or empty."""
    match value:
        case Record():
            return True
        case None | Nil() | NoValue():
            return False
        case Named():
            return bool(value.value)
    return bool(value)


def go_text(value: Any) -> str:
    """A value as Go's ``{{.}}`` prints it."""
    match value:
        case NoValue():
            return "<no value>"
        case None:
            return "<nil>"
        case Nil():
            kind = value.go_type
            return "[]" if kind.startswith("[]") else "map[]" if kind.startswith("map[") else "<nil>"
        case bool():
            return str(value).lower()
        case Named():
            return value.text
        case list() | tuple():
            return f"[{' '.join(go_text(one) for one in value)}]"
        case dict():
            return f"map[{' '.join(f'{go_text(key)}:{go_text(value[key])}' for key in sorted(value))}]"
        case Record():
            return value.text() if value.text else f"{{{' '.join(go_text(one[2]) for one in value.fields)}}}"
        case float():
            return _float_text(value)
    return str(value)


def _float_text(value: float) -> str:
    """Reference: Go, fmt, verb ``%v`` of a float64."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def to_plain(value: Any) -> Any:
    """What JSON shows of a value, in Python's plain types; the keys of maps are sorted, those of structs are not."""
    match value:
        case Record():
            return {json_name: to_plain(one) for _, json_name, one in value.fields if json_name}
        case dict():
            return {str(key): to_plain(value[key]) for key in sorted(value, key=str)}
        case list() | tuple():
            return [to_plain(one) for one in value]
        case Named():
            return value.value
        case Nil() | NoValue():
            return None
    return value


def go_time(moment_ns: int) -> str:
    """Write a moment as Go prints one in UTC: ``2025-01-02 03:04:05.06 +0000 UTC``."""
    seconds, nanos = divmod(moment_ns, _NS_PER_S)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def go_json(value: Any, *, escapes_html: bool = False) -> str:
    """Write a value as Go's ``encoding/json`` does, without a line end.

    Args:
        value: Any of the values here.
        escapes_html: Also write ``<``, ``>`` and ``&`` as escapes, as Go does unless told otherwise.
    """
    text = json.dumps(to_plain(value), ensure_ascii=False, separators=(",", ":")).translate(_JSON_ESCAPES)
    # Go replaces what is not UTF-8; such bytes are surrogates here.
    text = "".join("\\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)
    return text.translate(_HTML_ESCAPES) if escapes_html else text


def go_quote(text: str | bytes) -> str:
    """Write a text as a Go string literal (``%q``); bytes that are not UTF-8 become hex escapes.

    Reference: Go, strconv, Quote.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return f'"{"".join(_quoted(character) for character in text)}"'


def _quoted(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_unquote(literal: str) -> str:
    """Read a Go literal: ``"text"``, backquoted text or ``'c'``.

    Raises:
        ValueError: It is none.

    Reference: Go, strconv, Unquote.
    """
    inner = literal[1:-1]
    if literal[0] == "`":
        return inner.replace("\r", "")
    out = bytearray()
    position = 0
    while position < len(inner):
        character = inner[position]
        position += 1
        if character != "\\":
            out += character.encode("utf-8", "surrogateescape")
            continue
        name = inner[position : position + 1]
        position += 1
        if name in _ESCAPES:
            out += _ESCAPES[name].encode()
            continue
        length, base = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}.get(name, (3, 8))
        start = position if base == 16 else position - 1
        digits = inner[start : start + length]
        position = start + length
        try:
            code = int(digits, base)
            out += chr(code).encode() if name in ("u", "U") else bytes([code])
        except (ValueError, OverflowError) as exc:
            raise ValueError("invalid syntax") from exc
    return out.decode("utf-8", "surrogateescape")
