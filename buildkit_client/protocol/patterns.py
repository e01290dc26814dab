"""Include and exclude patterns of build contexts, and the ignore files they come from.

A pattern list is read in order: a pattern turns the verdict on, an exception (``!``) turns it off again, the last
change wins. A pattern that matched a directory holds for everything below, so a walk hands each directory's state
down instead of testing parents again. Patterns are sorted into runs of one kind (patterns, exceptions); inside a run
only "does any match" counts, which lets literals, prefixes, suffixes and one joined expression stand for many patterns.

Paths and patterns are bytes, as file names are. The verdicts are those of the Go matcher the daemon uses itself,
oddities included; ``tests/integration`` compares the two.

Reference: moby/patternmatcher, patternmatcher.go and ignorefile/ignorefile.go; tonistiigi/fsutil, filter.go.
"""

from __future__ import annotations

import posixpath
import re
from enum import Enum
from typing import TYPE_CHECKING

from buildkit_client.errors import PatternError
from buildkit_client.protocol.go_match import BadPatternError, match_name
from buildkit_client.protocol.go_regexp import GoRegexpError, go_text, to_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    _Test = Callable[[str], re.Match[str] | None]

_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_ESCAPED = frozenset(".+()$")  # the reference means "{", "|" and "}" too, but its table is too short for them
_GLOB_BYTES = re.compile(rb"[*\[\]?^\\]")
_PLAIN_NAME = re.compile(rb"[^*?\[\]\\^/{|]*")
_UTF8_BOM = b"\xef\xbb\xbf"


