"""``build``: runs one build and shows its progress.

Standard output belongs to the result (a tar stream, when one is asked for), progress and errors go to standard error.
Signals cancel the build on the daemon and let its last messages come in; the third one ends the process.

Reference: cmd/buildctl/build.go, buildAction.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.cli.build_options import (
    agent_from,
    parse_allow,
    parse_export_cache,
    parse_import_cache,
    parse_locals,
    parse_oci_layouts,
    parse_opts,
    parse_output,
    parse_secret,
    parse_ssh,
    secret_from,
)
from buildkit_client.cli.cache_metrics import CacheMetrics
from buildkit_client.cli.connection import open_client
from buildkit_client.cli.console import EXIT_FAILED, EXIT_OK, open_private, write_error, write_out
from buildkit_client.errors import OptionError
from buildkit_client.options import RawFrontend
from buildkit_client.progress import ClockShift, ProgressDriver, RawJsonProgress, StatusUpdate, make_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from buildkit_client.cli.flags import Invocation
    from buildkit_client.client import RunningBuild
    from buildkit_client.options import RawCache, RawExporter, Secret, SshAgent

_FORCED_SIGNALS = 3
_NOT_YET = ("oci-layout", "source-policy-file", "proxy-network", "registry-auth-tlscontext")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What the flags of ``build`` ask for.

    Attributes:
        frontend: With every option.
        local_dirs: Directory by name.
        exporters: Where the result goes.
        cache_imports: Caches to use.
        cache_exports: Caches to write.
        entitlements: What the build may do beyond the sandbox.
        secrets: Secret by id.
        ssh: SSH agent by id.
    """

    frontend: RawFrontend
    local_dirs: Mapping[str, Path]
    exporters: Sequence[RawExporter]
    cache_imports: Sequence[RawCache]
    cache_exports: Sequence[RawCache]
    entitlements: Sequence[str]
    secrets: Mapping[str, Secret]
    ssh: Mapping[str, SshAgent]


def read_request(invocation: Invocation, *, environ: Mapping[str, str]) -> BuildRequest:
    """Read the flags of ``build``, in the order in which the reference finds their mistakes.

    Raises:
        OptionError: One cannot be read, or asks for what this client cannot do.
    """

    def warn(text: str) -> None:
        write_error(f"warning: {text}\n")

    ssh = [parse_ssh(text) for text in invocation.texts("ssh")]
    secrets = [parse_secret(text) for text in invocation.texts("secret")]
    entitlements = [parse_allow(text) for text in invocation.texts("allow")]
    exporters = [parse_output(text, stdout=sys.stdout.buffer) for text in invocation.texts("output")]
    exports = [parse_export_cache(text, environ=environ, warn=warn) for text in invocation.texts("export-cache")]
    imports = [parse_import_cache(text, environ=environ, warn=warn) for text in invocation.texts("import-cache")]
    attrs = parse_opts(invocation.texts("opt"), environ=environ)
    local_dirs = parse_locals(invocation.texts("local"))
    parse_oci_layouts(invocation.texts("oci-layout"))
    frontend = invocation.text("frontend")
    if not frontend:
        raise OptionError(
            "please specify --frontend or pipe LLB definition to stdin", hint="use --frontend dockerfile.v0"
        )
    if invocation.is_set("no-cache"):
        attrs["no-cache"] = ""
    _refuse_what_is_missing(invocation, attrs, [*imports, *exports])
    return BuildRequest(
        RawFrontend(frontend, attrs),
        local_dirs,
        exporters,
        imports,
        exports,
        entitlements,
        secrets={source.id: secret_from(source, environ=environ) for source in secrets},
        ssh={source.id: agent_from(source, environ=environ) for source in ssh},
    )


def _refuse_what_is_missing(invocation: Invocation, attrs: Mapping[str, str], caches: Sequence[RawCache]) -> None:
    """Refuse what the flags can say and the client cannot do, rather than build something else than was asked for."""
    names = [f"--{name}" for name in _NOT_YET if invocation.values[name]]
    names += ["a cache of type=local" for cache in caches if cache.type == "local"]
    if "requestid" in attrs:
        names.append("--opt requestid")
    if names:
        raise OptionError(f"{names[0]} is not supported by this version of buildkit-client")


def run(invocation: Invocation) -> int:
    """Run the build."""
    started = time.monotonic()
    with ExitStack() as stack:
        client = stack.enter_context(open_client(invocation))
        listeners: list[Callable[[StatusUpdate], object]] = []
        if trace_path := invocation.text("trace"):
            trace = stack.enter_context(open_private(Path(trace_path), append=True))
            listeners.append(RawJsonProgress(trace.write).update)
        request = read_request(invocation, environ=os.environ)
        metrics = CacheMetrics()
        listeners.append(metrics.update)
        display = make_progress(invocation.text("progress"), sys.stderr, environ=os.environ)
        driver = stack.enter_context(ProgressDriver(display))
        listeners.append(driver.update)
        shift = ClockShift()

        def on_status(update: StatusUpdate) -> None:
            shifted = shift.apply(update)
            for listener in listeners:
                listener(shifted)

        build = stack.enter_context(
            client.start_solve(
                request.frontend,
                local_dirs=request.local_dirs,
                exporters=request.exporters,
                cache_imports=request.cache_imports,
                cache_exports=request.cache_exports,
                entitlements=request.entitlements,
                secrets=request.secrets,
                ssh=request.ssh,
            )
        )
        stack.callback(_write_ref, invocation.text("ref-file"), build.ref)
        with _cancelled_by_signals(build):
            result = build.wait(on_status)
        driver.close()
    if (path := invocation.text("metadata-file")) and result.exporter_response:
        write_whole(Path(path), metadata_json(result.metadata()))
    if target := invocation.text("debug-json-cache-metrics"):
        _write_metrics(target, metrics, time.monotonic() - started)
    return EXIT_OK


@contextmanager
def _cancelled_by_signals(build: RunningBuild) -> Iterator[None]:
    """Let SIGINT and SIGTERM cancel the build, which then ends by itself; the third one ends the process.

    Reference: util/appcontext/appcontext.go.
    """
    count = 0

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count >= _FORCED_SIGNALS:
            write_error(f"got {count} SIGTERM/SIGINTs, forcing shutdown\n")
            os._exit(EXIT_FAILED)
        build.cancel()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _write_ref(path: str, ref: str) -> None:
    if path:
        write_whole(Path(path), ref)


def metadata_json(metadata: Mapping[str, object]) -> str:
    """Write the exporters' answers as the metadata file has them: sorted, indented by two, HTML characters escaped.

    Reference: cmd/buildctl/build.go, writeMetadataFile.
    """
    text = json.dumps(dict(sorted(metadata.items())), indent=2, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
        path.write_text(text, encoding="utf-8")
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_metrics(target: str, metrics: CacheMetrics, duration_s: float) -> None:
    text = "".join(f"{line}\n" for line in metrics.lines(duration_s=duration_s))
    if target == "stdout":
        write_out(text)
    elif target == "stderr":
        write_error(text)
    else:
        with open_private(Path(target)) as file:
            file.write(text)
