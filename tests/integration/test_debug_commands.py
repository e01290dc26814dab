"""The commands that show and control, side by side with ``buildctl`` on the same daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client import Client
from tests.support.llb_samples import sample_definition
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

COMMANDS = [
    "", "du", "prune", "prune-histories", "build", "debug", "debug dump-llb", "debug dump-metadata", "debug workers",
    "debug info", "debug monitor", "debug logs", "debug ctl", "debug get", "debug histories", "dial-stdio",
]  # fmt: skip
NO_BLOB = f"sha256:{'0' * 64}"


class Tools:
    """Both commands, with the same words."""

    def __init__(self, services: Services, address: str = "") -> None:
        self._commands = ([str(services.buildctl)], [sys.executable, "-m", "buildkit_client"])
        self._environ = {**os.environ, "BUILDKIT_HOST": address or services.buildkit_host, "TZ": "UTC"}

    def run_one(self, tool: int, *words: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        """Run the reference (0) or ours (1)."""
        return subprocess.run(
            [*self._commands[tool], *words], input=stdin, capture_output=True, timeout=60, check=False,
            env={**self._environ, **environ},
        )  # fmt: skip

    def run(self, *words: str, stdin: bytes = b"", **environ: str) -> list[subprocess.CompletedProcess[bytes]]:
        return [self.run_one(tool, *words, stdin=stdin, **environ) for tool in (0, 1)]

    def same(self, *words: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        """Run both, check that nothing tells them apart, and return what ours did."""
        theirs, ours = self.run(*words, stdin=stdin, **environ)
        assert ours.stdout.decode(errors="replace") == theirs.stdout.decode(errors="replace")
        assert ours.stderr.decode() == theirs.stderr.decode()
        assert ours.returncode == theirs.returncode
        return ours

    def start(self, tool: int, *words: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*self._commands[tool], *words], stdout=pipe, stderr=pipe, env=self._environ)


@pytest.fixture(scope="module")
def daemon(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBuildkitd]:
    """A daemon that nobody else builds on, so that whole lists can be compared."""
    with OwnBuildkitd(services, tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def tools(services: Services, daemon: OwnBuildkitd) -> Tools:
    return Tools(services, daemon.address)


@pytest.fixture(scope="module")
def ref(services: Services, daemon: OwnBuildkitd, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build whose record has everything: several steps, output, a provenance statement."""
    folder = tmp_path_factory.mktemp("build")
    run = f"RUN echo out {folder.name} {os.getpid()}; echo err >&2"
    (folder / "Dockerfile").write_text(f"FROM {services.base_image}\n{run}\nCOPY Dockerfile /d/\n")
    words = ["build", "--frontend", "dockerfile.v0", "--local", f"context={folder}", "--local", f"dockerfile={folder}"]
    words += ["--opt", "attest:provenance=mode=max", "--output", "type=image,name=x:1", "--ref-file", f"{folder}/ref"]
    daemon.buildctl(*words)
    ref = (folder / "ref").read_text()
    with Client(daemon.address) as client:  # the trace comes some time later and changes the record
        if services.buildkit_satisfies(">=0.15"):
            client.history.finalize(ref)
        else:
            end = time.monotonic() + 30
            while client.history.get(ref).trace is None:
                assert time.monotonic() < end
                time.sleep(0.1)
    return ref


def test_help_lists_the_same_flags_and_commands(services: Services, tools: Tools) -> None:
    heads = re.compile(r"^   (-.*?|[a-z].*?)(?:  |$).*?(\(default: .*\))?$")
    for command in COMMANDS:
        pages = []
        for done in tools.run(*command.split(), "--help"):
            lines = done.stdout.decode().replace("buildkit-client", "buildctl").splitlines()
            lists, title = [], ""
            for line in lines:
                title = line if re.fullmatch("[A-Z ]+:", line) else title
                match = heads.match(line)
                if title in ("COMMANDS:", "OPTIONS:", "GLOBAL OPTIONS:") and match:
                    lists.append((title, *match.groups()))
            usage = [] if command == "build" else lines[lines.index("USAGE:") + 1 : lines.index("USAGE:") + 2]
            pages.append((lists, usage))
        assert pages[1] == pages[0], command


