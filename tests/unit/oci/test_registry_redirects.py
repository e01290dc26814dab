"""Blobs that a registry sends elsewhere for, with every status that says so."""

from __future__ import annotations

import pytest

from buildkit_client.errors import RegistryError
from buildkit_client.oci.reference import Reference
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.registry_client import BLOB, LAYER, Maker, read


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(connect: Maker, registry: FakeRegistry, ref: Reference, status: int) -> None:
    there = f"http://localhost:{registry.port}/store/app/{LAYER.digest}?sig=x"
    registry.auth = "basic"
    registry.faults.append(Fault("GET", "/v2/app/blobs", status=status, headers={"Location": there}))
    assert read(connect(registry.login), ref) == BLOB
    assert "authorization" not in registry.requests("GET", "^/store/")[0].headers


@pytest.mark.parametrize("status", [300, 304, 305, 306])
def test_what_is_no_redirect_to_a_place(connect: Maker, registry: FakeRegistry, ref: Reference, status: int) -> None:
    there = f"/store/app/{LAYER.digest}?sig=x"
    registry.faults.append(Fault("GET", "/v2/app/blobs", count=9, status=status, headers={"Location": there}))
    with pytest.raises(RegistryError):
        read(connect(), ref)
    assert registry.requests("GET", "^/store/") == []
