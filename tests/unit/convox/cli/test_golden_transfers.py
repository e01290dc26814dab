"""What exporting and importing print, letter by letter, and what the help texts without a test of their own say.

As :mod:`tests.unit.convox.cli.test_golden`, with ids that count instead of being drawn.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from buildkit_client.oci import Credentials, ImageLayout, Reference, RegistryClient, push_image
from buildkit_client.oci.credentials import StaticCredentials
from convox import import_record
from convox.cli import about
from convox.store import new_records, process
from tests.support.convox_cli import NOW, STARTED, run, run_on_terminal
from tests.support.exports import MANIFEST, DiskRack
from tests.support.fake_registry import FakeRegistry
from tests.support.images import add_image
from tests.unit.convox.cli.test_golden import GOLDEN, shown

HOST = "registry.example.com"

COMMANDS = {
    "transfers": [
        "builds export",
        "builds export BAAAAAAAAAA -f build.tgz",
        "builds export BAAAAAAAAAA -f build.tar --format oci",
        "builds export BAAAAAAAAAA -f nowhere/build.tgz",
        "builds export BAAAAAAAAAA -f build.tgz --compression xz",
        "builds export BAAAAAAAAAA -f build.tgz --format tar",
        "builds export BNONENONENO -f none.tgz",
        "builds import -f build.tgz",
        "builds import -f build.tar -a other",
        "builds import -f build.tgz --id",
        "builds import -f build.tgz --output json",
        "builds import -f build.tgz --output json --id",
        "builds import -f build.tgz --inspect",
        "builds import -f build.tgz --inspect --output json",
        "builds import -f none.tgz",
        "builds import -f convox.yml",
        "builds import one",
        f"builds import-image {HOST}/team/image:1",
        f"builds import-image {HOST}/team/image:1 --output json",
        f"builds import-image {HOST}/team/image:1 -m none.yml",
        f"builds import-image {HOST}/team/none:1",
        "builds import-image Not/An/Image",
        f"builds import-image {HOST}/team/image:1 --src-creds-user me --src-creds-pass CANARY --src-creds-pass-stdin",
        f"builds import-image {HOST}/team/image:1 --src-creds-user me --src-creds-pass-env NOT_SET",
        f"builds import-image {HOST}/team/image:1 --src-creds-user me",
        "builds import-image",
        "builds",
        "releases",
    ],
    "help-rest": [
        "version",
        "-v",
        "version one",
        "help -h",
        "releases manifest --help",
        "rack install --help",
        "builder",
        "builder start --help",
        "builder status --help",
        "builder stop --help",
        "deploy",
        "-a web ps",
    ],
}


@pytest.fixture
def registry(config_path: Path, tmp_path: Path) -> Iterator[FakeRegistry]:
    """A registry with an image, and the rack ``local`` with a build of two services."""
    Path("convox.yml").write_text(MANIFEST)
    with FakeRegistry() as registry, DiskRack(config_path / "racks" / "local") as rack:
        layout = ImageLayout.create(tmp_path / "layout")
        with RegistryClient(registry.host, StaticCredentials({registry.host: Credentials(*registry.login)})) as client:
            push_image(client, layout, add_image(layout), Reference.parse(f"{registry.host}/team/image:1"))
        images = {"web": add_image(rack.layout), "worker": add_image(rack.layout, [b"other"])}
        for service, descriptor in images.items():
            rack.layout.add_image(descriptor, [f"localhost/web:{service}.BAAAAAAAAAA"])
        rack.add_build(images, id="BAAAAAAAAAA", started=STARTED, ended=STARTED + timedelta(minutes=2))
        yield registry


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids BZAAAAAAAAA, RZBBBBBBBBB and so on, a time that stands still, and a version."""
    letters = itertools.cycle("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    monkeypatch.setattr(import_record, "new_build_id", lambda: f"BZ{next(letters) * 9}")
    monkeypatch.setattr(new_records, "new_release_id", lambda: f"RZ{next(letters) * 9}")
    for module in (import_record, new_records):
        monkeypatch.setattr(module, "now", lambda: NOW)
    monkeypatch.setattr(process, "current_process_id", lambda: "host:1:2")
    monkeypatch.setattr(about, "version", lambda: "1.2.3")


@pytest.mark.parametrize("where", ["piped", "terminal"])
@pytest.mark.parametrize("topic", COMMANDS)
def test_output(topic: str, where: str, config_path: Path, registry: FakeRegistry) -> None:
    runner = run if where == "piped" else run_on_terminal
    blocks: list[str] = []
    for command in COMMANDS[topic]:
        result = runner(*shlex.split(command.replace(HOST, registry.host)))
        assert b"CANARY" not in result.stdout + result.stderr, command
        text = shown(command, result).replace(registry.host, HOST)
        blocks.append(text.replace(str(config_path.parent), "…"))
    text = "\n".join(blocks)
    path = GOLDEN / f"{topic}.{where}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
