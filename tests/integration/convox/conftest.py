"""What the tests of the command share: a command with an empty config folder, and small apps."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.convox.harness import Convox, write_app
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

MakeApp = Callable[..., Path]

ONE_SERVICE = "services:\n  web:\n    build: .\n"


@pytest.fixture
def convox(services: Services, tmp_path: Path) -> Convox:
    """The command, with an empty config folder and the services' buildkitd."""
    return Convox(tmp_path / "config", services)


@pytest.fixture
def make_app(services: Services, tmp_path: Path) -> MakeApp:
    """Write an app named ``app``: its manifest, and its Dockerfile without the FROM line.

    What it runs is new to the builder each time: the Dockerfile begins with a label that no other has.
    """

    def make(dockerfile: str = "RUN true\n", *, manifest: str = ONE_SERVICE, **files: str) -> Path:
        head = f"FROM {services.base_image}\nENV UNIQUE={uuid.uuid4()}\n"
        named = {name.replace("__", "/"): text for name, text in files.items()}
        return write_app(tmp_path / "app", {"convox.yml": manifest, "Dockerfile": head + dockerfile, **named})

    return make


@pytest.fixture(scope="session")
def own_buildkitd(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBuildkitd]:
    """A buildkitd that tests may empty."""
    with OwnBuildkitd(services, tmp_path_factory.mktemp("own")) as daemon:
        yield daemon
