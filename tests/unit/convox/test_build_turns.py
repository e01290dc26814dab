"""Images of one folder on a builder that holds nothing yet: they take turns while all comes from caches."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from buildkit_client.options import Cache, RegistryCache
from buildkit_client.progress import StatusUpdate, Vertex
from convox.models import BuildStatus
from convox.plan import PlannedImage
from tests.support.threads import no_thread_stays
from tests.unit.convox.test_builds import (
    FakeBuild,
    FakeClient,
    FakeImages,
    OnStatus,
    Rig,
    digest,
    fail,
    rig,
    step,
    wait_for_cancel,
)

__all__ = ["rig"]  # the fixture

ONE_FOLDER = """services:
  web: {build: {path: web, manifest: Dockerfile.web}}
  api: {build: {path: web, manifest: Dockerfile.api}}
  cron: {build: {path: web, manifest: Dockerfile.cron}}
"""
STEP = "[1/1] RUN make"


class CachedImages(FakeImages):
    """Images with a registry cache each."""

    def caches(self, image: PlannedImage) -> tuple[Sequence[Cache], Sequence[Cache]]:
        return [RegistryCache(ref=f"r/app:{image.services[0]}.buildcache")], []


@dataclass
class Builder(FakeClient):
    """A builder, and what it is asked about its disk."""

    local_sources: int = 0
    asked: list[Sequence[str]] = field(default_factory=list)

    def disk_usage(self, filters: Sequence[str] = ()) -> list[object]:
        self.asked.append(filters)
        return [object()] * self.local_sources


class Record:
    """Who was at work when each image began."""

    def __init__(self, *, runs: bool = False) -> None:
        self.order: list[str] = []
        self.beside: dict[str, set[str]] = {}
        self._at_work: set[str] = set()
        self._runs = runs
        self._all_began = threading.Event()

    def __call__(self, build: FakeBuild, on_status: OnStatus) -> str:
        name = build.service
        self.order.append(name)
        self.beside[name] = set(self._at_work)
        self._at_work.add(name)
        if len(self.order) == 3:
            self._all_began.set()
        if self._runs:
            on_status(StatusUpdate(vertexes=(Vertex(f"sha256:{name}", name=STEP, started_ns=1),)))
            assert self._all_began.wait(10), "nobody else began"
        on_status(step("[internal] load build context"))
        on_status(step("[1/1] FROM base"))
        on_status(step(STEP, cached=True))
        on_status(step("exporting to image"))
        # Layers of what was found are fetched under the name of the step.
        on_status(StatusUpdate(vertexes=(Vertex("sha256:layer", name=STEP, started_ns=1),)))
        on_status(step(STEP))
        self._at_work.discard(name)
        return digest(name)


@pytest.fixture
def builder(rig: Rig) -> Builder:
    for name in ("web", "api", "cron"):
        (rig.folder / f"web/Dockerfile.{name}").write_text(f"FROM scratch\nLABEL name={name}\n")
    (rig.folder / "convox.yml").write_text(ONE_FOLDER)
    rig.client = Builder()
    object.__setattr__(rig.site, "connect", lambda: rig.client)
    object.__setattr__(rig.site, "images", CachedImages("localhost/app", rig.folder.parent / "images"))
    return rig.client


def scripts(script: Any) -> dict[str, Any]:
    return dict.fromkeys(("web", "api", "cron"), script)


def test_one_after_the_other_while_all_comes_from_caches(rig: Rig, builder: Builder) -> None:
    record = Record()
    builder.scripts = scripts(record)
    rig.run()
    assert builder.asked == [['type==source.local,description~="for dockerfile"']]
    assert record.order == ["web", "api", "cron"]
    assert record.beside == {"web": set(), "api": set(), "cron": set()}


def test_a_step_that_runs_lets_the_next_one_begin(rig: Rig, builder: Builder) -> None:
    record = Record(runs=True)
    builder.scripts = scripts(record)
    rig.run()
    assert record.order == ["web", "api", "cron"]
    assert record.beside["cron"] == {"web", "api"}


def test_all_at_once_on_a_builder_that_has_been_used(rig: Rig, builder: Builder) -> None:
    builder.local_sources = 1
    together = threading.Barrier(3)

    def meet(build: FakeBuild, on_status: OnStatus) -> str:
        together.wait(10)
        return digest(build.service)

    builder.scripts = scripts(meet)
    rig.run()


@pytest.mark.parametrize("what", ["no cache", "other folders"])
def test_nobody_asks_where_nothing_is_to_be_found_or_shared(rig: Rig, builder: Builder, what: str) -> None:
    if what == "other folders":
        (rig.folder / "convox.yml").write_text("services: {web: {build: web}, api: {build: api}}\n")
    rig.run(is_cached=what != "no cache")
    assert builder.asked == []


def test_a_failure_ends_those_that_wait(rig: Rig, builder: Builder) -> None:
    builder.scripts = {"web": fail("it failed")}
    error = rig.fails(Exception)
    assert getattr(error, "why", "") == "service web: it failed"
    assert rig.record.status is BuildStatus.FAILED


def test_a_cancelled_build_does_not_wait_for_a_turn(rig: Rig, builder: Builder) -> None:
    main = threading.get_ident()

    def interrupt(build: FakeBuild, on_status: OnStatus) -> str:
        signal.pthread_kill(main, signal.SIGINT)
        return wait_for_cancel(build, on_status)

    builder.scripts = scripts(interrupt)
    with no_thread_stays("build-web", "build-api", "build-cron"):
        rig.fails(KeyboardInterrupt)
    assert rig.record.reason == "cancelled"
