"""Addresses of git repositories; thousands more are compared with Go in the integration tests."""

from __future__ import annotations

import pytest

from buildkit_client import OptionError
from buildkit_client.llb.git_url import GitUrl


@pytest.mark.parametrize(
    ("text", "identifier", "remote"),
    [
        (
            "https://github.com/moby/buildkit.git",
            "github.com/moby/buildkit.git",
            "https://github.com/moby/buildkit.git",
        ),
        ("github.com/moby/buildkit", "github.com/moby/buildkit", "https://github.com/moby/buildkit"),
        ("git@github.com:moby/buildkit.git", "github.com/moby/buildkit.git", "git@github.com:moby/buildkit.git"),
        ("ssh://git@host:2222//a/../b%20c", "host:2222/b c", "ssh://git@host:2222//a/../b%20c"),
        ("HTTPS://u%40x:p@h", "h/", "https://u%40x:p@h"),
        ("http://[::1]:80/x", "[::1]:80/x", "http://[::1]:80/x"),
    ],
)
def test_reads(text: str, identifier: str, remote: str) -> None:
    address = GitUrl.parse(text)
    assert address.remote == remote
    assert address.id("", "") == identifier
    assert address.id("main", "") == f"{identifier}#main"
    assert address.id("", "sub") == f"{identifier}#:sub"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/a", "the scheme ftp is not known"),
        ("https://", "it has no proper host"),
        ("https://user@/a", "it has no proper host"),
        ("https://host:port/a", "it has no proper host"),
        ("https://[::1/a", ""),
        ("https://host/a#main", "branch and folder"),
        ("https://host/a?ref=x", "branch and folder"),
        ("https://user:canary@host/a b", ""),
        ("https://user:canary@host/100%", ""),
        ("https://user:canary@host/é", ""),
    ],
)
def test_refuses_without_showing_a_password(text: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        GitUrl.parse(text)
    assert said in caught.value.why
    assert "canary" not in f"{caught.value} {caught.value.why} {caught.value.hint}"


def test_a_login_is_not_shown() -> None:
    assert "hush" not in repr(GitUrl.parse("https://me:hush@host.test/app.git"))
