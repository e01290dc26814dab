"""Answers of a frontend's sub-requests: what is wrong with a Dockerfile, what it takes, which targets it has.

A sub-request is a build that gives metadata instead of files: ``result.json`` for programs and ``result.txt`` for
people, the latter laid out as ``buildctl`` prints it.

Reference: frontend/subrequests, lint, outline, targets and describe.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Never, Self

from buildkit_client.errors import RemoteProtocolError, SourceSnippet

LINT: Final = "frontend.lint"
OUTLINE: Final = "frontend.outline"
TARGETS: Final = "frontend.targets"
DESCRIBE: Final = "frontend.subrequests.describe"

_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class LintWarning:
    """Something that a rule does not like.

    Attributes:
        rule: The rule's name, for example ``StageNameCasing``.
        description: What the rule is about.
        detail: What it found here.
        url: Where to read more; may be empty.
        source: The place in the Dockerfile; None when the warning is about the whole.
    """

    rule: str
    description: str
    detail: str
    url: str = ""
    source: SourceSnippet | None = None


@dataclass(frozen=True, slots=True)
class LintError:
    """Why a Dockerfile could not be read to its end.

    Attributes:
        message: What is wrong.
        source: The place in the Dockerfile, where it is known.
    """

    message: str
    source: SourceSnippet | None = None


@dataclass(frozen=True, slots=True)
class LintResult:
    """What checking a Dockerfile found.

    Attributes:
        warnings: In the order of the Dockerfile's rules, not of its lines.
        error: Why it could not be read to its end, or None.
        status_code: 0 for nothing found, else 1; what a command should exit with.
        version: Of the answer's format.
        text: The warnings for people, ordered by line; empty without any.
    """

    warnings: tuple[LintWarning, ...]
    error: LintError | None = None
    status_code: int = 0
    version: str = ""
    text: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.warnings and self.error is None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, bytes]) -> Self:
        """Read the answer of ``frontend.lint``.

        Raises:
            RemoteProtocolError: It is not there, or damaged.
        """
        answer = _Answer(metadata, LINT)
        document = answer.document()
        sources = [_source(answer.fields(item)) for item in answer.items(document, "sources")]
        warnings = []
        for item in answer.items(document, "warnings"):
            warning = answer.fields(item)
            rule, description, detail, url = answer.texts(warning, "ruleName", "description", "detail", "url")
            warnings.append(LintWarning(rule, description, detail, url, answer.place(warning, sources)))
        error = None
        if document.get("buildError") is not None:
            failure = answer.fields(document["buildError"])
            error = LintError(answer.text_of(failure, "message"), answer.place(failure, sources))
        found = bool(warnings or error)
        code = metadata.get("result.statuscode", b"1" if found else b"0")
        if not code.isdigit():
            answer.damaged("its status code is no number")
        return cls(tuple(warnings), error, int(code), answer.version, answer.text)


@dataclass(frozen=True, slots=True)
class OutlineArg:
    """A build argument.

    Attributes:
        name: Its name.
        description: From the comment above it; may be empty.
        value: Its value in this build; may be empty.
        lines: First and last line in the Dockerfile, 1-based; None where unknown.
    """

    name: str
    description: str = ""
    value: str = ""
    lines: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class OutlineSecret:
    """A secret, or an SSH agent, that steps use.

    Attributes:
        name: Its id.
        is_required: Whether the build fails without it.
        lines: First and last line in the Dockerfile, 1-based; None where unknown.
    """

    name: str
    is_required: bool = False
    lines: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class OutlineCacheMount:
    """A cache mount that steps use.

    Attributes:
        id: Its id.
        lines: First and last line in the Dockerfile, 1-based; None where unknown.
    """

    id: str
    lines: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Outline:
    """What a target takes.

    Attributes:
        name: The target's name; may be empty.
        description: From the comment above it; may be empty.
        args: Build arguments.
        secrets: Secrets.
        ssh: SSH agents.
        cache_mounts: Cache mounts.
        version: Of the answer's format.
        text: All of it for people.
    """

    name: str = ""
    description: str = ""
    args: tuple[OutlineArg, ...] = ()
    secrets: tuple[OutlineSecret, ...] = ()
    ssh: tuple[OutlineSecret, ...] = ()
    cache_mounts: tuple[OutlineCacheMount, ...] = ()
    version: str = ""
    text: str = ""

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, bytes]) -> Self:
        """Read the answer of ``frontend.outline``.

        Raises:
            RemoteProtocolError: It is not there, or damaged.
        """
        answer = _Answer(metadata, OUTLINE)
        document = answer.document()
        args = []
        for one in answer.objects(document, "args"):
            name, description, value = answer.texts(one, "name", "description", "value")
            args.append(OutlineArg(name, description, value, answer.lines(one)))
        secrets, ssh = (
            tuple(
                OutlineSecret(answer.text_of(one, "name"), one.get("required") is True, answer.lines(one))
                for one in answer.objects(document, key)
            )
            for key in ("secrets", "ssh")
        )
        mounts = [
            OutlineCacheMount(answer.text_of(one, "ID"), answer.lines(one)) for one in answer.objects(document, "cache")
        ]
        return cls(
            answer.text_of(document, "name"),
            answer.text_of(document, "description"),
            tuple(args),
            secrets,
            ssh,
            tuple(mounts),
            answer.version,
            answer.text,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A stage that can be built.

    Attributes:
        name: Its name; empty for one without, which is then the default.
        is_default: Whether it is built when no target is named.
        description: From the comment above it; may be empty.
        base: What it begins with.
        platform: Its platform where one is given.
        lines: First and last line in the Dockerfile, 1-based; None where unknown.
    """

    name: str
    is_default: bool = False
    description: str = ""
    base: str = ""
    platform: str = ""
    lines: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """The stages that can be built.

    Attributes:
        targets: In the Dockerfile's order.
        version: Of the answer's format.
        text: All of it for people.
    """

    targets: tuple[Target, ...]
    version: str = ""
    text: str = ""

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, bytes]) -> Self:
        """Read the answer of ``frontend.targets``.

        Raises:
            RemoteProtocolError: It is not there, or damaged.
        """
        answer = _Answer(metadata, TARGETS)
        targets = []
        for one in answer.objects(answer.document(), "targets"):
            name, description, base, platform = answer.texts(one, "name", "description", "base", "platform")
            is_default = one.get("default") is True
            targets.append(Target(name, is_default, description, base, platform, answer.lines(one)))
        return cls(tuple(targets), answer.version, answer.text)


