"""What runs are made with: which daemon, which base image, which tools, down to their bytes."""

from __future__ import annotations

import hashlib
import http.client
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import BenchmarkError, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.compare import Identity
    from benchmarks.daemons import Buildkitd, Registry

_MANIFESTS = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


@dataclass
class Tools:
    """Programs of the peer, known by their version and their bytes.

    Attributes:
        paths: Of the programs.
    """

    paths: Sequence[Path]
    _known: dict[tuple[Path, int, int, int], str] = field(default_factory=dict)

    def identity(self) -> dict[str, str]:
        """Return a line for each; a file that did not change is not read again."""
        return {path.name: self._describe(path) for path in self.paths}

    def _describe(self, path: Path) -> str:
        status = path.stat()
        key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            version = ask([path, "--version"]).splitlines()[0]
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._known[key] = f"{version} (sha256:{digest[:12]})"
        return self._known[key]


def find_tool(name: str) -> Path:
    """Return where a program is.

    Raises:
        BenchmarkError: It is not on PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise BenchmarkError(f"{name} is not on PATH")
    return Path(found).resolve()


def image_digest(host: str, repository: str, tag: str) -> str:
    """Return the digest that a registry has for a tag.

    Raises:
        BenchmarkError: It has none.
    """
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": _MANIFESTS})
        answer = connection.getresponse()
        digest = answer.getheader("Docker-Content-Digest")
    finally:
        connection.close()
    if answer.status != 200 or digest is None:
        raise BenchmarkError(f"{host} has no {repository}:{tag} (status {answer.status})")
    return digest


@dataclass(frozen=True)
class Surroundings:
    """All that both arms have to have in common."""

    daemon: Buildkitd
    registry: Registry
    tools: Tools

    def identify(self) -> Identity:
        """Look at all of it."""
        return {
            "daemon": self.daemon.identity(),
            "base image": image_digest(self.registry.host, *self.registry.base_image),
            **self.tools.identity(),
        }