class PatternKind(Enum):
    """How a pattern is compared with a path."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    REGEXP = "regexp"


class Pattern:
    """One pattern, prepared.

    Attributes:
        text: The cleaned pattern, without the ``!`` of an exception.
        is_exception: Whether it began with ``!``.
        kind: How it is compared.
        expression: For REGEXP the Python expression, anchors included, else empty.
        problem: Why the pattern cannot be used, or empty. The reference reports this only when it comes to try it.

    Reference: moby/patternmatcher, Pattern.compile and Pattern.match.
    """

    __slots__ = ("_search", "expression", "is_exception", "kind", "problem", "text")

    def __init__(self, text: bytes, *, is_exception: bool) -> None:
        self.text = text
        self.is_exception = is_exception
        self.expression = ""
        self.problem = ""
        self._search: _Test | None = None
        self.kind, expression = _classify(text)
        if self.kind is PatternKind.REGEXP:
            try:
                self.expression = to_python(expression)
            except GoRegexpError as exc:
                self.problem = str(exc)

    def matches(self, path: bytes) -> bool:
        """Tell whether the pattern matches this path itself; parents are the caller's matter.

        Raises:
            PatternError: The pattern cannot be compiled.
        """
        text = self.text
        if self.kind is PatternKind.EXACT:
            return path == text
        if self.kind is PatternKind.PREFIX:
            return path.startswith(text[:-2])
        if self.kind is PatternKind.SUFFIX:
            suffix = text[2:]
            return path.endswith(suffix) or (suffix[:1] == b"/" and path == suffix[1:])
        if self.problem:
            raise PatternError(f"syntax error in pattern {_show(text)}", why=self.problem)
        if self._search is None:
            self._search = re.compile(self.expression, re.ASCII).search
        return self._search(go_text(path)) is not None


class _Run:
    """Neighbouring patterns of one kind: they can only change the verdict the same way, so any of them will do.

    A pattern that cannot be compiled ends its run, because it has to fail exactly when it would be tried.
    """

    __slots__ = (
        "_base_names",
        "_literals",
        "_prefixes",
        "_searches",
        "_suffixes",
        "_top_suffixes",
        "_whole_paths",
        "broken",
        "is_exception",
        "patterns",
    )

    def __init__(self, patterns: list[Pattern], broken: Pattern | None, *, is_exception: bool) -> None:
        self.is_exception = is_exception
        self.patterns = patterns
        self.broken = broken
        literals: set[bytes] = set()
        prefixes: list[bytes] = []
        suffixes: list[bytes] = []
        top_suffixes: list[bytes] = []
        base_names: list[str] = []
        whole_paths: list[str] = []
        searches: list[str] = []
        for pattern in patterns:
            text = pattern.text
            if pattern.kind is PatternKind.EXACT:
                literals.add(text)
            elif pattern.kind is PatternKind.PREFIX:
                prefixes.append(text[:-2])
            elif pattern.kind is PatternKind.SUFFIX:
                suffixes.append(text[2:])
                if text[2:3] == b"/":
                    literals.add(text[3:])
            elif (tail := _any_depth_tail(text)) is None:
                if text.startswith(b"*") and _is_plain(text[1:]):
                    top_suffixes.append(text[1:])
                elif b"|" in text or not pattern.expression.startswith(r"\A"):  # the anchor need not hold
                    searches.append(pattern.expression)
                else:
                    whole_paths.append(pattern.expression)
            elif tail.startswith(b"*") and _is_plain(tail[1:]):
                suffixes.append(tail[1:])
            else:
                base_names.append(to_python(_classify(tail)[1]))
        self._literals = frozenset(literals)
        self._prefixes = tuple(prefixes)
        self._suffixes = tuple(suffixes)
        self._top_suffixes = tuple(top_suffixes)
        self._base_names = _join(base_names)
        self._whole_paths = _join(whole_paths)
        self._searches = _join(searches, anywhere=True)

    def matches(self, path: bytes) -> bool:
        """Tell whether any good pattern of the run matches this path itself."""
        if b"\n" in path:  # "." does not match it in Go, which the shortcuts below leave out of account
            return any(pattern.matches(path) for pattern in self.patterns)
        if path in self._literals or path.endswith(self._suffixes) or path.startswith(self._prefixes):
            return True
        if self._top_suffixes and b"/" not in path and path.endswith(self._top_suffixes):
            return True
        if self._whole_paths is None and self._base_names is None and self._searches is None:
            return False
        text = go_text(path)
        return bool(
            (self._base_names is not None and self._base_names(text[text.rfind("/") + 1 :]))
            or (self._whole_paths is not None and self._whole_paths(text))
            or (self._searches is not None and self._searches(text))
        )

    def fail(self) -> None:
        """Raise the error of the pattern that ends the run, if it is one that cannot be compiled."""
        if self.broken is not None:
            self.broken.matches(b"")


class PatternMatcher:
    """A list of patterns, as one verdict on paths.

    Args:
        patterns: In order; white space around them and empty ones are dropped.

    Attributes:
        patterns: What is left, prepared.
        has_exceptions: Whether any pattern began with ``!``.

    Raises:
        PatternError: A pattern is a lone ``!`` or is not valid for shell-style matching. Some invalid patterns only
            fail when they are tried, as in the reference.

    Reference: moby/patternmatcher, New, MatchesOrParentMatches, MatchesUsingParentResults.
    """

    __slots__ = ("_below", "_runs", "has_exceptions", "patterns")

    def __init__(self, patterns: Iterable[bytes | str]) -> None:
        self.patterns = tuple(_prepare(patterns))
        self.has_exceptions = any(pattern.is_exception for pattern in self.patterns)
        self._runs = tuple(_runs(self.patterns))
        self._below = {
            kind: _literal_bases(p for p in self.patterns if p.is_exception is kind) for kind in (False, True)
        }

    def matches(self, path: bytes) -> bool:
        """Give the verdict on one path by itself, its parent directories included.

        Args:
            path: Relative, cleaned, ``/`` between names.

        Raises:
            PatternError: A pattern that had to be tried cannot be compiled.
        """
        names = path.split(b"/")
        candidates = [path, *(b"/".join(names[:depth]) for depth in range(1, len(names)))]
        verdict = False
        for run in self._runs:
            if verdict is run.is_exception:
                if any(run.matches(candidate) for candidate in candidates):
                    verdict = not verdict
                else:
                    run.fail()
        return verdict

    def step(self, path: bytes, parent_state: int) -> tuple[bool, int]:
        """Give the verdict on a path during a walk.

        A walk's verdict can differ from :meth:`matches`: what was not tried on a directory counts as no match for
        all below it. The reference has the same two ways.

        Args:
            path: Relative, cleaned, ``/`` between names.
            parent_state: What this method returned for the parent directory; 0 in the root.

        Returns:
            The verdict, and the state to hand to entries below this path.

        Raises:
            PatternError: A pattern that had to be tried cannot be compiled.
        """
        verdict = False
        state = 0
        bit = 1
        for run in self._runs:
            if parent_state & bit:
                verdict = not run.is_exception
                state |= bit
            elif verdict is run.is_exception:
                if run.matches(path):
                    verdict = not verdict
                    state |= bit
                else:
                    run.fail()
            bit <<= 1
        return verdict, state

    def may_match_below(self, directory: bytes, *, exceptions: bool = False) -> bool:
        """Tell whether a pattern could match something below a directory that it does not match itself.

        Args:
            directory: Relative, cleaned path.
            exceptions: Ask about the ``!`` patterns in place of the others.

        Reference: tonistiigi/fsutil, filter.go, onlyPrefixIncludes and onlyPrefixExcludeExceptions.
        """
        bases = self._below[exceptions]
        return bases is None or any(base.startswith(directory + b"/") for base in bases)


def parse_ignore_file(data: bytes) -> list[bytes]:
    """Return the patterns of an ignore file, in order.

    Args:
        data: The whole file, with or without a byte order mark; lines end with LF or CRLF.

    Returns:
        Cleaned patterns without leading slash, ``!`` kept in front; they may still be invalid as patterns.

    Reference: moby/patternmatcher, ignorefile, ReadAll.
    """
    patterns: list[bytes] = []
    for line in data.removeprefix(_UTF8_BOM).split(b"\n"):
        if line.startswith(b"#"):
            continue
        pattern = _trim(line)
        if not pattern:
            continue
        is_exception = pattern.startswith(b"!")
        if is_exception:
            pattern = _trim(pattern[1:])
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix(b"/")
        patterns.append(b"!" + pattern if is_exception else pattern)
    return patterns


def _prepare(patterns: Iterable[bytes | str]) -> Iterator[Pattern]:
    """Clean and check raw patterns, in order."""
    for raw in patterns:
        text = _trim(raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw)
        if not text:
            continue
        text = _clean(text)
        is_exception = text.startswith(b"!")
        if is_exception:
            text = text[1:]
            if not text:
                raise PatternError('illegal exclusion pattern: "!"', why="an exception needs a pattern after the mark")
        try:
            match_name(text, b".")
        except BadPatternError as exc:
            raise PatternError(f"syntax error in pattern {_show(text)}", why=str(exc)) from exc
        yield Pattern(text, is_exception=is_exception)


def _runs(patterns: Iterable[Pattern]) -> Iterator[_Run]:
    """Cut a list into runs of patterns that go one after the other and are of one kind."""
    current: list[Pattern] = []
    for pattern in patterns:
        if current and current[0].is_exception is not pattern.is_exception:
            yield _Run(current, None, is_exception=not pattern.is_exception)
            current = []
        if pattern.problem:
            yield _Run(current, pattern, is_exception=pattern.is_exception)
            current = []
        else:
            current.append(pattern)
    if current:
        yield _Run(current, None, is_exception=current[0].is_exception)


def _classify(text: bytes) -> tuple[PatternKind, str]:
    """Find a cleaned pattern's kind, and its Go expression.

    Reference: moby/patternmatcher, Pattern.compile.
    """
    source = go_text(text).removeprefix("\ufeff")  # Go's scanner drops a byte order mark
    kind = PatternKind.EXACT
    parts: list[str] = []
    position, end = 0, len(source)
    while position < end:
        start = position
        char = source[position]
        position += 1
        if char == "*" and source.startswith("*", position):
            position += 1
            position += source.startswith("/", position)
            if position < end:
                parts.append("(.*/)?")
                kind = PatternKind.REGEXP
            elif kind is PatternKind.EXACT:
                kind = PatternKind.PREFIX
            else:
                parts.append(".*")
                kind = PatternKind.REGEXP
            if start == 0:
                kind = PatternKind.SUFFIX
        elif char in "*?[]" or (char == "\\" and position < end):
            kind = PatternKind.REGEXP
            if char == "\\":
                char += source[position]
                position += 1
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(char, char))
        else:
            parts.append("\\" + char if char in _ESCAPED else char)
    return kind, f"^{''.join(parts)}$"


def _any_depth_tail(text: bytes) -> bytes | None:
    """Return what a pattern asks of the last name alone, or None when it looks at more than that."""
    if not text.startswith(b"**"):
        return None
    tail = text[2:].removeprefix(b"/")
    # anchors ("^", escapes) and alternatives would mean something else for a name than for a path
    return None if not tail or any(mark in tail for mark in (b"/", b"**", b"^", b"\\", b"|")) else tail


def _is_plain(text: bytes) -> bool:
    """Tell whether a pattern's text is a part of one name and stands for itself."""
    return text.isascii() and _PLAIN_NAME.fullmatch(text) is not None


