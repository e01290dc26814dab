"""``build``: runs one build and shows its progress.

Standard output belongs to the result (a tar stream, when one is asked for), progress and errors go to standard error.
Signals cancel the build on the daemon and let its last messages come in; the third one ends the process.

Reference: cmd/buildctl/build.go, buildAction.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

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
    parse_tls_contexts,
    secret_from,
)
from buildkit_client.cli.connection import open_client
from buildkit_client.cli.console import EXIT_FAILED, EXIT_OK, open_private, write_error, write_out
from buildkit_client.errors import OptionError
from buildkit_client.options import RawFrontend, check_frontend_attrs
from buildkit_client.progress import ClockShift, ProgressDriver, make_progress
from buildkit_client.result_files import metadata_json, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from buildkit_client.cli.flags import Invocation
    from buildkit_client.gateway import Gateway, GatewayResult
    from buildkit_client.llb import Definition
    from buildkit_client.oci.token import HostSecurity, HttpOptions
    from buildkit_client.options import SourcePolicy, SshAgent, SshKeys
    from buildkit_client.progress import StatusUpdate
    from buildkit_client.running import RunningBuild
    from buildkit_client.solve import OnStatus, SolveResult
    from buildkit_client.solve_options import SolveOptions

_FORCED_SIGNALS = 3
_ATTESTATIONS = ("attest:", "build-arg:BUILDKIT_ATTEST_")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What the flags of ``build`` ask for.

    Attributes:
        build: The frontend with every option, or the graph from standard input.
        options: Keywords of the build.
        attrs: All of ``--opt``, which a graph has too: attestations and SOURCE_DATE_EPOCH are not the frontend's alone.
    """

    build: RawFrontend | Definition
    options: SolveOptions
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def wants_gateway(self) -> bool:
        """Whether the build runs through the gateway, as every build of the reference does.

        It makes a difference to sub-requests, whose answer comes no other way, to provenance, which records it, and
        to a graph with attributes. What is left is faster without.
        """
        if not isinstance(self.build, RawFrontend):
            return bool(self.attrs)
        return any(name == "requestid" or name.startswith(_ATTESTATIONS) for name in self.attrs)


def read_request(invocation: Invocation, *, environ: Mapping[str, str], stdin: BinaryIO) -> BuildRequest:
    """Read the flags of ``build``, in the order in which the reference finds their mistakes.

    Args:
        invocation: The flags.
        environ: Completes some of them.
        stdin: Holds the graph when no frontend is named.

    Raises:
        OptionError: One cannot be read, or asks for what this client cannot do.
    """
    stdout = sys.stdout.buffer if sys.stdout is not None else None  # a shell's ">&-" closes it
    logins = parse_tls_contexts(invocation.texts("registry-auth-tlscontext"))
    agents: dict[str, SshAgent | SshKeys] = {}
    for ssh in [parse_ssh(text) for text in invocation.texts("ssh")]:
        if ssh.id in agents:
            raise OptionError(f"duplicate agent ID {json.dumps(ssh.id)}")
        agents[ssh.id] = agent_from(ssh, environ=environ)
    secrets = [parse_secret(text) for text in invocation.texts("secret")]
    options: SolveOptions = {
        "ssh": agents,
        "secrets": {source.id: secret_from(source, environ=environ) for source in secrets},
        "entitlements": [parse_allow(text) for text in invocation.texts("allow")],
        "exporters": [parse_output(text, stdout=stdout) for text in invocation.texts("output")],
        "cache_exports": [
            parse_export_cache(text, environ=environ, warn=_warn) for text in invocation.texts("export-cache")
        ],
        "cache_imports": [
            parse_import_cache(text, environ=environ, warn=_warn) for text in invocation.texts("import-cache")
        ],
        "source_policy": _read_source_policy(invocation.text("source-policy-file")),
        "proxy_network": invocation.is_set("proxy-network"),
        "registry_http": _registry_http(environ, logins),
    }
    attrs = parse_opts(invocation.texts("opt"), environ=environ)
    options["local_dirs"] = parse_locals(invocation.texts("local"))
    options["layouts"] = parse_oci_layouts(invocation.texts("oci-layout"))
    build: RawFrontend | Definition
    if name := invocation.text("frontend"):
        if invocation.is_set("no-cache"):
            attrs["no-cache"] = ""
        check_frontend_attrs(name, attrs, lenient=True)
        build = RawFrontend(name, attrs, unchecked=True)
    else:
        build = _read_definition(stdin, no_cache=invocation.is_set("no-cache"))
    return BuildRequest(build, options, attrs)


def _warn(text: str) -> None:
    write_error(f"warning: {text}\n")


class _ShownWarnings(logging.Handler):
    """Shows what the library warns of, for example a cache that cannot be used; use it as a context manager."""

    def __enter__(self) -> None:
        logging.getLogger("buildkit_client").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("buildkit_client").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        _warn(record.getMessage())


