"""Runs a case with both tools, each in a folder of its own with the same content, and compares what came out."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import uuid
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tests.integration.compare import observe
from tests.integration.compare.case import EPOCH, Case
from tests.integration.compare.observe import Seen
from tests.integration.compare.places import Places
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services
from tests.support.tree import File, Node, Tree, build_tree

Tool = Literal["theirs", "ours"]

_NAME = re.compile(r"\{(\w+)\}")
# Builds that run at once share what they read from elsewhere, and its name is that of the build that came first.
_SHARED = re.compile(
    r"FROM |^\[context |load git source|load metadata for|^[a-z-]+://|\] ADD http|resolve image config"
)
_NAMES = (
    (re.compile(r"^\[linux/\S+ "), "[linux/* "),  # of platforms that share a step
    (re.compile(r" from local:\d+"), " from local:*"),  # a number made of the folder's path
    (re.compile(r"^\[auth\] .* token for "), "[auth] token for "),  # a registry is asked for layers it has elsewhere
)
_TIMEOUT_S = 120
_AT_ONCE = 3
_READABLE = 200
_LOCK = "/cache.lock"  # buildctl leaves the lock of a cache behind
_REF = re.compile(r"[a-z0-9]{25}\Z")


@dataclass(slots=True)
class Arm:
    """A tool in its folder.

    Attributes:
        tool: Which one.
        folder: Where it runs; ``context`` and ``out`` lie in it.
        repository: Name in the registry that only this arm pushes to.
        mtime_ns: Of the files of the context; the daemon keeps files of earlier builds, and tells changed ones by time
            and size, so no two cases of any run may have the same.
        words: Values of the names in braces.
        environ: Its environment.
    """

    tool: Tool
    folder: Path
    repository: str
    mtime_ns: int
    words: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """A line of the table: what was compared, and whether it was the same."""

    area: str
    name: str
    compared: str
    result: str


class Arena:
    """Both tools, one daemon.

    Args:
        services: The daemon, the reference tool, the registries.
        own: The daemon for cases that need an emptied one.
        places: What the names in braces stand for that all cases share.
        root: Folder for everything.
    """

    def __init__(self, services: Services, own: OwnBuildkitd, places: Places, root: Path) -> None:
        self.services = services
        self._own = own
        self.places = places
        self._root = root
        self._mark = uuid.uuid4().hex[:10]
        self._own_started = False
        self._own_busy = threading.Lock()
        self._workers = ThreadPoolExecutor(_AT_ONCE)
        self._running: dict[Case, Future[dict[Tool, Seen]]] = {}
        self.tools: dict[Tool, Path] = {
            "theirs": services.buildctl,
            "ours": Path(sys.executable).with_name("buildkit-client"),
        }

    def close(self) -> None:
        """Leave the cases that have not run, and stop the daemon that was started, if any."""
        self._workers.shutdown(cancel_futures=True)
        if self._own_started:
            self._own.__exit__(None, None, None)

    def start(self, cases: Iterable[Case]) -> None:
        """Begin to run cases, a few at once: most of the time the tools wait for the daemon."""
        for case in cases:
            self._running[case] = self._workers.submit(self._run, case)

    def result(self, case: Case) -> dict[Tool, Seen]:
        """What both tools did with a case that was started."""
        return self._running.pop(case).result()

    def _run(self, case: Case) -> dict[Tool, Seen]:
        if not case.own_daemon:
            return self._run_both(case)
        with self._own_busy:
            return self._run_both(case)

    def _run_both(self, case: Case) -> dict[Tool, Seen]:
        order: list[Tool] = ["theirs", "ours"] if case.first == "theirs" else ["ours", "theirs"]
        seen: dict[Tool, Seen] = {}
        for tool in order:
            arm = self._make_arm(case, tool)
            if case.own_daemon:
                self._own.prune_all()
            for line in case.before:
                self._prepare(case, arm, line)
            seen[tool] = self._run_arm(case, arm)
        return seen

    def _make_arm(self, case: Case, tool: Tool) -> Arm:
        if case.own_daemon and not self._own_started:
            self._own.start()
            self._own_started = True
        slug = re.sub("[^a-z0-9]+", "-", f"{case.area} {case.name}".lower()).strip("-")
        mtime_ns = (1_600_000_000 + zlib.crc32(f"{self._mark} {slug}".encode()) % 90_000_000) * 10**9 + 123_456_789
        arm = Arm(tool, self._root / slug / tool, f"compare/{self._mark}/{slug}/{tool}", mtime_ns)
        out = arm.folder / "out"
        out.mkdir(parents=True)
        arm.words = {
            "arm": str(arm.folder),
            "context": str(arm.folder / "context"),
            "out": str(out),
            "tree": str(out / "tree"),
            "name": arm.repository,
            "repo": f"{self.services.registry}/{arm.repository}",
            "case": f"{self._mark} {case.area} {case.name}",
        }
        if case.files is not None:
            build_tree(arm.folder / "context", self._filled(arm, case.files))
        if case.more:
            build_tree(arm.folder, self._filled(arm, case.more))
        config = arm.folder / "docker"
        config.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "ACTIONS_"))}
        kept.pop("SSH_AUTH_SOCK", None)
        arm.environ = kept | {
            "BUILDKIT_HOST": self._own.address if case.own_daemon else self.services.buildkit_host,
            "DOCKER_CONFIG": str(config),
            "SOURCE_DATE_EPOCH": str(EPOCH),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if not case.epoch:
            del arm.environ["SOURCE_DATE_EPOCH"]
        arm.environ |= {name: self.fill(arm, value) for name, value in case.environ.items()}
        return arm

    def _filled(self, arm: Arm, tree: Tree) -> Tree:
        filled: dict[str | bytes, Node | bytes] = {}
        for path, node in tree.items():
            if isinstance(node, bytes):
                node = File(self.fill(arm, node.decode("latin-1")).encode("latin-1"))
            if isinstance(node, File) and node.mtime_ns == File.mtime_ns:
                node = replace(node, mtime_ns=arm.mtime_ns)
            filled[path] = node
        return filled

    def fill(self, arm: Arm, text: str) -> str:
        """Replace the names in braces; what is no name of ours stays."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in arm.words:
                return arm.words[name]
            found = self.places.find(name)
            return match[0] if found is None else found

        return _NAME.sub(value, text)

    def _command(self, case: Case, arm: Arm, flags: str, tool: Tool) -> list[str]:
        words = [str(self.tools[tool]), "build"]
        if case.files is not None:
            words += ["--frontend=dockerfile.v0", "--local=context={context}", "--local=dockerfile={context}"]
        return [self.fill(arm, word) for word in [*words, *shlex.split(flags)]]

    def _prepare(self, case: Case, arm: Arm, line: str) -> None:
        if line == "prune":
            self._own.prune_all()
            return
        other: Tool = "theirs" if arm.tool == "ours" else "ours"
        command = self._command(case, arm, line, arm.tool if case.before_by == "same" else other)
        done = subprocess.run(
            command, cwd=arm.folder, env=arm.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_TIMEOUT_S, check=False, umask=case.umask,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"

    def _run_arm(self, case: Case, arm: Arm) -> Seen:
        flags = f"{case.flags} --trace={{arm}}/trace --ref-file={{arm}}/ref"
        if "--metadata-file" not in flags:
            flags += " --metadata-file={arm}/metadata.json"
        command = self._command(case, arm, flags, arm.tool)
        stdin = case.stdin
        if isinstance(stdin, str):
            stdin = self.places.bytes_of(stdin.strip("{}"))
        done = _run_to(case, command, arm, stdin)
        seen = Seen(done.returncode, done.stdout or b"", done.stderr.decode("utf-8", "replace"))
        seen.error = self._common(arm, observe.last_error(seen.stderr))
        if (path := arm.folder / "metadata.json").exists():
            seen.metadata = json.loads(path.read_text())
            assert seen.metadata, "an empty metadata file"
        if (path := arm.folder / "ref").exists():
            seen.ref = path.read_text()
        steps = observe.read_steps(arm.folder / "trace")
        seen.steps = sorted(
            {(common_name(self._common(arm, name)), cached) for name, cached in steps if not _SHARED.search(name)}
        )
        seen.warnings = observe.read_warnings(arm.folder / "trace")
        out = arm.folder / "out"
        seen.files = observe.read_files(out)
        if case.error:
            return seen
        seen.documents = observe.read_layouts(out)
        if seen.stdout.startswith(b"blobs/"):
            seen.documents |= observe.read_archive(seen.stdout, "stdout")
        if "{repo}" in case.flags:
            digest = str(seen.metadata.get("containerimage.digest", ""))
            seen.registry, pushed = observe.read_repository(self.services.registry, arm.repository, digest)
            seen.documents |= pushed
        return seen

    def _common(self, arm: Arm, text: str) -> str:
        """A text with what only this arm has put into words."""
        return text.replace(arm.repository, "<name>").replace(str(arm.folder), "<arm>")

    def compare(self, case: Case, seen: Mapping[Tool, Seen]) -> Row:
        """Compare both results, fail where they differ, and return the line for the table."""
        theirs, ours = (self._comparable(case, tool, seen[tool]) for tool in ("theirs", "ours"))
        compared = ["exit 0"] if not case.error else []
        for key in theirs:
            if key in case.ignore:
                continue
            assert ours[key] == theirs[key], _difference(case, key, theirs[key], ours[key], seen)
            if theirs[key]:
                many = isinstance(theirs[key], (dict, list)) and f" {len(theirs[key])}"
                compared.append(f"{key}{many or ''}")
        return Row(case.area, case.name, ", ".join(compared), "same")

    def _comparable(self, case: Case, tool: Tool, seen: Seen) -> dict[str, Any]:
        own_name = re.compile(rf"/{tool}(?=[:@\"])")

        def common(document: object) -> Any:
            return json.loads(own_name.sub("/<tool>", json.dumps(document)))

        if case.error:
            return {"exit": seen.exit, "error": observe.loosened(seen.error), "stdout": seen.stdout}
        assert _REF.match(seen.ref), f"{tool}: no ref in the file: {seen.ref!r}"
        metadata, documents = common(seen.metadata), common(seen.documents)
        values: dict[str, Any] = {
            "exit": seen.exit,
            "stdout": seen.stdout,
            "steps": seen.step_names if "--no-cache" not in case.flags and not case.own_daemon else seen.steps,
            "warnings": seen.warnings,
            "documents": documents,
            "metadata": metadata,
            "files": {name: _kept(case, name, entry) for name, entry in seen.files.items() if not name.endswith(_LOCK)},
            "pushed": seen.registry,
        }
        if seen.stdout[257:262] == b"ustar":
            values["members"] = observe.tar_members(seen.stdout)
        if case.loose:
            looser = observe.loosened if case.loose == "all" else observe.undated
            values["metadata"], values["documents"] = looser(metadata), looser(documents)
            values["pushed"] = sorted(seen.registry)
            values["files"] = sorted({re.sub("[0-9a-f]{64}", "*", name) for name in values["files"]})
        return values


def common_name(name: str) -> str:
    """The name of a vertex without what differs between two builds."""
    for pattern, replacement in _NAMES:
        name = pattern.sub(replacement, name)
    return name


def _kept(case: Case, name: str, entry: Mapping[str, Any]) -> dict[str, object]:
    """What is compared of a file; an index is among the documents, and its members have no order."""
    if name.endswith("/index.json"):
        entry = {**entry, "content": sorted(entry["content"])}
    return {key: value for key, value in entry.items() if key not in case.ignore}


def _difference(case: Case, key: str, theirs: object, ours: object, seen: Mapping[Tool, Seen]) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        theirs, ours = ({name: one.get(name) for name in names} for one in (theirs, ours))
    elif isinstance(theirs, list) and isinstance(ours, list):
        theirs, ours = [one for one in theirs if one not in ours], [one for one in ours if one not in theirs]
    text = "\n".join(f"--- stderr, {tool}\n{one.stderr[-1500:]}" for tool, one in seen.items())
    return f"{case.area}, {case.name}: {key} differs\ntheirs: {_short(theirs)}\nours:   {_short(ours)}\n{text}"


def _short(value: object) -> str:
    """A value as text; of long contents only a digest, and no more than can be read."""
    if isinstance(value, bytes) and len(value) > _READABLE:
        return f"{len(value)} bytes, {hashlib.sha256(value).hexdigest()[:12]}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_short(one)}" for key, one in value.items()) + "}"
    return f"{value!r:.600}"


def _run_to(case: Case, command: list[str], arm: Arm, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard output goes where the case says."""
    stdout = os.open("/dev/full", os.O_WRONLY) if case.stdout == "full" else subprocess.PIPE
    try:
        return subprocess.run(
            command, cwd=arm.folder, env=arm.environ, input=stdin or None, stdin=None if stdin else subprocess.DEVNULL,
            stdout=stdout, stderr=subprocess.PIPE, timeout=_TIMEOUT_S, check=False, umask=case.umask,
        )  # fmt: skip
    finally:
        if stdout != subprocess.PIPE:
            os.close(stdout)
