"""``buildkit-client`` beside ``buildctl``: the same command lines, the same daemon, the same text and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.services import Services

pytestmark = pytest.mark.services

OURS = [sys.executable, "-m", "buildkit_client"]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    exit_code: int
    stdout: bytes
    stderr: str


GO_LOG = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d http2: server: .*\n", re.MULTILINE)
"""What Go's HTTP/2 server may write to buildctl's stderr when a build ends before its session has begun."""


class Peers:
    """Runs a command line with both programs, in folders of their own that hold the same files."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services = services
        self._programs = {"theirs": [str(services.buildctl)], "ours": OURS}
        self._folders = {name: folder / name for name in self._programs}
        for path in self._folders.values():
            path.mkdir()
        self._environ = os.environ | {"DOCKER_CONFIG": str(folder), "BUILDKIT_HOST": services.buildkit_host}

    def write(self, name: str, text: str) -> None:
        for folder in self._folders.values():
            (folder / name).write_text(text)

    def read(self, name: str) -> list[str | None]:
        paths = [folder / name for folder in self._folders.values()]
        return [path.read_text() if path.exists() else None for path in paths]

    def start(self, who: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._programs[who], *arguments],
            cwd=self._folders[who],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, who: str, *arguments: str) -> Outcome:
        process = self.start(who, arguments)
        stdout, stderr = process.communicate(timeout=120)
        return Outcome(process.returncode, stdout, GO_LOG.sub("", stderr.decode("utf-8", "surrogateescape")))

    def both(self, *arguments: str) -> tuple[Outcome, Outcome]:
        return self.run("theirs", *arguments), self.run("ours", *arguments)


@pytest.fixture
def peers(services: Services, tmp_path: Path) -> Peers:
    return Peers(services, tmp_path)


BUILD = ["build", "--frontend", "dockerfile.v0", "--local", "context=.", "--local", "dockerfile=.", "--progress=plain"]


TIMING = re.compile(
    r"|#N \[.*\] FROM .*"  # whether the base image is looked at before the step above it is found in the cache
    r"|#N \.\.\."  # how steps that run at once share the screen
    r"|#N (?:CACHED|CANCELED|DONE <t>)"  # how far steps came beside one that fails
    r"|#N (?:transferring|extracting|resolve|sha256:|preparing|sending).*"  # caught in the act or not
)


def steady(text: str) -> list[str]:
    """Progress without what differs from run to run: durations, random ids, order, what is caught in the act."""
    text = re.sub(r"\b\d+\.\d+s\b", "<t>", text)
    text = re.sub(r"^#\d+ \d+\.\d+ ", "#N <t> ", text, flags=re.MULTILINE)
    text = re.sub(r"^\d+\.\d+ ", "<t> ", text, flags=re.MULTILINE)
    text = re.sub(r"^#\d+ ", "#N ", text, flags=re.MULTILINE)
    text = re.sub(r"ref \w+::\w+", "ref <ref>", text)
    return sorted(line for line in set(text.splitlines()) if not TIMING.fullmatch(line))


def test_a_build_shows_the_same_steps(peers: Peers) -> None:
    peers.write(
        "Dockerfile", f"FROM {peers.services.base_image}\nRUN echo out; echo bad >&2\nCOPY file /\nMAINTAINER x\n"
    )
    peers.write("file", "content")
    peers.both(*BUILD)  # each program has copies of its own on the daemon; from here on both have only to compare them
    theirs, ours = peers.both(*BUILD)
    assert (ours.exit_code, ours.stdout) == (theirs.exit_code, theirs.stdout) == (0, b"")
    assert steady(ours.stderr) == steady(theirs.stderr)
    assert re.match(r"#1 \[.*\n#1 ", ours.stderr)