def _registry_http(environ: Mapping[str, str], logins: Mapping[str, HostSecurity]) -> HttpOptions | None:
    """Return how token servers are reached; None, and nothing loaded for it, where nothing is said about that."""
    if not logins and not any(name.lower().endswith("_proxy") for name in environ):
        return None
    from buildkit_client.oci.token import HttpOptions  # noqa: PLC0415

    return HttpOptions.from_environ(environ, hosts=logins)


def _read_source_policy(path: str) -> SourcePolicy | None:
    if not path:
        return None
    from buildkit_client.options import SourcePolicy  # noqa: PLC0415 - few builds have one

    data = Path(path).read_bytes()
    try:
        return SourcePolicy.from_json(data)
    except OptionError as exc:
        raise OptionError(
            f'failed to unmarshal source-policy-file "{path}": {exc}', why=exc.why, hint=exc.hint
        ) from exc


def _read_definition(stdin: BinaryIO, *, no_cache: bool) -> Definition:
    if stat.S_ISCHR(os.fstat(stdin.fileno()).st_mode):  # a terminal, or /dev/null
        raise OptionError(
            "please specify --frontend or pipe LLB definition to stdin", hint="use --frontend dockerfile.v0"
        )
    data = stdin.read()
    if not data:
        raise OptionError("empty definition sent to build. Specify --frontend instead?")
    from buildkit_client.llb import Definition  # noqa: PLC0415 - few builds are graphs

    try:
        definition = Definition.from_bytes(data)
    except OptionError as exc:
        raise OptionError(f"failed to parse input: {exc}", why=exc.why, hint=exc.hint) from exc
    return definition.without_cache() if no_cache else definition


def run(invocation: Invocation) -> int:
    """Run the build."""
    started = time.monotonic()
    with ExitStack() as stack:
        client = stack.enter_context(open_client(invocation))
        stack.enter_context(_ShownWarnings(logging.WARNING))
        listeners: list[Callable[[StatusUpdate], object]] = []
        if trace_path := invocation.text("trace"):
            from buildkit_client.progress import RawJsonProgress  # noqa: PLC0415 - few builds are traced

            trace = stack.enter_context(open_private(Path(trace_path), append=True))
            listeners.append(RawJsonProgress(trace.write).update)
        write_metrics = _metrics_writer(invocation.text("debug-json-cache-metrics"), stack)
        request = read_request(invocation, environ=os.environ, stdin=sys.stdin.buffer)
        if write_metrics is not None:
            from buildkit_client.cli.cache_metrics import CacheMetrics  # noqa: PLC0415 - few builds are measured

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

        answer: dict[str, bytes] = {}
        if request.wants_gateway:
            build = stack.enter_context(client.start_gateway(attrs=request.attrs, **request.options))
            finish: Callable[[OnStatus], SolveResult] = partial(build.run, partial(_ask, request, answer))
        else:
            build = stack.enter_context(client.start_solve(request.build, **request.options))
            finish = build.wait
        stack.callback(_write_ref, invocation.text("ref-file"), build.ref)
        with _cancelled_by_signals(build):
            result = finish(on_status)
        driver.close()
        metadata = result.metadata()
        if (path := invocation.text("metadata-file")) and metadata:
            write_whole(Path(path), metadata_json(metadata))
        if answer:
            write_out(answer_text(answer))
        if write_metrics is not None:
            lines = metrics.lines(duration_s=time.monotonic() - started)
            write_metrics("".join(f"{line}\n" for line in lines))
    return EXIT_OK


def _ask(request: BuildRequest, answer: dict[str, bytes], gateway: Gateway) -> GatewayResult:
    from buildkit_client.local_cache import prepare_caches  # noqa: PLC0415 - most builds need no gateway

    # The build has warned about those that cannot be used.
    caches = prepare_caches(request.options.get("cache_imports", ()), (), warn=lambda _: None)
    result = gateway.solve(request.build, cache_imports=caches.imports)
    if "requestid" in request.attrs:
        answer.update(result.metadata)
    return result


def answer_text(answer: Mapping[str, bytes]) -> str:
    """Return what a sub-request answered, as standard output has it.

    Reference: cmd/buildctl/build.go, the end of buildAction.
    """
    if "result.txt" in answer:
        return answer["result.txt"].decode("utf-8", "replace")
    lines = (
        f"{key}\n{value.decode('utf-8', 'replace')}\n"
        for key, value in sorted(answer.items())
        if key.startswith("result.")
    )
    return "".join(lines)


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
    """Write the build's id, however the build ends; what that ends with counts more than this file."""
    try:
        if path:
            write_whole(Path(path), ref)
    except OSError as exc:
        _warn(f"cannot write the ref file {path}: {exc.strerror}")


def _metrics_writer(target: str, stack: ExitStack) -> Callable[[str], object] | None:
    """Open, before the build, what the cache metrics go to.

    Raises:
        OSError: The file cannot be written.
    """
    match target:
        case "":
            return None
        case "stdout":
            return write_out
        case "stderr":
            return write_error
        case _:
            return stack.enter_context(open_private(Path(target))).write
