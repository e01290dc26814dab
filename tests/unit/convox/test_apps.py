"""Parameters of apps, and what goes with an app."""

from __future__ import annotations

from pathlib import Path

import pytest

from convox.apps import build_platforms, delete_app, parse_app_params, update_app_params, view_app_params
from convox.errors import NotFoundError, UsageError
from convox.models import App, Build, BuildStatus, Release
from convox.rack import Rack
from convox.store import BuildInUseError, IdTakenError, open_store


def test_parameters_are_all_shown() -> None:
    assert view_app_params(App(name="web", params={"BuildCpu": "500", "Else": "x"})) == [
        ("BuildArch", ""),
        ("BuildCpu", "500"),
        ("BuildLabels", ""),
        ("BuildMem", ""),
        ("Else", "x"),
    ]


def test_good_values() -> None:
    items = ["BuildArch=arm64", "BuildCpu=500", "BuildMem=", "BuildLabels=convox.io/build=true,a=b"]
    assert parse_app_params(items) == {
        "BuildArch": "arm64",
        "BuildCpu": "500",
        "BuildMem": "",
        "BuildLabels": "convox.io/build=true,a=b",
    }


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("BuildArch", "Key=Value expected: BuildArch"),
        ("BuildArch=x86", "invalid BuildArch: x86, must be amd64 or arm64"),
        ("BuildCpu=1.5", "invalid BuildCpu: 1.5, must be a number"),
        ("BuildLabels=a", "invalid BuildLabels: a, must be key=value,key=value"),
        ("Nope=1", "invalid parameters: Nope"),
    ],
)
def test_bad_values(item: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_app_params([item])
    assert str(caught.value) == text


def test_an_apps_architecture_counts_before_the_racks_platforms(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/store.db", logs_dir=tmp_path)
    try:
        for name in ("arm", "web"):
            store.create_app(name)
        update_app_params(store, "arm", {"BuildArch": "arm64"})
        assert build_platforms(store, "arm", "linux/amd64,linux/386") == ("linux/arm64",)
        assert build_platforms(store, "web", "linux/amd64,linux/386") == ("linux/amd64", "linux/386")
        assert build_platforms(store, "new", "") == ()
    finally:
        store.close()


def test_making_and_deleting(tmp_path: Path) -> None:
    rack = Rack(name="local", path=tmp_path)
    store = open_store(rack.store_url, logs_dir=rack.logs_path)
    try:
        store.create_app("web")
        with pytest.raises(IdTakenError, match="app already exists: web"):
            store.create_app("web")
        update_app_params(store, "web", {"BuildCpu": "1", "BuildMem": "2"})
        assert update_app_params(store, "web", {"BuildCpu": ""}).params == {"BuildMem": "2"}
        store.create_build(Build(id="BAAAAAAAAAA", app="web"))
        store.create_build(Build(id="BBBBBBBBBBB", app="api", status=BuildStatus.COMPLETE))
        store.create_release(Release(id="RAAAAAAAAAA", app="web"))
        store.append_log("web", "BAAAAAAAAAA", b"log")
        store.append_log("api", "BBBBBBBBBBB", b"log")
        with pytest.raises(BuildInUseError, match="cannot delete app web"):
            delete_app(store, rack, "web")
        assert store.list_releases("web")
        store.update_build("web", "BAAAAAAAAAA", status=BuildStatus.FAILED)
        assert delete_app(store, rack, "web") is True
        assert [app.name for app in store.list_apps()] == ["api"]
        assert [path.name for path in rack.logs_path.iterdir()] == ["api"]
        assert store.list_builds("web") == []
        assert store.list_builds("api")
        with pytest.raises(NotFoundError, match="app not found: web"):
            delete_app(store, rack, "web")
        store.create_app("web")  # the name is free again, also for ids of the same spelling
        store.create_build(Build(id="BAAAAAAAAAA", app="web"))
    finally:
        store.close()
