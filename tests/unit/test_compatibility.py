"""What older daemons lack: the refusals, and that docs/compatibility.md says what code and tests say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit_client import requirements
from buildkit_client._proto import control_pb2
from buildkit_client.errors import OptionError
from buildkit_client.requirements import OF_BUILDS, Feature, features_of, require

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/compatibility.md").read_text("utf-8")
MARK = re.compile(r'(?:mark\.buildkit\(">=|\bneeds=")(\d+\.\d+)"')
NEEDS = re.compile(r"^# needs buildkitd (\d+\.\d+)$", re.MULTILINE)
OLDEST = (0, 12)


def number(release: str) -> tuple[int, int]:
    major, minor, *_ = release.removeprefix("v").split(".")
    return int(major), int(minor)


def tables() -> dict[str, list[list[str]]]:
    """The page's tables by heading: rows of cells, the head first, the rule left out."""
    found: dict[str, list[list[str]]] = {}
    for section in PAGE.split("\n### ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|") and not line.startswith("|--")]
        found[section.splitlines()[0]] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found


def rows() -> list[list[str]]:
    return [row for table in tables().values() for row in table[1:]]


def features() -> list[Feature]:
    return [*OF_BUILDS, *(value for value in vars(requirements).values() if isinstance(value, Feature))]


class TestRequire:
    FEATURE = Feature("x", "0.17", "do y")

    @pytest.mark.parametrize("version", ["v0.17.0", "0.17.0", "v0.17.0-rc1", "v0.18.1", "v1.0.0", "v0.34.2-5-gabc"])
    def test_new_enough(self, version: str) -> None:
        require([self.FEATURE], version)

    @pytest.mark.parametrize("version", ["", "v0.0.0+unknown", "devel", "abcdef0"])
    def test_who_does_not_know_its_version_is_new_enough(self, version: str) -> None:
        require([self.FEATURE], version)

    @pytest.mark.parametrize("version", ["v0.16.0", "0.12.5", "v0.9.3", "v0.16.1+azure-2"])
    def test_too_old(self, version: str) -> None:
        with pytest.raises(OptionError, match=r"^x needs buildkitd 0\.17 or newer$") as caught:
            require([Feature("w", "0.9"), self.FEATURE], version)
        assert caught.value.why == f"this one is {version}: it would go on without that"
        assert caught.value.hint == "do y"


def exporter(kind: str = "image", **attrs: str) -> control_pb2.Exporter:
    return control_pb2.Exporter(Type=kind, Attrs={name.replace("_", "-"): value for name, value in attrs.items()})


def test_an_ordinary_build_asks_for_nothing_special() -> None:
    request = control_pb2.SolveRequest(
        Frontend="dockerfile.v0",
        FrontendAttrs={"attest:provenance": "mode=max,version=v0.2", "target": "memory"},
        Exporters=[exporter(rewrite_timestamp="false", oci_artifact="false", mode="delete", push="true")],
    )
    request.Cache.Imports.add(Type="gha", Attrs={"version": "1"})
    request.Cache.Exports.add(Type="registry", Attrs={"version": "2", "ref": "r"})
    assert features_of(request) == []


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("more than one exporter", control_pb2.SolveRequest(Exporters=[exporter(), exporter("tar")])),
        ("rewrite-timestamp", control_pb2.SolveRequest(Exporters=[exporter("oci", rewrite_timestamp="true")])),
        ("rewrite-timestamp", control_pb2.SolveRequest(Exporters=[exporter("oci", rewrite_timestamp="1")])),
        ("attestations as OCI artifacts", control_pb2.SolveRequest(Exporters=[exporter(oci_artifact="true")])),
        (
            "a GitHub cache of version 2",
            control_pb2.SolveRequest(
                Cache=control_pb2.CacheOptions(
                    Exports=[control_pb2.CacheOptionsEntry(Type="gha", Attrs={"url_v2": "http://x"})]
                )
            ),
        ),
        ("danging-name-empty-only", control_pb2.SolveRequest(Exporters=[exporter(danging_name_empty_only="true")])),
        ("danging-name-empty-only", control_pb2.SolveRequest(Exporters=[exporter(danging_name_empty_only="")])),
        ("choosing exporters when the result is known", control_pb2.SolveRequest(EnableSessionExporter=True)),
        (
            "provenance of version v1",
            control_pb2.SolveRequest(FrontendAttrs={"attest:provenance": "mode=max,version=v1"}),
        ),
        ("a policy callback", control_pb2.SolveRequest(SourcePolicySession="s")),
        ("a compatibility version", control_pb2.SolveRequest(CompatibilityVersion=10)),
        ("a local export with mode=delete", control_pb2.SolveRequest(Exporters=[exporter("local", mode="delete")])),
        (
            "limiting the processors and memory of steps",
            control_pb2.SolveRequest(Frontend="dockerfile.v0", FrontendAttrs={"cpuquota": "1"}),
        ),
        ("the network proxy", control_pb2.SolveRequest(ProxyNetwork=True)),
    ],
)
def test_what_a_build_asks_for(name: str, request_: control_pb2.SolveRequest) -> None:
    assert [feature.name for feature in features_of(request_)] == [name]


class TestPage:
    def test_it_is_about_the_releases_that_are_tried(self) -> None:
        recipes = ROOT / "scripts/buildkit"
        newest = re.search(r"github\.com/moby/buildkit (v\S+)", (recipes / "go.mod").read_text())
        assert newest is not None
        older = sorted((path.parent.name for path in recipes.glob("v*/go.mod")), key=number)
        for release in older:
            assert f"github.com/moby/buildkit {release} " in (recipes / release / "go.mod").read_text()
        assert number(older[0]) == OLDEST
        for head, *_ in tables().values():
            assert head == ["Feature", "Needs", *older, newest[1], "Note"]
        makefile = re.search(r"^COMPAT_RELEASES \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert makefile is not None
        assert makefile[1].split() == older

    def test_every_cell_follows_from_the_release_needed(self) -> None:
        releases = next(iter(tables().values()))[0][2:-1]
        for name, needs, *cells, note in rows():
            for release, cell in zip(releases, cells, strict=True):
                has_it = not needs or number(release) >= number(needs)
                assert cell in ({"full"} if has_it else {"no", "partial"}), (name, release)
            assert note or "partial" not in cells, f"{name}: partial in what?"

    def test_everything_that_is_refused_is_listed(self) -> None:
        refused = tables()["Refused by the library on older releases"][1:]
        assert {(name, needs) for name, needs, *_ in refused} == {(one.name, one.release) for one in features()}
        assert [number(row[1]) for row in refused] == sorted(number(row[1]) for row in refused)

    def test_every_release_that_a_test_or_example_needs_is_listed(self) -> None:
        listed = {row[1] for row in rows()}
        for path in (ROOT / "tests/integration").rglob("*.py"):
            needed = {release for release in MARK.findall(path.read_text("utf-8")) if number(release) > OLDEST}
            assert needed <= listed, path.name
        for path in (ROOT / "docs").glob("*.md"):
            assert set(NEEDS.findall(path.read_text("utf-8"))) <= listed, path.name
