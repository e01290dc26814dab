"""Every Python block of the documentation runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.services import Services

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^# needs buildkitd (\d+\.\d+)$", re.MULTILINE)
PAGES = sorted((ROOT / "docs").glob("*.md"))

DOCKERFILE = """\
FROM scratch AS base
COPY . /
FROM base AS app
ARG VERSION=1
LABEL version=$VERSION
"""


def blocks() -> list[object]:
    return [
        pytest.param(
            page,
            number,
            block,
            id=f"{page.stem}-{number}",
            marks=[pytest.mark.buildkit(f">={release}") for release in NEEDS.findall(block)],
        )
        for page in PAGES
        for number, block in enumerate(BLOCK.findall(page.read_text()), 1)
    ]


def test_the_pages_have_blocks() -> None:
    assert len(blocks()) >= 10


@pytest.mark.parametrize(("page", "number", "block"), blocks())
def test_block(services: Services, tmp_path: Path, page: Path, number: int, block: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "notes.txt").write_text("hello\n")
    environ = {
        **os.environ,
        "BUILDKIT_HOST": services.buildkit_host,
        "REGISTRY": services.registry,
        "BASE_IMAGE": services.base_image,
    }
    program = textwrap.dedent(block)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-"],
        input=program, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{page.name}, block {number}:\n{program}\n{done.stdout}\n{done.stderr}"
