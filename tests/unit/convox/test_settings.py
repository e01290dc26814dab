"""Where values come from when nobody gave them on the command line."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from convox.errors import RackError, UsageError
from convox.settings import RackChoice, Settings, check_app_name


def load(cwd: Path, *, rack: str | None = None, app: str | None = None, **environ: str) -> Settings:
    return Settings.load({"HOME": "/home/me"} | environ, cwd, rack=rack, app=app)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_defaults() -> None:
    settings = load(Path("/srv/dir"))
    assert settings.config_path == Path("/home/me/.config/convox")
    assert settings.cache_path == Path("/home/me/.cache/convox")
    assert settings.docker_config_path == Path("/home/me/.docker/config.json")
    assert settings.buildkit_host == ""
    assert settings.runtime_path is None
    assert settings.source_date_epoch == ""
    assert (settings.is_color_allowed, settings.is_ci, settings.is_debug) == (True, False, False)


def test_everything_set() -> None:
    settings = load(
        Path("/srv/dir"),
        CONVOX_CONFIG="/etc/convox",
        XDG_CACHE_HOME="/var/cache",
        XDG_RUNTIME_DIR="/run/user/1",
        DOCKER_CONFIG="/etc/docker",
        BUILDKIT_HOST=" tcp://b:1234 ",
        SOURCE_DATE_EPOCH="0",
        NO_COLOR="1",
        CI="true",
        CONVOX_DEBUG="1",
    )
    assert settings.config_path == Path("/etc/convox")
    assert settings.cache_path == Path("/var/cache/convox")
    assert settings.runtime_path == Path("/run/user/1")
    assert settings.docker_config_path == Path("/etc/docker/config.json")
    assert settings.buildkit_host == "tcp://b:1234"
    assert settings.source_date_epoch == "0"
    assert (settings.is_color_allowed, settings.is_ci, settings.is_debug) == (False, True, True)


def test_relative_folders() -> None:
    settings = load(
        Path("/w"), CONVOX_CONFIG="conf", DOCKER_CONFIG="d", XDG_CONFIG_HOME="ignored", XDG_RUNTIME_DIR="ignored"
    )
    assert (settings.config_path, settings.docker_config_path) == (Path("/w/conf"), Path("/w/d/config.json"))
    assert settings.runtime_path is None
    assert load(Path("/w"), XDG_CONFIG_HOME="relative").config_path == Path("/home/me/.config/convox")
    assert load(Path("/w"), XDG_CONFIG_HOME="/xdg").config_path == Path("/xdg/convox")


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_switches_that_are_off(value: str) -> None:
    settings = load(Path("/w"), CI=value, CONVOX_DEBUG=value)
    assert (settings.is_ci, settings.is_debug) == (False, False)


def test_colour_is_off_for_a_dumb_terminal_and_on_for_an_empty_no_color() -> None:
    assert not load(Path("/w"), TERM="dumb").is_color_allowed
    assert load(Path("/w"), NO_COLOR="", TERM="xterm").is_color_allowed


def test_no_home_variable() -> None:
    settings = Settings.load({}, Path("/w"))
    assert settings.config_path.is_absolute()
    assert settings.config_path.parts[-2:] == (".config", "convox")


def test_the_real_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVOX_CONFIG", "/c")
    settings = Settings.load()
    assert (settings.cwd, settings.config_path) == (tmp_path, Path("/c"))


def test_a_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the current folder does not exist"):
        Settings.load({"HOME": "/h"})


def test_the_environment_stays_out_of_the_repr() -> None:
    assert "hunter2" not in repr(load(Path("/w"), NPM_TOKEN="hunter2"))


# racks


def test_each_source_of_the_rack_wins_over_those_after_it(tmp_path: Path) -> None:
    cwd, config = tmp_path / "app", tmp_path / "config"
    cwd.mkdir()

    def choice(*, rack: str | None = None, **environ: str) -> RackChoice:
        return load(cwd, rack=rack, CONVOX_CONFIG=str(config), **environ).rack_choice()

    assert choice() == RackChoice(name="local", source="", is_exact=True)
    write(config / "current", json.dumps({"name": "switched", "type": "local"}))
    assert choice() == RackChoice(name="switched", source=str(config / "current"), is_exact=True)
    write(config / "rack", "setting\n")
    assert choice() == RackChoice(name="setting", source=str(config / "rack"))
    write(cwd / ".convox" / "rack", " folder \n")
    assert choice() == RackChoice(name="folder", source=str(cwd / ".convox" / "rack"))
    assert choice(CONVOX_RACK="variable") == RackChoice(name="variable", source="CONVOX_RACK")
    assert choice(CONVOX_RACK="variable", rack="flag") == RackChoice(name="flag", source="-r")
    assert choice(CONVOX_RACK="", rack="").name == "folder"


def test_only_the_current_folder_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path / ".convox" / "rack", "above")
    write(tmp_path / ".convox" / "app", "above")
    (tmp_path / "sub").mkdir()
    settings = load(tmp_path / "sub", CONVOX_CONFIG=str(tmp_path / "none"))
    assert (settings.rack_choice().name, settings.app_name()) == ("local", "sub")


def test_a_rack_on_another_machine_is_refused_without_its_password(tmp_path: Path) -> None:
    settings = load(tmp_path, rack="mine", RACK_URL="https://convox:hunter2@rack.example.com")
    with pytest.raises(RackError, match="RACK_URL is set") as caught:
        settings.rack_choice()
    assert caught.value.hint == "unset RACK_URL"
    assert "hunter2" not in f"{caught.value!r}{caught.value.why}{caught.value.hint}"
    assert load(tmp_path, RACK_URL="  ", CONVOX_CONFIG=str(tmp_path)).rack_choice().name == "local"


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"name": 1}', '{"name": ""}', "[" * 9999])
def test_a_current_file_that_makes_no_sense(tmp_path: Path, text: str) -> None:
    write(tmp_path / "current", text)
    with pytest.raises(RackError) as caught:
        load(tmp_path, CONVOX_CONFIG=str(tmp_path)).rack_choice()
    assert str(caught.value) == f"cannot read {tmp_path / 'current'}"
    assert "convox switch" in caught.value.hint


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    settings = load(tmp_path, CONVOX_CONFIG=str(tmp_path / "config"))
    (tmp_path / ".convox" / "rack").mkdir(parents=True)
    with pytest.raises(RackError) as caught:
        settings.rack_choice()
    assert caught.value.why == "it is a folder"
    (tmp_path / ".convox" / "rack").rmdir()
    (tmp_path / ".convox" / "rack").write_bytes(b"\xff")
    with pytest.raises(RackError) as caught:
        settings.rack_choice()
    assert caught.value.why == "it is not UTF-8"
    (tmp_path / ".convox" / "rack").write_bytes(b"x" * 20_000)
    with pytest.raises(RackError, match="cannot read"):
        settings.rack_choice()


def test_a_file_where_the_folder_should_be_counts_as_nothing(tmp_path: Path) -> None:
    write(tmp_path / ".convox", "")
    assert load(tmp_path, CONVOX_CONFIG=str(tmp_path / ".convox")).rack_choice().name == "local"


# apps


def test_each_source_of_the_app(tmp_path: Path) -> None:
    cwd = tmp_path / "my-app"
    cwd.mkdir()
    assert load(cwd).app_name() == "my-app"
    write(cwd / ".convox" / "app", "named\n")
    assert load(cwd).app_name() == "named"
    assert load(cwd, app="flag").app_name() == "flag"
    assert load(cwd, CONVOX_APP="never").app_name() == "named"


@pytest.mark.parametrize("name", ["My App", "1app", "-a", "a_b", "a.b", "../x", "a/b", "é", "a\n", ""])
def test_names_that_no_app_can_have(name: str) -> None:
    with pytest.raises(UsageError, match="invalid, must contain only lowercase alphanumeric and dashes"):
        check_app_name(name)


def test_an_unfit_name_says_where_it_comes_from(tmp_path: Path) -> None:
    cwd = tmp_path / "My App"
    cwd.mkdir()
    with pytest.raises(UsageError) as caught:
        load(cwd).app_name()
    assert caught.value.why == "it is the name of the current folder"
    write(cwd / ".convox" / "app", "Bad")
    with pytest.raises(UsageError) as caught:
        load(cwd).app_name()
    assert caught.value.why == f"it comes from {cwd / '.convox' / 'app'}"


@pytest.mark.parametrize("name", ["rack", "system"])
def test_reserved_names(name: str) -> None:
    with pytest.raises(UsageError, match=r"^app name is reserved$"):
        check_app_name(name, "-a")


def test_the_root_folder_is_no_app() -> None:
    with pytest.raises(UsageError, match="app name  invalid"):
        load(Path("/")).app_name()


def test_a_long_name() -> None:
    check_app_name("a" * 63)
    with pytest.raises(UsageError, match="is too long"):
        check_app_name("a" * 64)


# the rule of the house


def test_nothing_else_reads_the_environment() -> None:
    package = Path(__file__).parents[3] / "convox"
    readers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers == {"settings.py"}


def test_a_pipe_in_place_of_a_setting_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".convox").mkdir()
    os.mkfifo(tmp_path / ".convox" / "rack")
    with pytest.raises(RackError) as caught:
        load(tmp_path).rack_choice()
    assert caught.value.why == "it is not a regular file"


def test_a_large_setting_is_called_large(tmp_path: Path) -> None:
    write(tmp_path / ".convox" / "rack", "é" * 20_000)
    with pytest.raises(RackError) as caught:
        load(tmp_path).rack_choice()
    assert caught.value.why == "it has more than 16384 bytes"
