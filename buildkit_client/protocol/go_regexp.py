r"""Go regular expressions that file patterns turn into, rewritten for Python's ``re``.

The reference turns a file pattern into a Go expression piece by piece, without knowing where a character class begins
or ends, and Go then reads the result with its own rules. Both steps have to be followed to give the same verdicts:
``[*]`` really is the class ``[[^/]`` repeated and a bracket, and ``\d`` really is a digit. Only what a pattern can
produce is covered. ``\p`` and ``\P`` (Unicode properties) are refused, since ``re`` has no counterpart.

Reference: Go regexp/syntax, parse.go (flags Perl), as used by moby/patternmatcher, Pattern.compile.
"""

from __future__ import annotations

import re

_MAX_RUNE = 0x10FFFF
_Ranges = list[tuple[int, int]]

_PERL_CLASSES: dict[str, _Ranges] = {
    "d": [(0x30, 0x39)],
    "s": [(0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20)],
    "w": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
}
_NAMED_CLASSES: dict[str, _Ranges] = {
    "alnum": [(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)],
    "alpha": [(0x41, 0x5A), (0x61, 0x7A)],
    "ascii": [(0x00, 0x7F)],
    "blank": [(0x09, 0x09), (0x20, 0x20)],
    "cntrl": [(0x00, 0x1F), (0x7F, 0x7F)],
    "digit": [(0x30, 0x39)],
    "graph": [(0x21, 0x7E)],
    "lower": [(0x61, 0x7A)],
    "print": [(0x20, 0x7E)],
    "punct": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)],
    "space": [(0x09, 0x0D), (0x20, 0x20)],
    "upper": [(0x41, 0x5A)],
    "word": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    "xdigit": [(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)],
}
_CONTROLS = {"a": 0x07, "f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_OCTAL = frozenset("01234567")
_HEX = frozenset("0123456789abcdefABCDEF")
_ASSERTIONS = {"A": r"\A", "b": r"\b", "B": r"\B", "z": r"\Z"}
_COUNT = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}")
_MAX_COUNT = 1000


class GoRegexpError(ValueError):
    """Go would not compile the expression, or it uses what Python cannot express."""


