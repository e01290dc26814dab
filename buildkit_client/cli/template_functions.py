"""The functions that Go's templates can call.

Reference: Go, text/template, funcs.go; fmt, print.go.
"""

from __future__ import annotations

import html
import operator
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from buildkit_client.cli.go_values import (
    Named,
    Nil,
    Record,
    go_json,
    go_quote,
    go_text,
    go_type,
    is_true,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?(.)?", re.DOTALL)
_JS_ESCAPES = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


class CallError(Exception):
    """A function refuses its arguments; the text is Go's."""


def _bare(value: Any) -> Any:
    """The value below a name."""
    return value.value if isinstance(value, Named) else value


def _kind(value: Any) -> str:
    match _bare(value):
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
    return ""


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:
        kinds = _kind(first), _kind(other)
        if kinds[0] != kinds[1] and None not in (first, other):
            raise CallError(f"incompatible types for comparison: {go_type(first)} and {go_type(other)}")
        if not kinds[0] and not (_is_nil(first) or _is_nil(other)):
            raise CallError(f"non-comparable type {go_text(other)}: {go_type(other)}")
        if _bare(first) == _bare(other) or (not kinds[0] and _is_nil(first) and _is_nil(other)):
            return True
    return False


def _is_nil(value: Any) -> bool:
    return value is None or isinstance(value, Nil)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def call(first: Any, second: Any) -> bool:
        kinds = _kind(first), _kind(second)
        if "" in kinds or kinds == ("bool", "bool"):
            raise CallError("invalid type for comparison")
        if kinds[0] != kinds[1]:
            raise CallError(f"incompatible types for comparison: {go_type(first)} and {go_type(second)}")
        return compare(_bare(first), _bare(second))

    return call


def _length(value: Any) -> int:
    match _bare(value):
        case str() as text:
            return len(text.encode("utf-8", "surrogateescape"))
        case list() | tuple() | dict() as items:
            return len(items)
        case Nil(go_type=kind):
            if kind.startswith("*"):
                raise CallError("len of nil pointer")
            return 0
    raise CallError(f"len of type {go_type(value)}")


def _place(index: Any, length: int) -> int:
    index = _bare(index)
    if index is None:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise CallError(f"cannot index slice/array with type {go_type(index)}")
    if not 0 <= index < length:
        raise CallError(f"index out of range: {index}")
    return index


def _index(item: Any, *indexes: Any) -> Any:
    for index in indexes:
        match _bare(item):
            case None:
                raise CallError("index of untyped nil")
            case Nil(go_type=kind) if kind.startswith("*"):
                raise CallError("index of nil pointer")
            case Nil(go_type=kind) if kind.startswith("[]"):
                _place(index, 0)
            case Nil(go_type=kind):
                item = _zero(kind.partition("]")[2])
            case list() | tuple() as items:
                item = items[_place(index, len(items))]
            case str() as text:
                data = text.encode("utf-8", "surrogateescape")
                item = data[_place(index, len(data))]
            case dict() as items:
                item = _entry(items, _bare(index))
            case _:
                raise CallError(f"can't index item of type {go_type(item)}")
    return item


def _entry(items: dict[Any, Any], key: Any) -> Any:
    """An entry of a map, or the zero value of its type."""
    sample_key, sample = next(iter(items.items()), ("", ""))
    if _kind(key) != _kind(sample_key):
        raise CallError(f"value has type {go_type(key)}; should be {go_type(sample_key)}")
    return items.get(key, _zero(_kind(sample) or go_type(sample)))


def _zero(kind: str) -> Any:
    """The zero value of a Go type."""
    zeros: dict[str, Any] = {"string": "", "bool": False, "int": 0, "int64": 0, "uint64": 0, "float": 0.0}
    return zeros.get(kind, Nil(kind))


def _slice(item: Any, *indexes: Any) -> Any:
    value = _bare(item)
    if isinstance(value, Nil) and value.go_type.startswith("[]"):
        value = []
    if not isinstance(value, (str, list, tuple)):
        raise CallError(f"can't slice item of type {go_type(item)}")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if isinstance(value, str) and len(indexes) == 3:
        raise CallError("cannot 3-index slice a string")
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    places = [_place(index, len(data) + 1) for index in indexes]
    start, end = (places[0] if places else 0), (places[1] if len(places) > 1 else len(data))
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    part = data[start:end]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def print_values(*values: Any) -> str:
    """Reference: Go, fmt, Sprint: a space between neighbours of which none is a string."""
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += go_text(value)
    return out


def format_values(form: Any, *values: Any) -> str:
    """Reference: Go, fmt, Sprintf."""
    if not isinstance(form, str):
        raise CallError(f"wrong type for value; expected string; got {go_type(form)}")
    rest = list(values)

    def replace(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb is None:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        width = _star(width, rest)
        has_precision = "." in match[0][: match.end(4) - match.start()]
        precision = _star(precision, rest) if has_precision else None
        if not rest:
            return f"%!{verb}(MISSING)"
        return _format(rest.pop(0), verb, flags, int(width or 0), int(precision or 0) if has_precision else None)

    text = _VERB.sub(replace, form)
    if rest:
        text += f"%!(EXTRA {', '.join(f'{go_type(one)}={go_text(one)}' for one in rest)})"
    return text


def _star(amount: str | None, rest: list[Any]) -> str | None:
    return str(rest.pop(0)) if amount == "*" and rest and isinstance(rest[0], int) else amount


def _format(value: Any, verb: str, flags: str, width: int, precision: int | None) -> str:
    bare = _bare(value)
    kind = _kind(value)
    cut = precision if precision is not None else None
    text: str | None = None
    match verb:
        case "T":
            text = go_type(value)
        case "v" | "s" if verb == "v" or kind == "string" or isinstance(value, (Named, Record)):
            text = go_text(value)[:cut]
        case "v" | "s" | "q" | "d" | "x" if isinstance(value, (list, tuple)):
            return f"[{' '.join(_format(one, verb, flags, width, precision) for one in value)}]"
        case "q" if kind == "string" or isinstance(value, Named):
            text = go_quote(go_text(value)[:cut])
        case "q" if kind == "int":
            text = f"'{chr(bare)}'"
        case "t" if kind == "bool":
            text = go_text(value)
        case "x" | "X" if kind == "string":
            text = bare.encode("utf-8", "surrogateescape").hex()
            text = text.upper() if verb == "X" else text
        case "c" if kind == "int":
            text = chr(bare)
        case "U" if kind == "int":
            text = f"U+{bare:04X}"
        case "b" if kind == "int":
            text = f"{bare:b}"
        case "d" | "o" | "x" | "X" if kind == "int":
            digits = f".{precision}" if precision is not None else ""
            return str(f"%{_go_flags(flags)}{width or ''}{digits}{verb}" % bare)
        case "e" | "E" | "f" | "F" | "g" | "G" if kind == "float":
            digits = f".{precision}" if precision is not None else ""
            if verb in "gG" and precision is None and not width:
                return go_text(value)
            return str(f"%{_go_flags(flags)}{width or ''}{digits}{verb}" % bare)
    if text is None:
        return f"%!{verb}({go_type(value)}={go_text(value)})"
    return text.ljust(width) if "-" in flags else text.rjust(width, "0" if "0" in flags and verb != "T" else " ")


def _go_flags(flags: str) -> str:
    return flags.replace("0", "") if "-" in flags else flags


def _js(*values: Any) -> str:
    text = print_values(*values)
    return "".join(_JS_ESCAPES.get(one) or (f"\\u{ord(one):04X}" if one < " " else one) for one in text)


def _html(*values: Any) -> str:
    return html.escape(print_values(*values)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _no_call(function: Any, *_: Any) -> Any:
    raise CallError("call of nil" if _is_nil(function) else f"non-function of type {go_type(function)}")


FUNCTIONS: dict[str, tuple[int, int | None, Callable[..., Any]]] = {
    "call": (1, None, _no_call),
    "eq": (1, None, _eq),
    "ge": (2, 2, _ordered(operator.ge)),
    "gt": (2, 2, _ordered(operator.gt)),
    "html": (0, None, _html),
    "index": (1, None, _index),
    "js": (0, None, _js),
    "json": (1, 1, go_json),
    "le": (2, 2, _ordered(operator.le)),
    "len": (1, 1, _length),
    "lt": (2, 2, _ordered(operator.lt)),
    "ne": (2, 2, lambda first, second: not _eq(first, second)),
    "not": (1, 1, lambda value: not is_true(value)),
    "print": (0, None, print_values),
    "printf": (1, None, format_values),
    "println": (0, None, lambda *values: " ".join(go_text(one) for one in values) + "\n"),
    "slice": (1, None, _slice),
    "urlquery": (0, None, lambda *values: quote(print_values(*values), safe="-_.~ ").replace(" ", "+")),
}
"""By name: least and most arguments (None for any number), and the function. ``and`` and ``or`` are the caller's: they
look at no more arguments than they need."""

LAZY_FUNCTIONS = ("and", "or")