@pytest.mark.parametrize(
    "words",
    [
        ["debug", "info"],
        ["debug", "info", "--format", "{{json .}} {{.BuildkitVersion.Version}}"],
        ["debug", "workers"],
        ["debug", "workers", "-v"],
        ["debug", "workers", "--format", "json"],
        ["debug", "workers", "--format", "{{range .}}{{.}}{{end}}", "--filter", "id==nope"],
        ["debug", "workers", "-f", "labels.x==y"],
        ["debug", "histories", "--bogus"],
        ["debug", "logs"],
        ["debug", "logs", "nope"],
        ["debug", "get"],
        ["debug", "get", "foo"],
        ["debug", "get", "sha256:00"],
        ["debug", "get", "md5:00"],
        ["debug", "get", NO_BLOB],
        ["debug", "ctl"],
        ["debug", "ctl", "nope"],
        ["debug", "ctl", "--pin", "--unpin", "nope"],
        ["debug", "ctl", "--pin", "--delete", "nope"],
        ["debug", "ctl", "--pin", "nope"],
        ["debug", "ctl", "--delete", "nope"],
        ["prune", "--filter", "bogus=="],
        [
            "prune",
            "--filter",
            "id==none",
            "--format",
            "json",
            "--keep-storage-min",
            "1_000.5",
            "--keep-duration",
            "1h5m",
        ],
        ["du", "--filter", "bogus=="],
        ["debug", "dump-llb", "/nowhere"],
        ["debug", "dump-metadata", "--root", "/nowhere"],
    ],
    ids=" ".join,
)
def test_the_same_answers(words: list[str], tools: Tools) -> None:
    if "--bogus" in words:
        theirs, ours = tools.run(*words)
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    else:
        tools.same(*words)


@pytest.mark.parametrize(
    "form",
    [
        "{{range $i, $w := .}}{{if $i}}, {{end}}{{$i}}:{{$w.ID}}{{else}}none{{end}}",
        '{{with index . 0}}{{.ID | printf "%.5s|%-30s|%q" .ID .ID}}{{end}}',
        "{{range .}}{{.ID}} {{.Labels}} {{.Platforms}} {{.GCPolicy}}{{end}}",
        "{{range .}}{{range .GCPolicy}}{{.KeepDuration}} {{gt .KeepDuration 0}} {{end}}{{end}}",
        "{{(index . 0).ID}}{{len .}}{{slice (index . 0).ID 1 3}}",
        '{{define "x"}}<{{.ID}}>{{end}}{{range .}}{{template "x" .}}{{end}}{{block "b" 1}}{{.}}{{end}}',
        '{{/* c */ -}}  a  {{- "b" }}{{println 1 "a" 2}}{{print 1 2 "x" 3}}{{`raw`}}{{"\\x41\\u00e9\\n"}}',
        "{{$x := 1}}{{range .}}{{$x = 2}}{{end}}{{$x}}{{range 3}}{{.}}{{end}}{{1.5}} {{0x1f}} {{1e3}} {{'a'}} {{true}}",
        "{{range $k, $v := (index . 0).Labels}}{{if eq $k `x`}}{{continue}}{{end}}{{$k}}={{$v}};{{break}}{{end}}",
        '{{html "<a>\\"\'"}}{{js "<a>\'"}}{{urlquery "a b&c/"}}{{not 1}}{{and 1 ""}}{{or "" 2}}{{lt 1 2}}{{ne 1 2}}',
        '{{printf "%05d|%x|%X|%o|%b|%c|%U|%t|%v|%T|%+d|%6.2f|%e" 42 "hi" 255 8 5 65 65 true "s" 1 5 3.14159 1000.5}}',
        '{{printf "%d" "a"}}{{printf "%d"}}{{printf "a" 1}}{{printf "%!"}}{{printf "%"}}{{printf "%z" 1}}',
        "{{range .}}{{.ID}}{{.Nope}}{{end}}",
        *("{{.ID}}", "{{(index . 0).Nope}}", "{{foo}}", "{{index . 9}}", "{{len 3}}", "{{if}}", "{{range .}}"),
        *("{{end}}", "{{else}}", "{{", '{{"a', "{{$x}}", "{{nil}}", '{{"a" 1}}', '{{1 | "a"}}', '{{eq 1 "a"}}'),
        *("{{lt true false}}", "{{(1}}", "{{1)}}", "{{break}}", '{{template "x"}}', "{{printf}}", "{{not 1 2}}"),
        *('{{"a".b}}', "{{@}}", "{{if 1}}a{{else}}b{{else}}c{{end}}", "{{/* x", "{{1a}}", "{{.a!}}", "{{range .ID}}"),
        '{{index (index . 0).Labels "nope"}}|{{(index . 0).Labels.nope}}',
    ],
)
def test_templates(form: str, tools: Tools) -> None:
    tools.same("debug", "workers", "--format", form)


