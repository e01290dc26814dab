"""What a tool did, read into values that two tools can be compared by."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.tree import read_tree

_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_SHORT_BLOB = 1 << 20
_TIMES = ((re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "*time*"),)
_LOOSE = (
    *_TIMES,
    (re.compile(r"\b[0-9a-f]{64}\b"), "*digest*"),
    (re.compile(r"\b[a-z0-9]{25}\b"), "*id*"),
    (re.compile(r"\b[A-Za-z0-9+/]{200,}=*"), "*packed*"),
)
_DESCRIPTOR = '{"mediaType"'  # as the cache's is in a metadata file
_DATED = {*_ACCEPT.split(", "), "application/vnd.buildkit.cacheconfig.v0"}


@dataclass(slots=True)
class Seen:
    """What one tool did.

    Attributes:
        exit: Exit code.
        stdout: Standard output.
        stderr: Standard error.
        error: The error line and the source lines above it.
        metadata: The metadata file.
        ref: The ref file.
        steps: Every vertex of the trace: whether it was cached, by name.
        warnings: What the frontend warned of.
        files: Everything under ``out``.
        registry: Digest by tag of what is in the arm's repository.
        documents: Every JSON document of every image, by its place.
    """

    exit: int
    stdout: bytes
    stderr: str
    error: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    ref: str = ""
    steps: list[tuple[str, bool]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    registry: dict[str, str] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)

    @property
    def step_names(self) -> list[str]:
        """Names of the vertices, each once, sorted."""
        return sorted({name for name, _ in self.steps})

    @property
    def user_steps(self) -> dict[str, bool]:
        """Whether each step of the Dockerfile was cached."""
        return {name: cached for name, cached in self.steps if re.match(r"\[([^\]]* )?\d+/\d+\] (RUN|COPY|ADD)", name)}

    def text(self, name: str) -> str:
        """Content of a file under ``out``."""
        return bytes(self.files[name]["content"]).decode()

    def layers(self) -> set[str]:
        """Media types of the layers of all images."""
        return {layer["mediaType"] for document in self.documents.values() for layer in document.get("layers") or ()}

    def media_types(self) -> set[str]:
        """Media types that all documents state."""
        return {document["mediaType"] for document in self.documents.values() if "mediaType" in document}

    def named(self, part: str) -> list[Any]:
        """Documents whose place contains a text."""
        return [document for place, document in self.documents.items() if part in place]


def last_error(stderr: str) -> str:
    """The error line with the source lines above it; progress and hints are left out."""
    lines = stderr.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if not errors:
        return ""
    last = errors[-1]
    start = last
    while start and (re.match(r"^( +\d+ \| |-{20}$|\S+:\d+$|policy deny: )", lines[start - 1])):
        start -= 1
    return "\n".join(lines[start : last + 1])


def read_warnings(path: Path) -> list[str]:
    """The warnings of a trace file."""
    if not path.exists():
        return []
    updates = [json.loads(line) for line in path.read_text().splitlines()]
    found = {warning["short"] for update in updates for warning in update.get("warnings") or ()}
    return sorted(base64.b64decode(short).decode() for short in found)


def read_steps(path: Path) -> list[tuple[str, bool]]:
    """The vertices of a trace file."""
    vertexes: dict[str, tuple[str, bool]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            for vertex in json.loads(line).get("vertexes") or ():
                before = vertexes.get(vertex["digest"], ("", False))[1]
                vertexes[vertex["digest"]] = (vertex["name"], before or vertex.get("cached", False))
    return sorted(vertexes.values())


def read_files(root: Path) -> dict[str, dict[str, Any]]:
    """Everything under a folder: kind and mode, content, links, extended attributes, and times where they are kept."""
    found: dict[str, dict[str, Any]] = {}
    if not root.is_dir():
        return found
    for name, seen in read_tree(root).items():
        text = name.decode("utf-8", "surrogateescape")
        kept = text.startswith("tree/")
        found[text] = {
            "mode": oct(seen.mode),
            "content": seen.content if len(seen.content) < _SHORT_BLOB else hashlib.sha256(seen.content).digest(),
            "mtime": seen.mtime_ns if kept else 0,
            "twins": seen.twins,
        }
    return found


def tar_members(data: bytes) -> list[tuple[object, ...]]:
    """The members of an archive in order, with everything their headers say."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (m.name, m.type, m.mode, m.uid, m.gid, m.size, m.mtime, m.linkname, sorted(m.pax_headers.items()))
            for m in archive
        ]


