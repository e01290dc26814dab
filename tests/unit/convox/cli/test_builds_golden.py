"""What building, comparing, cancelling and removing print, piped and on a terminal, with a builder that does as told.

The files are in tests/golden/convox; ``UPDATE_GOLDEN=1`` writes them anew, and the review reads them.
"""

from __future__ import annotations

import itertools
import os
import shlex
import threading
from pathlib import Path
from typing import cast

import pytest

from buildkit_client import Client
from buildkit_client.errors import RegistryError
from convox import builder, builds, images
from convox.image_facts import ImageFacts
from convox.store import new_records, process
from tests.support.convox_cli import NOW, add_records, run, run_on_terminal
from tests.unit.convox.cli.test_golden import GOLDEN, shown
from tests.unit.convox.test_builds import FakeBuild, FakeClient, OnStatus, fail, succeed

APP = {
    "convox.yml": "services:\n  web:\n    build: .\n  worker:\n    build: .\n  cache:\n    image: redis:7\n",
    "Dockerfile": "FROM alpine AS base\nARG VERSION\nARG API_TOKEN\nFROM base AS development\n",
    ".dockerignore": "*.log\n",
    "broken/convox.yml": "services:\n  web:\n    build: .\n",
    "broken/Dockerfile": "FROM alpine\n",
    "broken/nope.yml": "services: []\n",
}

COMMANDS = {
    "build": [
        "build",
        "build -d 'a description' --service web",
        "build --id",
        "build --output json --service cache",
        "build --external --wildcard-domain --service cache",
        "build broken",
        "build broken -m nope.yml",
        "build broken --id",
        "build missing",
        "build one two",
        "build --nope",
        "build --service nobody",
        "build --target nowhere",
        "build --target base --development",
        "build --push",
        "build --push --no-push",
        "build --id --output json",
        "build --platform linux/",
        "build --secret id=x,src=nowhere",
        "build --cache-to type=registry,ref=r/app:x",
        "build --cache-from type=regstry,ref=r/app:x",
        "build --build-args =x",
        "build --print",
        "build --print --development --no-cache --build-args API_TOKEN=CANARY --platform linux/arm64",
        "build --print --output json --service web --cache-to 'type=registry,ref=r/app:{service},mode=max'",
        "builds -l 3",
    ],
    "builds-manage": [
        "builds diff BAAAAAAAAAA BBBBBBBBBBB",
        "builds diff BAAAAAAAAAA BAAAAAAAAAA --output json",
        "builds diff BAAAAAAAAAA",
        "builds diff BAAAAAAAAAA BNONENONENO",
        "builds cancel BCCCCCCCCCC",
        "builds cancel BAAAAAAAAAA",
        "builds cancel BDDDDDDDDDD",
        "builds cancel BNONENONENO",
        "builds cancel",
        "builds rm",
        "builds rm BAAAAAAAAAA",
        "builds rm BBBBBBBBBBB BCCCCCCCCCC",
        "builds rm BNONENONENO",
        "builds rm BBBBBBBBBBB BBBBBBBBBBB",
        "builds",
    ],
    "builds-help": ["build --help", "builds diff -h", "builds cancel --help", "builds rm --help"],
}


@pytest.fixture
def app(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app in the current folder, ids that count up, and a builder that fails what is in ``broken``."""
    for name, text in APP.items():
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    client = FakeClient()
    cache_is_done = threading.Event()

    def cache(build: FakeBuild, on_status: OnStatus) -> str:
        try:
            return succeed(build, on_status)
        finally:
            cache_is_done.set()

    def web(build: FakeBuild, on_status: OnStatus) -> str:
        if client.sessions[0].folder.name == "broken":
            return fail("no such image")(build, on_status)
        if len(client.sessions) > 1:
            assert cache_is_done.wait(10)  # so that the log has one order
        return succeed(build, on_status)

    def connect(*_: object, **__: object) -> Client:
        client.sessions.clear()
        cache_is_done.clear()
        client.scripts = {"web": web, "cache": cache}
        return cast("Client", client)

    def facts(*_: object) -> ImageFacts:
        raise RegistryError("cannot reach it", host="registry.example.com", why="it is made up")

    monkeypatch.setattr(images.RegistryImages, "facts", facts)
    numbers = (f"{number:010d}".translate(str.maketrans("0123456789", "ABCDEFGHIJ")) for number in itertools.count())
    monkeypatch.setattr(builds, "new_build_id", lambda: "B" + next(numbers))
    monkeypatch.setattr(new_records, "new_release_id", lambda: "R" + next(numbers))
    for module in (builds, new_records):
        monkeypatch.setattr(module, "now", lambda: NOW)
    monkeypatch.setattr(process, "current_process_id", lambda: "host:1:2")
    monkeypatch.setattr(builder, "connect", connect)
    monkeypatch.setattr(images.LayoutImages, "entrypoint", lambda *_: "sh")


@pytest.mark.parametrize("where", ["piped", "terminal"])
@pytest.mark.parametrize("topic", COMMANDS)
@pytest.mark.usefixtures("app")
def test_output(topic: str, where: str, config_path: Path) -> None:
    if topic == "builds-manage":
        add_records(config_path)
    runner = run if where == "piped" else run_on_terminal
    blocks: list[str] = []
    for command in COMMANDS[topic]:
        result = runner(*shlex.split(command))
        assert b"CANARY" not in result.stdout + result.stderr, command
        blocks.append(shown(command, result).replace(str(config_path.parent), "…"))
    text = "\n".join(blocks)
    path = GOLDEN / f"{topic}.{where}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
