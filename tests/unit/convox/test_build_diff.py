"""What is different between two builds, from records, logs and images made for it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.oci import Descriptor, ImageIndex, ImageLayout, ImageManifest, StaticCredentials
from buildkit_client.oci.descriptor import Platform
from convox.build_diff import BuildDiff, Change, diff_builds
from convox.image_facts import read_image_facts
from convox.images import LayoutImages
from convox.log_facts import read_log_facts
from convox.models import Build, BuildStatus, Release
from convox.output.build_diff import show_diff
from convox.output.console import Console
from convox.output.sizes import size
from convox.store import Store, open_store, sqlite_url

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class Images:
    layout: ImageLayout

    def blob(self, data: bytes, media_type: str, **values: Any) -> Descriptor:
        return Descriptor(media_type, self.layout.put_blob(data), len(data), **values)

    def image(
        self, *, layers: list[bytes], history: list[tuple[str, bool]], env: list[str], arch: str = "amd64"
    ) -> Any:
        config = {
            "os": "linux",
            "architecture": arch,
            "config": {"Env": env},
            "history": [
                {"created_by": text, **({} if is_layer else {"empty_layer": True})} for text, is_layer in history
            ],
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        manifest = ImageManifest(
            config=self.blob(json.dumps(config).encode(), CONFIG),
            layers=tuple(self.blob(gzip.compress(data, mtime=0), LAYER) for data in layers),
        )
        platform = Platform(os="linux", architecture=arch)
        return self.blob(manifest.to_bytes(), manifest.media_type, platform=platform)

    def index(self, *images: Descriptor) -> Descriptor:
        index = ImageIndex(images)
        return self.blob(index.to_bytes(), index.media_type)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(ImageLayout.create(tmp_path / "images"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(sqlite_url(tmp_path / "store.db"), logs_dir=tmp_path / "logs")
    yield store
    store.close()


HISTORY = [
    ("base", True),
    ("ARG VERSION=1 2", False),
    ("ARG NPM_TOKEN=canary-token", False),
    ("ARG UNSET", False),
    ("RUN |2 VERSION=1 2 NPM_TOKEN=canary-token /bin/sh -c npm   ci # buildkit", True),
    ("RUN |1 NPM_TOKEN=canary-token /bin/bash -c other # buildkit", True),
]


class TestImageFacts:
    def test_layers_variables_and_arguments(self, images: Images) -> None:
        layers = [b"base", b"ci", b"other"]
        image = images.image(layers=layers, history=HISTORY, env=["PATH=/bin", "A=b=c", "BARE"])
        facts = read_image_facts(images.layout, image)
        assert facts.digest == str(image.digest)
        assert facts.platforms == ("linux/amd64",)
        assert dict(facts.env) == {"PATH": "/bin", "A": "b=c", "BARE": ""}
        assert dict(facts.args) == {"VERSION": "1 2", "NPM_TOKEN": "canary-token", "UNSET": ""}
        assert [layer.command for layer in facts.layers] == [
            "base",
            "RUN npm ci",
            "RUN |1 NPM_TOKEN=*** /bin/bash -c other",
        ]
        assert facts.size_bytes == sum(len(gzip.compress(data, mtime=0)) for data in layers)

    def test_several_arguments_on_one_line(self, images: Images) -> None:
        history = [
            ("ARG FLAVOUR=dark vanilla COLOR NPM_TOKEN=canary token LAST", False),
            ("RUN |4 FLAVOUR=dark vanilla COLOR= NPM_TOKEN=canary token LAST= /bin/bash -c make # buildkit", True),
        ]
        facts = read_image_facts(images.layout, images.image(layers=[b"made"], history=history, env=[]))
        expected = {"FLAVOUR": "dark vanilla", "COLOR": "", "NPM_TOKEN": "canary token", "LAST": ""}
        assert dict(facts.args) == expected
        [layer] = facts.layers
        assert layer.command == "RUN |4 FLAVOUR=dark vanilla COLOR= NPM_TOKEN=*** LAST= /bin/bash -c make"

    def test_platforms_and_attestations(self, images: Images) -> None:
        one, two = (
            images.image(layers=[b"shared", arch.encode()], history=[], env=[f"ARCH={arch}"], arch=arch)
            for arch in ("amd64", "arm64")
        )
        statement = images.blob(b"{}", "application/vnd.in-toto+json")
        manifest = ImageManifest(config=images.blob(b"{ }", CONFIG), layers=(statement,))
        note = images.blob(
            manifest.to_bytes(),
            manifest.media_type,
            annotations={"vnd.docker.reference.type": "attestation-manifest"},
            platform=Platform(os="unknown", architecture="unknown"),
        )
        facts = read_image_facts(images.layout, images.index(one, two, note))
        assert facts.platforms == ("linux/amd64", "linux/arm64")
        assert dict(facts.env) == {"ARCH": "amd64"}
        assert len(facts.layers) == 3


LOG = b"""web,api | #1 [internal] load build definition from Dockerfile
web,api | #1 DONE 0.0s
web,api |
web,api | #4 [1/3] FROM docker.io/library/node:20@sha256:aa
web,api | #4 CACHED
web,api | #5 [2/3] RUN npm ci
web,api | #5 CACHED
web,api | #6 [build 3/3] COPY . .
web,api | #6 0.1 #5 CACHED
web,api | #6 DONE 0.0s
web,api | #6 [build 3/3] COPY . .
web,api | #6 CACHED
worker | #5 [linux/arm64 stage-0 2/2] RUN x
worker | #5 DONE 0.1s
\xff\xfe | #7 [1/1] RUN
WARNING: something
"""


def test_logs() -> None:
    facts = read_log_facts([LOG])
    assert set(facts) == {"web", "api", "worker"}
    assert facts["web"] is facts["api"]
    assert (facts["web"].steps, facts["web"].cached) == (2, 2)
    assert list(facts["web"].bases) == ["docker.io/library/node:20@sha256:aa"]
    assert (facts["worker"].steps, facts["worker"].cached) == (1, 0)


@given(st.lists(st.integers(0, len(LOG)), max_size=8))
def test_logs_may_be_cut_anywhere(cuts: list[int]) -> None:
    places = sorted({0, len(LOG), *cuts})
    chunks = [LOG[a:b] for a, b in pairwise(places)]
    assert read_log_facts(chunks) == read_log_facts([LOG])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_log(data: bytes) -> None:
    assert all(0 <= fact.cached <= fact.steps for fact in read_log_facts([data]).values())


class TestDiff:
    @pytest.fixture
    def diff(self, store: Store, images: Images) -> BuildDiff:
        old = images.image(
            layers=[b"base", b"ci"], history=HISTORY[:5], env=["A=1", "API_KEY=canary-key", "URL=//canary-0/"]
        )
        changed = [*HISTORY[:1], ("ARG VERSION=2", False), *HISTORY[2:5]]
        new = images.image(
            layers=[b"base", b"ci two"], history=changed, env=["A=2", "B=x", "API_KEY=canary-other", "URL=//canary-1/"]
        )
        repository = "localhost/app"
        builds = []
        for number, (digests, manifest) in enumerate(
            [
                ({"web": old, "gone": old}, "services:\n  web: {}\n"),
                ({"api": old, "web": new}, "services:\n  api: {}\n"),
            ]
        ):
            build = Build(
                id=f"B{number}",
                app="app",
                status=BuildStatus.COMPLETE,
                repository=repository,
                manifest=manifest,
                release=f"R{number}",
                started=NOON,
                ended=NOON + timedelta(seconds=70 * (number + 1)),
                images={service: str(image.digest) for service, image in digests.items()},
            )
            for service, image in digests.items():
                images.layout.add_image(image, [f"{repository}:{service}.{build.id}"])
            store.create_build(build)
            env = f"SAME=canary-env\nKEY=canary-{number}" + ("\nNEW=canary" if number else "")
            store.create_release(Release(id=f"R{number}", app="app", build=build.id, env=env, created=NOON))
            base = b"aa" if number else b"bb"
            log = b"web | #4 [1/2] FROM node:20@sha256:%s\nweb | #5 [2/2] RUN npm ci\n" % base
            store.append_log("app", build.id, log + (b"web | #5 CACHED\n" if number else b"web | #5 DONE 3s\n"))
            builds.append(build)
        place = LayoutImages(repository, images.layout.path)
        return diff_builds(store, (builds[0], place), (builds[1], place), StaticCredentials({}))

    def test_services(self, diff: BuildDiff) -> None:
        assert [(service.name, service.state) for service in diff.services] == [
            ("api", "added"),
            ("web", "changed"),
            ("gone", "removed"),
        ]
        web = diff.services[1]
        assert web.bases == [Change("node:20", "node:20@sha256:bb", "node:20@sha256:aa")]
        assert web.args == [Change("VERSION", "1 2", "2")]
        assert web.env == [
            Change("A", "1", "2"),
            Change("API_KEY", "****", "****"),
            Change("B", None, "x"),
            Change("URL", "//***/", "//***/"),  # the app's environment has what is hidden there
        ]
        assert [layer.command for layer in web.added_layers] == ["RUN npm ci"]
        assert [layer.command for layer in web.removed_layers] == ["RUN npm ci"]
        assert [(one.steps, one.cached) for one in web.steps] == [(1, 0), (1, 1)]
        assert web.notes == []

    def test_environment_has_names_only(self, diff: BuildDiff) -> None:
        assert list(diff.environment) == [Change("KEY", "****", "****"), Change("NEW", None, "****")]

    def test_no_secret_is_shown(self, diff: BuildDiff) -> None:
        shown = BytesIO()
        show_diff(Console(shown, BytesIO()), diff)
        assert b"canary" not in shown.getvalue() + json.dumps(diff.to_json()).encode()

    def test_shown(self, diff: BuildDiff) -> None:
        shown = BytesIO()
        show_diff(Console(shown, BytesIO(), color=False), diff)
        text = shown.getvalue().decode()
        assert "Elapsed     1m10s" in text
        assert "\nCached      0 of 1 steps" in text
        assert (
            "\nweb\n"
            "  base  ~ node:20: node:20@sha256:bb -> node:20@sha256:aa\n"
            "  arg   ~ VERSION: 1 2 -> 2\n"
            "  env   ~ A: 1 -> 2\n"
            "  env   ~ API_KEY: **** -> ****\n"
            "  env   + B=x\n"
            "  env   ~ URL: //***/ -> //***/\n"
            "  layer -    22B  RUN npm ci\n"
            "  layer +    26B  RUN npm ci\n"
        ) in text
        assert "\nenvironment\n  ~ KEY\n  + NEW\n" in text
        assert "\n  -  web: {}\n  +  api: {}\n" in text

    def test_images_that_cannot_be_read_take_nothing_else_away(self, diff: BuildDiff, store: Store) -> None:
        place = LayoutImages("localhost/elsewhere", Path("/nowhere"))
        result = diff_builds(store, (diff.before, place), (diff.after, place), StaticCredentials({}))
        web = result.services[1]
        assert (web.state, web.sizes) == ("changed", (None, None))
        assert web.bases
        assert len(web.notes) == 2


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.23kB"), (999_600, "1MB"), (12_345_678, "12.3MB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size(count) == text
