"""States never change, and graphs that cannot work are refused where they are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

import pytest

from buildkit_client import OptionError, llb
from buildkit_client._proto import ops_pb2
from buildkit_client.gateway import ResolvedImage
from buildkit_client.oci import Platform

BASE = llb.image("base")
STEP = BASE.run("true", mounts=[llb.Mount("/o", llb.scratch()), llb.TmpfsMount("/t"), llb.CacheMount("/c", "id")])


def ops(state: llb.State) -> list[ops_pb2.Op]:
    return [ops_pb2.Op.FromString(op) for op in state.marshal(platform="linux/amd64").ops]


def test_states_never_change() -> None:
    before = BASE.marshal(platform="linux/amd64")
    changed = BASE.add_env("A", "1").dir("/x").user("u").platform("linux/arm64")
    changed.run("true").file(llb.mkdir("a"))
    assert BASE.marshal(platform="linux/amd64") == before
    assert (BASE.get_env("A"), changed.get_env("A")) == (None, "1")
    assert (BASE.get_dir(), changed.get_dir()) == ("/", "/x")


def test_a_chain_of_actions_never_changes() -> None:
    short = llb.mkdir("/a")
    long = short.mkdir("/b").rm("/c")
    assert [len(ops(BASE.file(action))[1].file.actions) for action in (short, long)] == [1, 3]


def test_what_a_step_is_told_ends_with_it() -> None:
    state = BASE.dir("/x").run("one", env={"A": "1"}, cwd="y", user="u", network="host", hostname="h")
    again = ops(state.run("two"))[2].exec
    assert (list(again.meta.env), again.meta.cwd, again.meta.user, again.meta.hostname) == ([], "/x", "", "")
    assert again.network == ops_pb2.UNSET


def test_every_marshal_gives_local_directories_another_id() -> None:
    ids = {ops(llb.local("context"))[0].source.attrs["local.unique"] for _ in range(3)}
    assert len(ids) == 3
    assert {len(unique) for unique in ids} == {25}


def test_the_platform_is_that_of_this_machine() -> None:
    op = ops_pb2.Op.FromString(BASE.marshal().ops[0])
    assert op.platform.OS
    assert op.platform.Architecture not in ("", "x86_64", "aarch64")
    assert ops(BASE)[0].platform.Architecture == "amd64"


def test_a_resolver_is_asked_once_for_the_platform() -> None:
    asked: list[tuple[str, str, str]] = []

    def resolver(ref: str, platform: Platform, resolve_mode: str) -> ResolvedImage:
        asked.append((ref, str(platform), resolve_mode))
        return ResolvedImage(ref, "", {"config": None})

    state = llb.image("alpine", platform="linux/aarch64", resolve_mode="pull", resolver=resolver, resolve_digest=True)
    assert ops(state)[0].source.identifier == "docker-image://docker.io/library/alpine:latest"
    assert asked == [("docker.io/library/alpine:latest", "linux/arm64", "pull")]


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (BASE.run, "nothing to run"),
        (lambda: BASE.run(""), "nothing to run"),
        (lambda: BASE.run([]), "nothing to run"),
        (lambda: BASE.run("a", shell="b"), "two commands"),
        (lambda: BASE.run("it's"), "cannot split"),
        (lambda: BASE.run("end\\"), "cannot split"),
        (lambda: BASE.run("a", env={"A=B": "c"}), "environment variable"),
        (lambda: BASE.add_env("", "c"), "environment variable"),
        (lambda: BASE.run("a", mounts=[llb.Mount("/", BASE)]), "target /"),
        (lambda: BASE.run("a", mounts=[llb.Mount("", BASE)]), "no target"),
        (lambda: BASE.run("a", mounts=[llb.Mount("/a", BASE), llb.TmpfsMount("/a")]), "two mounts"),
        (lambda: BASE.run("a", extra_hosts={"host": "name"}), "not an IP address"),
        (lambda: BASE.run("a", network="bridge").marshal(), "network cannot be 'bridge'"),  # type: ignore[arg-type]
        (lambda: BASE.run("a", security="all").marshal(), "security cannot be 'all'"),  # type: ignore[arg-type]
        (lambda: BASE.run("a", valid_exit_codes=[1 << 40]).marshal(), "cannot be marshalled"),
        (lambda: BASE.run(["\udcff"]).marshal(), "cannot be marshalled"),
        (lambda: BASE.run("a", custom_name="\udcff").marshal(), "cannot be marshalled"),
        (lambda: BASE.run("a", require=["\udcff"]).marshal(), "cannot be marshalled"),
        (lambda: BASE.run("a", resources=llb.LinuxResources(cpu_shares=-1)).marshal(), "cannot be marshalled"),
        (lambda: BASE.run("a", require="x"), "require is a list"),
        (lambda: BASE.run("a", platform="linux"), "not a platform"),
        (lambda: llb.CacheMount("/c", ""), "has no id"),
        (lambda: llb.Secret("id"), "cannot see the secret"),
        (lambda: llb.Secret("", "/s"), "no id"),
        (lambda: STEP.get_mount("/other"), "no mount at '/other'"),
        (lambda: STEP.get_mount("/t"), "nothing is kept"),
        (lambda: STEP.get_mount("/c"), "nothing is kept"),
        (lambda: BASE.file(llb.mkdir("/a", mode=0o1777)), "not a mode"),
        (lambda: BASE.file(llb.mkfile("/a", "", mode=0o4755)), "not a mode"),
        (lambda: llb.copy(BASE, "/", "/", mode=0o10000), "not a mode"),
        (lambda: llb.copy(BASE, "/", "/", include_patterns="*.py"), "include_patterns is a list"),
        (lambda: llb.symlink("a", "b"), "absolute path"),
        (lambda: llb.mkdir("/a", owner="-1"), "not a user"),
        (lambda: llb.mkdir("/a", owner=(0, -5)), "not a user"),
        (lambda: llb.mkdir("/a", created_time=datetime(2024, 1, 1)), "no time zone"),
        (lambda: llb.image("UPPER/Case"), "not an image reference"),
        (lambda: llb.image("a", checksum="sha256:abc"), "not a digest"),
        (lambda: llb.image("a", resolve_mode="never"), "resolve_mode cannot be"),  # type: ignore[arg-type]
        (lambda: llb.image("a", resolve_digest=True), "needs a resolver"),
        (lambda: BASE.with_image_config(b"{"), "not an image config"),
        (lambda: BASE.with_image_config("[]"), "not an image config"),
        (lambda: BASE.with_image_config({"os": 1, "architecture": "a"}), "not an image config"),
        (lambda: BASE.with_image_config('{"config":{"Env":"A=b"}}'), "not an image config"),
        (lambda: BASE.with_image_config('{"config":{"Env":[1]}}'), "not an image config"),
        (lambda: BASE.with_image_config('{"config":[1]}'), "not an image config"),
        (lambda: BASE.with_image_config('{"config":{"WorkingDir":1}}'), "not an image config"),
        (lambda: BASE.with_image_config("[" * 200_000), "not an image config"),
        (lambda: llb.oci_layout(""), "no reference"),
        (lambda: llb.local(""), "no name"),
        (lambda: llb.local("a", differ="all"), "differ cannot be"),  # type: ignore[arg-type]
        (lambda: llb.local("a", exclude_patterns="*"), "exclude_patterns is a list"),
        (lambda: llb.http("ftp://a/b"), "not the address of a file"),
        (lambda: llb.http("https://a/b", chmod=0o4755), "not a mode"),
        (lambda: llb.http("https://a/b", checksum="x"), "not a digest"),
        (lambda: llb.git("git@host:a.git"), "needs known_ssh_hosts"),
    ],
)
def test_what_cannot_work_is_refused(write: Callable[[], object], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        write()


def test_keywords_that_do_not_exist() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        BASE.run("a", nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nonsense"):
        llb.copy(BASE, "/", "/", nonsense=1)  # type: ignore[call-arg]


def test_any_host_key_has_to_be_said() -> None:
    attrs = ops(llb.git("git@host:a.git", known_ssh_hosts=""))[0].source.attrs
    assert "git.knownsshhosts" not in attrs
    assert attrs["git.mountsshsock"] == "default"


def test_an_image_config_without_a_platform() -> None:
    config = {"config": {"Env": ["A=b=c", "=x", "LONELY"], "WorkingDir": ""}}
    state = BASE.dir("/was").with_image_config(json.dumps(config))
    assert (state.get_env("A"), state.get_env("LONELY"), state.get_dir()) == ("b=c", "", "/was")
    assert state.values.platform is None


def test_the_data_of_a_file_is_not_shown() -> None:
    assert "hush" not in repr(llb.mkfile("/f", "hush").with_state(BASE))


def test_logins_of_proxies_are_not_shown() -> None:
    proxy = llb.ProxyEnv(http_proxy="http://u:hush@p", https_proxy="http://u:hush@p", all_proxy="http://u:hush@p")
    assert "hush" not in repr(proxy)
