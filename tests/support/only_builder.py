"""Registries that a builder reaches and nobody else: their host has a name that only that daemon can resolve."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services

HOST = "only-builder.test"
"""Its address is in the ``/etc/hosts`` that the daemon sees; ``.test`` is in no DNS."""


def only_builder(registry: str) -> str:
    """Return the name by which the builder reaches a registry on this machine."""
    return f"{HOST}:{registry.rpartition(':')[2]}"


@contextmanager
def only_builder_daemon(services: Services, folder: Path, registries: Sequence[str]) -> Iterator[OwnBuildkitd]:
    """Run a buildkitd that reaches registries of this machine under that name, over plain HTTP.

    Args:
        services: See :class:`OwnBuildkitd`.
        folder: See :class:`OwnBuildkitd`.
        registries: ``host:port`` of each.
    """
    config = folder / "only-builder.toml"
    names = (*map(only_builder, registries), services.registry)
    config.write_text("".join(f'[registry."{name}"]\n  http = true\n' for name in names))
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {HOST}\n")
    with OwnBuildkitd(services, folder, ["--config", str(config)]) as daemon:
        mount = ["nsenter", "--target", str(daemon.pid), "--mount", "mount", "--bind", str(hosts), "/etc/hosts"]
        subprocess.run(mount, check=True, timeout=20)
        yield daemon
