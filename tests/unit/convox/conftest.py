"""Racks and a registry for tests of builds that become files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exports import DiskRack
from tests.support.fake_registry import FakeRegistry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[DiskRack]:
    with DiskRack(tmp_path / "rack") as rack:
        yield rack


@pytest.fixture(params=["layout", "registry"])
def any_rack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DiskRack]:
    """A rack of either kind."""
    host = request.getfixturevalue("registry").host if request.param == "registry" else ""
    with DiskRack(tmp_path / "any", registry=host) as rack:
        yield rack
