"""Build arguments: sources, selection, secrets."""

from __future__ import annotations

import pytest

from convox.build_args import is_builder_arg, looks_secret, managed_values, parse_build_args, select_build_args
from convox.dockerfile import DockerfileFacts
from convox.errors import ExitCode, UsageError


def test_values_are_everything_after_the_first_equals_sign() -> None:
    given = parse_build_args(["A=1", "B=a b  c", "C=x=y", "D=", "E='q'", "A=2", "F=a,b"], {})
    assert given == {"A": "2", "B": "a b  c", "C": "x=y", "D": "", "E": "'q'", "F": "a,b"}


def test_a_name_alone_finds_its_value_or_is_left_out() -> None:
    assert parse_build_args(["A", "B", "C"], {"A": "1", "B": ""}) == {"A": "1"}


@pytest.mark.parametrize("item", ["=hunter2", "", " =hunter2"])
def test_an_item_without_a_name_is_refused_without_its_value(item: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_build_args([item], {})
    assert str(caught.value) == "invalid build args: the name is empty"
    assert "hunter2" not in f"{caught.value!r}{caught.value.hint}"
    assert caught.value.exit_code is ExitCode.USAGE


def test_managed_values() -> None:
    values = managed_values(
        app="web", build_id="BABCDEFGHIJ", rack="local", manifest="convox.yml", git_sha="", is_development=True
    )
    assert values["BUILD_DEVELOPMENT"] == "true"
    assert parse_build_args(["BUILD_APP", "BUILD_ID", "BUILD_GIT_SHA", "BUILD_AUTH"], values) == {
        "BUILD_APP": "web",
        "BUILD_ID": "BABCDEFGHIJ",
    }


def select(
    facts: DockerfileFacts, app_env: dict[str, str], manifest: list[str], given: dict[str, str]
) -> dict[str, str]:
    return select_build_args(facts, app_env=app_env, manifest_args=manifest, given=given)


def test_only_declared_names_are_passed_sorted() -> None:
    facts = DockerfileFacts(args=("Z", "B", "A"))
    assert list(select(facts, {"A": "1", "X": "2"}, ["B=3", "Y=4"], {"Z": "5", "W": "6"}).items()) == [
        ("A", "1"),
        ("B", "3"),
        ("Z", "5"),
    ]


def test_the_later_source_wins() -> None:
    facts = DockerfileFacts(args=("A",))
    assert select(facts, {"A": "env"}, [], {}) == {"A": "env"}
    assert select(facts, {"A": "env"}, ["A=manifest"], {}) == {"A": "manifest"}
    assert select(facts, {"A": "env"}, ["A=manifest"], {"A": "given"}) == {"A": "given"}
    assert select(facts, {"A": "env"}, ["A"], {}) == {"A": "env"}
    assert select(facts, {}, ["A"], {"A": "given"}) == {"A": "given"}
    assert select(facts, {}, ["A"], {}) == {}


def test_what_the_builder_knows_is_passed_when_somebody_named_it() -> None:
    named = {"SOURCE_DATE_EPOCH": "0", "https_proxy": "http://p", "BUILDKIT_INLINE_CACHE": "1", "OTHER": "1"}
    assert select(DockerfileFacts(), {}, [], named) == {key: named[key] for key in sorted(named) if key != "OTHER"}
    assert select(DockerfileFacts(), named, [], {}) == {}
    assert select(DockerfileFacts(args=("https_proxy",)), named, [], {}) == {"https_proxy": "http://p"}


def test_an_apps_environment_never_names_the_frontend() -> None:
    facts = DockerfileFacts(args=("BUILDKIT_SYNTAX",))
    assert select(facts, {"BUILDKIT_SYNTAX": "evil"}, ["BUILDKIT_SYNTAX"], {}) == {}
    assert select(facts, {"BUILDKIT_SYNTAX": "evil"}, [], {"BUILDKIT_SYNTAX": "mine"}) == {"BUILDKIT_SYNTAX": "mine"}


def test_another_language_gets_all_that_was_named_but_not_the_environment() -> None:
    facts = DockerfileFacts(syntax="example.com/other")
    assert select(facts, {"SECRET": "1"}, ["A=2"], {"B": "3"}) == {"A": "2", "B": "3"}


@pytest.mark.parametrize(
    "name", ["NPM_TOKEN", "npm_token", "TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "S_SECRET", "API_KEY"]
)
def test_names_like_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["VERSION", "TOKENS", "KEYBOARD", "MONKEY", "PASSWORD_FILE", "SECRETARY", ""])
def test_names_unlike_secrets(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("name", "is_known"), [("NO_PROXY", True), ("MY_PROXY", False), ("BUILDKIT_", False), ("BUILDKIT_X", True)]
)
def test_names_the_builder_knows(name: str, is_known: bool) -> None:
    assert is_builder_arg(name) is is_known
