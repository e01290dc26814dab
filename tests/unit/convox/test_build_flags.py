"""Flags in buildctl's words, and what is wrong with them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from buildkit_client.cli.build_options import parse_export_cache, parse_import_cache
from buildkit_client.errors import OptionError
from buildkit_client.options import RawCache, SecretValue, SshAgent, SshKeys
from convox.build_flags import (
    CacheFlag,
    caches_of,
    check_cache_exports,
    read_platforms,
    read_secrets,
    read_ssh,
)
from convox.errors import UsageError

RUNNER = {"ACTIONS_RESULTS_URL": "https://results", "ACTIONS_RUNTIME_TOKEN": "canary", "ACTIONS_CACHE_SERVICE_V2": "1"}


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("registry.example.com/app:cache", {}),
        ("type=registry,ref=r/app:cache", {}),
        ("type=registry,REF=r/app", {}),
        ('type=registry,"ref=r/app,b"', {}),
        ("type=gha,url=u,token=t", {}),
        ("type=gha", RUNNER),
        ("type=s3,bucket=b,region=r,name=n", {}),
    ],
)
def test_caches_are_read_as_buildctl_reads_them(text: str, environ: dict[str, str]) -> None:
    ours = CacheFlag(text, environ=environ).cache("web")
    theirs = parse_import_cache(text, environ=environ)
    assert (ours.type, ours.to_import_attrs()) == (theirs.type, theirs.to_import_attrs())
    exported = CacheFlag(text, is_export=True, environ=environ).cache("web")
    expected = parse_export_cache(text, environ=environ)
    assert (exported.type, exported.to_export_attrs()) == (expected.type, expected.to_export_attrs())


@pytest.mark.parametrize("text", ["", "a b", "ref=x,mode=max", "type=,ref=x", "type=registry,ref", '"', "type=gha"])
def test_caches_that_cannot_be_read(text: str) -> None:
    with pytest.raises((UsageError, OptionError)):
        CacheFlag(text).cache("web")


@pytest.mark.parametrize("text", ["type=regisry,ref=x", "type=registry,ref=x,modee=max"])
def test_misspelt_words_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        CacheFlag(text, is_export=True).cache("web")


def test_a_cache_for_each_service() -> None:
    flags = [CacheFlag("type=registry,ref=r/{service}", is_export=True), CacheFlag("r/all", is_export=True)]
    assert caches_of(flags, ["web", "api"]) == [
        RawCache("registry", {"ref": "r/web"}),
        RawCache("registry", {"ref": "r/api"}),
        RawCache("registry", {"ref": "r/all"}),
    ]
    check_cache_exports(flags, [["web", "api"]])
    check_cache_exports(flags[:1], [["web"], ["api"]])
    check_cache_exports([CacheFlag("type=inline", is_export=True)], [["web"], ["api"]])
    with pytest.raises(UsageError, match="--cache-to names one cache for 2 images"):
        check_cache_exports(flags, [["web"], ["api"]])


def test_a_local_cache_is_one_of_each_service() -> None:
    flag = CacheFlag("type=local,dest=cache/{service}", is_export=True)
    assert flag.cache("web").to_export_attrs() == {"dest": "cache/web", "mode": "min"}


def test_tokens_are_in_no_repr() -> None:
    assert "canary" not in repr(CacheFlag("type=gha,token=canary", environ=RUNNER))


def test_secrets(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff line\n")
    environ = {"VARIABLE": "value", "both": "variable wins"}
    (tmp_path / "both").write_text("file loses")
    found = read_secrets(
        ["id=a,src=file", "type=env,id=b,src=VARIABLE", "id=c,env=VARIABLE", "id=both", "id=file"],
        cwd=tmp_path,
        environ=environ,
    )
    assert found.secrets == {
        "a": SecretValue(b"\xff line\n"),
        "b": SecretValue(b"value"),
        "c": SecretValue(b"value"),
        "both": SecretValue(b"variable wins"),
        "file": SecretValue(b"\xff line\n"),
    }
    assert found.values[0].encode("utf-8", "surrogateescape") == b"\xff line\n"
    assert "value" not in repr(found)


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["id=a,src=missing"], "secret a cannot be read from missing"),
        (["id=a,src=folder"], "secret a cannot be read from folder"),
        (["id=a,src=large"], "secret a cannot be read from large"),
        (["id=a,src=pipe"], "secret a cannot be read from pipe"),
        (["id=a,env=NO"], "secret a has no value"),
        (["id=a,env=X", "id=a,env=X"], "secret a is given twice"),
        (["id=a,type=vault"], "--secret has an unknown type vault"),
        (["id=a,sorce=x"], "--secret has an unknown key sorce"),
        (["src=x"], "--secret has no id"),
        (["canary"], "--secret cannot be read"),
        (["id=a,canary"], "--secret cannot be read"),
        ([""], "--secret has no id"),
    ],
)
def test_secrets_that_cannot_be_had(tmp_path: Path, texts: list[str], error: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * (500 * 1024 + 1))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as caught:
        read_secrets(texts, cwd=tmp_path, environ={"X": "1"})
    assert str(caught.value) == error
    assert "canary" not in f"{caught.value} {caught.value.why} {caught.value.hint}"


def test_ssh(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        found = read_ssh(
            ["default", "raw=agent,raw=true", "keys=one,/two"], cwd=tmp_path, environ={"SSH_AUTH_SOCK": "/run/agent"}
        )
    assert found == {
        "default": SshAgent(Path("/run/agent")),
        "raw": SshAgent(tmp_path / "agent", raw=True),
        "keys": SshKeys((tmp_path / "one", Path("/two"))),
    }


@pytest.mark.parametrize("texts", [["default"], ["=x"], ["a=k1,k2,raw=true"], ["a=k,raw=maybe"], ["a=k", "a=k"]])
def test_ssh_that_cannot_work(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--ssh"):
        read_ssh(texts, cwd=tmp_path, environ={})


def test_platforms() -> None:
    assert read_platforms(["linux/amd64, linux/arm64", "linux/amd64", "linux/arm/v7"]) == (
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
    )
    for text in ("", "linux/", "linux amd64", "linux/amd64,"):
        with pytest.raises(UsageError, match="invalid platform"):
            read_platforms([text])
