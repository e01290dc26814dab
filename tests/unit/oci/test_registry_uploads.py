"""The registry client sends blobs: whole, in pieces, mounted, and again where that broke."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from buildkit_client.errors import (
    LayoutError,
    RegistryError,
)
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.token import HttpOptions
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.registry_client import BLOB, LAYER, Maker, other, push


def test_push_blob(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    assert push(connect(), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert [one.method for one in registry.seen if "uploads" in one.path] == ["POST", "PUT"]
    assert push(connect(), other(ref), b"")


def test_blob_that_is_there_is_not_sent(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    assert not push(connect(), ref)
    assert not registry.requests("POST", ".")


def test_upload_to_a_full_url(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.absolute_locations = True
    assert push(connect(), other(ref))


@pytest.mark.parametrize("size", [1, 100_000, 150_000, 300_000, 1_000_000])
def test_chunked_upload(connect: Maker, registry: FakeRegistry, ref: Reference, size: int) -> None:
    size = max(size, 10_000)
    assert push(connect(chunk_bytes=size), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert len(registry.requests("PATCH", ".")) == -(-len(BLOB) // size)


def test_least_chunk_size_is_kept(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.min_chunk = 120_000
    assert push(connect(chunk_bytes=1000), other(ref))
    assert len(registry.requests("PATCH", ".")) == 3


def test_registry_that_takes_no_large_body(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.monolithic_limit = 1000
    assert push(connect(), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB


def test_mount(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    assert not push(connect(), other(ref), mount_from=ref)
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert not registry.requests("PUT", ".")


def test_mount_that_is_refused(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.mounts = False
    assert push(connect(), other(ref), mount_from=ref)
    registry.faults.append(Fault("POST", "mount=", status=403))
    assert push(connect(), other(ref, "newer"), mount_from=ref)
    assert registry.blobs["newer", LAYER.digest] == BLOB


def test_mount_asks_for_both_scopes(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.auth = "bearer"
    assert not push(connect(registry.login), other(ref), mount_from=ref)
    assert {"repository:app:pull", "repository:new:pull,push"} in registry.scopes_asked


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "uploads", status=503),
        Fault("POST", "uploads", status=429, headers={"Retry-After": "3"}),
        Fault("POST", "uploads", reset_after=-1),
        Fault("PUT", "uploads", status=500),
        Fault("PUT", "uploads", status=502, count=2),
        Fault("PUT", "uploads", status=404),
        Fault("PUT", "uploads", reset_after=-1),
        Fault("PUT", "uploads", reset_after=0),
    ],
    ids=lambda fault: f"{fault.method} {fault.status} {fault.reset_after}",
)
def test_broken_upload_is_started_anew(connect: Maker, registry: FakeRegistry, ref: Reference, fault: Fault) -> None:
    registry.faults.append(fault)
    assert push(connect(), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB


@pytest.mark.parametrize("fault", [Fault("PATCH", "uploads", status=500), Fault("PATCH", "uploads", reset_after=-1)])
def test_broken_chunk_is_started_anew(connect: Maker, registry: FakeRegistry, ref: Reference, fault: Fault) -> None:
    registry.faults.append(fault)
    assert push(connect(chunk_bytes=100_000), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB


@pytest.mark.parametrize("chunk_bytes", [None, 100_000])
@pytest.mark.parametrize("kept", [1, 2, 50_000, 99_999])
def test_a_broken_upload_goes_on_where_it_stopped(
    connect: Maker, registry: FakeRegistry, ref: Reference, chunk_bytes: int | None, kept: int
) -> None:
    registry.faults.append(Fault("PATCH" if chunk_bytes else "PUT", "uploads", keep_body=kept))
    assert push(connect(chunk_bytes=chunk_bytes), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert len(registry.requests("POST", "uploads")) == (1 if kept > 1 else 2)  # "0-0" may also mean nothing
    second = registry.requests("PATCH", "uploads")[1 if chunk_bytes else 0 :]
    if kept > 1:
        assert second[0].headers["content-range"].startswith(f"{kept}-")


def test_an_upload_that_breaks_again_and_again(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    """More often than a request is repeated; each time some bytes arrived."""
    registry.faults.append(Fault("PUT", "uploads", keep_body=1000))
    registry.faults.append(Fault("PATCH", "uploads", keep_body=1000, count=20))
    assert push(connect(), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert len(registry.requests("POST", "uploads")) == 1


def test_a_registry_that_does_not_say_what_it_has(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.tells_uploads = False
    registry.faults.append(Fault("PUT", "uploads", keep_body=1000))
    assert push(connect(), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert len(registry.requests("POST", "uploads")) == 2


def test_a_registry_that_kept_other_bytes(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    def spoil(seconds: float) -> None:
        for upload in registry.uploads.values():
            upload.data[:10] = b"0123456789"

    registry.faults.append(Fault("PUT", "uploads", keep_body=1000))
    assert push(connect(http=HttpOptions(sleep=spoil)), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB
    assert len(registry.requests("POST", "uploads")) == 2


def test_registry_that_kept_only_part_of_a_chunk(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    def short(path: str) -> Fault:
        return Fault(
            "PATCH", path, status=202, headers={"Location": "/v2/new/blobs/uploads/0?_state=x", "Range": "0-9"}
        )

    registry.faults.append(short("uploads"))
    assert push(connect(chunk_bytes=100_000), other(ref))
    assert registry.blobs["new", LAYER.digest] == BLOB


def test_registry_that_is_slow_to_take_bytes(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    """A slow line or registry is no reason to give up a body: the time to connect must not limit sending it."""
    registry.faults.append(Fault("PUT", "uploads", delay_s=0.6))
    data = bytes(24 << 20)
    client = connect(http=HttpOptions(connect_timeout_s=0.2, attempts=1))
    assert client.push_blob(other(ref), Descriptor.of("x/y", data), lambda: [data])
    assert len(registry.requests("PUT", "uploads")) == 1


def test_upload_that_always_fails(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("PUT", "uploads", count=100, status=500))
    with pytest.raises(RegistryError) as caught:
        push(connect(), other(ref))
    assert caught.value.status == 500
    assert "try again later" in caught.value.hint
    assert len(registry.requests("PUT", ".")) == 4


def test_upload_that_is_forbidden_is_not_repeated(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "no write access"}]}).encode()
    registry.faults.append(Fault("POST", "uploads", status=403, body=body))
    with pytest.raises(RegistryError) as caught:
        push(connect(), other(ref))
    assert (caught.value.status, caught.value.why) == (403, "HTTP 403: DENIED: no write access")
    assert "log in" in caught.value.hint


def test_upload_without_location(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("POST", "uploads", count=9, status=202))
    with pytest.raises(RegistryError) as caught:
        push(connect(), other(ref))
    assert "no Location" in caught.value.why


def test_damage_on_our_side_is_not_taken_for_the_registrys(
    connect: Maker, registry: FakeRegistry, ref: Reference
) -> None:
    def chunks() -> Iterator[bytes]:
        yield BLOB[:1000]
        raise LayoutError("blob is damaged")

    with pytest.raises(LayoutError):
        connect().push_blob(other(ref), LAYER, chunks)
    assert ("new", LAYER.digest) not in registry.blobs
