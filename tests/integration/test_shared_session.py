"""Several builds over one session, at once and one after the other; what is uploaded again, and what is not."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from buildkit_client import Client, DockerfileFrontend, OciExporter, OptionError, OutputFile, OutputLayout, SolveError
from buildkit_client.oci.layout import ImageLayout


@pytest.fixture
def folder(services, tmp_path):
    folder = tmp_path / "app"
    (folder / "sub").mkdir(parents=True)
    for number in range(4):
        (folder / f"Dockerfile.{number}").write_text(
            f"FROM {services.base_image}\nCOPY . /app\nRUN sleep 0.5; echo {time.time()} > /service{number}\n"
        )
    for number in range(50):
        (folder / f"sub/f{number}").write_bytes(os.urandom(20_000))
    return folder


def transfers(session, name="context"):
    """Return what each upload of a directory moved: entries, files, bytes.

    Lookups of an ignore file are left out: the folders here have none, so they list nothing.
    """
    return [
        (stats.entries, stats.files, stats.content_bytes)
        for stats in session._attachments._files.transfers
        if stats.name == name and stats.is_complete and stats.entries
    ]


def test_four_builds_at_once_into_one_layout(services, folder, tmp_path):
    layout = tmp_path / "layout"
    barrier = threading.Barrier(4)
    spans = []

    with (
        Client(services.buildkit_host) as client,
        client.open_session(local_dirs={"context": folder, "dockerfile": folder}, layout=layout) as session,
    ):

        def build(number):
            barrier.wait(10)
            begun = time.monotonic()
            result = client.solve(
                DockerfileFrontend(filename=f"Dockerfile.{number}"),
                exporters=[OciExporter(dest=OutputLayout(layout), name=f"example.com/app:service{number}")],
                session=session,
            )
            spans.append((begun, time.monotonic()))
            return result

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(build, range(4)))
        assert session.is_alive
        moved = transfers(session)
    assert not session.is_alive

    assert max(begun for begun, _ in spans) < min(ended for _, ended in spans), "they did not overlap"
    assert len({result.digest for result in results}) == 4
    images = ImageLayout(layout)
    for number, result in enumerate(results):
        assert str(images.find(f"example.com/app:service{number}").digest) == result.digest
    # The daemon runs one upload at a time for one directory, and what the first brought the others need not.
    assert sum(files for _, files, _ in moved) < 2 * 54
    assert [path for path in layout.rglob("*") if "ingest" in path.parts and path.is_file()] == []


def test_an_unchanged_context_moves_only_its_listing(services, folder):
    def build():
        with (
            Client(services.buildkit_host) as client,
            client.open_session(local_dirs={"context": folder, "dockerfile": folder}) as session,
        ):
            client.solve(DockerfileFrontend(filename="Dockerfile.0"), session=session)
            return transfers(session)

    ((entries, files, size),) = build()
    assert (entries, files) == (55, 54)
    assert size >= 50 * 20_000
    ((again_entries, again_files, again_size),) = build()
    assert (again_entries, again_files, again_size) == (entries, 0, 0)

    (folder / "sub/f7").write_bytes(b"changed")
    assert build() == [(entries, 1, 7)]


def test_two_folders_built_in_turn_do_not_take_each_others_place(services, tmp_path):
    """Equal names, sizes and times, different content: each image has its own, and each is uploaded once."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM {services.base_image}\nCOPY name /\nRUN cat /name\n")
        (folder / "name").write_text(folder.name)
        os.utime(folder / "name", (1_700_000_000, 1_700_000_000))
    uploads = []
    with Client(services.buildkit_host) as client:
        for _ in range(3):
            for folder in folders:
                with client.open_session(local_dirs={"context": folder, "dockerfile": folder}) as session:
                    logs = []
                    client.solve(
                        DockerfileFrontend(no_cache=True),
                        session=session,
                        on_status=lambda update, logs=logs: logs.extend(log.data for log in update.logs),
                    )
                    assert b"".join(logs).decode() == folder.name
                    uploads += [(folder.name, files) for _, files, _ in transfers(session)]
    assert [files for _, files in uploads] == [1, 1, 0, 0, 0, 0]


def test_one_failed_build_leaves_the_session_to_the_others(services, folder):
    (folder / "Dockerfile.bad").write_text(f"FROM {services.base_image}\nRUN exit 3\n")
    with (
        Client(services.buildkit_host) as client,
        client.open_session(local_dirs={"context": folder, "dockerfile": folder}) as session,
    ):
        with ThreadPoolExecutor(2) as pool:
            good = pool.submit(client.solve, DockerfileFrontend(filename="Dockerfile.1"), session=session)
            bad = pool.submit(client.solve, DockerfileFrontend(filename="Dockerfile.bad"), session=session)
            with pytest.raises(SolveError) as caught:
                bad.result(60)
            assert caught.value.exit_code == 3
            assert good.result(60).session_id == session.id
        assert session.is_alive
        assert client.solve(DockerfileFrontend(filename="Dockerfile.2"), session=session).ref


def test_what_a_shared_session_cannot_do_is_refused_before_anything_is_sent(services, folder, tmp_path):
    with (
        Client(services.buildkit_host) as client,
        client.open_session(local_dirs={"context": folder, "dockerfile": folder}) as session,
    ):
        with pytest.raises(OptionError, match="cannot send its oci result"):
            client.solve(
                DockerfileFrontend(), exporters=[OciExporter(dest=OutputFile(tmp_path / "x.tar"))], session=session
            )
        with pytest.raises(OptionError, match="no OCI image layout"):
            exporter = OciExporter(dest=OutputLayout(tmp_path / "layout"))
            client.solve(DockerfileFrontend(), exporters=[exporter], session=session)
        with pytest.raises(OptionError, match="belong to the session"):
            client.solve(DockerfileFrontend(), local_dirs={"context": folder}, session=session)
        assert transfers(session) == transfers(session, "dockerfile") == []