@dataclass(frozen=True, slots=True)
class Subrequest:
    """A sub-request that a frontend answers.

    Attributes:
        name: For example ``frontend.lint``.
        version: Of its answer's format.
        description: What it does.
    """

    name: str
    version: str = ""
    description: str = ""

    @classmethod
    def list_from_metadata(cls, metadata: Mapping[str, bytes]) -> tuple[Self, ...]:
        """Read the answer of ``frontend.subrequests.describe``.

        Raises:
            RemoteProtocolError: It is not there, or damaged.
        """
        answer = _Answer(metadata, DESCRIBE)
        parsed = answer.parsed()
        if not isinstance(parsed, list):
            answer.damaged("it is no list")
        return tuple(cls(*answer.texts(answer.fields(item), "name", "version", "description")) for item in parsed)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Metadata of a result, read with errors that name the sub-request."""

    metadata: Mapping[str, bytes]
    request: str

    @property
    def text(self) -> str:
        return self.metadata.get("result.txt", b"").decode("utf-8", "replace")

    @property
    def version(self) -> str:
        return self.metadata.get("version", b"").decode("utf-8", "replace")

    def damaged(self, why: str) -> Never:
        raise RemoteProtocolError(f"the frontend's answer to {self.request} cannot be read", why=why)

    def parsed(self) -> object:
        data = self.metadata.get("result.json")
        if data is None:
            raise RemoteProtocolError(
                f"the frontend gave no answer to {self.request}",
                why="its result has no result.json",
                hint="ask it for frontend.subrequests.describe to see what it knows",
            )
        try:
            value: object = json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise RemoteProtocolError(
                f"the frontend's answer to {self.request} cannot be read", why=f"it is not JSON: {exc}"
            ) from exc
        return value

    def document(self) -> _Json:
        return self.fields(self.parsed())

    def fields(self, value: object) -> _Json:
        if not isinstance(value, dict):
            self.damaged("a part of it is no JSON object")
        return value

    def items(self, document: _Json, key: str) -> Sequence[object]:
        value = document.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.damaged(f"{key} is no list")
        return value

    def objects(self, document: _Json, key: str) -> Sequence[_Json]:
        return [self.fields(item) for item in self.items(document, key)]

    def text_of(self, document: _Json, key: str) -> str:
        value = document.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.damaged(f"{key} is no text")
        return value

    def texts(self, document: _Json, *keys: str) -> list[str]:
        return [self.text_of(document, key) for key in keys]

    def number(self, document: _Json, key: str) -> int:
        """Return a number; Go leaves zeros out."""
        value = document.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            self.damaged(f"{key} is no number")
        return value

    def ranges(self, location: _Json) -> tuple[tuple[int, int], ...]:
        pairs = []
        for item in self.objects(location, "ranges"):
            first, last = (self.number(self.fields(item.get(key) or {}), "line") for key in ("start", "end"))
            pairs.append((first, last))
        return tuple(pairs)

    def lines(self, owner: _Json) -> tuple[int, int] | None:
        """Return the lines that something stands in."""
        ranges = self.ranges(self.fields(owner.get("location") or {}))
        return (min(first for first, _ in ranges), max(last for _, last in ranges)) if ranges else None

    def place(self, owner: _Json, sources: Sequence[SourceSnippet]) -> SourceSnippet | None:
        """Return the place that something points at: a file of the answer's, with the lines meant."""
        if owner.get("location") is None:
            return None
        location = self.fields(owner["location"])
        index = self.number(location, "sourceIndex")
        if index < 0:
            return None  # about no file
        if index >= len(sources):
            self.damaged("it points at a file that it does not have")
        source = sources[index]
        return SourceSnippet(source.filename, source.data, self.ranges(location), source.language)


def _source(document: _Json) -> SourceSnippet:
    """Return a file of the answer's, with no lines marked yet."""
    filename, language, data = (document.get(key) or "" for key in ("filename", "language", "data"))
    try:
        content = base64.b64decode(str(data), validate=True)
    except binascii.Error:
        content = b""
    return SourceSnippet(str(filename), content, (), str(language))
