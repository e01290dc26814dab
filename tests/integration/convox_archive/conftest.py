"""What the tests of export and import share: the command, an app, skopeo and tar."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.convox.conftest import convox, make_app
from tests.support.services import Services

__all__ = ["convox", "make_app"]


@dataclass(frozen=True)
class Tools:
    """skopeo and tar, which must succeed."""

    services: Services

    def skopeo(self, *words: str) -> str:
        return self._run(str(self.services.skopeo), "--insecure-policy", *words)

    def tar(self, *words: str) -> str:
        return self._run("tar", *words)

    def digest(self, image: str, *flags: str) -> str:
        """Return the digest of an image's index or manifest, as skopeo sees it."""
        words = ["inspect", "--tls-verify=false", *flags] if image.startswith("docker://") else ["inspect"]
        value = json.loads(self.skopeo(*words, image))["Digest"]
        assert isinstance(value, str)
        return value

    def unpack(self, export: Path, folder: Path) -> Path:
        folder.mkdir()
        self.tar("xf", str(export), "-C", str(folder))
        return folder

    @staticmethod
    def _run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def tools(services: Services) -> Tools:
    return Tools(services)