@pytest.mark.parametrize(
    "instructions",
    [
        pytest.param("RUN for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; exit 7", id="run"),
        pytest.param("RUNN x", id="parse"),
        pytest.param("COPY nope /", id="missing"),
        pytest.param("RUN --mount=type=secret,id=x,required=true cat /run/secrets/x", id="secret"),
        pytest.param("RUN true\nFROM scratch AS b\nCOPY --from=nope /a /b", id="stage"),
    ],
)
def test_a_failed_build_ends_with_the_same_text(peers: Peers, instructions: str) -> None:
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\n{instructions}\n")
    peers.both(*BUILD)
    theirs, ours = peers.both(*BUILD)
    assert ours.exit_code == theirs.exit_code == 1
    assert steady(ours.stderr) == steady(theirs.stderr)
    error = re.compile(r"^(?:Dockerfile:\d+\n-{20}\n.*)?error: .*", re.MULTILINE | re.DOTALL)
    found = [error.search(re.sub(r"ref \w+::\w+", "ref <ref>", one.stderr)) for one in (ours, theirs)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].group() == found[1].group()


def test_without_a_dockerfile(peers: Peers) -> None:
    theirs, ours = peers.both(*BUILD)
    assert ours.exit_code == theirs.exit_code == 1
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1]


def test_a_push_without_login(peers: Peers) -> None:
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\n")
    output = f"type=image,name={peers.services.registry_htpasswd}/compare/denied:1,push=true"
    theirs, ours = peers.both(*BUILD, "--output", output)
    assert ours.exit_code == theirs.exit_code == 1
    last = [re.sub(r"sha256:\w+", "<digest>", one.stderr.splitlines()[-1]) for one in (ours, theirs)]
    assert last[0] == last[1]
    assert "401 Unauthorized" in last[0]


@pytest.mark.buildkit(">=0.13")  # rewrite-timestamp
def test_the_metadata_file_and_the_stream_on_stdout_are_the_same(peers: Peers) -> None:
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\nRUN echo same\n")
    options = ["--opt", "build-arg:SOURCE_DATE_EPOCH=0", "--metadata-file", "meta", "--ref-file", "ref"]
    peers.run("theirs", *BUILD)
    theirs, ours = peers.both(*BUILD, *options, "--output", "type=oci,rewrite-timestamp=true,name=a/b")
    assert ours.stdout == theirs.stdout
    assert len(ours.stdout) > 100_000
    metadata = peers.read("meta")
    assert metadata[0] == metadata[1]
    assert metadata[0] is not None
    assert "containerimage.digest" in json.loads(metadata[0])
    assert [len(ref or "") for ref in peers.read("ref")] == [25, 25]


def test_without_exporter_there_is_no_metadata_file(peers: Peers) -> None:
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\n")
    theirs, ours = peers.both(*BUILD, "--metadata-file", "meta")
    assert ours.exit_code == theirs.exit_code == 0
    assert peers.read("meta") == [None, None]


def test_rawjson_has_the_same_shape(peers: Peers) -> None:
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\nRUN echo one\nMAINTAINER x\n")
    peers.run("theirs", *BUILD)
    theirs, ours = peers.both(*BUILD[:-1], "--progress=rawjson")
    assert shape(ours.stderr) == shape(theirs.stderr)
    started = re.search(r'"started":"([^"]+)"', ours.stderr)
    assert started is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", started.group(1))


def shape(text: str) -> set[tuple[str, ...]]:
    """Which keys objects have, in order, and which names vertexes have."""
    found: set[tuple[str, ...]] = set()
    for line in text.splitlines():
        for kind, objects in json.loads(line).items():
            for one in objects:
                if kind == "vertexes":
                    found.add((kind, one["name"]))
                if kind == "warnings":
                    found.add((kind, *one, *one["sourceInfo"]))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_build(peers: Peers, number: signal.Signals) -> None:
    outcomes = []
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\nRUN echo running; sleep 60\n")
    for who in ("theirs", "ours"):
        process = peers.start(who, [*BUILD, "--no-cache"])
        assert process.stderr is not None
        seen = b""
        while b" running\n" not in seen:
            seen += os.read(process.stderr.fileno(), 65536)
        began = time.monotonic()
        process.send_signal(number)
        _, rest = process.communicate(timeout=30)
        assert time.monotonic() - began < 15
        outcomes.append((process.returncode, rest.decode().splitlines()[-2:]))
    assert outcomes[0] == outcomes[1]
    assert outcomes[1] == (1, ["#5 CANCELED", "error: failed to solve: Canceled: context canceled"])


