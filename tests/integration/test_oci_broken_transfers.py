"""Transfers with a real registry over connections that break in the middle of a blob."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.oci import ImageLayout, Reference, RegistryClient, pull_image, push_image
from tests.support.breaking_proxy import BreakingProxy
from tests.support.images import add_image
from tests.support.services import Services

pytestmark = pytest.mark.services

LAYER_BYTES = 32 << 20


@pytest.fixture
def proxy(services: Services) -> Iterator[BreakingProxy]:
    proxy = BreakingProxy(services.registry)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("chunk_bytes", [None, 4 << 20])
def test_uploads_and_downloads_that_break(proxy: BreakingProxy, tmp_path: Path, chunk_bytes: int | None) -> None:
    source, target = (ImageLayout.create(tmp_path / name) for name in ("source", "target"))
    image = add_image(source, [os.urandom(LAYER_BYTES)])
    name = Reference.parse(f"{proxy.host}/broken-{uuid.uuid4().hex[:12]}:1")
    proxy.up += [5 << 20, 7 << 20]
    with RegistryClient(proxy.host, chunk_bytes=chunk_bytes) as client:
        push_image(client, source, image, name)
        assert proxy.up == []
    proxy.passed = 0
    proxy.down += [20 << 20, 4 << 20]
    with RegistryClient(proxy.host) as client:
        target.verify(pull_image(client, name, target))
    assert proxy.down == []
    # What the kernel had and the client had not read yet, 6 MiB at most, is lost at each break and comes again; from
    # the start it would be 56 MiB.
    assert LAYER_BYTES < proxy.passed < 1.5 * LAYER_BYTES
