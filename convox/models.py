"""The records convox keeps, as values: Build, Release, App and Rack.

JSON has Convox's field names (``git-sha``), times in RFC 3339, and the zero time where a time is not set, so that
records travel to and from real racks.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from convox.environment import parse_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""What Go prints for a time that was never set: 0001-01-01T00:00:00Z."""

GENERATION = "3"
"""What Convox 3 calls the generation of its apps."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class BuildStatus(StrEnum):
    """Where a build stands; it only moves forward."""

    CREATED = "created"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether the build has ended."""
        return self in (BuildStatus.COMPLETE, BuildStatus.FAILED)


def new_build_id() -> str:
    """Return a build id: ``B`` and ten letters A-Z.

    Reference: convox/convox pkg/common, Id.
    """
    return "B" + _ten_letters()


def new_release_id() -> str:
    """Return a release id: ``R`` and ten letters A-Z.

    Reference: convox/convox pkg/common, Id.
    """
    return "R" + _ten_letters()


def _ten_letters() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(10))


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def format_time(value: datetime | None) -> str:
    """Return a time as Go's JSON has it: RFC 3339 in UTC with up to nine digits; the zero time for None."""
    if value is None:
        value = ZERO_TIME
    value = value.astimezone(UTC)
    text = value.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    if value.microsecond:
        text += f".{value.microsecond:06d}".rstrip("0")
    return text + "Z"


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def parse_time(text: str) -> datetime | None:
    """Read an RFC 3339 time; the zero time and an empty text give None.

    Raises:
        ValueError: The text is not RFC 3339, or out of range.
    """
    if not text:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if int(year) <= 1:
        return None
    micro = int((fraction or "0").ljust(9, "0")[:6])
    base = f"{year}-{month}-{day}T{hour}:{minute}:{second}.{micro:06d}"
    try:
        return datetime.fromisoformat(base + ("+00:00" if zone == "Z" else zone)).astimezone(UTC)
    except OverflowError:  # the last hours of the year 9999, in another zone
        raise ValueError(f"{text[:40]!r} is out of range") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build of an app.

    Attributes:
        id: ``B`` and ten letters.
        app: The app's name.
        status: See :class:`BuildStatus`.
        description: Free text, often ``build <hash> <subject>``.
        entrypoint: Shell-quoted ENTRYPOINT of the last service built.
        git_sha: Commit of the source, or empty.
        logs: Where the log is, a URL of the store.
        manifest: Text of convox.yml as read.
        process: Who builds: host and process id, to find out later whether it still runs.
        release: Id of the release this build made, or empty.
        reason: Why it failed, or empty.
        repository: Where its images went, or empty.
        started: When it started.
        ended: When it ended, None while it runs.
        images: Image digest by service name.
    """

    id: str
    app: str
    status: BuildStatus = BuildStatus.CREATED
    description: str = ""
    entrypoint: str = ""
    git_sha: str = ""
    logs: str = ""
    manifest: str = ""
    process: str = ""
    release: str = ""
    reason: str = ""
    repository: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    images: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the record as Convox writes it, plus ``images``."""
        return {
            "id": self.id,
            "app": self.app,
            "description": self.description,
            "entrypoint": self.entrypoint,
            "git-sha": self.git_sha,
            "logs": self.logs,
            "manifest": self.manifest,
            "process": self.process,
            "release": self.release,
            "reason": self.reason,
            "repository": self.repository,
            "status": str(self.status),
            "started": format_time(self.started),
            "ended": format_time(self.ended),
            "images": dict(self.images),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of an app: a build together with an environment.

    Attributes:
        id: ``R`` and ten letters.
        app: The app's name.
        build: Id of the build, or empty.
        env: The environment, ``NAME=value`` lines joined by newlines.
        manifest: Text of convox.yml.
        description: Free text.
        created: When it was made.
    """

    id: str
    app: str
    build: str = ""
    env: str = field(default="", repr=False)
    manifest: str = ""
    description: str = ""
    created: datetime | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment's values by name."""
        return parse_environment(self.env)

    def to_json(self) -> dict[str, object]:
        """Return the record as Convox writes it; ``env`` holds its values in clear."""
        return {
            "id": self.id,
            "app": self.app,
            "build": self.build,
            "env": self.env,
            "manifest": self.manifest,
            "description": self.description,
            "created": format_time(self.created),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An app: a name that builds and releases belong to.

    Attributes:
        name: Lower-case name.
        release: Id of the active release, or empty.
        created: When the first build or an explicit command made it.
        params: App parameters by name.
    """

    name: str
    release: str = ""
    created: datetime | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """What ``convox apps`` shows: nothing is deployed from here, so an app is never in between."""
        return "running"

    def to_json(self) -> dict[str, object]:
        """Return the record as Convox writes it."""
        return {
            "generation": GENERATION,
            "locked": False,
            "name": self.name,
            "release": self.release,
            "router": "",
            "status": self.status,
            "parameters": dict(self.params),
        }
