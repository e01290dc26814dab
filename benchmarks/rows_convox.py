"""W6 to W8 and W15: ``convox build`` beside what Convox runs, near the builder and over a slow link."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from benchmarks import contexts
from benchmarks.compare import Arm, Goal, Row
from benchmarks.rows_client import client_arms, small_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.lab import Lab
    from benchmarks.link_proxy import SlowLink

OUR_NAME, PEER_NAME = "convox", "Convox"
_numbers = itertools.count(1)


def _app_row(
    lab: Lab, name: str, what: str, limit: float, prepare: Callable[[Path], None], *, link: SlowLink | None = None
) -> Iterator[Row]:
    def make(folder: Path) -> None:
        contexts.app(folder, lab.base_image, min(1.0, lab.scale))

    with lab.context("app", make, is_kept=True) as app:
        pipeline = lab.pipeline(app, link=link)
        rack = "far" if link else "near"
        arms = (
            Arm(OUR_NAME, lambda: lab.convox.run("build", app, "-a", "app", "-r", rack)),
            Arm(PEER_NAME, pipeline.run),
        )
        yield Row(name, what, *arms, [Goal("wall_s", limit)], prepare=lambda: prepare(app))


def w6(lab: Lab) -> Iterator[Row]:
    """All cached."""
    yield from _app_row(lab, "W6", "app of 8 services, all cached", 0.35, lambda _: None)


def w7(lab: Lab) -> Iterator[Row]:
    """One source of four services is another one each time."""
    yield from _app_row(lab, "W7", "the app, one source changed", 0.5, _change)


def w8(lab: Lab) -> Iterator[Row]:
    """The builder knows nothing, the registry has the cache."""
    yield from _app_row(lab, "W8", "the app, cold builder, registry cache", 0.7, lambda _: lab.daemon.prune())


def _change(app: Path) -> None:
    contexts.change_app(app, next(_numbers))


def w15(lab: Lab) -> Iterator[Row]:
    """W4 and W7 over the slow link."""
    link = lab.link()
    with small_files(lab) as context:
        arms = client_arms(lab, context, address=f"tcp://127.0.0.1:{link.ports[0]}")
        yield Row("W15 W4", "W4 over the slow link", *arms, [Goal("wall_s", 1.0)])
    yield from _app_row(lab, "W15 W7", "W7 over the slow link", 0.5, _change, link=link)