def go_text(raw: bytes) -> str:
    """Return bytes as Go's regular expressions read them: every byte that is not UTF-8 becomes U+FFFD.

    Reference: Go unicode/utf8, DecodeRune.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def to_python(expression: str) -> str:
    """Rewrite a Go expression for :func:`re.compile` with the flag ``re.ASCII``.

    Args:
        expression: Literals, escapes, classes, ``.``, groups, ``|``, counts, ``*`` and ``?``; begins with ``^``.

    Raises:
        GoRegexpError: Go refuses the expression, or it holds a Unicode property.
    """
    parts: list[str] = []
    position, end = 0, len(expression)
    is_repeated = False  # whether the last part is a repetition, which cannot be repeated again
    while position < end:
        char = expression[position]
        count = _COUNT.match(expression, position) if char == "{" else None
        if count is not None:
            if is_repeated or parts[-1] == "|":
                raise GoRegexpError(f"nothing to repeat before {count[0]}")
            low, high = int(count[1]), int(count[3] or count[1])
            if low > high or high > _MAX_COUNT:
                raise GoRegexpError(f"invalid repeat count {count[0]}")
            parts[-1] = f"(?:{parts[-1]}){count[0]}"
            position = count.end()
            is_repeated = True
            continue
        is_repeated = char in "*?"
        if char == "[":
            piece, position = _read_class(expression, position)
            parts.append(piece)
        elif char == "\\":
            pieces, position = _read_escape(expression, position)
            parts += pieces
        else:
            position += 1
            if char == "^":
                char = r"\A"
            elif char == "$":
                char = r"\Z"  # Python's "$" would also match before a last newline
            elif char == "(":
                char = "(?:"
            elif char not in ".*?)|":
                char = re.escape(char)
            parts.append(char)
    return "".join(parts)


def _read_escape(text: str, position: int) -> tuple[list[str], int]:
    """Read an escape outside a class; return its Python form, one part per operand, and where it ends."""
    kind = text[position + 1 : position + 2]
    if kind in _ASSERTIONS:
        return [_ASSERTIONS[kind]], position + 2
    if kind == "Q":
        quoted, mark, _ = text[position + 2 :].partition(r"\E")
        return [re.escape(char) for char in quoted], position + 2 + len(quoted) + len(mark)
    ranges = _perl_class(text, position)
    if ranges is not None:
        return [_format_class(ranges)], position + 2
    code, position = _read_character(text, position)
    return [re.escape(chr(code))], position


def _read_class(text: str, position: int) -> tuple[str, int]:
    """Read a class from its opening bracket on; return its Python form and where it ends."""
    opening = position
    position += 1
    is_negated = text.startswith("^", position)
    position += is_negated
    ranges: _Ranges = []
    is_first = True
    while is_first or not text.startswith("]", position):
        is_first = False
        if position >= len(text):
            raise GoRegexpError(f"missing closing ] in {text[opening:]!r}")
        if text.startswith("[:", position) and (close := text.find(":]", position + 2)) >= 0:
            ranges += _named_class(text[position + 2 : close])
            position = close + 2
            continue
        perl = _perl_class(text, position)
        if perl is not None:
            ranges += perl
            position += 2
            continue
        low, position = _read_character(text, position)
        high = low
        if text.startswith("-", position) and text[position + 1 : position + 2] not in ("", "]"):
            high, position = _read_character(text, position + 1)
            if high < low:
                raise GoRegexpError(f"invalid range in {text[opening:position]!r}")
        ranges.append((low, high))
    return _format_class(ranges, is_negated=is_negated), position + 1


def _read_character(text: str, position: int) -> tuple[int, int]:
    """Read one character or its escape; return the code point and where it ends."""
    char = text[position : position + 1]
    if not char:
        raise GoRegexpError(f"missing closing ] in {text!r}")
    if char != "\\":
        return ord(char), position + 1
    kind = text[position + 1 : position + 2]
    position += 2
    if kind in _CONTROLS:
        return _CONTROLS[kind], position
    if kind == "x":
        digits = text[position : position + 2]
        if len(digits) == 2 and _HEX.issuperset(digits):
            return int(digits, 16), position + 2
    elif kind in _OCTAL:
        digits = kind
        while len(digits) < 3 and text[position : position + 1] in _OCTAL:
            digits += text[position]
            position += 1
        if len(digits) > 1 or kind == "0":  # a single digit would be a back reference
            return int(digits, 8), position
    elif kind and kind.isascii() and not kind.isalnum():
        return ord(kind), position
    raise GoRegexpError(f"invalid escape \\{kind}")


def _perl_class(text: str, position: int) -> _Ranges | None:
    r"""Return the ranges of ``\d`` and its kin at that place, or None."""
    if text[position] != "\\":
        return None
    kind = text[position + 1 : position + 2]
    if kind in ("p", "P"):
        raise GoRegexpError(f"Unicode properties (\\{kind}) are not supported")
    ranges = _PERL_CLASSES.get(kind.lower())
    if ranges is None:
        return None
    return ranges if kind.islower() else _complement(ranges)


def _named_class(name: str) -> _Ranges:
    """Return the ranges of a POSIX class, given as ``alpha`` or ``^alpha``."""
    ranges = _NAMED_CLASSES.get(name.removeprefix("^"))
    if ranges is None:
        raise GoRegexpError(f"unknown class [:{name}:]")
    return _complement(ranges) if name.startswith("^") else ranges


def _complement(ranges: _Ranges) -> _Ranges:
    """Return everything outside sorted ranges."""
    result: _Ranges = []
    start = 0
    for low, high in ranges:
        if start < low:
            result.append((start, low - 1))
        start = high + 1
    result.append((start, _MAX_RUNE))
    return result


def _format_class(ranges: _Ranges, *, is_negated: bool = False) -> str:
    """Write ranges as a Python class; code points as escapes, since Python gives more characters a meaning there."""
    body = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
    return f"[{'^' if is_negated else ''}{body}]"
