"""Records as rows: every column is a text, times in a form that sorts, mappings as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from convox.errors import StoreError
from convox.models import App, Build, BuildStatus, Release, parse_time

BUILD_COLUMNS = tuple(field.name for field in fields(Build))
RELEASE_COLUMNS = tuple(field.name for field in fields(Release))
APP_COLUMNS = tuple(field.name for field in fields(App))


def to_sql(value: object) -> str:
    """Return a field as the text that is stored."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a time of a record needs a time zone")
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, Mapping):
        return json.dumps({_clean(str(key)): _clean(str(item)) for key, item in value.items()}, sort_keys=True)
    if isinstance(value, str):
        return _clean(str(value))
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def _clean(text: str) -> str:
    """Return a text that every database takes: U+FFFD for NUL and for bytes that were not UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def _to_mapping(text: str) -> dict[str, str]:
    data = json.loads(text)
    return {str(key): str(value) for key, value in data.items()}


def to_build(row: Mapping[str, Any]) -> Build:
    """Return the build in a row."""
    with _damage(f"build {row['id']}"):
        values = {column: row[column] for column in BUILD_COLUMNS}
        values["status"] = BuildStatus(values["status"])
        values["started"] = parse_time(values["started"])
        values["ended"] = parse_time(values["ended"])
        values["images"] = _to_mapping(values["images"])
        return Build(**values)


def to_release(row: Mapping[str, Any]) -> Release:
    """Return the release in a row."""
    with _damage(f"release {row['id']}"):
        values = {column: row[column] for column in RELEASE_COLUMNS}
        values["created"] = parse_time(values["created"])
        return Release(**values)


def to_app(row: Mapping[str, Any]) -> App:
    """Return the app in a row."""
    with _damage(f"app {row['name']}"):
        values = {column: row[column] for column in APP_COLUMNS}
        values["created"] = parse_time(values["created"])
        values["params"] = _to_mapping(values["params"])
        return App(**values)


@contextmanager
def _damage(record: str) -> Iterator[None]:
    """Turn a value that no version of this program writes into an error that names the record."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as exc:
        raise StoreError(
            f"cannot read {record}", why=f"its record is damaged: {exc}", hint="restore the store from a copy"
        ) from exc
