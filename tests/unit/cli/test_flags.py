"""Reading command lines."""

from __future__ import annotations

import pytest

from buildkit_client.cli.commands import command_tree
from buildkit_client.cli.flags import Invocation, UsageError, read_command_line


def read(*words: str) -> Invocation:
    return read_command_line(command_tree({}), words)


def names(invocation: Invocation) -> list[str]:
    return [command.name for command in invocation.path]


def test_flags_before_and_behind_the_command() -> None:
    invocation = read("--addr", "tcp://a:1", "build", "--no-cache", "--opt=a=b", "-opt", "c=d", "--timeout", "9")
    assert names(invocation) == ["buildkit-client", "build"]
    assert invocation.text("addr") == "tcp://a:1"
    assert invocation.texts("opt") == ["a=b", "c=d"]
    assert invocation.is_set("no-cache")
    assert invocation.number("timeout") == 9


def test_the_outer_flag_behind_the_command_wins() -> None:
    assert read("--addr", "unix:///a", "du", "--addr", "unix:///b").text("addr") == "unix:///b"


def test_commands_within_commands_and_aliases() -> None:
    assert names(read("debug", "workers", "-v")) == ["buildkit-client", "debug", "workers"]
    assert names(read("b", "-o", "type=image")) == ["buildkit-client", "build"]


def test_what_is_not_given_has_its_default() -> None:
    invocation = read("build")
    assert invocation.text("addr") == "unix:///run/buildkit/buildkitd.sock"
    assert (invocation.text("progress"), invocation.texts("opt"), invocation.is_set("wait")) == ("auto", [], False)
    assert invocation.number("timeout") == 5
    assert read("prune").number("keep-duration") == 0


def test_the_environment_names_the_daemon() -> None:
    tree = command_tree({"BUILDKIT_HOST": "tcp://b:2"})
    assert read_command_line(tree, ["du"]).text("addr") == "tcp://b:2"


@pytest.mark.parametrize("text", ["-x", "--help", "", " a ", "a=b"])
def test_a_value_may_be_anything(text: str) -> None:
    assert read("build", "--opt", text).texts("opt") == [text]
    assert read("build", f"--opt={text}").texts("opt") == [text]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--no-cache"], True),
        (["--no-cache=false"], False),
        (["--no-cache="], True),
        (["--no-cache", "--no-cache=0"], False),
    ],
)
def test_switches(words: list[str], value: bool) -> None:
    assert read("build", *words).is_set("no-cache") is value


def test_the_short_flag_of_a_command_hides_the_outer_one() -> None:
    invocation = read("du", "-v", "-f", "id==x")
    assert (invocation.is_set("verbose"), invocation.asks_version, invocation.texts("filter")) == (
        True,
        False,
        ["id==x"],
    )
    assert read("-v").asks_version


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["du", "x", "-v", "y"], ["x", "y"]),
        (["du", "--", "-v"], ["-v"]),
        (["du", "-1", "-v"], ["-1", "-v"]),
        (["du", "-", "-v"], ["-"]),
        (["nope"], ["nope"]),
    ],
)
def test_arguments(words: list[str], arguments: list[str]) -> None:
    assert read(*words).arguments == arguments


def test_help_is_asked_for_the_command_it_stands_behind() -> None:
    invocation = read("build", "-h", "--opt", "x")
    assert (invocation.asks_help, names(invocation)) == (True, ["buildkit-client", "build"])
    assert names(read("--help", "build")) == ["buildkit-client"]


@pytest.mark.parametrize(
    ("words", "error", "command"),
    [
        (["--bogus"], "flag provided but not defined: -bogus", "buildkit-client"),
        (["build", "--bogus=1"], "flag provided but not defined: -bogus", "build"),
        (["du", "-fx"], "flag provided but not defined: -fx", "du"),
        (["du", "-f"], "flag needs an argument: -f", "du"),
        (["--addr"], "flag needs an argument: --addr", "buildkit-client"),
        (["build", "--no-cache=foo"], 'invalid value "foo" for flag -no-cache: parse error', "build"),
        (
            ["--timeout", "x"],
            'invalid value "x" for flag -timeout: strconv.ParseInt: parsing "x": invalid syntax',
            "buildkit-client",
        ),
        (
            ["prune", "--keep-storage", "x"],
            'invalid value "x" for flag -keep-storage: strconv.ParseFloat: parsing "x": invalid syntax',
            "prune",
        ),
        (
            ["prune", "--keep-duration", "x"],
            'invalid value "x" for flag -keep-duration: time: invalid duration "x"',
            "prune",
        ),
    ],
)
def test_mistakes(words: list[str], error: str, command: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*words)
    assert str(caught.value) == error
    assert caught.value.path[-1].name == command
