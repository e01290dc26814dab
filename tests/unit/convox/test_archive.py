"""Builds that become files and builds again, on racks with and without a registry."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from buildkit_client.errors import BlobNotFoundError, DigestMismatchError, LayoutError, RegistryError
from buildkit_client.oci import ImageLayout
from convox.archive import import_build, parse_epoch
from convox.errors import ArchiveError, StoreError, UsageError
from convox.images import LayoutImages, RegistryImages, image_store, stored_images
from convox.import_record import ImportSite
from convox.models import Build, BuildStatus, Release, now
from convox.rack import Rack
from convox.store.abandoned import fail_abandoned_builds
from convox.store.logs import read_log
from tests.support.exports import (
    MANIFEST,
    NO_CREDENTIALS,
    DiskRack,
    contents,
    export_file,
    members,
    oci_archive,
    plain_export,
    plain_image,
    record,
    two_services,
)
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import add_image
from tests.support.tars import file, tar


def interrupt(*args: object, **changes: object) -> None:
    raise KeyboardInterrupt


# --- export ---


def test_the_file_is_laid_out_as_convox_does(any_rack: DiskRack) -> None:
    build = two_services(any_rack)
    data = any_rack.export(build)
    found = members(data)
    assert [member.name for member in found] == [
        "build.json",
        "",
        f"web.{build.id}.tar",
        f"worker.{build.id}.tar",
        "build.log",
    ]
    assert [member.isdir() for member in found] == [False, True, False, False, False]
    assert [oct(member.mode) for member in found] == ["0o600", "0o700", "0o644", "0o644", "0o600"]
    assert {(member.uid, member.gid, member.uname, member.gname) for member in found} == {(0, 0, "", "")}
    raw = gzip.decompress(data)
    folder = next(member for member in found if member.isdir())
    assert raw[folder.offset : folder.offset + 100] == bytes(100)  # as Convox has it: no name, not even a slash


def test_the_record_is_written_as_go_writes_it(rack: DiskRack) -> None:
    build = two_services(rack, description="a < b && \u2028 é \ud800")
    text = contents(rack.export(build))["build.json"].decode()
    head = f'{{\n  "id": "{build.id}",\n  "app": "web",\n  "description": '
    assert text.startswith(head + '"a \\u003c b \\u0026\\u0026 \\u2028 é ')
    assert text.endswith("\n}")
    document = json.loads(text)
    assert list(document) == [
        "id",
        "app",
        "description",
        "entrypoint",
        "git-sha",
        "logs",
        "manifest",
        "process",
        "release",
        "reason",
        "repository",
        "status",
        "started",
        "ended",
        "images",
    ]
    assert document["process"] == ""  # the name of the machine stays at home
    assert document["manifest"] == MANIFEST


def test_archives_are_oci_layouts_without_names(any_rack: DiskRack, tmp_path: Path) -> None:
    build = two_services(any_rack)
    for service, digest in build.images.items():
        inner = contents(contents(any_rack.export(build))[f"{service}.tar"])
        index = json.loads(inner["index.json"])
        [entry] = index["manifests"]
        assert set(entry) == {"mediaType", "digest", "size"}
        assert entry["digest"] == digest
        assert f"blobs/sha256/{digest.removeprefix('sha256:')}" in inner


def test_an_export_is_the_same_every_time(any_rack: DiskRack) -> None:
    build = two_services(any_rack)
    first = any_rack.export(build)
    assert any_rack.export(build) == first
    assert {member.mtime for member in members(first)} == {int(build.ended.timestamp())}  # type: ignore[union-attr]


def test_an_epoch_limits_every_time(rack: DiskRack) -> None:
    build = two_services(rack, started=datetime(2000, 1, 1, tzinfo=UTC))
    data = rack.export(build, epoch=1_000_000_000)
    assert {member.mtime for member in members(data)} == {1_000_000_000}
    document = json.loads(contents(data)["build.json"])
    assert (document["started"], document["ended"]) == ("2000-01-01T00:00:00Z", "2001-09-09T01:46:40Z")


@pytest.mark.parametrize(("text", "expected"), [("", None), ("0", 0), ("1700000000", 1_700_000_000)])
def test_epoch(text: str, expected: int | None) -> None:
    assert parse_epoch(text) == expected


@pytest.mark.parametrize("text", ["now", "-1", "1.5", "٣", "9" * 30, " 1"])
def test_a_wrong_epoch(text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        parse_epoch(text)


def test_packing(rack: DiskRack) -> None:
    build = two_services(rack)
    plain = rack.export(build, "none")
    assert gzip.decompress(rack.export(build, "gzip")) == plain
    packed = rack.export(build, "zstd")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == plain
    assert len(packed) < len(plain)


def test_a_build_without_a_log(rack: DiskRack) -> None:
    build = two_services(rack, log=b"")
    assert "build.log" not in contents(rack.export(build))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": BuildStatus.RUNNING}, "it is running"),
        ({"status": BuildStatus.FAILED, "reason": "RUN ended with 1"}, "it failed: RUN ended with 1"),
        ({"images": {}}, "names no images"),
    ],
)
def test_only_complete_builds_are_exported(rack: DiskRack, changes: dict[str, object], why: str) -> None:
    build = two_services(rack, **changes)
    with pytest.raises(ArchiveError, match="cannot be exported") as caught:
        rack.export(build)
    assert why in caught.value.why


def test_an_image_that_is_gone_or_another_one_by_now(rack: DiskRack) -> None:
    build = two_services(rack)
    name = f"localhost/web:web.{build.id}"
    rack.layout.add_image(add_image(rack.layout, [b"other"]), [name])
    with pytest.raises(ArchiveError, match="not the one that was built"):
        rack.export(build)
    rack.layout.remove(name)
    with pytest.raises(ArchiveError, match="is gone"):
        rack.export(build)


def test_a_damaged_blob_is_not_exported(rack: DiskRack) -> None:
    descriptor = add_image(rack.layout, [b"one"])
    build = rack.add_build({"web": descriptor})
    [layer] = rack.layout.read_manifest(descriptor).children[1:]
    path = rack.layout.blob_path(layer.digest)
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LayoutError, match="is damaged"):
        rack.export(build)
    path.unlink()
    with pytest.raises(BlobNotFoundError):
        rack.export(build)


def test_a_blob_of_several_services_is_fetched_once(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "rack", registry=registry.host) as rack:
        shared = add_image(rack.layout, [b"base", b"same"])
        build = rack.add_build(dict.fromkeys(("web", "worker", "timer"), shared))
        registry.seen.clear()
        data = rack.export(build)
        assert len(registry.requests("GET", r"/blobs/")) == 3  # a config and two layers
        archives = [content for name, content in contents(data).items() if name.endswith(".tar")]
        assert len(archives) == 3
        assert len(set(archives)) == 1
        assert rack.leftovers() == []


def test_a_registry_that_sends_other_bytes(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "rack", registry=registry.host) as rack:
        build = two_services(rack)
        for key, data in registry.blobs.items():
            registry.blobs[key] = bytes([data[0] ^ 1]) + data[1:]
        with pytest.raises(DigestMismatchError):
            rack.export(build)


def test_a_connection_that_breaks_goes_on_where_it_broke(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "rack", registry=registry.host) as rack:
        build = rack.add_build({"web": add_image(rack.layout, [bytes(range(256)) * 4000])})
        whole = rack.export(build)
        registry.faults.append(Fault("GET", r"/blobs/", count=2, reset_after=100))
        assert rack.export(build) == whole


# --- import ---


def test_a_build_travels(any_rack: DiskRack, tmp_path: Path) -> None:
    build = two_services(any_rack, log=b"one\n\xff two\n")
    with DiskRack(tmp_path / "second", app="other") as second:
        second.store.create_release(Release(id="RAAAAAAAAAA", app="other", env="A=1\nB=2", created=now()))
        taken, release = second.take(any_rack.export(build))
        assert taken == second.store.get_build("other", taken.id)
        assert taken.id != build.id
        assert taken.status is BuildStatus.COMPLETE
        assert (taken.description, taken.git_sha, taken.entrypoint, taken.manifest) == (
            build.description,
            build.git_sha,
            build.entrypoint,
            build.manifest,
        )
        assert dict(taken.images) == dict(build.images)
        assert taken.repository == "localhost/other"
        assert taken.logs == f"object://other/build/{taken.id}/logs"
        assert build.ended is not None and taken.started is not None and taken.started > build.ended
        assert b"".join(read_log(second.store.logs_dir, "other", taken.id)) == b"one\n\xff two\n"
        assert second.store.latest_release("other") == release
        assert (release.build, release.env, release.manifest, release.description) == (
            taken.id,
            "A=1\nB=2",
            MANIFEST,
            build.description,
        )
        assert taken.release == release.id
        for service, digest in build.images.items():
            found = second.layout.find(f"localhost/other:{service}.{taken.id}")
            assert found is not None and found.digest == digest
            second.layout.verify(found)
        assert second.leftovers() == []


def test_a_build_travels_into_a_registry(any_rack: DiskRack, registry: FakeRegistry, tmp_path: Path) -> None:
    build = two_services(any_rack)
    with DiskRack(tmp_path / "second", registry=registry.host, app="other") as second:
        taken, _ = second.take(any_rack.export(build))
        for service, digest in build.images.items():
            assert registry.tags["other", f"{service}.{taken.id}"] == digest
        assert second.leftovers() == []
        assert list((tmp_path / "second" / "images" / "blobs").glob("*/*")) == []


def test_archives_keep_their_bytes(any_rack: DiskRack, tmp_path: Path) -> None:
    build = two_services(any_rack)
    first = any_rack.export(build, epoch=1_000_000_000)
    with DiskRack(tmp_path / "second", app="other") as second:
        taken, _ = second.take(first)
        again = second.export(taken, epoch=1_000_000_000)
    before, after = contents(first), contents(again)
    assert [one["build"] for one in json.loads(after.pop("releases.json"))] == [taken.id]
    own = {"id", "app", "release", "repository", "logs"}
    shared = [
        {key: value for key, value in json.loads(one.pop("build.json")).items() if key not in own}
        for one in (before, after)
    ]
    assert before == after
    assert shared[0] == shared[1]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_packing_is_told_from_the_bytes(rack: DiskRack, compression: str) -> None:
    build = two_services(rack)
    taken, _ = rack.take(rack.export(build, compression))  # type: ignore[arg-type]
    assert taken.images == build.images


def test_large_blobs_that_are_there_are_not_written_again(
    rack: DiskRack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    big = bytes(range(251)) * (6 << 12)  # gzip makes less of it, so the layer goes in as it is
    descriptor = plain_image(rack.layout, big)
    data = rack.export(rack.add_build({"web": descriptor}, manifest=""))
    written: list[int] = []
    begin_blob = ImageLayout.begin_blob

    def counted(self: ImageLayout, *args: object) -> object:
        writer = begin_blob(self, *args)  # type: ignore[arg-type]
        write = writer.write
        writer.write = lambda chunk: (written.append(len(chunk)), write(chunk))[1]  # type: ignore[assignment]
        return writer

    monkeypatch.setattr(ImageLayout, "begin_blob", counted)
    rack.take(data)
    assert sum(written) < 10_000
    with DiskRack(tmp_path / "empty") as empty:
        empty.take(data)
    assert sum(written) > len(big)


def test_blobs_that_the_registry_has_are_not_sent_again(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "rack", registry=registry.host) as rack:
        build = rack.add_build({"web": plain_image(rack.layout, bytes(5 << 20))}, manifest="")
        data = rack.export(build)
        registry.seen.clear()
        taken, _ = rack.take(data)
        assert registry.tags["web", f"web.{taken.id}"] == build.images["web"]
        assert registry.requests("POST", "/blobs/uploads/") == []


def test_blobs_of_another_app_are_shared_with_it(tmp_path: Path, registry: FakeRegistry) -> None:
    with DiskRack(tmp_path / "one", registry=registry.host) as one:
        data = one.export(two_services(one))
    registry.seen.clear()
    with DiskRack(tmp_path / "two", registry=registry.host, app="other") as two:
        two.take(data)
    assert all("mount=" in seen.query for seen in registry.requests("POST", "/blobs/uploads/"))


@pytest.mark.parametrize("repository", ["", "no repository!", "registry.example.com/web", "UPPER/x", "a" * 300])
def test_the_repository_in_a_file_is_only_a_hint(tmp_path: Path, registry: FakeRegistry, repository: str) -> None:
    with DiskRack(tmp_path / "rack", registry=registry.host) as rack:
        taken, _ = rack.take(plain_export(oci_archive(rack.layout), repository=repository))
        assert taken.status is BuildStatus.COMPLETE


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_a_push_that_fails_fails_the_import(tmp_path: Path, registry: FakeRegistry, status: int) -> None:
    with DiskRack(tmp_path / "rack", registry=registry.host) as rack:
        data = plain_export(oci_archive(rack.layout))
        registry.faults.append(Fault("PUT", r"/(blobs|manifests)/", count=50, status=status))
        with pytest.raises(RegistryError) as caught:
            rack.take(data)
        [build] = rack.store.list_builds("web")
        assert build.status is BuildStatus.FAILED
        assert str(caught.value) in build.reason
        assert rack.store.list_releases("web") == []
        assert registry.tags == {}
        assert rack.leftovers() == []


def test_a_registry_that_cannot_be_reached_leaves_no_record(tmp_path: Path) -> None:
    with DiskRack(tmp_path / "rack") as plain:
        data = plain.export(plain.add_build({"web": plain_image(plain.layout, bytes(5 << 20))}))
    with FakeRegistry() as registry:
        host = registry.host
    with DiskRack(tmp_path / "other", registry=host, app="other") as rack:
        with pytest.raises(RegistryError):
            rack.take(data)
        assert rack.store.list_builds("other") == []


def test_a_store_that_fails_leaves_no_image_behind(rack: DiskRack, monkeypatch: pytest.MonkeyPatch) -> None:
    data = plain_export(oci_archive(rack.layout))

    def refuse(*args: object, **changes: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(type(rack.store), "complete_build", refuse)
    with pytest.raises(StoreError):
        rack.take(data)
    [build] = rack.store.list_builds("web")
    assert (build.status, build.reason) == (BuildStatus.FAILED, "the disk is full")
    assert rack.layout.read_index().manifests == ()


def test_an_import_that_was_killed_is_failed_by_the_next_command(
    rack: DiskRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convox.store import process

    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(process, "current_process_id", lambda: process.process_id(ended.pid))
    monkeypatch.setattr(type(rack.store), "complete_build", interrupt)
    monkeypatch.setattr("convox.import_record._end_failed", lambda *_: None)  # as if the process had died here
    with pytest.raises(KeyboardInterrupt):
        rack.take(plain_export(oci_archive(rack.layout)))
    assert [build.status for build in rack.store.list_builds("web")] == [BuildStatus.RUNNING]
    fail_abandoned_builds(rack.store, "web")
    [build] = rack.store.list_builds("web")
    assert build.status is BuildStatus.FAILED
    assert build.reason


def test_an_interrupt_is_the_reason(rack: DiskRack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(rack.store), "complete_build", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rack.take(plain_export(oci_archive(rack.layout)))
    [build] = rack.store.list_builds("web")
    assert (build.status, build.reason) == (BuildStatus.FAILED, "cancelled")


def test_an_interrupt_after_the_end_changes_nothing(rack: DiskRack, monkeypatch: pytest.MonkeyPatch) -> None:
    from convox.store import new_records

    complete = new_records.complete_build

    def complete_and_interrupt(*args: object, **changes: object) -> None:
        complete(*args, **changes)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(new_records, "complete_build", complete_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        rack.take(plain_export(oci_archive(rack.layout)))
    [build] = rack.store.list_builds("web")
    assert build.status is BuildStatus.COMPLETE
    assert rack.layout.find(f"localhost/web:web.{build.id}") is not None
    rack.export(build)


def test_secrets_do_not_get_into_the_reason(rack: DiskRack, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **changes: object) -> None:
        raise StoreError("https://me:CANARYONE@host says CANARYTWO")

    monkeypatch.setattr(type(rack.store), "complete_build", refuse)
    data = plain_export(oci_archive(rack.layout))
    with rack.images.open_target(NO_CREDENTIALS) as target, pytest.raises(StoreError):
        site = ImportSite(app="web", store=rack.store, repository="localhost/web", target=target, secrets=["CANARYTWO"])
        assert "CANARY" not in repr(site)
        import_build(io.BytesIO(data), site)
    [build] = rack.store.list_builds("web")
    assert "CANARY" not in build.reason


# --- files of Convox, and what was made by hand ---


def test_a_file_of_convox(rack: DiskRack) -> None:
    archive = oci_archive(rack.layout)
    taken, release = rack.take(plain_export(archive, description="as <they> have it", entrypoint="/bin/app"))
    assert (taken.description, taken.entrypoint) == ("as <they> have it", "/bin/app")
    assert list(taken.images) == ["web"]
    assert list(read_log(rack.store.logs_dir, "web", taken.id)) == []
    assert release.manifest == "services:\n  web:\n    build: .\n"


def test_order_and_extra_files_do_not_matter(rack: DiskRack) -> None:
    archive = oci_archive(rack.layout)
    data = export_file(
        file("./build.log", b"log"),
        file("./web.tar", archive),
        file("./README", b"read me"),
        file("./notes.tar.txt", b"x"),
        file("./build.json", record()),
    )
    taken, _ = rack.take(data)
    assert list(taken.images) == ["web"]
    assert b"".join(read_log(rack.store.logs_dir, "web", taken.id)) == b"log"


def test_several_gzip_members_and_skippable_zstd_frames(rack: DiskRack) -> None:
    plain = gzip.decompress(plain_export(oci_archive(rack.layout)))
    half = len(plain) // 2
    rack.take(gzip.compress(plain[:half]) + gzip.compress(plain[half:]))
    skippable = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
    packer = zstandard.ZstdCompressor()
    taken, _ = rack.take(skippable + packer.compress(plain[:half]) + skippable + packer.compress(plain[half:]))
    assert taken.status is BuildStatus.COMPLETE


def test_what_a_record_may_lack_or_have(rack: DiskRack) -> None:
    archive = oci_archive(rack.layout)
    taken, release = rack.take(export_file(file("build.json", b'{"new-field": [1]}'), file("web.B.tar", archive)))
    assert (taken.description, taken.manifest, release.manifest) == ("", "", "")
    nulls = json.dumps(dict.fromkeys(json.loads(record()))).encode()
    taken, _ = rack.take(export_file(file("build.json", nulls), file("web.B.tar", archive)))
    assert taken.status is BuildStatus.COMPLETE
    taken, _ = rack.take(plain_export(archive, description="half a \ud800 character"))
    assert taken.description == "half a \ufffd character"


def test_a_manifest_that_needs_values_is_taken_as_it_is(rack: DiskRack) -> None:
    manifest = "environment:\n  - SECRET_KEY\nservices:\n  web:\n    image: ${IMAGE}\n    environment: [OTHER]\n"
    taken, _ = rack.take(plain_export(oci_archive(rack.layout), manifest=manifest))
    assert taken.manifest == manifest


def test_services_that_values_name(rack: DiskRack) -> None:
    manifest = "services:\n  ${NAME}:\n    build: .\n"
    rack.store.create_release(Release(id="RAAAAAAAAAA", app="web", env="NAME=api", created=now()))
    taken, _ = rack.take(plain_export(oci_archive(rack.layout), service="api", manifest=manifest))
    assert list(taken.images) == ["api"]


def test_a_build_of_some_services(rack: DiskRack) -> None:
    build = rack.add_build({"web": add_image(rack.layout)})  # the manifest has a worker, too
    taken, _ = rack.take(rack.export(build))
    assert list(taken.images) == ["web"]


def test_docker_save_is_taken_too(rack: DiskRack) -> None:
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    saved = tar(
        file("c.json", config),
        file("manifest.json", json.dumps([{"Config": "c.json", "RepoTags": ["web:1"], "Layers": []}]).encode()),
    )
    taken, _ = rack.take(plain_export(saved))
    found = rack.layout.find(f"localhost/web:web.{taken.id}")
    assert found is not None
    assert rack.layout.read_config(found).platform.architecture == "amd64"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"images": {"web": "sha256:" + "0" * 64}}, "another image for service web"),
        ({"images": {"api": "sha256:" + "0" * 64}}, "no image for service api"),
        ({"manifest": "services:\n  api:\n    build: .\n"}, "an image for service web"),
        ({"manifest": "services:\n  web:\n  api:\n"}, "no image for service api"),
        ({"manifest": "- not a manifest"}, "build.json is damaged"),
        ({"manifest": "a: [b"}, "build.json is damaged"),
    ],
)
def test_record_and_images_must_agree(rack: DiskRack, change: dict[str, object], what: str) -> None:
    data = plain_export(oci_archive(rack.layout), **change)
    with pytest.raises(ArchiveError, match=what):
        rack.take(data)
    assert rack.store.list_builds("web") == []


def test_a_file_that_cannot_be_read(rack: DiskRack) -> None:
    from convox.archive_reader import InputFile, open_export

    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ArchiveError, match="cannot read stdin") as caught:
        InputFile(Broken(), "stdin").read(1)  # type: ignore[arg-type]
    assert caught.value.why == "Input/output error"
    for path in (rack.path, rack.path / "nothing"):
        with pytest.raises(ArchiveError, match="cannot read"), open_export(path):
            pass


def test_leftovers_of_a_killed_import_go_with_the_next(any_rack: DiskRack) -> None:
    for parent in ("transfers", "images/ingest"):
        left = any_rack.path / parent / "left"
        left.mkdir(parents=True)
        (left / "blob.part").write_bytes(b"x")
    any_rack.take(plain_export(oci_archive(any_rack.layout)))
    assert len(any_rack.leftovers()) == 1  # of the other kind of rack
    with any_rack.images.open_target(NO_CREDENTIALS):
        before = set(any_rack.leftovers())
        any_rack.take(plain_export(oci_archive(any_rack.layout)))
        assert set(any_rack.leftovers()) == before  # what belongs to an import that runs is left alone


# --- where images are ---


def test_images_of_earlier_builds_are_found_where_they_went(tmp_path: Path) -> None:
    params = {"registry": "registry.example.com/team", "registry_insecure": "true"}
    rack = Rack(name="x", path=tmp_path, params=params)
    here = stored_images(rack, Build(id="B", app="web", repository="registry.example.com/team/web"))
    assert here == image_store(rack, "web")
    assert stored_images(rack, Build(id="B", app="web")) == here
    local = stored_images(rack, Build(id="B", app="web", repository="localhost/web"))
    assert local == LayoutImages("localhost/web", tmp_path / "images")
    other = stored_images(rack, Build(id="B", app="web", repository="old.example.com/web"))
    assert isinstance(other, RegistryImages)
    assert (other.repository, other.is_insecure) == ("old.example.com/web", True)


def test_an_environment_by_name() -> None:
    release = Release(id="R", app="web", env="A=1\nB=x=y\n\n=nothing\nnothing\nC=")
    assert release.environment == {"A": "1", "B": "x=y", "C": ""}


def test_no_secret_of_the_app_is_in_a_file(any_rack: DiskRack) -> None:
    any_rack.store.create_release(Release(id="RAAAAAAAAAA", app="web", env="TOKEN=CANARYENV", created=now()))
    build = two_services(any_rack, process="CANARYHOST:1:2")
    taken, release = any_rack.take(any_rack.export(build))
    assert release.env == "TOKEN=CANARYENV"
    for one in (build, taken):
        assert b"CANARY" not in any_rack.export(one, "none")
