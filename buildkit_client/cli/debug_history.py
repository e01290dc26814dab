"""``debug histories|monitor|logs|ctl|get`` and ``prune-histories``: past builds, and what they left.

Reference: cmd/buildctl/debug/histories.go, monitor.go, logs.go, ctl.go and get.go; cmd/buildctl/prunehistories.go.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from buildkit_client.cli.connection import open_client
from buildkit_client.cli.console import EXIT_OK, CommandError, output, write_out, write_pieces
from buildkit_client.cli.go_messages import go_message, message_text
from buildkit_client.cli.tabwriter import tabulate
from buildkit_client.cli.template import Template
from buildkit_client.errors import BlobNotFoundError, BuildKitError, DaemonError, OptionError
from buildkit_client.progress import ProgressDriver, make_progress
from buildkit_client.transport.status import code_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from buildkit_client._proto import control_pb2
    from buildkit_client.cli.flags import Invocation
    from buildkit_client.records import BuildEvent

_HEAD = "TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION"
_TYPES = ("STARTED", "COMPLETE", "DELETED")
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")  # opencontainers/go-digest, digest.go
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}


def run_histories(invocation: Invocation) -> int:
    """Print the builds that the daemon remembers."""
    with open_client(invocation) as client, _stream_errors(), client.history.follow(is_live=False) as events:
        _print_events(invocation, events, _HEAD + "\tPINNED", _row_with_pin)
    return EXIT_OK


def run_prune_histories(invocation: Invocation) -> int:
    """Remove every record that is not pinned, and print them as they go."""
    failed: list[str] = []
    with open_client(invocation) as client:

        def removed(events: Iterable[BuildEvent]) -> Iterator[BuildEvent]:
            for event in events:
                if event.record.is_pinned:
                    continue
                try:
                    client.history.delete(event.record.ref)
                except DaemonError as exc:
                    failed.append(str(exc))
                else:
                    yield event

        with _stream_errors(), client.history.follow(is_live=False) as events:
            _print_events(invocation, removed(events), _HEAD, _row)
    if failed:
        raise _refused("\n".join(failed))
    return EXIT_OK


def run_monitor(invocation: Invocation) -> int:
    """Print what happens to builds until interrupted."""
    with (
        open_client(invocation) as client,
        _stream_errors(),
        client.history.follow(ref=invocation.text("ref"), active_only=not invocation.is_set("completed")) as events,
    ):
        for event in events:
            write_out("".join(f"{line}\n" for line in monitor_lines(event.message)))
    raise _refused("EOF")


def run_logs(invocation: Invocation) -> int:
    """Print a build's progress, or its trace."""
    ref = _argument(invocation, "build ref must be specified")
    with open_client(invocation) as client, _stream_errors():
        if invocation.is_set("trace"):
            _write_bytes([client.history.trace(ref)])
            return EXIT_OK
        display = make_progress(invocation.text("progress"), output(), environ=os.environ)
        with ProgressDriver(display) as driver:
            for update in client.history.status(ref):
                driver.update(update)
    return EXIT_OK


def run_ctl(invocation: Invocation) -> int:
    """Pin, unpin or delete a build's record."""
    ref = _argument(invocation, "build ref must be specified")
    pins, unpins, deletes = (invocation.is_set(name) for name in ("pin", "unpin", "delete"))
    if not (pins or unpins or deletes):
        raise OptionError("must specify one of --pin, --unpin, --delete")
    if pins and unpins:
        raise OptionError("cannot specify both --pin and --unpin")
    if deletes and (pins or unpins):
        raise OptionError("cannot specify --delete with --pin or --unpin")
    with open_client(invocation) as client:
        change = client.history.delete if deletes else client.history.pin if pins else client.history.unpin
        try:
            change(ref)
        except DaemonError as exc:
            raise _refused(str(exc)) from exc
    return EXIT_OK


def run_get(invocation: Invocation) -> int:
    """Write a blob of the daemon's content store to standard output."""
    digest = _argument(invocation, "blob digest must be specified")
    _check_digest(digest)
    with open_client(invocation) as client, _stream_errors():
        try:
            _write_bytes(client.history.stream_blob(digest))
        except BlobNotFoundError as exc:
            raise _refused(f"NotFound: {exc.why}") from exc
    return EXIT_OK


