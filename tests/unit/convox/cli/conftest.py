from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.convox_cli import freeze


@pytest.fixture
def config_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder that does not exist yet, a current folder called ``web``, and no setting of the machine."""
    for name in ("CONVOX_RACK", "RACK_URL", "CONVOX_DEBUG", "NO_COLOR", "BUILDKIT_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CONVOX_CONFIG", str(tmp_path / "config"))
    folder = tmp_path / "web"
    folder.mkdir()
    monkeypatch.chdir(folder)
    freeze(monkeypatch)
    return tmp_path / "config"