MISTAKES = [
    ["--output", "foo"],
    ["--output", "name=x"],
    ["--output", 'type=image,"na'],
    ["--output", 'type=image,na"me=x'],
    ["--output", "type=local"],
    ["--output", "type=oci,dest=/"],
    ["--output", "type=image,dest=x"],
    ["--output", "type=image,output=x"],
    ["--output", ""],
    ["--output", "type=nope"],
    ["--export-cache", "ref=x,type="],
    ["--export-cache", "foo=1,type=gha"],
    ["--import-cache", "mode=max,type="],
    ["--opt", "foo"],
    ["--local", "context"],
    ["--local", "context=/nonexistent/x"],
    ["--local", "context=/etc/passwd"],
    ["--secret", "foo"],
    ["--secret", "type=x"],
    ["--secret", "foo=x"],
    ["--secret", "src=/etc/passwd"],
    ["--ssh", "a=/x,raw=true,/y"],
    ["--ssh", "a=raw=x"],
    ["--allow", "foo"],
    ["--progress", "foo"],
    ["--progress", "tty"],
    ["--oci-layout", "x"],
    ["--trace", "/nonexistent/x"],
    # 0.12 says the reason once more to Go; the releases between were not tried
    pytest.param(["--opt", "frontend.caps=foo"], marks=pytest.mark.buildkit(">=0.22")),
    ["--opt", "target=nope"],
    ["--frontend", "nope.v0"],
    ["--frontend", ""],
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistakes_are_told_in_the_same_words(peers: Peers, arguments: list[str]) -> None:
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\n")
    theirs, ours = peers.both(*BUILD[:-1], "--progress=quiet", *arguments)
    assert (ours.exit_code, ours.stdout, ours.stderr) == (theirs.exit_code, theirs.stdout, theirs.stderr)
    assert ours.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["debug", "workers"],
        ["debug", "workers", "-v"],
        ["debug", "workers", "--format", "{{json .}}"],
        ["debug", "workers", "--filter", "id==none"],
        ["debug", "info"],
        ["debug", "info", "--format", "json"],
        ["debug", "info", "--format", "{{.BuildkitVersion.Version}}"],
        ["du", "--filter", "id==none"],
        ["du", "--filter", "id==none", "--format", "{{range .}}{{.ID}}{{end}}"],
        ["prune", "--filter", "id==none"],
        ["prune", "--filter", "id==none", "-v"],
        ["--log-format", "x", "du"],
        ["nope"],
        ["debug", "nope"],
        ["--tlsdir", "/nonexistent", "du"],
        ["--tlsdir", "x", "--tlscacert", "y", "du"],
        ["--addr", "x", "dial-stdio"],
        ["--addr", "unix:///nonexistent", "dial-stdio"],
    ],
    ids=" ".join,
)
def test_other_commands_print_the_same(peers: Peers, arguments: list[str]) -> None:
    theirs, ours = peers.both(*arguments)
    assert (ours.exit_code, ours.stdout, ours.stderr) == (theirs.exit_code, theirs.stdout, theirs.stderr)


def test_disk_usage_lists_the_same_records(peers: Peers) -> None:
    mark = uuid4().hex
    peers.write("Dockerfile", f"FROM {peers.services.base_image}\nRUN echo one {mark}\nRUN echo two {mark}\n")
    peers.run("theirs", *BUILD)
    # Other builds of the same daemon come and go, and so do their records: only our own are looked at.
    found = json.loads(peers.run("theirs", "du", "--format", "json").stdout)
    records = [record for record in found if mark in (record.get("description") or "")]
    assert len(records) == 2
    filters = [word for record in records for word in ("--filter", f"id=={record['id']}")]
    for arguments in (["du"], ["du", "-v"], ["du", "--format", "json"]):
        theirs, ours = peers.both(*arguments, *filters)
        assert ours == theirs
        assert records[0]["id"].encode() in ours.stdout


def test_help_has_the_same_layout(peers: Peers) -> None:
    for command in ("build", "prune", "du"):
        theirs, ours = peers.both(command, "--help")
        heads = [re.findall(r"^ +(--\S+.*?)(?:  |$)", one.stdout.decode(), re.MULTILINE) for one in (ours, theirs)]
        assert heads[0] == heads[1]