@pytest.mark.parametrize("progress", ["plain", "auto", "rawjson", "quiet", "tty", "fancy"])
def test_logs_of_a_build(progress: str, tools: Tools, ref: str) -> None:
    done = tools.same("debug", "logs", "--progress", progress, ref)
    assert bool(done.stdout) == (progress in ("plain", "auto", "rawjson"))


def test_logs_obey_the_environment(tools: Tools, ref: str) -> None:
    assert tools.same("debug", "logs", ref, BUILDKIT_PROGRESS="rawjson").stdout.startswith(b"{")


@pytest.mark.parametrize(
    "form",
    [
        "json",
        "{{.}}",
        "{{.Type}} {{.Record.Ref}} {{.Record.CreatedAt}} {{.Record.CreatedAt.AsTime}} {{.Record.GetRef}}",
        "{{.Record.Logs}} {{.Record.Error}} {{.Record.Exporters}} {{.Record.FrontendAttrs}} {{.Record.Results}}",
        '{{range .Record.Result.Attestations}}{{index .Annotations "in-toto.io/predicate-type"}}{{end}}',
        "{{.Record.Nope}}",
        '{{printf "%s|%v" .Type .Type}}{{if .Record.Error}}x{{else}}y{{end}}{{index .Record.FrontendAttrs "nope"}}',
    ],
)
def test_histories_of_a_build(form: str, tools: Tools, ref: str) -> None:
    assert (
        ref
        in tools.same(
            "debug", "histories", "--format", form if form == "json" else "{{.Record.Ref}} " + form
        ).stdout.decode()
    )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_the_table_of_histories(zone: str, tools: Tools, ref: str) -> None:
    assert ref in tools.same("debug", "histories", TZ=zone).stdout.decode()


def test_pin_and_unpin(tools: Tools, ref: str) -> None:
    for words, pin in ((["--pin"], "*"), (["--unpin"], "")):
        ours = tools.run_one(1, "debug", "ctl", *words, ref)
        assert (ours.returncode, ours.stdout, ours.stderr) == (0, b"", b"")
        row = next(row for row in tools.same("debug", "histories").stdout.decode().splitlines() if ref in row)
        assert row.rpartition("\t")[2] == pin


def test_blobs_of_a_build(services: Services, tools: Tools, ref: str) -> None:
    is_new = services.buildkit_satisfies(">=0.13")  # that many exporters, and so many results
    result = "(index .Record.Result.Results 0)" if is_new else ".Record.Result.ResultDeprecated"
    form = f"{{{{.Record.Logs.Digest}}}} {{{{{result}.Digest}}}} {{{{.Record.Trace.Digest}}}}"
    digests = tools.same("debug", "histories", "--format", form).stdout.decode().split()
    assert len(digests) == 3
    for digest in digests:
        assert tools.same("debug", "get", digest).stdout


def test_the_trace(tools: Tools, ref: str) -> None:
    assert tools.same("debug", "logs", "--trace", ref).stdout.startswith(b"{")


