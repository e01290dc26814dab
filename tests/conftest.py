"""Fixtures and options that every level of tests shares."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import pytest
from hypothesis import settings

from tests.support.services import Services, ServicesMissingError

# A shared machine stalls now and then: how long one example takes says nothing about the code.
settings.register_profile("ci", deadline=None)
settings.register_profile("deep", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure() -> None:
    """Take signals as a program of a terminal does: a runner may have had them ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-services",
        action="store_true",
        help="fail, instead of skip, tests whose services (scripts/services.sh) are missing",
    )


def pytest_report_header() -> list[str]:
    lines = [f"python {platform.python_version()}, grpcio {_version('grpcio')}, protobuf {_version('protobuf')}"]
    try:
        services = Services.from_environment(os.environ)
        lines.append(f"buildkitd {services.buildkit_version()} at {services.buildkit_host}")
    except ServicesMissingError as exc:
        lines.append(f"services: {exc}")
    return lines


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``buildkit(spec)`` when the daemon's version does not fit."""
    for marker in item.iter_markers("buildkit"):
        services = _services(item.config)
        if not services.buildkit_satisfies(marker.args[0]):
            pytest.skip(f"needs buildkitd {marker.args[0]}, this is {services.buildkit_version()}")


@pytest.fixture(autouse=True)
def keep_interrupts() -> Iterator[None]:
    """Give Ctrl-C back its meaning after each test: commands that run inside a test's process may change it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Services:
    """The real services; a test that takes this is skipped without them, or fails with ``--require-services``."""
    return _services(request.config)


def _services(config: pytest.Config) -> Services:
    try:
        services = Services.from_environment(os.environ)
        services.buildkit_version()
    except ServicesMissingError as exc:
        _missing(config, str(exc))
    return services


def _missing(config: pytest.Config, reason: str) -> NoReturn:
    if config.getoption("--require-services"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"
