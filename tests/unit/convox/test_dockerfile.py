"""The names a Dockerfile declares. Expectations were compared with moby/buildkit's own parser, v0.28."""

from __future__ import annotations

import textwrap
import time

import pytest

from convox.dockerfile import DockerfileFacts, scan_dockerfile


def scan(text: str) -> DockerfileFacts:
    return scan_dockerfile(textwrap.dedent(text).removeprefix("\n").encode())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ARG A", "A"),
        ("arg a=1", "a"),
        ("Arg\tA B=2 C='x y' D", "A B C D"),
        ('ARG A="B C=1" D', "A D"),
        ("ARG A=b\\ C=1 D", "A D"),
        ("  ARG A", "A"),
        ("ARG A=1 A=2\nARG A", "A"),
        ("ARG", ""),
        ("ARG =x A", "A"),
        ("ARGS A", ""),
        ("RUN ARG A", ""),
        ("# ARG A\nARG B # C", "B # C"),
        ("ARG --flag A", "A"),
        ("ONBUILD ARG A", ""),
        ("", ""),
        ("\n\n\n", ""),
    ],
)
def test_arg_lines(text: str, names: str) -> None:
    assert scan(text).args == tuple(names.split())


def test_continuation_lines_with_comments_and_blanks_between() -> None:
    facts = scan("""
        FROM scratch AS \\
          # not this: ARG X

          build
        ARG A \\
          B=1 \\
        # ARG C
            D
        RUN echo \\
        ARG NOT
        ARG E\\
        F
        ARG G \\\\
        ARG H \\  \t
          I
        """)
    assert facts.args == ("A", "B", "D", "EF", "G", "\\\\", "H", "I")
    assert facts.stages == ("build",)


def test_the_escape_directive() -> None:
    facts = scan("# escape=`\nFROM scratch\nARG A `\n  B\nARG C \\\nARG D\n")
    assert facts.args == ("A", "B", "C", "\\", "D")
    assert scan("# comment\n# escape=`\nARG A `\nARG B\n").args == ("A", "`", "B")
    assert scan("# syntax=x\n# ESCAPE = `\nARG A `\nB\n").args == ("A", "B")


def test_the_lines_of_a_here_document_are_no_instructions() -> None:
    facts = scan("""
        FROM scratch
        RUN <<EOF
        ARG A
        FROM x AS y
        EOF
        ARG B
        COPY <<"one" <<-two /
        ARG C
        one
        ARG D
        \ttwo
        ARG E
        RUN cat <<'E F' 3<<G
        ARG H
        E F
        ARG I
        G
        ONBUILD RUN <<X
        ARG J
        X
        ARG K
        """)
    assert facts.args == ("B", "E", "K")
    assert facts.stages == ()


@pytest.mark.parametrize(
    "line",
    [
        'RUN ["echo", "<<EOF"]',
        "ENV A=<<EOF",
        "RUN echo '<<EOF'",
        'RUN echo "a <<EOF"',
        "RUN echo \\<<EOF",
        "RUN cat <<<EOF",
        "RUN cat << ",
        "RUN cat <<'EOF",
        "RUN cat ${<<EOF",
        "RUN cat $((1<<2))x<<3",
        "CMD <<EOF",
    ],
)
def test_what_is_no_here_document(line: str) -> None:
    assert scan(f"FROM scratch\n{line}\nARG A\nEOF\n").args == ("A",)


@pytest.mark.parametrize(
    "line", ["RUN <<EOF", "RUN << EOF", "run --mount=type=cache,target='/a b' cat 0<<EOF", "ADD <<-EOF /"]
)
def test_what_is_a_here_document(line: str) -> None:
    assert scan(f"FROM scratch\n{line}\nARG A\nEOF\nARG B\n").args == ("B",)


def test_a_here_document_without_end() -> None:
    assert scan("ARG A\nRUN <<EOF\nARG B\n").args == ("A",)


def test_a_variable_with_a_default_does_not_hide_a_here_document() -> None:
    assert scan("RUN ${X:-a b} ${X/a/b} ${X#\\}} $1 $@ <<EOF\nARG A\nEOF\nARG B\n").args == ("B",)


def test_stages() -> None:
    facts = scan("""
        FROM a
        FROM b AS Development
        from --platform=$BUILDPLATFORM c as two
        FROM d AS 3
        FROM e AS a b
        FROM f FOR g
        """)
    assert facts.stages == ("development", "two")


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("FROM scratch", ""),
        ("# syntax=docker/dockerfile:1\n", "docker/dockerfile:1"),
        ("#syntax = a/b@sha256:1 more words\n", "a/b@sha256:1"),
        ("# escape=`\n# Syntax=x\n", "x"),
        ("# a comment\n# syntax=x\n", ""),
        ("\n# syntax=x\n", ""),
        ("FROM scratch\n# syntax=x\n", ""),
        ("// syntax=x\n", "x"),
        ('{"syntax": "x"}', "x"),
        ('{"syntax": 1}', ""),
        ("[" * 9999, ""),
        ("{" * 9999, ""),
        ("#!/usr/bin/env x\n# syntax=x\n", "x"),
        ("\ufeff# syntax=x\n", "x"),
        ("# syntax=x\r\n", "x"),
        ("# syntax=x\n# syntax=y\n", "x"),
    ],
)
def test_syntax(text: str, syntax: str) -> None:
    assert scan_dockerfile(text.encode()).syntax == syntax


@pytest.mark.parametrize(
    ("syntax", "is_dockerfile"),
    [
        ("", True),
        ("docker/dockerfile", True),
        ("docker/dockerfile:1.7-labs", True),
        ("docker.io/docker/dockerfile@sha256:00", True),
        ("docker/dockerfile-upstream:master", True),
        ("docker/dockerfile-other", False),
        ("evil.example/docker/dockerfile:1", False),
        ("docker/dockerfileX:1", False),
        ("ghcr.io/x/buildpack", False),
    ],
)
def test_whose_language_it_is(syntax: str, is_dockerfile: bool) -> None:
    assert DockerfileFacts(syntax=syntax).is_dockerfile_language is is_dockerfile


def test_line_ends_byte_order_mark_and_other_bytes() -> None:
    assert scan_dockerfile(b"\xef\xbb\xbfARG A\r\nARG B \\\r\n  C\r\n").args == ("A", "B", "C")
    assert scan_dockerfile(b"ARG A=\xff\nARG B\xa0\x00\n").args[0] == "A"


def test_hostile_lines_are_cheap() -> None:
    started = time.monotonic()
    for text in (
        "RUN <<" + "${a:-" * 20_000,
        "ARG " + "A\\\n" * 50_000,
        "RUN " + "<<A " * 20_000,
        "ARG " + "'" * 99_999,
    ):
        scan_dockerfile(text.encode())
    assert time.monotonic() - started < 5