def test_the_trace_of_no_build_does_not_wait(tools: Tools) -> None:
    with tools.start(1, "debug", "logs", "--trace", "nope") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: ref nope not found")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_monitor_until_interrupted(number: int, tools: Tools, ref: str) -> None:
    seen = []
    for tool in (0, 1):
        with tools.start(tool, "debug", "monitor", "--completed", "--ref", ref) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line.decode())
                if "attestation:" in lines[-1]:
                    break
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
            seen.append((lines, err, process.returncode))
    assert seen[1] == seen[0]
    assert seen[1][0][0] == f"event: COMPLETE ref:{ref}\n"
    assert seen[1][2] == 1


def test_dump_llb(tools: Tools, tmp_path: Path) -> None:
    data = sample_definition()
    done = tools.same("debug", "dump-llb", stdin=data)
    assert done.stdout.count(b"\n") == 8
    assert tools.same("debug", "dump-llb", "--dot", stdin=data).stdout.startswith(b"digraph {\n")
    assert tools.same("debug", "dump-llb", "-", stdin=data).stdout == done.stdout
    (tmp_path / "x.llb").write_bytes(data)
    assert tools.same("debug", "dump-llb", str(tmp_path / "x.llb")).stdout == done.stdout
    assert tools.same("debug", "dump-llb", stdin=b"").stdout == b""
    theirs, ours = tools.run("debug", "dump-llb", stdin=b"no definition")
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout) == (1, b"")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-v"],
        ["--filter", "type==regular"],
        ["--format", "json"],
        ["--format", "{{range .}}{{.CreatedAt}} {{.LastUsedAt}} {{.Parents}} {{.RecordType}}{{println}}{{end}}"],
        ["--format", '{{range .}}{{if and (gt .Size 0) (eq .RecordType "regular")}}{{.ID}}{{end}}{{end}}'],
    ],
)  # fmt: skip
def test_disk_usage(words: list[str], tools: Tools, ref: str) -> None:
    assert tools.same("du", *words).stdout


def test_pruning_and_metadata(services: Services, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(f"FROM {services.base_image}\nRUN echo a > /a\nCOPY . /b\n")
    build = ["build", "--frontend", "dockerfile.v0", "--local", f"context={tmp_path}/context"]
    build += ["--local", f"dockerfile={tmp_path}/context"]
    with OwnBuildkitd(services, tmp_path) as daemon:
        tools = Tools(services, daemon.address)
        for words, pattern in (
            (
                ["prune-histories"],
                r"TYPE\t\tREF\t+CREATED\t+COMPLETED\t+GENERATION\nCOMPLETE\t\w{25}\t\S+Z\t\S+Z\t\d\n",
            ),
            (["prune-histories", "--format", "{{.Type}} {{.Record.Ref}}"], r"COMPLETE \w{25}\n"),
            (
                ["prune", "--all"],
                r"ID\t+RECLAIMABLE\tSIZE\tLAST ACCESSED\n(\S+ *\t+true *\t+[\d.]+[kM]?B\*?\t+\n)+Total:\t.*B\n",
            ),
            (["prune", "--all", "--verbose"], r"(ID:\t\t\w+\n(\S[^\n]*\n)+\n)+Total:\t.*B\n"),
            (["prune", "--all", "--format", "{{.ID}} {{.Size}}"], r"(\w{25} \d+\n)+"),
        ):
            for tool in (0, 1):  # each prunes what a build of its own left
                daemon.buildctl(*build)
                done = tools.run_one(tool, *words)
                assert (done.returncode, done.stderr) == (0, b"")
                assert re.fullmatch(pattern, done.stdout.decode()), (tool, words, done.stdout)
        daemon.buildctl(*build)
        theirs, ours_locked = tools.run("debug", "dump-metadata", "--root", str(daemon.root))
        assert ours_locked.stdout == theirs.stdout
        assert ours_locked.stderr.startswith(theirs.stderr)
        assert theirs.stderr == b"error: timeout\n"
        daemon.stop()
        dumped = tools.same("debug", "dump-metadata", "--root", str(daemon.root)).stdout.decode(errors="replace")
        assert dumped.count("\n") > 20
        assert 'bucket "_main":' in dumped
