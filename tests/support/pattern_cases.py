"""Pattern lists and paths to judge, and the reference's verdicts on them.

``python -m tests.support.pattern_cases`` records ``tests/wire/patterns.json`` anew; it needs Go.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.go_tools import go_tool

WIRE_FILE = Path(__file__).parents[1] / "wire" / "patterns.json"

_NAMES = (
    *(b"a", b"b", b"ab", b"a.b", b"foo", b"foo.go", b"main.go", b"x-y", b"*", b"[a]", b"a b", b"\xc3\xa9", b"\xff"),
    *(b"A", b"n\nl", b"a+b", b"\\", b"^", b"]", b"-", b".x", b"..x", b"0", b"\xef\xbf\xbd", b"!a", b"#h", b"{2}"),
    b"a|b",
)
_PLAIN = (
    *(b"a", b"b", b"ab", b"foo", b".go", b"*", b"*", b"**", b"**/", b"/", b"/", b"?", b"!", b"x-y", b"[a-c]"),
    *(b"main", b".", b"..", b" "),
)
_ODD = (
    *_PLAIN,
    *(b"[^a]", b"[!a]", b"[", b"]", b"-", b"^", b"\\", b"\\*", b"\\d", b"\\a", b"$", b"+", b"(", b"|", b"{", b"}"),
    *(b"\xc3\xa9", b"\xff", b"\n", b"[*]", b"[?]", b"[[:alpha:]]", b"[[:^digit:]]", b"[[:foo:]]", b"[\\]a]"),
    *(b"[a*b]", b"\\Q", b"\\E", b"\\x41", b"\\141", b"\\1", b"\\S", b"\\b", b"\\z", b"[\\W]", b"\xef\xbb\xbf", b"#"),
    *(b"\xef\xbf\xbd", b"[z-a]", b"[+-*]", b"[a-[]", b"{2}", b"{1,3}", b"{js,ts}", b"{0}", b"{2,}", b"{3,1}"),
    *(b"{1001}", b"{02}", b"\\|", b"\t", b"\xc2\xa0"),
)


@dataclass(frozen=True)
class Case:
    """A pattern list, and paths to judge with it."""

    patterns: tuple[bytes, ...]
    paths: tuple[bytes, ...]


@dataclass(frozen=True)
class Answer:
    """What the reference says: an error, or a letter pair per path.

    A pair is the verdict on the path alone and as a walk reaches it: "1" matched, "0" not, "e" an error.
    """

    is_error: bool
    verdicts: tuple[str, ...] = ()


CHOSEN = (
    Case((b"a/b", b"!a"), (b"a", b"a/b", b"a/b/c", b"b")),  # alone and in a walk the verdicts differ
    Case((b"a/b", b"!a", b"a/b/c"), (b"a/b", b"a/b/c", b"a/b/c/d", b"a/x")),
    Case(
        (b"*", b"!src", b"src/**/*.o", b"!src/keep.o"),
        (b"src", b"src/a.c", b"src/a.o", b"src/x/y.o", b"src/keep.o", b"x"),
    ),
    Case((b"**", b"!**/*.go", b"**/*_test.go"), (b"a.go", b"d/a.go", b"d/a_test.go", b"d/x", b"d")),
    Case(
        (b"node_modules", b"**/dist", b"*.log", b".git", b"!important.log"),
        (b"node_modules/x/y", b"web/dist/a", b"a.log", b"important.log", b"d/a.log", b".git/HEAD", b".gitignore"),
    ),
    Case((b"a|b*",), (b"a", b"abc", b"a/x", b"b", b"bc", b"xb", b"x/b")),  # the reference forgets to escape these
    Case((b"*.{js,ts}",), (b"a.js", b"a.{js,ts}", b"a.ts")),
    Case((b"[ab]{2}",), (b"ab", b"a{2}", b"a", b"aba")),
    Case((b"?{2}",), (b"ab", b"a{2}", b"\xc3\xa9x", b"a")),
    Case((b"**foo*", b"***", b"!**/a?"), (b"x/yfoo", b"foo/z", b"x/ab", b"ab", b"x/a")),
    Case((b"**/x|y*",), (b"x", b"d/x", b"y", b"xz", b"d/y")),
    Case((b"a/**/b*",), (b"a/b", b"a/x/b", b"a/n\nl/b", b"a/n\nl/x/b")),
    Case((b"**/*.x",), (b"n\nl/a.x", b"n\nl.x", b"d/a.x")),
)
"""Cases whose verdicts each rest on one rule."""


def generate_cases(seed: int, count: int, *, paths: int = 10) -> list[Case]:
    """Make cases; the same for the same arguments."""
    rnd = random.Random(seed)

    def pattern() -> bytes:
        tokens = _ODD if rnd.random() < 0.5 else _PLAIN
        text = b"".join(rnd.choice(tokens) for _ in range(rnd.randint(1, 6)))
        return b"!" + text if rnd.random() < 0.25 else text

    def path() -> bytes:
        return b"/".join(rnd.choice(_NAMES) for _ in range(rnd.randint(1, 4)))

    return [
        Case(
            tuple(pattern() for _ in range(rnd.choice((1, 1, 1, 2, 3, 4, 6)))),
            tuple(path() for _ in range(paths)),
        )
        for _ in range(count)
    ]


def generate_ignore_files(seed: int, count: int) -> list[bytes]:
    """Make ignore files: byte order marks, CRLF, comments, blanks, exceptions, slashes."""
    rnd = random.Random(seed)
    tokens = (
        *_PLAIN,
        b"#",
        b"#x",
        b" ",
        b"\t",
        b"\r",
        b"\xc2\xa0",
        b"\x1c",
        b"\xef\xbb\xbf",
        b"//",
        b"./",
        b"../",
        b"\\ ",
    )
    files = []
    for _ in range(count):
        lines = [b"".join(rnd.choice(tokens) for _ in range(rnd.randint(0, 5))) for _ in range(rnd.randint(0, 6))]
        mark = b"\xef\xbb\xbf" if rnd.random() < 0.3 else b""
        files.append(mark + rnd.choice((b"\n", b"\r\n")).join(lines) + rnd.choice((b"", b"\n")))
    return files


def ask_reference(cases: list[Case]) -> list[Answer]:
    """Let the Go matcher judge; needs the program of ``tests/support/go/patternmatcher``."""
    questions = [{"patterns": _encode(case.patterns), "paths": _encode(case.paths)} for case in cases]
    answers = []
    for given in _ask(questions):
        verdicts = given.get("verdicts") or []
        answers.append(Answer("error" in given, tuple(_pair(verdict) for verdict in verdicts)))
    return answers


def ask_reference_about_files(files: list[bytes]) -> list[list[bytes]]:
    """Let the Go parser read ignore files."""
    questions = [{"ignoreFile": base64.b64encode(data).decode()} for data in files]
    return [[base64.b64decode(text) for text in given.get("patterns") or []] for given in _ask(questions)]


def _ask(questions: list[dict[str, object]]) -> list[dict[str, list[dict[str, object]]]]:
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run([go_tool("patternmatcher")], input=lines.encode(), capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _encode(values: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(value).decode() for value in values]


def _pair(verdict: dict[str, object]) -> str:
    alone = "e" if verdict.get("aloneError") else "01"[bool(verdict["alone"])]
    walk = "e" if verdict.get("walkError") else "01"[bool(verdict["walk"])]
    return alone + walk


def load_recorded() -> list[tuple[Case, Answer]]:
    """Return what ``tests/wire/patterns.json`` holds."""
    recorded = []
    for item in json.loads(WIRE_FILE.read_text())["cases"]:
        paths = item.get("paths", {})
        case = Case(tuple(map(_to_bytes, item["patterns"])), tuple(map(_to_bytes, paths)))
        recorded.append((case, Answer("paths" not in item, tuple(paths.values()))))
    return recorded


def _record() -> None:
    cases = [*CHOSEN, *generate_cases(20, 420, paths=8)]
    cases = [Case(case.patterns, tuple(dict.fromkeys(case.paths))) for case in cases]
    lines = []
    for case, answer in zip(cases, ask_reference(cases), strict=True):
        item: dict[str, object] = {"patterns": [_to_text(pattern) for pattern in case.patterns]}
        if not answer.is_error:
            item["paths"] = dict(zip(map(_to_text, case.paths), answer.verdicts, strict=True))
        lines.append("  " + json.dumps(item))
    note = (
        "Verdicts of github.com/moby/patternmatcher v0.6.1 (Go 1.26), recorded with "
        "python -m tests.support.pattern_cases. By path: the verdict on the path alone (MatchesOrParentMatches), then "
        "as a walk reaches it (MatchesUsingParentResults from the top down); 1 matched, 0 not, e error. Without paths: "
        "New refused the list. Bytes that are not UTF-8 stand as lone surrogates."
    )
    WIRE_FILE.write_text(f'{{"note": {json.dumps(note)},\n "cases": [\n' + ",\n".join(lines) + "\n ]}\n")


def _to_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    _record()
