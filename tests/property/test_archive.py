"""Builds that travel as files: what goes in comes out, whatever the images, the texts and the packing."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buildkit_client.oci import DecompressedReader
from convox.archive_file import COMPRESSIONS, Compression
from convox.archive_record import parse_record, record_bytes
from convox.errors import ConvoxError
from convox.models import Build
from convox.store.logs import read_log
from tests.support.exports import DiskRack, export_file
from tests.support.images import add_image, add_index
from tests.support.tars import file

EPOCH = 1_000_000_000

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
SERVICES = st.from_regex(r"\A[a-z][a-z0-9-]{0,15}\Z")
LAYERS = st.lists(st.sampled_from([b"base", b"shared"]) | st.binary(max_size=300), max_size=3)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))


@pytest.fixture(scope="module")
def racks() -> Iterator[tuple[DiskRack, DiskRack]]:
    """Two racks, in memory where that can be had: every record is an fsync."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder,
        DiskRack(Path(folder, "first")) as first,
        DiskRack(Path(folder, "second"), app="other") as second,
    ):
        yield first, second


def contents(data: bytes, build: Build) -> dict[str, bytes]:
    """Return the files of an export, by names without the build's id."""
    with tarfile.open(fileobj=io.BytesIO(DecompressedReader(io.BytesIO(data)).read())) as archive:
        return {
            member.name.replace(build.id, "ID"): stream.read()
            for member in archive.getmembers()
            if (stream := archive.extractfile(member)) is not None
        }


@st.composite
def builds(draw: st.DrawFn) -> dict[str, object]:
    """What a record may hold, besides its images."""
    return {
        "description": draw(TEXTS),
        "entrypoint": draw(TEXTS),
        "git_sha": draw(TEXTS),
        "started": draw(TIMES),
        "ended": draw(TIMES),
        "log": draw(st.binary(max_size=2000)),
    }


IMAGES = st.tuples(st.lists(LAYERS, min_size=1, max_size=2), st.booleans())


@given(st.dictionaries(SERVICES, IMAGES, min_size=1, max_size=3), builds(), st.sampled_from(COMPRESSIONS))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(
    racks: tuple[DiskRack, DiskRack],
    services: dict[str, tuple[list[list[bytes]], bool]],
    fields: dict[str, object],
    compression: Compression,
) -> None:
    first, second = racks
    images = {}
    for service, (platforms, is_nested) in services.items():
        descriptors = [add_image(first.layout, layers) for layers in platforms]
        is_index = is_nested or len(descriptors) > 1
        images[service] = add_index(first.layout, *descriptors) if is_index else descriptors[0]
    manifest = "services:\n" + "".join(f"  {service}:\n    build: .\n" for service in sorted(services))
    build = first.add_build(images, manifest=manifest, **fields)  # type: ignore[arg-type]
    data = first.export(build, compression, EPOCH)
    taken, release = second.take(data)

    assert dict(taken.images) == dict(build.images)
    for name in ("description", "entrypoint", "git_sha", "manifest"):
        assert getattr(taken, name) == getattr(build, name)
    assert (release.manifest, release.description) == (manifest, build.description)
    assert b"".join(read_log(second.store.logs_dir, "other", taken.id)) == fields["log"]
    for service in services:
        found = second.layout.find(f"localhost/other:{service}.{taken.id}")
        assert found is not None
        second.layout.verify(found)

    again = second.export(taken, compression, EPOCH)
    assert second.export(taken, compression, EPOCH) == again
    before, after = contents(data, build), contents(again, taken)
    assert [one["id"] for one in json.loads(after.pop("releases.json"))] == [release.id]
    own = {"id": "", "app": "", "release": "", "repository": "", "logs": ""}
    for each in (before, after):
        document = json.loads(each["build.json"])
        times_of_it = {key: document[key] for key in ("started", "ended")}
        assert max(times_of_it.values()) <= "2001-09-09T01:46:40Z"
        each["build.json"] = json.dumps({**document, **own, "started": "", "ended": ""}).encode()
    assert before == after
    for service in services:  # else the index gets longer with every example
        first.layout.remove(f"localhost/web:{service}.{build.id}")
        second.layout.remove(f"localhost/other:{service}.{taken.id}")


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_of_a_record_comes_back(description: str, manifest: str) -> None:
    build = Build(id="BAAAAAAAAAA", app="web", description=description, manifest=manifest)
    try:
        record = parse_record(record_bytes(build, {}))
    except ConvoxError:
        assert "\0" in description + manifest
        return
    sane = [text.encode("utf-8", "replace").decode() for text in (description, manifest)]
    assert [record.description, record.manifest] == sane


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "id",
        "app",
        "description",
        "entrypoint",
        "git-sha",
        "manifest",
        "release",
        "repository",
        "started",
        "ended",
        "images",
    ]
)


@given(st.dictionaries(FIELDS | st.text(max_size=8), JSON, max_size=6))
@settings(max_examples=500, deadline=None)
def test_any_record_is_read_or_refused(document: dict[str, object]) -> None:
    try:
        record = parse_record(json.dumps(document).encode())
    except ConvoxError as exc:
        assert exc.why
    else:
        assert isinstance(record.description, str)
        # What nobody here knows comes back; halves of characters, which UTF-8 does not have, come back as others.
        again = parse_record(record_bytes(Build(id="B", app="a"), record.others))
        assert sane(again.others) == sane(record.others)


def sane(value: object) -> object:
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


@given(st.binary(max_size=3000))
@example(b"")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused(racks: tuple[DiskRack, DiskRack], data: bytes) -> None:
    _, second = racks
    for export in (
        data,
        export_file(data),
        export_file(file("build.json", data)),
        export_file(file("web.B.tar", data)),
    ):
        with pytest.raises(ConvoxError):
            second.take(export)
    assert second.leftovers() == []
