"""The records that an export carries, written as Convox writes JSON and read without trust.

``build.json`` is the build's; fields that nobody here knows are kept as they are. ``releases.json`` has the releases
made of the build, without their environment: that holds secrets, and belongs to the place and not to the build.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Never

from convox.errors import ArchiveError
from convox.models import Build, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from convox.models import Release

RECORD_NAME = "build.json"
RELEASES_NAME = "releases.json"

MAX_RECORD_BYTES = 8 << 20
"""The longest ``build.json`` that is read; a manifest has at most 1 MiB, and JSON may need six bytes for one."""
MAX_TEXT_CHARS = 64 << 10
MAX_NUMBER_CHARS = 100
MAX_MANIFEST_CHARS = 1 << 20
MAX_DEPTH = 100
"""How deep a field may be nested that nobody knows."""
MAX_RELEASES = 1000

# Go's encoder writes these so that JSON may stand in a page.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_KNOWN_FIELDS = frozenset(Build(id="", app="").to_json())
_RELEASE_FIELDS = ("id", "app", "build", "description", "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRecord:
    """What an export says about its build.

    Attributes:
        id: The build's id where it was exported; may be empty, as all that follows.
        app: The app's name there.
        release: The release that it made there.
        status: What it was there.
        started: When it started, None where the file does not say.
        ended: When it ended, None where the file does not say.
        description: Free text.
        entrypoint: Shell-quoted ENTRYPOINT.
        git_sha: Commit of the source, or empty.
        manifest: Text of convox.yml; may be empty.
        repository: Where the images were, or empty.
        images: Image digest by service; None where the file does not say, as files of Convox do not.
        others: Fields that nobody here knows, as the JSON parser gives them.
    """

    id: str = ""
    app: str = ""
    release: str = ""
    status: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    description: str = ""
    entrypoint: str = ""
    git_sha: str = ""
    manifest: str = ""
    repository: str = ""
    images: Mapping[str, str] | None = None
    others: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the record under the names that it has in ``build.json``, without the fields that are empty."""
        named = {
            "id": self.id,
            "app": self.app,
            "description": self.description,
            "entrypoint": self.entrypoint,
            "git-sha": self.git_sha,
            "manifest": self.manifest,
            "release": self.release,
            "repository": self.repository,
            "status": self.status,
            "started": format_time(self.started),
            "ended": format_time(self.ended),
            "images": dict(self.images or {}),
        }
        return {**{key: value for key, value in named.items() if value}, **self.others}


def record_bytes(build: Build, others: Mapping[str, object]) -> bytes:
    """Return a build's record as JSON, indented by two spaces, as Go's encoder has it.

    Args:
        build: The build.
        others: More fields, which come last.

    Reference: encoding/json MarshalIndent.
    """
    document = build.to_json() | {"images": dict(sorted(build.images.items()))}  # Go's maps have no order of their own
    return _go_json({**document, **{key: value for key, value in others.items() if key not in _KNOWN_FIELDS}})


def releases_bytes(releases: Sequence[Release], others: Sequence[Mapping[str, object]]) -> bytes:
    """Return the records of releases as JSON, without their environment; nothing where there are none.

    Args:
        releases: Those of this rack, newest first.
        others: Those that came with the build from elsewhere, as :func:`parse_releases` gave them.
    """
    own = [{key: value for key, value in one.to_json().items() if key in _RELEASE_FIELDS} for one in releases]
    known = {one["id"] for one in own}
    records = [*own, *(one for one in others if one.get("id") not in known)]
    return _go_json(records[:MAX_RELEASES]) if records else b""


def _go_json(value: object) -> bytes:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def parse_record(data: bytes) -> ExportedRecord:
    """Read ``build.json``; fields that are missing are empty.

    Raises:
        ArchiveError: It is not JSON, or a field is not what it should be.
    """
    document = _parse(data, RECORD_NAME)
    if not isinstance(document, dict):
        _refuse("it is not a JSON object")
    for key in ("id", "app", "release"):
        name = _text(document, key)
        if name and not _NAME.fullmatch(name):
            _refuse(f"its field {key} is not a name: {name[:60]!a}")
    others = {key: value for key, value in document.items() if key not in _KNOWN_FIELDS}
    if _depth(others) > MAX_DEPTH:
        _refuse("it is nested too deep")
    return ExportedRecord(
        id=_text(document, "id"),
        app=_text(document, "app"),
        release=_text(document, "release"),
        status=_text(document, "status"),
        started=_time(document, "started"),
        ended=_time(document, "ended"),
        description=_text(document, "description"),
        entrypoint=_text(document, "entrypoint"),
        git_sha=_text(document, "git-sha"),
        manifest=_text(document, "manifest", MAX_MANIFEST_CHARS),
        repository=_text(document, "repository"),
        images=_images(document),
        others=others,
    )


def parse_releases(data: bytes) -> list[Mapping[str, object]]:
    """Read ``releases.json``; of each release only what an export has of it, so that no environment is taken over.

    Raises:
        ArchiveError: It is not a JSON list of releases.
    """
    document = _parse(data, RELEASES_NAME)
    if not isinstance(document, list) or not all(isinstance(one, dict) for one in document):
        _refuse("it is not a list of releases", RELEASES_NAME)
    if len(document) > MAX_RELEASES:
        _refuse(f"it has more than {MAX_RELEASES} releases", RELEASES_NAME)
    return [{key: _text(one, key, of=RELEASES_NAME) for key in _RELEASE_FIELDS if key in one} for one in document]


def _parse(data: bytes, of: str) -> object:
    try:
        return json.loads(
            data.decode("utf-8"), parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant
        )
    except RecursionError:
        _refuse("it is nested too deep", of)
    except ValueError as exc:  # also UnicodeDecodeError
        _refuse(f"it is not JSON: {exc}", of)


def _depth(value: object) -> int:
    """Return how many objects and lists lie inside each other, at most one more than may."""
    level: list[object] = [value]
    for depth in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict | list):
                inner += one.values() if isinstance(one, dict) else one
        if not inner:
            return depth
        level = inner
    return MAX_DEPTH + 1


def _time(document: Mapping[str, object], key: str) -> datetime | None:
    try:
        return parse_time(_text(document, key))
    except ValueError as exc:
        _refuse(f"its field {key} is not a time: {exc}")


def _text(document: Mapping[str, object], key: str, limit: int = MAX_TEXT_CHARS, of: str = RECORD_NAME) -> str:
    value = document.get(key)
    if value is None:  # as Go reads null
        return ""
    if not isinstance(value, str):
        _refuse(f"its field {key} is not a text", of)
    if len(value) > limit:
        _refuse(f"its field {key} has more than {limit} characters", of)
    if "\0" in value:
        _refuse(f"its field {key} has a zero byte", of)
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


def _refuse(why: str, of: str = RECORD_NAME) -> Never:
    raise ArchiveError(f"{of} is damaged", why=why)


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"a number is too large: {text[:40]}")
    return value


def _parse_int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
