"""Racks: found, made, chosen and changed, with nothing of theirs open to others."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from convox.errors import RackError
from convox.rack import (
    Rack,
    check_rack_name,
    create_rack,
    current_rack,
    get_rack,
    list_racks,
    remove_rack,
    switch_rack,
    update_params,
)
from convox.settings import Settings
from convox.store import sqlite_url


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config"


def names(config: Path) -> list[str]:
    return [rack.name for rack in list_racks(config)]


def settings(config: Path, *, rack: str = "", **environ: str) -> Settings:
    return Settings.load({"HOME": "/h", "CONVOX_CONFIG": str(config)} | environ, config.parent, rack=rack)


def test_local_is_there_before_anything_is_written(config: Path) -> None:
    assert names(config) == ["local"]
    assert not config.exists()


def test_local_is_made_on_first_use(config: Path) -> None:
    rack = get_rack(config, "local")
    assert json.loads((rack.path / "params.json").read_text()) == {}
    assert get_rack(config, "local") == rack
    assert names(config) == ["local"]


def test_racks_are_listed_by_name(config: Path) -> None:
    for name in ("staging", "a", "production"):
        create_rack(config, name)
    assert names(config) == ["a", "local", "production", "staging"]


def test_what_is_no_rack_is_not_listed(config: Path) -> None:
    create_rack(config, "mine")
    (config / "racks" / "terraform").mkdir()
    (config / "racks" / "terraform" / "main.tf").touch()
    (config / "racks" / "file").touch()
    (config / "racks" / ".hidden").mkdir()
    (config / "racks" / "link").symlink_to("mine")
    assert names(config) == ["local", "mine"]


def test_finding(config: Path) -> None:
    for name in ("prod", "prod-eu", "staging"):
        create_rack(config, name)
    assert get_rack(config, "prod").name == "prod"
    assert get_rack(config, "stag").name == "staging"
    assert get_rack(config, "-eu").name == "prod-eu"
    assert get_rack(config, "loc").name == "local"
    with pytest.raises(RackError) as caught:
        get_rack(config, "pro")
    assert (str(caught.value), caught.value.why) == ("ambiguous rack name: pro", "it is part of prod, prod-eu")
    with pytest.raises(RackError) as caught:
        get_rack(config, "test")
    assert str(caught.value) == "could not find rack: test"
    assert "local, prod, prod-eu, staging" in caught.value.hint
    with pytest.raises(RackError, match="could not find rack: stag"):
        get_rack(config, "stag", is_exact=True)


@pytest.mark.parametrize("name", ["", ".", "..", "../config/racks/mine", "/", "mine/", "org/mine"])
def test_a_name_is_never_a_path(config: Path, name: str) -> None:
    create_rack(config, "mine")
    with pytest.raises(RackError, match="could not find rack: "):
        get_rack(config, name)


def test_making(config: Path) -> None:
    rack = create_rack(config, "mine", {"registry": "r.example.com", "builder": ""})
    assert rack.params == {"registry": "r.example.com"}
    assert get_rack(config, "mine") == rack
    with pytest.raises(RackError, match="rack mine already exists"):
        create_rack(config, "mine")
    assert get_rack(config, "mine") == rack


CHARACTERS = (
    "rack name must start with a lowercase letter and contain only lowercase alphanumeric characters and hyphens"
)


@pytest.mark.parametrize("name", ["", "1a", "-a", "A", "a_b", "a/b", "..", "a\n", "é", "a" * 27])
def test_names_that_no_rack_can_have(config: Path, name: str) -> None:
    with pytest.raises(RackError) as caught:
        create_rack(config, name)
    assert str(caught.value) == ("rack name must be 26 characters or fewer" if len(name) > 26 else CHARACTERS)
    assert not config.exists()


def test_the_longest_name() -> None:
    check_rack_name("a" * 26)
    check_rack_name("a-1-")


def test_switching(config: Path) -> None:
    create_rack(config, "staging")
    assert switch_rack(config, "stag").name == "staging"
    assert json.loads((config / "current").read_text())["name"] == "staging"
    assert current_rack(settings(config)).name == "staging"
    assert switch_rack(config, "local").name == "local"
    assert current_rack(settings(config)).name == "local"
    with pytest.raises(RackError, match="could not find rack: nope"):
        switch_rack(config, "nope")
    assert current_rack(settings(config)).name == "local"


def test_the_current_rack(config: Path) -> None:
    assert current_rack(settings(config)).name == "local"
    create_rack(config, "staging")
    assert current_rack(settings(config, rack="stag")).name == "staging"
    with pytest.raises(RackError) as caught:
        current_rack(settings(config, CONVOX_RACK="nope"))
    assert (str(caught.value), caught.value.why) == ("could not find rack: nope", "the name comes from CONVOX_RACK")
    (config / "current").write_text('{"name": "stag", "type": "terraform"}')
    with pytest.raises(RackError, match="could not find rack: stag"):
        current_rack(settings(config))


def test_changing_params(config: Path) -> None:
    rack = get_rack(config, "local")
    changed = update_params(rack, {"registry": "r", "docker_hub_password": "hunter2"})
    assert changed.params == {"docker_hub_password": "hunter2", "registry": "r"}
    assert get_rack(config, "local").params == changed.params
    # An older view of the rack takes nothing away that it does not name.
    assert update_params(rack, {"registry": "", "builder": "unix:///b"}).params == {
        "docker_hub_password": "hunter2",
        "builder": "unix:///b",
    }
    assert "hunter2" not in repr(changed)


def test_changes_of_several_processes_are_all_kept(config: Path) -> None:
    get_rack(config, "local")
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from convox.rack import get_rack, update_params
        rack = get_rack(Path(sys.argv[1]), "local")
        for index in range(20):
            update_params(rack, {f"{sys.argv[2]}{index}": "1"})
        """)
    workers = [subprocess.Popen([sys.executable, "-c", script, str(config), name]) for name in "abc"]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    assert len(get_rack(config, "local").params) == 60