def read_layouts(out: Path) -> dict[str, Any]:
    """The documents of every image layout and every archive of one under a folder."""
    found: dict[str, Any] = {}
    for index in sorted(out.rglob("index.json")):
        folder = index.parent

        def blob(digest: str, folder: Path = folder) -> bytes | None:
            path = folder / "blobs" / digest.replace(":", "/")
            return path.read_bytes() if path.is_file() and path.stat().st_size < _SHORT_BLOB else None

        found |= walk_documents(json.loads(index.read_bytes()), str(folder.relative_to(out)), blob)
    for path in sorted(out.rglob("*.tar")):
        if path.is_file() and path.stat().st_size:
            found |= read_archive(path.read_bytes(), path.name)
    return found


def read_archive(data: bytes, name: str) -> dict[str, Any]:
    """The documents of an archive of a layout; nothing for one of plain files."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {one.name: one for one in archive.getmembers()}

        def content(path: str) -> bytes | None:
            stream = archive.extractfile(members[path]) if path in members else None
            return stream.read() if stream is not None and members[path].size < _SHORT_BLOB else None

        index = content("index.json")
        if index is None:
            return {}
        found = walk_documents(json.loads(index), name, lambda digest: content(f"blobs/{digest.replace(':', '/')}"))
        if (docker := content("manifest.json")) is not None:
            found[f"{name}/manifest.json"] = {"entries": json.loads(docker)}
        return found


def walk_documents(document: dict[str, Any], place: str, blob: Any) -> dict[str, Any]:
    """A document and those that it leads to, by their place."""
    found = {place: document}
    for number, child in enumerate(document.get("manifests") or ()):
        data = blob(child["digest"]) if child["mediaType"] in _ACCEPT else None
        if data is not None:
            found |= walk_documents(json.loads(data), f"{place}/manifest{number}", blob)
    if "config" in document and (data := blob((document["config"] or {}).get("digest", ""))):
        found[f"{place}/config"] = json.loads(data)
    for number, layer in enumerate(document.get("layers") or ()):
        if "in-toto" in layer["mediaType"] and (data := blob(layer["digest"])):
            found[f"{place}/statement{number}"] = json.loads(data)
    return found


def read_repository(host: str, name: str, digest: str = "") -> tuple[dict[str, str], dict[str, Any]]:
    """Digest by tag, and the documents, of a repository of a registry; both empty when there is none.

    Args:
        host: The registry.
        name: The repository.
        digest: The image, when it has no tag.
    """

    def get(path: str) -> tuple[bytes, str]:
        request = urllib.request.Request(f"http://{host}/v2/{name}/{path}", headers={"Accept": _ACCEPT})
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read(), response.headers.get("Docker-Content-Digest", "")

    def blob(wanted: str) -> bytes | None:
        for kind in ("manifests", "blobs"):
            try:
                data = get(f"{kind}/{wanted}")[0]
            except urllib.error.HTTPError:
                continue
            return data if len(data) < _SHORT_BLOB else None
        return None

    digests: dict[str, str] = {}
    documents: dict[str, Any] = {}
    for tag in list(_tags(get)) or [one for one in (digest,) if one]:
        try:
            data, found = get(f"manifests/{tag}")
        except urllib.error.HTTPError:
            continue
        digests["by digest" if tag == digest else tag] = found
        documents |= walk_documents(json.loads(data), "pushed" if tag == digest else f"pushed:{tag}", blob)
    return digests, documents


def _tags(get: Any) -> Iterator[str]:
    try:
        yield from sorted(json.loads(get("tags/list")[0])["tags"] or ())
    except urllib.error.HTTPError:
        return


def loosened(value: Any) -> Any:
    """A document without what differs between two builds: digests, times, ids, sizes."""
    match value:
        case Mapping():
            pairs = [(loosened(key), 0 if key == "size" else loosened(inner)) for key, inner in value.items()]
            found = dict(pairs)
            return found if len(found) == len(pairs) else sorted(pairs, key=str)
        case list() | tuple():
            return [loosened(inner) for inner in value]
        case str():
            return loosened(json.loads(value)) if value.startswith(_DESCRIPTOR) else _replaced(value, _LOOSE)
    return value


def undated(value: Any) -> Any:
    """A document without times, and without digests and sizes of documents that hold some; layers keep theirs."""
    match value:
        case Mapping():
            dated = value.get("mediaType") in _DATED
            return {key: "*" if dated and key in ("digest", "size") else undated(inner) for key, inner in value.items()}
        case list() | tuple():
            return [undated(inner) for inner in value]
        case str():
            if value.startswith(_DESCRIPTOR):
                return undated(json.loads(value))
            return _replaced(value, (*_TIMES, _LOOSE[-1]))
    return value


def _replaced(text: str, patterns: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text)
    return text
