"""JSON that comes from outside, read into checked values.

Every index, manifest, config and descriptor is input: from a registry, a layout folder or an archive. Here are the few
accessors that turn ``json.loads``'s loose values into typed ones, with an error that names the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Never

from buildkit_client.errors import ImageFormatError

MAX_STRING_CHARS = 64 << 10
"""The longest text that a field of an image document may have."""
MAX_ENTRIES = 100_000
"""The most entries that a list or map of an image document may have."""

JsonObject = Mapping[str, object]

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(data: bytes, what: str) -> JsonObject:
    """Parse a JSON object.

    Args:
        data: UTF-8 text; the caller limits its length.
        what: How errors call the document, for example ``image manifest sha256:…``.

    Raises:
        ImageFormatError: Not UTF-8, not JSON, nested too deep, or not an object.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
        if _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half a character alone is no text, and cannot be written
    except RecursionError as exc:
        raise ImageFormatError(f"{what} is not readable", why="its JSON is nested too deep") from exc
    except ValueError as exc:  # also UnicodeError, and integers of thousands of digits
        raise ImageFormatError(f"{what} is not JSON", why=str(exc)) from exc
    return as_object(value, what)


def dump_object(value: JsonObject) -> bytes:
    """Return JSON text without spaces, keys in the order given, as Go's encoder writes plain documents."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def as_object(value: object, what: str) -> JsonObject:
    """Return the value if it is a JSON object.

    Raises:
        ImageFormatError: It is something else.
    """
    if not isinstance(value, dict):
        raise ImageFormatError(f"{what} is not a JSON object")
    return value


def get_string(document: JsonObject, key: str, what: str, default: str = "") -> str:
    """Return a text field; absent and null give the default.

    Raises:
        ImageFormatError: The field is no text, or too long.
    """
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        _wrong(what, key, "a string")
    if len(value) > MAX_STRING_CHARS:
        _wrong(what, key, f"a string of at most {MAX_STRING_CHARS} characters")
    return value


def get_size(document: JsonObject, key: str, what: str) -> int:
    """Return a size in bytes.

    Raises:
        ImageFormatError: The field is absent, no whole number, or outside 0 to 2^63-1.
    """
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        _wrong(what, key, "a size in bytes")
    return value


def get_list(document: JsonObject, key: str, what: str) -> list[object]:
    """Return a list field; absent and null give an empty one, as Go's encoder writes null for it.

    Raises:
        ImageFormatError: The field is no list, or too long.
    """
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        _wrong(what, key, f"a list of at most {MAX_ENTRIES} entries")
    return value


def get_strings(document: JsonObject, key: str, what: str) -> tuple[str, ...]:
    """Return a list of texts; absent and null give an empty one.

    Raises:
        ImageFormatError: The field is no list of texts, or too long.
    """
    values = get_list(document, key, what)
    texts = tuple(value for value in values if isinstance(value, str) and len(value) <= MAX_STRING_CHARS)
    if len(texts) != len(values):
        _wrong(what, key, "a list of strings")
    return texts


def get_string_map(document: JsonObject, key: str, what: str) -> dict[str, str]:
    """Return a map of texts in document order; absent and null give an empty one.

    Raises:
        ImageFormatError: The field is no map of texts, or too long.
    """
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        _wrong(what, key, f"a map of at most {MAX_ENTRIES} entries")
    texts = {name: text for name, text in value.items() if isinstance(text, str) and len(text) <= MAX_STRING_CHARS}
    if len(texts) != len(value):
        _wrong(what, key, "a map of strings")
    return texts


def _wrong(what: str, key: str, expected: str) -> Never:
    raise ImageFormatError(f"{what} is damaged", why=f"its field {key} is not {expected}")


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
