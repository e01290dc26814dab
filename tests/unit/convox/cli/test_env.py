"""Values from stdin and from an editor, and passwords that are asked for."""

from __future__ import annotations

import getpass
import io
import json
import sys
from pathlib import Path

import pytest

from convox.cli.app import main
from tests.support.convox_cli import open_local_store, run


def test_values_come_from_stdin(config_path: Path) -> None:
    result = run("env", "set", stdin=b"# comment\nA=1\n\nB=two words\n")
    assert (result.code, result.stdout[:17]) == (0, b"Setting A, B... O")
    assert run("env", "set", "-", "C=3", stdin=b"A=2\n").code == 0
    assert run("env", "--reveal").stdout == b"A=2\nB=two words\nC=3\n"


def test_arguments_leave_stdin_alone(config_path: Path) -> None:
    assert run("env", "set", "A=1", stdin=b"B=not read\n").code == 0
    assert run("env", "--reveal").stdout == b"A=1\n"


@pytest.mark.parametrize(
    ("stdin", "text"),
    [
        (b"", b"ERROR: no key=value is given\n"),
        (b"A=1\ncanary\n", b"ERROR: stdin, line 2: it is not NAME=value\n"),
        (b"A=\xff", b"ERROR: stdin is not UTF-8\n"),
        (b"A=****\n", b"ERROR: the value of A is the mask ****\n"),
    ],
)
def test_stdin_that_is_no_environment(config_path: Path, stdin: bytes, text: bytes) -> None:
    result = run("env", "set", stdin=stdin)
    assert result.code == 2
    assert result.stderr.startswith(text)
    assert b"canary" not in result.stderr
    assert open_local_store(config_path).list_apps() == []


def test_masked_output_cannot_be_set_by_mistake(config_path: Path) -> None:
    run("env", "set", "A=canary")
    assert run("env", "set", stdin=run("env").stdout).code == 2
    assert run("env", "set", stdin=run("env", "--reveal").stdout).code == 0


def use_editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    script = tmp_path / "editor.py"
    script.write_text(f"import sys, pathlib; pathlib.Path(sys.argv[1]).write_text({text!r})")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_editing(config_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_editor(monkeypatch, tmp_path, "\nB=2\n# gone\nA=1\n\n")
    first = run("env", "edit", "-p")
    assert first.stdout.startswith(b"Setting A, B... OK\nRelease: R")
    assert b"\nPromoting R" in first.stdout
    assert run("env", "--reveal").stdout == b"A=1\nB=2\n"
    again = run("env", "edit")
    assert (again.code, again.stdout) == (0, b"")
    assert b"nothing was changed" in again.stderr
    assert len(json.loads(run("releases", "--output", "json").stdout)) == 1
    use_editor(monkeypatch, tmp_path, "A=1\ncanary")
    refused = run("env", "edit")
    assert refused.stderr.startswith(b"ERROR: the edited text, line 2: it is not NAME=value\n")
    assert b"canary" not in refused.stderr
    assert run("env", "--reveal").stdout == b"A=1\nB=2\n"


@pytest.mark.parametrize("words", ["env set A=1", "releases rollback R", "build", "builds import -f x"])
def test_stdout_is_for_one(config_path: Path, words: str) -> None:
    """An id alone and a record cannot both have it; refused before anything is done."""
    result = run(*words.split(), "--id", "--output", "json")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"ERROR: --id and --output json both want stdout for themselves\n")
    assert run("env").code == 1


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_password_is_asked_for_on_a_terminal(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"{prompt}canary")
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
    assert main(["registries", "add", "quay.io", "me"]) == 0
    assert "UGFzc3dvcmQ6IGNhbmFyeQ" not in (config_path / "racks/local/params.json").read_text()
    from convox.rack import get_rack
    from convox.registries import list_registries

    assert [one.password for one in list_registries(get_rack(config_path, "local"))] == ["Password: canary"]


def test_nothing_to_set_on_a_terminal(
    config_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
    assert main(["env", "set"]) == 2


@pytest.mark.parametrize("stdin", [b"", b"\n", b"\xff"])
def test_a_password_on_stdin_that_is_none(config_path: Path, stdin: bytes) -> None:
    result = run("registries", "add", "quay.io", "me", "--password-stdin", stdin=stdin)
    assert result.code == 2
    assert result.stdout == b""


def test_a_key_file_on_stdin_is_kept_whole(config_path: Path) -> None:
    key = b'{\n  "private_key": "x"\n}\n'
    assert run("registries", "add", "gcr.io", "_json_key", "-", stdin=key).code == 0
    from convox.rack import get_rack
    from convox.registries import list_registries

    assert list_registries(get_rack(config_path, "local"))[0].password == key.decode().rstrip("\n")


def test_an_app_with_a_running_build_is_not_deleted(config_path: Path) -> None:
    from convox.models import Build
    from convox.store.process import current_process_id

    store = open_local_store(config_path)
    store.create_build(Build(id="BAAAAAAAAAA", app="web", process=current_process_id()))
    store.close()
    result = run("apps", "delete", "web")
    assert (result.code, result.stdout) == (1, b"Deleting web... ")
    assert b"why: build BAAAAAAAAAA is created" in result.stderr
    refused = run("rack", "uninstall", "local")
    assert b"ERROR: rack local is in use\n" in refused.stderr
    assert run("apps").stdout == b"APP  STATUS   RELEASE\nweb  running  \n"


def test_an_app_whose_build_was_left_behind_is_deleted(config_path: Path) -> None:
    from convox.models import Build

    store = open_local_store(config_path)
    store.create_build(Build(id="BAAAAAAAAAA", app="web", process="gone:1:2"))
    store.close()
    # Of another host nothing can be told, so its builds count as running.
    assert run("apps", "delete", "web").code == 1


def test_a_plan_hides_values_of_the_environment_wherever_they_are_put(config_path: Path) -> None:
    Path("convox.yml").write_text("services: {web: {build: {args: ['LABEL=x-${PLACE}', 'NEAR=${PLACE}']}}}\n")
    Path("Dockerfile").write_text("FROM scratch\nARG LABEL NEAR PLACE\n")
    assert run("env", "set", "PLACE=canary-place").code == 0
    shown = run("build", "--print").stdout
    assert b"LABEL=x-***\n" in shown
    assert b"NEAR=***\n" in shown
    assert b"canary" not in shown + run("build", "--print", "--output", "json").stdout


PUT_IN = {
    "name": "services: {'${MY_TOKEN}_x': {build: .}}",
    "key": "services:\n  web: {build: .}\n${MY_TOKEN}: 1\n${MY_TOKEN}: 2\n",
    "path": "services: {web: {build: '${MY_TOKEN}'}}",
}


@pytest.mark.parametrize(
    ("words", "place"),
    [
        *(("build", place) for place in PUT_IN),
        *(("build --print", place) for place in PUT_IN),
        *(("builds import-image example.com/x:1", place) for place in ("name", "key")),  # it reads no paths
    ],
)
def test_an_error_of_a_manifest_shows_no_secret_that_was_put_in(config_path: Path, words: str, place: str) -> None:
    Path("convox.yml").write_text(PUT_IN[place])
    assert run("env", "set", "MY_TOKEN=canary-token").code == 0
    result = run(*words.split())
    assert (result.code, b"ERROR: " in result.stderr) == (1, True)
    shown = run("builds", "--output", "json").stdout
    for build in json.loads(shown):
        shown += run("builds", "logs", build["id"]).stdout
    assert b"canary" not in result.stdout + result.stderr + shown
