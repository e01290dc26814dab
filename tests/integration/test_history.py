"""The history of a real daemon."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from buildkit_client import Client, DaemonError, DockerfileFrontend, SolveError
from buildkit_client.errors import BlobNotFoundError, NotRecordedError
from tests.support.services import Services

MARK = uuid4().hex  # so that nothing is in the cache yet


@pytest.fixture
def client(services: Services) -> Iterator[Client]:
    with Client(services.buildkit_host) as client:
        yield client


def build(client: Client, folder: Path, dockerfile: str, **attrs: str) -> str:
    """Run a build and return its id."""
    (folder / "Dockerfile").write_text(dockerfile)
    dirs = {"context": folder, "dockerfile": folder}
    with client.start_solve(DockerfileFrontend(attrs=attrs), local_dirs=dirs) as running, suppress(SolveError):
        running.wait()
    return running.ref


@pytest.mark.buildkit(">=0.29")
def test_a_build_that_worked(services: Services, client: Client, tmp_path: Path) -> None:
    dockerfile = f"FROM {services.base_image}\nRUN echo to {MARK}; echo err >&2\nCOPY Dockerfile /x\n"
    history = client.history
    with history.follow(active_only=True) as events:
        ref = build(client, tmp_path, dockerfile)
        kinds = []
        for event in events:
            if event.record.ref == ref:
                kinds.append(event.kind)
                if event.kind == "complete" and event.record.completed_at_ns:
                    break
    assert kinds[0] == "started"
    record = history.get(ref)
    assert (record.ref, record.is_running, record.has_failed) == (ref, False, False)
    assert record.completed_at_ns is not None
    assert record.completed_at_ns > record.created_at_ns > 0
    assert record.completed_steps == record.total_steps >= 5
    assert [one.ref for one in history.list(ref=ref)] == [ref]
    assert ref in [one.ref for one in history.list(limit=40)]
    assert [one.ref for one in history.list([f"ref=={ref}"], limit=1) if not one.is_running] == [ref]
    output = {log.stream: log.data for log in history.logs(ref)}
    assert output == {1: f"to {MARK}\n".encode(), 2: b"err\n"}
    names = {vertex.name for update in history.status(ref) for vertex in update.vertexes}
    assert any(name.startswith("[2/3] RUN echo") for name in names)
    assert history.error(ref) is None
    assert record.logs is not None
    assert len(history.read_blob(record.logs)) == record.logs.size_bytes
    assert history.trace(ref).startswith(b"{")
    assert history.get(ref).trace is not None


@pytest.mark.buildkit(">=0.29")
def test_a_build_that_failed(services: Services, client: Client, tmp_path: Path) -> None:
    ref = build(client, tmp_path, f"FROM {services.base_image}\nRUN echo {MARK}; exit 7\n")
    record = client.history.get(ref)
    assert record.has_failed
    error = client.history.error(ref)
    assert isinstance(error, SolveError)
    assert (error.exit_code, error.snippets[0].ranges) == (7, ((2, 2),))
    assert error.vertex.startswith("sha256:")
    assert record.error_message in str(error)
    assert ref in [one.ref for one in client.history.list(["status==error"], limit=40)]


@pytest.mark.buildkit(">=0.13")
def test_provenance_of_a_build(services: Services, client: Client, tmp_path: Path) -> None:
    attrs = {"attest:provenance": "mode=max"}
    ref = build(client, tmp_path, f"FROM {services.base_image}\nRUN echo {MARK}\n", **attrs)
    found = client.history.provenance(ref)
    # Without an exporter the daemon still says how the result came about.
    assert found is None or "buildDefinition" in found or "buildType" in found


def test_pin_and_delete(services: Services, client: Client, tmp_path: Path) -> None:
    ref = build(client, tmp_path, f"FROM {services.base_image}\nRUN echo {MARK}\n")
    history = client.history
    history.pin(ref)
    assert history.get(ref).is_pinned
    history.unpin(ref)
    assert not history.get(ref).is_pinned
    history.delete(ref)
    with pytest.raises(NotRecordedError):
        history.get(ref)
    assert ref not in [one.ref for one in history.list()]


def test_a_deletion_is_an_event(services: Services, client: Client, tmp_path: Path) -> None:
    ref = build(client, tmp_path, f"FROM {services.base_image}\nRUN echo {MARK}\n")
    with client.history.follow(active_only=True) as events:
        client.history.delete(ref)  # nobody asked for it by its ref: else the daemon says nothing
        assert any(event.kind == "deleted" and event.record.ref == ref for event in events)
    with pytest.raises(NotRecordedError):
        client.history.get(ref)


@pytest.mark.buildkit(">=0.29")
def test_what_is_not_there(client: Client) -> None:
    history = client.history
    with pytest.raises(NotRecordedError):
        history.get("nope")
    with pytest.raises(DaemonError, match="failed to retrieve ref nope"):
        history.pin("nope")
    with pytest.raises(BlobNotFoundError):
        history.read_blob(f"sha256:{'0' * 64}")
    with pytest.raises(DaemonError):
        history.list(["nonsense!"])
    with pytest.raises(DaemonError, match="no such job nope"):
        list(history.status("nope"))


def test_a_record_that_is_not_utf8_hides_no_other(services: Services, client: Client, tmp_path: Path) -> None:
    """Neither buildctl nor the daemon minds such bytes; one record of them must not make the list unreadable."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    locals_ = [f"--local={name}={tmp_path}" for name in ("context", "dockerfile")]
    command = [services.buildctl, "--addr", services.buildkit_host, "build", "--frontend=dockerfile.v0", *locals_]
    command += [b"--opt=label:odd=a\xffb", f"--ref-file={tmp_path}/ref"]
    subprocess.run(command, check=True, capture_output=True)
    ref = (tmp_path / "ref").read_text()
    try:
        records = {record.ref: record for record in client.history.list()}
        assert records[ref].frontend_attrs["label:odd"] == "a\ufffdb"
    finally:
        client.history.delete(ref)


def test_following_is_closed_from_another_thread(client: Client) -> None:
    with client.history.follow(ref="never") as events:
        closing = threading.Timer(0.3, events.close)
        closing.start()
        assert list(events) == []
        closing.join()


def test_a_client_closes_over_streams_that_nobody_reads_to_their_end(services: Services) -> None:
    def watches():
        return [thread for thread in threading.enumerate() if thread.name == "build-liveness"]

    def leave(*, reads):
        with Client(services.buildkit_host) as client:
            left.append(client.history.follow())
            if reads:
                next(left[-1])

    left = []
    for reads in (False, True):
        leave(reads=reads)
        other = threading.Thread(target=leave, kwargs={"reads": reads})
        other.start()
        other.join(10)
        assert not other.is_alive()
    end_s = time.monotonic() + 3
    while watches() and time.monotonic() < end_s:
        time.sleep(0.05)
    assert watches() == []
