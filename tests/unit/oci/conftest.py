"""The strict registry that the registry client's tests talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buildkit_client.oci import media_types
from buildkit_client.oci.reference import Reference
from tests.support.fake_registry import FakeRegistry
from tests.support.registry_client import BLOB, CONFIG_DATA, MANIFEST, Maker


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        for data in (BLOB, CONFIG_DATA):
            registry.add_blob("app", data)
        registry.add_manifest("app", MANIFEST, media_types.OCI_IMAGE_MANIFEST, "1")
        yield registry


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def connect(registry: FakeRegistry, waits: list[float]) -> Iterator[Maker]:
    maker = Maker(registry, waits)
    yield maker
    for client in maker.clients:
        client.close()


@pytest.fixture
def ref(registry: FakeRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/app:1")