def _literal_bases(patterns: Iterable[Pattern]) -> tuple[bytes, ...] | None:
    """Return the directories that patterns lead to, each with a slash behind; None when they are not plain text."""
    bases = tuple(pattern.text.removesuffix(b"/**").removesuffix(b"/*") + b"/" for pattern in patterns)
    return None if any(_GLOB_BYTES.search(base) for base in bases) else bases


def _join(expressions: list[str], *, anywhere: bool = False) -> _Test | None:
    """Make one test of several expressions, which hold from the start of a text on or anywhere in it."""
    if not expressions:
        return None
    joined = re.compile("|".join(f"(?:{expression})" for expression in expressions), re.ASCII)
    return joined.search if anywhere else joined.match


def _trim(text: bytes) -> bytes:
    """Strip what Go takes for white space.

    Reference: Go strings, TrimSpace.
    """
    return text.decode("utf-8", "surrogateescape").strip(_GO_SPACE).encode("utf-8", "surrogateescape")


def _clean(text: bytes) -> bytes:
    """Return the shortest equal path.

    Reference: Go path/filepath, Clean.
    """
    cleaned = posixpath.normpath(text)
    return cleaned[1:] if cleaned.startswith(b"//") else cleaned


def _show(text: bytes) -> str:
    """Write a pattern for a message."""
    return '"' + text.decode("utf-8", "backslashreplace") + '"'