def test_local_is_made_once_by_several_processes(config: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from convox.rack import get_rack, update_params
        update_params(get_rack(Path(sys.argv[1]), "local"), {sys.argv[2]: "1"})
        """)
    workers = [subprocess.Popen([sys.executable, "-c", script, str(config), name]) for name in "abcd"]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0, 0]
    assert sorted(get_rack(config, "local").params) == ["a", "b", "c", "d"]


def test_nothing_is_open_to_others_under_any_umask(config: Path) -> None:
    import os

    old = os.umask(0)
    try:
        update_params(get_rack(config, "local"), {"docker_hub_password": "x"})
        create_rack(config, "mine")
        switch_rack(config, "mine")
    finally:
        os.umask(old)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (config, *config.rglob("*"))}
    assert len(modes) == 7
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_symlinks_in_the_place_of_racks_are_refused(config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (config / "racks").mkdir(parents=True)
    (config / "racks" / "local").symlink_to(elsewhere)
    with pytest.raises(RackError, match="cannot make rack local"):
        get_rack(config, "local")
    (config / "racks" / "local").unlink()
    (config / "racks").rmdir()
    (config / "racks").symlink_to(elsewhere)
    with pytest.raises(RackError, match="cannot make rack mine"):
        create_rack(config, "mine")
    assert list(elsewhere.iterdir()) == []


def test_a_symlink_in_the_place_of_params_is_not_read(config: Path, tmp_path: Path) -> None:
    rack = create_rack(config, "mine")
    (tmp_path / "other.json").write_text('{"registry": "evil"}')
    (rack.path / "params.json").unlink()
    (rack.path / "params.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(RackError, match=r"cannot read .*params\.json"):
        list_racks(config)


def test_a_config_folder_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "config").symlink_to("real")
    create_rack(tmp_path / "config", "mine")
    assert switch_rack(tmp_path / "config", "mine").name == "mine"
    assert names(tmp_path / "real") == ["local", "mine"]


@pytest.mark.parametrize("text", ["", "x", "[]", '{"a": 1}', '{"a": null}', "[" * 9999, "\udcff"])
def test_damaged_params(config: Path, text: str) -> None:
    rack = create_rack(config, "mine")
    (rack.path / "params.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RackError) as caught:
        list_racks(config)
    assert str(caught.value) == f"cannot read {rack.path / 'params.json'}"
    assert caught.value.why == "it is not a JSON object of texts"
    assert caught.value.hint


def test_a_file_in_the_place_of_the_config_folder(config: Path) -> None:
    config.touch()
    with pytest.raises(RackError) as caught:
        get_rack(config, "local")
    assert caught.value.why == "Not a directory"


def test_what_a_rack_says(tmp_path: Path) -> None:
    rack = Rack(name="local", path=tmp_path / "a b" / "local")
    assert (rack.provider, rack.status, rack.builders) == ("local", "running", ())
    assert rack.store_url == sqlite_url(rack.path / "store.db")
    assert (rack.logs_path, rack.images_path) == (rack.path / "logs", rack.path / "images")
    assert (rack.param("cache"), rack.param("registry"), rack.param("nonsense")) == ("registry", "", "")
    assert rack.repository("web") == "localhost/web"
    set_up = Rack(
        name="x",
        path=tmp_path,
        params={
            "registry": "h:5000/a",
            "builder": "unix:///a,tcp://b:1",
            "store": "postgresql://h/d",
            "provider": "do",
        },
    )
    assert set_up.repository("web") == "h:5000/a/web"
    assert set_up.builders == ("unix:///a", "tcp://b:1")
    assert (set_up.store_url, set_up.provider) == ("postgresql://h/d", "do")


def test_uninstalling(config: Path) -> None:
    rack = create_rack(config, "prod", {"registry": "r.example.com"})
    create_rack(config, "production")
    (rack.path / "images").mkdir()
    (rack.path / "images/blob").write_text("x")
    switch_rack(config, "prod")
    with pytest.raises(RackError, match="could not find rack: pro"):
        remove_rack(config, "pro")
    remove_rack(config, "prod")
    assert [one.name for one in list_racks(config)] == ["local", "production"]
    assert sorted(path.name for path in (config / "racks").iterdir()) == ["production"]
    assert not (config / "current").exists()
    assert create_rack(config, "prod").param("registry") == ""


def test_uninstalling_keeps_the_choice_of_another_rack(config: Path) -> None:
    for name in ("one", "two"):
        create_rack(config, name)
    switch_rack(config, "two")
    remove_rack(config, "one")
    assert current_rack(Settings.load({"CONVOX_CONFIG": str(config), "HOME": "/"}, config.parent)).name == "two"


def test_defaults_are_those_of_the_provider(config: Path) -> None:
    idle = {
        p: Rack(name="x", path=config, params={"provider": p}).param("idle_timeout") for p in ("aws", "azure", "do")
    }
    assert idle == {"aws": "3600", "azure": "4", "do": ""}
    assert Rack(name="x", path=config, params={"provider": "do"}).param("registry_disk") == "50Gi"
    assert Rack(name="x", path=config).param("region") == ""


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_says_where_else(
    config: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("convox.rack.make_private_folder", refuse)
    with pytest.raises(RackError, match="cannot make rack local") as caught:
        get_rack(config, "local")
    assert caught.value.why == f"{os.strerror(number)}: {config / 'racks'}"
    assert "CONVOX_CONFIG" in caught.value.hint
