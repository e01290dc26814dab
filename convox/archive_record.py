"""``build.json``: the record of a build as an export carries it, written as Convox writes it and read without trust."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Never

from convox.errors import ArchiveError
from convox.models import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convox.models import Build

MAX_RECORD_BYTES = 8 << 20
"""The longest ``build.json`` that is read; a manifest has at most 1 MiB, and JSON may need six bytes for one."""
MAX_TEXT_CHARS = 64 << 10
MAX_NUMBER_CHARS = 100
MAX_MANIFEST_CHARS = 1 << 20

# Go's encoder writes these so that JSON may stand in a page.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRecord:
    """What an export says about its build, as far as an import keeps it.

    Attributes:
        id: The build's id where it was exported; may be empty.
        description: Free text.
        entrypoint: Shell-quoted ENTRYPOINT.
        git_sha: Commit of the source, or empty.
        manifest: Text of convox.yml; may be empty.
        repository: Where the images were, or empty.
        images: Image digest by service; None where the file does not say, as files of Convox do not.
    """

    id: str = ""
    description: str = ""
    entrypoint: str = ""
    git_sha: str = ""
    manifest: str = ""
    repository: str = ""
    images: Mapping[str, str] | None = field(default=None)


def record_bytes(build: Build) -> bytes:
    """Return a build's record as JSON, indented by two spaces, as Go's encoder has it.

    Reference: encoding/json MarshalIndent.
    """
    document = build.to_json() | {"images": dict(sorted(build.images.items()))}  # Go's maps have no order of their own
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def parse_record(data: bytes) -> ExportedRecord:
    """Read ``build.json``; fields that are missing are empty, and those that nobody knows are passed over.

    Raises:
        ArchiveError: It is not JSON, or a field is not what it should be.
    """
    try:
        document = json.loads(data.decode("utf-8"), parse_int=_parse_int, parse_constant=_refuse_constant)
    except RecursionError:
        _refuse("it is nested too deep")
    except ValueError as exc:  # also UnicodeDecodeError
        _refuse(f"it is not JSON: {exc}")
    if not isinstance(document, dict):
        _refuse("it is not a JSON object")
    for key in ("id", "app", "release"):
        name = _text(document, key)
        if name and not _NAME.fullmatch(name):
            _refuse(f"its field {key} is not a name: {name[:60]!a}")
    for key in ("started", "ended"):
        try:
            parse_time(_text(document, key))
        except ValueError as exc:
            _refuse(f"its field {key} is not a time: {exc}")
    return ExportedRecord(
        id=_text(document, "id"),
        description=_text(document, "description"),
        entrypoint=_text(document, "entrypoint"),
        git_sha=_text(document, "git-sha"),
        manifest=_text(document, "manifest", MAX_MANIFEST_CHARS),
        repository=_text(document, "repository"),
        images=_images(document),
    )


def _text(document: Mapping[str, object], key: str, limit: int = MAX_TEXT_CHARS) -> str:
    value = document.get(key)
    if value is None:  # as Go reads null
        return ""
    if not isinstance(value, str):
        _refuse(f"its field {key} is not a text")
    if len(value) > limit:
        _refuse(f"its field {key} has more than {limit} characters")
    if "\0" in value:
        _refuse(f"its field {key} has a zero byte")
    return _SURROGATE.sub("\ufffd", value)  # halves of characters, which no store takes


def _images(document: Mapping[str, object]) -> Mapping[str, str] | None:
    from buildkit_client.oci import is_digest  # noqa: PLC0415 (not needed by every command)

    value = document.get("images")
    if not value:
        return None
    if not isinstance(value, dict):
        _refuse("its field images is not an object")
    images = {service: digest for service, digest in value.items() if isinstance(digest, str) and is_digest(digest)}
    if len(images) != len(value):
        _refuse("its field images does not give a digest for each service")
    return images


def _refuse(why: str) -> Never:
    raise ArchiveError("build.json is damaged", why=why)


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _parse_int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
