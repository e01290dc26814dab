"""The arena of the comparisons, and the table that the run prints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.compare.arena import Arena, Row
from tests.integration.compare.case import Case
from tests.integration.compare.places import Places
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture(scope="session")
def arena(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    """Both tools, at work on the cases that were asked for."""
    root = tmp_path_factory.mktemp("compare")
    own = OwnBuildkitd(
        services,
        tmp_path_factory.mktemp("own"),
        arguments=("--allow-insecure-entitlement=network.host", "--allow-insecure-entitlement=security.insecure"),
    )
    with Places(services, tmp_path_factory.mktemp("places")) as places:
        arena = Arena(services, own, places, root)
        items = [item for item in request.session.items if isinstance(item, pytest.Function)]
        params = [item.callspec.params for item in items if hasattr(item, "callspec")]
        cases = [one.get("case") for one in params]
        arena.start(
            case
            for case in cases
            if isinstance(case, Case) and (not case.needs or services.buildkit_satisfies(f">={case.needs}"))
        )
        yield arena
        arena.close()


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """The lines of the table."""
    return request.config.stash[ROWS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found: list[Row] = config.stash[ROWS]
    rows = sorted(found, key=lambda row: (row.area, row.name))
    if not rows:
        return
    areas = max(len(row.area) for row in rows)
    names = max(len(row.name) for row in rows)
    terminalreporter.section(f"buildkit-client and buildctl compared: {len(rows)} cases")
    for row in rows:
        terminalreporter.write_line(f"{row.area:{areas}}  {row.name:{names}}  {row.result:9}  {row.compared}")
    same = sum(row.result == "same" for row in rows)
    terminalreporter.write_line(f"{same} of {len(rows)} the same")
