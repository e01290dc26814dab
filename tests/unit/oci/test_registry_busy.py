"""Registries that are busy, reset connections, or answer with somebody else's page."""

from __future__ import annotations

import email.utils
import time

import pytest

from buildkit_client.errors import (
    RegistryError,
)
from buildkit_client.oci.http_pool import retry_after_s
from buildkit_client.oci.reference import Reference
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.registry_client import MANIFEST, Maker


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_busy_registry_is_asked_again(
    connect: Maker, registry: FakeRegistry, ref: Reference, waits: list[float], status: int
) -> None:
    registry.faults.append(Fault("GET", "manifests", count=3, status=status))
    assert connect().get_manifest(ref)[1] == MANIFEST
    assert waits == [0.5, 1.0, 2.0]


def test_busy_registry_is_given_up(connect: Maker, registry: FakeRegistry, ref: Reference, waits: list[float]) -> None:
    registry.faults.append(Fault("GET", "manifests", count=100, status=503))
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert caught.value.status == 503
    assert len(waits) == 3


def test_busy_at_the_first_contact(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("GET", "^/v2/$", count=2, status=503))
    assert connect().get_manifest(ref)[1] == MANIFEST
    registry.faults.append(Fault("GET", "^/v2/$", count=100, status=503))
    with pytest.raises(RegistryError) as caught:
        connect().ping()
    assert caught.value.status == 503


def test_reset_connection_is_made_again(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("GET", "manifests", count=3, reset_after=-1))
    assert connect().get_manifest(ref)[1] == MANIFEST
    registry.faults.append(Fault("GET", "manifests", count=100, reset_after=-1))
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert caught.value.why == "the connection broke"


def test_wait_that_the_registry_asks_for(
    connect: Maker, registry: FakeRegistry, ref: Reference, waits: list[float]
) -> None:
    moment = email.utils.formatdate(time.time() + 20, usegmt=True)
    registry.faults += [
        Fault("GET", "manifests", status=429, headers={"Retry-After": "7"}),
        Fault("GET", "manifests", status=503, headers={"Retry-After": moment}),
    ]
    assert connect().get_manifest(ref)[1] == MANIFEST
    assert waits[0] == 7
    assert 15 < waits[1] <= 20


def test_wait_that_is_too_long(connect: Maker, registry: FakeRegistry, ref: Reference, waits: list[float]) -> None:
    registry.faults.append(Fault("GET", "manifests", status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert caught.value.status == 429
    assert waits == []


@pytest.mark.parametrize("text", ["", "soon", "-5", "99999999999", "Mon, 99 Foo 2026", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_unreadable_waits(text: str) -> None:
    assert retry_after_s(text) == 0


def test_error_page_of_a_proxy_is_not_shown(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("GET", "manifests", status=418, body=b"<html>" + b"x" * 100_000))
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert caught.value.why == "HTTP 418"


def test_long_error_text_is_cut(connect: Maker, registry: FakeRegistry, ref: Reference) -> None:
    registry.faults.append(Fault("GET", "manifests", status=418, body=b"teapot " * 5000))
    with pytest.raises(RegistryError) as caught:
        connect().get_manifest(ref)
    assert len(caught.value.why) < 600


def test_a_date_without_a_time_zone_is_universal_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where this machine's zone is another; "-0000" says that the writer does not know its own."""
    monkeypatch.setenv("TZ", "Etc/GMT+9")
    time.tzset()
    try:
        moment = email.utils.formatdate(time.time() + 20).replace("GMT", "-0000")
        assert 15 < retry_after_s(moment) <= 20
    finally:
        monkeypatch.undo()
        time.tzset()
