"""The logins that a rack keeps for registries."""

from __future__ import annotations

import base64
import json
import stat
import threading
from pathlib import Path

import pytest

from convox.errors import NotFoundError, RackError, UsageError
from convox.rack import Rack
from convox.registries import Registry, add_registry, list_registries, registry_host, remove_registry


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return Rack(name="test", path=tmp_path / "racks" / "test")


def add(rack: Rack, server: str, username: str = "me", password: str = "canary:with=signs") -> None:
    add_registry(rack, Registry(server=server, username=username, password=password))


def test_adding_listing_removing(rack: Rack) -> None:
    assert list_registries(rack) == []
    add(rack, "registry.example.com:5000")
    add(rack, "https://index.docker.io/v1/", "hub")
    assert [(one.server, one.username, one.password) for one in list_registries(rack)] == [
        ("https://index.docker.io/v1/", "hub", "canary:with=signs"),
        ("registry.example.com:5000", "me", "canary:with=signs"),
    ]
    remove_registry(rack, "registry.example.com:5000")
    assert [one.server for one in list_registries(rack)] == ["https://index.docker.io/v1/"]


def test_the_file_is_dockers_and_private(rack: Rack) -> None:
    add(rack, "quay.io")
    path = rack.path / "registries.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    auth = base64.b64encode(b"me:canary:with=signs").decode()
    assert json.loads(path.read_text()) == {"auths": {"quay.io": {"auth": auth}}}


def test_one_host_has_one_login_whatever_its_spelling(rack: Rack) -> None:
    add(rack, "https://index.docker.io/v1/", "old")
    add(rack, "docker.io", "new")
    add(rack, "Quay.IO", "q")
    assert [(one.server, one.host, one.username) for one in list_registries(rack)] == [
        ("Quay.IO", "quay.io", "q"),
        ("docker.io", "docker.io", "new"),
    ]
    remove_registry(rack, "registry-1.docker.io")
    remove_registry(rack, "quay.io.")
    assert list_registries(rack) == []


def test_another_port_is_another_registry(rack: Rack) -> None:
    add(rack, "quay.io:443")
    with pytest.raises(NotFoundError, match=r"no such registry: quay\.io"):
        remove_registry(rack, "quay.io")


@pytest.mark.parametrize(
    "server", ["", "a b", "x/y", "quay.io/team", "ftp://quay.io", "me:canary@quay.io", "../x", "quay.io:x", "[::1"]
)
def test_texts_that_are_no_registry(rack: Rack, server: str) -> None:
    with pytest.raises(UsageError) as caught:
        add(rack, server)
    assert "canary" not in f"{caught.value}{caught.value.why}{caught.value.hint}"
    assert not rack.path.exists()


@pytest.mark.parametrize(("username", "password"), [("", "p"), ("a:b", "p"), ("a\nb", "p"), ("a", "")])
def test_what_cannot_be_a_login(rack: Rack, username: str, password: str) -> None:
    with pytest.raises(UsageError):
        add(rack, "quay.io", username, password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"auths": []}',
        '{"auths": {"quay.io": "canary"}}',
        '{"auths": {"quay.io": {"auth": "!canary"}}}',
        '{"auths": {"quay.io": {"auth": "Y2FuYXJ5"}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file(rack: Rack, text: str) -> None:
    rack.path.mkdir(parents=True)
    (rack.path / "registries.json").write_text(text)
    with pytest.raises(RackError, match="cannot read") as caught:
        list_registries(rack)
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


def test_a_symlink_is_not_followed(rack: Rack, tmp_path: Path) -> None:
    rack.path.mkdir(parents=True)
    (tmp_path / "else").write_text('{"auths": {}}')
    (rack.path / "registries.json").symlink_to(tmp_path / "else")
    with pytest.raises(RackError, match="cannot read"):
        list_registries(rack)


def test_changes_made_at_once_are_all_kept(rack: Rack) -> None:
    threads = [threading.Thread(target=add, args=(rack, f"r{number}.example.com")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_registries(rack)) == 12


def test_passwords_are_in_no_repr() -> None:
    assert "canary" not in repr(Registry(server="quay.io", username="me", password="canary"))


def test_every_name_of_the_hub_is_one_host() -> None:
    servers = ("docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/", "DOCKER.io.")
    assert {registry_host(server) for server in servers} == {"docker.io"}
    assert registry_host("docker.io.evil.example") == "docker.io.evil.example"
