"""Exports in both forms, what travels along with images, and what an import sends and in which order."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from buildkit_client.errors import RegistryError
from buildkit_client.oci import OciArchive
from convox.archive import import_build
from convox.archive_file import ExportFormat
from convox.archive_reader import read_header
from convox.errors import ArchiveError, StoreError
from convox.import_record import ImportSite
from convox.models import Release, now
from convox.store.logs import read_log
from tests.support.exports import (
    MANIFEST,
    NO_CREDENTIALS,
    DiskRack,
    contents,
    contents_as_they_are,
    export_file,
    members,
    oci_archive,
    plain_export,
    plain_image,
    record,
    two_services,
)
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import add_image, add_platforms
from tests.support.tars import file, tar


def test_what_nobody_here_knows_travels_on(rack: DiskRack, tmp_path: Path) -> None:
    """Through two racks: unknown fields and the releases of every place, newest first, each once."""
    extra: dict[str, Any] = {"labels": {"team": "web", "n": [1, 2.5, None, True]}, "Zone": "a < b", "x-size": 10**50}
    first, release = rack.take(plain_export(oci_archive(rack.layout), **extra))
    rack.store.create_release(Release(id="RBBBBBBBBBB", app="web", build=first.id, env="S=secret", created=now()))
    rack.store.create_release(Release(id="RCCCCCCCCCC", app="web", build="BOTHEROTHER", created=now()))
    data = rack.export(first)
    assert b"secret" not in gzip.decompress(data)
    with DiskRack(tmp_path / "second", app="other") as second:
        taken, _ = second.take(data)
        again = contents(second.export(taken))
        assert (second.path / "logs" / "other" / f"{taken.id}.kept.json").stat().st_mode & 0o777 == 0o600
    document = json.loads(again["build.json"])
    assert list(document)[-3:] == list(extra)
    assert {key: document[key] for key in extra} == extra
    releases = json.loads(again["releases.json"])
    assert [one["id"] for one in releases] == [taken.release, "RBBBBBBBBBB", release.id]
    assert {tuple(one) for one in releases} == {("id", "app", "build", "description", "created")}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[", "it is not JSON"),
        (b"{}", "it is not a list of releases"),
        (b"[1]", "it is not a list of releases"),
        (b'[{"id": 1}]', "its field id is not a text"),
        (json.dumps([{}] * 1001).encode(), "it has more than 1000 releases"),
    ],
)
def test_damaged_releases(rack: DiskRack, data: bytes, why: str) -> None:
    members = [file("build.json", record()), file("web.BAAAAAAAAAA.tar", oci_archive(rack.layout))]
    with pytest.raises(ArchiveError, match=r"releases\.json is damaged") as caught:
        rack.take(export_file(*members, file("releases.json", data)))
    assert caught.value.why.startswith(why)


def test_releases_bring_no_environment(rack: DiskRack) -> None:
    members = [file("build.json", record()), file("web.BAAAAAAAAAA.tar", oci_archive(rack.layout))]
    releases = json.dumps([{"id": "RAAAAAAAAAA", "env": "A=1", "created": "2026-03-10T12:00:00Z"}]).encode()
    taken, _ = rack.take(export_file(*members, file("releases.json", releases)))
    assert json.loads(contents(rack.export(taken))["releases.json"])[1] == {
        "id": "RAAAAAAAAAA",
        "created": "2026-03-10T12:00:00Z",
    }


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fields": 1, "releases": []}'])
def test_what_was_kept_is_damaged(rack: DiskRack, content: str) -> None:
    build = two_services(rack)
    (rack.path / "logs" / "web" / f"{build.id}.kept.json").write_text(content)
    with pytest.raises(StoreError, match="is damaged"):
        rack.export(build)


@pytest.mark.parametrize(("depth", "is_taken"), [(90, True), (99, True), (101, False), (5000, False)])
def test_nesting_of_unknown_fields(rack: DiskRack, depth: int, is_taken: bool) -> None:
    nested = b"[" * depth + b"1" + b"]" * depth
    text = record().replace(b'"status"', b'"deep": ' + nested + b', "status"')
    data = export_file(file("build.json", text), file("web.BAAAAAAAAAA.tar", oci_archive(rack.layout)))
    if is_taken:
        assert b'"deep"' in contents(rack.export(rack.take(data)[0]))["build.json"]
    else:
        with pytest.raises(ArchiveError, match="damaged"):
            rack.take(data)


# --- one image layout for all services ---


def test_the_form_of_an_image_layout(any_rack: DiskRack) -> None:
    build = two_services(any_rack)
    data = any_rack.export(build, "none", file_format="oci")
    found = contents_as_they_are(data)
    index = json.loads(found["index.json"])
    assert [one["annotations"] for one in index["manifests"]] == [
        {
            "io.containerd.image.name": f"{build.repository}:{service}.{build.id}",
            "org.opencontainers.image.ref.name": service,
        }
        for service in ("web", "worker")
    ]
    assert [one["digest"] for one in index["manifests"]] == [build.images["web"], build.images["worker"]]
    names = [member.name for member in members(data)]
    assert names[:4] == ["build.json", "oci-layout", "index.json", "blobs"]
    assert names[-1] == "build.log"
    assert len(names) == len(set(names))
    assert any_rack.export(build, "none", file_format="oci") == data


def test_a_shared_blob_is_there_once(any_rack: DiskRack) -> None:
    big = plain_image(any_rack.layout, bytes(range(256)) * 4000)
    build = any_rack.add_build(dict.fromkeys(("web", "worker"), big))
    assert len(any_rack.export(build, "none", file_format="oci")) < 1.1 * 256 * 4000
    assert len(any_rack.export(build, "none")) > 2 * 256 * 4000


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_image_layout_travels(any_rack: DiskRack, tmp_path: Path, compression: str) -> None:
    build = two_services(any_rack, log=b"a log\n")
    data = any_rack.export(build, compression, file_format="oci")  # type: ignore[arg-type]
    with DiskRack(tmp_path / "second", app="other") as second:
        taken, _ = second.take(data)
        assert dict(taken.images) == dict(build.images)
        assert b"".join(read_log(second.store.logs_dir, "other", taken.id)) == b"a log\n"
        for service, digest in build.images.items():
            found = second.layout.find(f"localhost/other:{service}.{taken.id}")
            assert found is not None and found.digest == digest
            second.layout.verify(found)
        assert second.leftovers() == []
        # And from one form into the other.
        assert contents(second.export(taken))["web.tar"] == contents(any_rack.export(build))["web.tar"]


def test_an_image_layout_of_another_tool(rack: DiskRack) -> None:
    """Its images have bare tags, as skopeo writes them."""
    images = {"web": add_image(rack.layout, [b"web"]), "worker": add_platforms(rack.layout)}
    out = io.BytesIO()
    tagged = [
        image.with_annotations({"org.opencontainers.image.ref.name": service}) for service, image in images.items()
    ]
    OciArchive(rack.layout, tagged[0], others=tagged[1:]).write(out)
    data = tar(file("build.json", record(manifest=MANIFEST)), end=b"") + out.getvalue()
    taken, _ = rack.take(data)
    assert dict(taken.images) == {service: str(image.digest) for service, image in images.items()}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([""], "for no service"),
        (["Web"], "for no service"),
        (["localhost/x@sha256:" + "0" * 64], "for no service"),
        (["web", "x/y:web.B"], "two images for service web"),
        (["other"], "an image for service other"),
    ],
)
def test_image_layouts_with_wrong_names(rack: DiskRack, names: list[str], complaint: str) -> None:
    image = add_image(rack.layout)
    tagged = [image.with_annotations({"org.opencontainers.image.ref.name": name} if name else {}) for name in names]
    out = io.BytesIO()
    OciArchive(rack.layout, tagged[0], others=tagged[1:]).write(out)
    with pytest.raises(ArchiveError, match=complaint):
        rack.take(tar(file("build.json", record()), end=b"") + out.getvalue())
    assert rack.leftovers() == []


def test_an_image_layout_beside_an_archive(rack: DiskRack) -> None:
    out = io.BytesIO()
    image = add_image(rack.layout).with_annotations({"org.opencontainers.image.ref.name": "web"})
    OciArchive(rack.layout, image).write(out)
    archive = file("web.BAAAAAAAAAA.tar", oci_archive(rack.layout))
    with pytest.raises(ArchiveError, match="two images for service web"):
        rack.take(tar(file("build.json", record()), archive, end=b"") + out.getvalue())


@pytest.mark.parametrize("missing", ["oci-layout", "index.json", "blobs/"])
def test_an_incomplete_image_layout(rack: DiskRack, missing: str) -> None:
    build = two_services(rack)
    kept = {
        name: data
        for name, data in contents_as_they_are(rack.export(build, "none", file_format="oci")).items()
        if not name.startswith(missing)
    }
    with pytest.raises(ArchiveError):
        rack.take(tar(*(file(name, data) for name, data in kept.items())))
    assert rack.leftovers() == []


# --- the beginning of a file ---


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("file_format", ["convox", "oci"])
def test_the_header_is_read_without_the_rest(rack: DiskRack, compression: str, file_format: str) -> None:
    build = rack.add_build({"web": plain_image(rack.layout, os.urandom(3 << 20))})
    stream = io.BytesIO(rack.export(build, compression, file_format=file_format))  # type: ignore[arg-type]
    found = read_header(stream)
    assert (found.id, found.app, found.images, found.started) == (build.id, "web", build.images, build.started)
    assert stream.tell() < 1 << 20


def test_a_file_without_a_header(rack: DiskRack) -> None:
    for data in (b"", b"nothing", export_file(file("x", b"")), export_file(file("build.json", b"["))):
        with pytest.raises(ArchiveError):
            read_header(io.BytesIO(data))


# --- what is sent ---


def test_tags_come_last(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "one") as one:
        data = one.export(two_services(one))
    with DiskRack(tmp_path / "two", registry=registry.host) as two:
        registry.faults.append(Fault("PUT", r"/manifests/worker\.", status=403))
        with pytest.raises(RegistryError):
            two.take(data)
        # Only the other tag, since the last step of all was refused.
        assert [tag.partition(".")[0] for _, tag in registry.tags] == ["web"]
        tagged = [seen.path for seen in registry.requests("PUT", r"/manifests/[a-z]+\.B")]
        assert len(tagged) == 2
        puts = [seen.path for seen in registry.seen if seen.method in ("PUT", "POST", "PATCH")]
        assert puts[-2:] == tagged


@pytest.mark.parametrize("path", [r"/blobs/uploads", r"/manifests/sha256"])
@pytest.mark.parametrize("number", [1, 3])
def test_an_import_that_fails_leaves_no_tag(tmp_path: Path, registry: FakeRegistry, path: str, number: int) -> None:
    with DiskRack(tmp_path / "one") as one:
        data = one.export(two_services(one))
    with DiskRack(tmp_path / "two", registry=registry.host) as two:
        registry.faults.append(Fault("PUT", path, count=number - 1, delay_s=0.001))
        registry.faults.append(Fault("PUT", path, count=50, status=403))
        before = set(threading.enumerate())
        with pytest.raises(RegistryError):
            two.take(data)
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith(("push-ahead-", "transfer-")):
                thread.join(10)  # nobody waits for what still sends after an error
                assert not thread.is_alive(), thread.name
        assert registry.tags == {}
        registry.faults.clear()
        registry.seen.clear()
        had = len(registry.blobs)
        taken, _ = two.take(data)
        assert len(registry.requests("POST", "/blobs/uploads/")) == len(registry.blobs) - had
        assert {tag for _, tag in registry.tags} == {f"{service}.{taken.id}" for service in ("web", "worker")}


@pytest.mark.parametrize("file_format", ["convox", "oci"])
def test_large_blobs_are_sent_while_the_file_is_read(
    tmp_path: Path, registry: FakeRegistry, file_format: ExportFormat
) -> None:
    """So also when the file turns out to be damaged; but nothing names them then."""
    with DiskRack(tmp_path / "one") as one:
        image = plain_image(one.layout, os.urandom(5 << 20))
        data = one.export(one.add_build({"web": image}, manifest=""), "none", file_format=file_format)
    with DiskRack(tmp_path / "two", registry=registry.host) as two:
        taken, _ = two.take(data)
        assert registry.tags["web", f"web.{taken.id}"] == image.digest
        assert two.leftovers() == []
    registry.tags.clear()
    registry.manifests.clear()
    registry.blobs.clear()
    with DiskRack(tmp_path / "three", registry=registry.host) as three:
        with pytest.raises(ArchiveError):
            three.take(data[:-2000] + b"x" * 2000)
        assert (registry.tags, registry.manifests) == ({}, {})
        assert three.store.list_apps() == []
        assert three.leftovers() == []


def test_large_blobs_of_another_app_are_shared_with_it(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "one", registry=registry.host) as one:
        image = plain_image(one.layout, os.urandom(5 << 20))
        data = one.export(one.add_build({"web": image}, manifest=""))
    registry.seen.clear()
    with DiskRack(tmp_path / "two", registry=registry.host, app="other") as two:
        two.take(data)
    assert registry.requests("POST", "/blobs/uploads/")
    assert all("mount=" in seen.query for seen in registry.requests("POST", "/blobs/uploads/"))


def test_what_was_sent_is_counted(any_rack: DiskRack, tmp_path: Path) -> None:
    image = plain_image(any_rack.layout, bytes(5 << 20))
    data = any_rack.export(any_rack.add_build({"web": image, "worker": image}))
    with any_rack.images.open_target(NO_CREDENTIALS) as target:
        site = ImportSite(app="web", store=any_rack.store, repository=any_rack.images.repository, target=target)
        import_build(io.BytesIO(data), site)
        assert target.tally.sent_bytes == 0
        assert target.tally.kept_bytes >= 5 << 20
    with DiskRack(tmp_path / "empty") as empty, empty.images.open_target(NO_CREDENTIALS) as target:
        site = ImportSite(app="web", store=empty.store, repository=empty.images.repository, target=target)
        import_build(io.BytesIO(data), site)
        assert target.tally.sent_bytes >= 5 << 20
        assert target.tally.kept_bytes == 0