# -- what is printed -------------------------------------------------------------------------------------------


def _print_events(
    invocation: Invocation, events: Iterable[BuildEvent], head: str, row: Callable[[BuildEvent], str]
) -> None:
    if form := invocation.text("format"):
        template = Template(form)
        for event in events:
            write_pieces(template.lines(go_message(event.message)))
        return
    pending = [head]  # the head is aligned with the first row, later rows each for themselves
    for event in events:
        write_out(tabulate([*pending, row(event)]))
        pending = []
    write_out(tabulate(pending) if pending else "")


def _row(event: BuildEvent) -> str:
    record, message = event.record, event.message.record
    created = _local_time(record.created_at_ns) if message.HasField("CreatedAt") else ""
    completed = "" if record.completed_at_ns is None else _local_time(record.completed_at_ns)
    return "\t".join((_TYPES[event.message.type], record.ref, created, completed, str(record.generation)))


def _row_with_pin(event: BuildEvent) -> str:
    return f"{_row(event)}\t{'*' if event.record.is_pinned else ''}"


def _local_time(moment_ns: int) -> str:
    text = datetime.fromtimestamp(moment_ns // 1_000_000_000).astimezone().isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def monitor_lines(event: control_pb2.BuildHistoryEvent) -> list[str]:
    """What ``debug monitor`` prints about an event."""
    record = event.record
    lines = [f"event: {_TYPES[event.type]} ref:{record.Ref}"]
    if record.numTotalSteps:
        lines.append(f"  cache: {record.numCachedSteps}/{record.numTotalSteps}")
    if record.numWarnings:
        lines.append(f"  warnings: {record.numWarnings}")
    lines += [f"  {name}: {message_text(getattr(record, name))}" for name in ("logs", "trace") if record.HasField(name)]
    if record.HasField("Result"):
        lines += _result_lines("", record.Result)
    for key in sorted(record.Results):
        lines += _result_lines(f"[{key}] ", record.Results[key])
    return lines


def _result_lines(mark: str, info: control_pb2.BuildResultInfo) -> Iterator[str]:
    descriptors = [info.Results[number] for number in sorted(info.Results)]
    if not descriptors and info.HasField("ResultDeprecated"):
        descriptors = [info.ResultDeprecated]
    yield from (f"  {mark}descriptor: {message_text(one)}" for one in descriptors)
    yield from (f"  {mark}attestation: {message_text(one)}" for one in info.Attestations)


def _write_bytes(chunks: Iterable[bytes]) -> None:
    stream = output().buffer
    for chunk in chunks:
        stream.write(chunk)
    stream.flush()


# -- arguments and errors --------------------------------------------------------------------------------------


def _argument(invocation: Invocation, missing: str) -> str:
    if not invocation.arguments:
        raise OptionError(missing)
    return invocation.arguments[0]


def _check_digest(text: str) -> None:
    """Refuse what is no digest, with the reference's words.

    Reference: github.com/opencontainers/go-digest, digest.go, Validate.
    """
    algorithm, _, encoded = text.partition(":")
    if not _DIGEST.fullmatch(text):
        raise OptionError("invalid checksum digest format")
    if algorithm not in _HEX_DIGITS:
        raise OptionError("unsupported digest algorithm")
    if len(encoded) != _HEX_DIGITS[algorithm]:
        raise OptionError("invalid checksum digest length")
    if not re.fullmatch("[0-9a-f]+", encoded):
        raise OptionError("invalid checksum digest format")


def _refused(text: str) -> CommandError:
    return CommandError(BuildKitError(text), "")


@contextmanager
def _stream_errors() -> Iterator[None]:
    """Word errors of streams as the reference does; SIGTERM ends a stream as SIGINT does."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except DaemonError as exc:
        details = exc.details
        raise _refused(f"rpc error: code = {code_name(details.code)} desc = {details.message}") from exc
    except KeyboardInterrupt as exc:
        raise _refused("rpc error: code = Canceled desc = context canceled") from exc
    finally:
        signal.signal(signal.SIGTERM, previous)
