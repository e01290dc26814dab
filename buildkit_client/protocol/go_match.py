"""Go's shell-style matching of one name.

Followed paths use it for their wildcards. The pattern matcher uses it to refuse patterns that are not valid: there
only the error counts, which depends on how far the matching comes, so nothing less than the whole procedure will do.

Reference: Go path/filepath, match.go, Match (on Unix).
"""

from __future__ import annotations

_REPLACEMENT = 0xFFFD  # what Go reads for a byte that is not UTF-8


class BadPatternError(ValueError):
    """The part of a pattern that was looked at is not valid."""


def match_name(pattern: bytes, name: bytes) -> bool:
    """Tell whether a pattern with ``*``, ``?``, ``[...]`` and escapes matches all of a name.

    ``*`` and ``?`` do not match ``/``. What comes after the place where the match fails is not checked.

    Raises:
        BadPatternError: A class or an escape is not complete.
    """
    while pattern:
        has_star, chunk, pattern = _split(pattern)
        if has_star and not chunk:
            return b"/" not in name
        rest = _match_chunk(chunk, name)
        if rest is not None and (not rest or pattern):
            name = rest
            continue
        if not has_star:
            return False
        for skipped in range(name.find(b"/") if b"/" in name else len(name)):
            rest = _match_chunk(chunk, name[skipped + 1 :])
            if rest is not None and (not rest or pattern):
                name = rest
                break
        else:
            return False
    return not name


def _split(pattern: bytes) -> tuple[bool, bytes, bytes]:
    """Cut off the stars at the start and what follows up to the next star."""
    chunk = pattern.lstrip(b"*")
    has_star = len(chunk) < len(pattern)
    in_class = False
    position = 0
    while position < len(chunk):
        char = chunk[position : position + 1]
        if char == b"\\":
            position += 1
        elif char == b"[":
            in_class = True
        elif char == b"]":
            in_class = False
        elif char == b"*" and not in_class:
            return has_star, chunk[:position], chunk[position:]
        position += 1
    return has_star, chunk, b""


def _match_chunk(chunk: bytes, name: bytes) -> bytes | None:
    """Match a piece without stars at the start of a name; return the rest of the name, or None without a match."""
    has_failed = False
    position = 0
    while position < len(chunk):
        has_failed = has_failed or not name
        char = chunk[position : position + 1]
        if char == b"[":
            rune, size = (0, 0) if has_failed else _first_rune(name)
            name = name[size:]
            is_inside, position = _match_class(chunk, position + 1, rune if rune >= 0 else _REPLACEMENT)
            has_failed = has_failed or not is_inside
            continue
        if char == b"?":
            if not has_failed:
                has_failed = name.startswith(b"/")
                name = name[_first_rune(name)[1] :]
        else:
            if char == b"\\":
                position += 1
                if position == len(chunk):
                    raise BadPatternError("a pattern ends with a backslash")
            if not has_failed:
                has_failed = chunk[position] != name[0]
                name = name[1:]
        position += 1
    return None if has_failed else name


def _match_class(chunk: bytes, position: int, rune: int) -> tuple[bool, int]:
    """Match a character with the class whose bracket was just read; return the verdict and where the class ends."""
    is_negated = chunk.startswith(b"^", position)
    position += is_negated
    is_inside = False
    is_first = True
    while is_first or not chunk.startswith(b"]", position):
        is_first = False
        low, position = _class_rune(chunk, position)
        high = low
        if chunk.startswith(b"-", position):
            high, position = _class_rune(chunk, position + 1)
        is_inside = is_inside or low <= rune <= high
    return is_inside is not is_negated, position + 1


def _class_rune(chunk: bytes, position: int) -> tuple[int, int]:
    """Read one character of a class; return it and where it ends, which is never the end of the pattern."""
    if chunk[position : position + 1] in (b"", b"-", b"]"):
        raise BadPatternError("a class is empty, not closed, or has an open range")
    position += chunk.startswith(b"\\", position)
    rune, size = _first_rune(chunk[position : position + 4])
    if rune < 0 or position + size >= len(chunk):
        raise BadPatternError("a class is not closed, or not UTF-8")
    return rune, position + size


def _first_rune(text: bytes) -> tuple[int, int]:
    """Return the first character's code point and length in bytes; (-1, 1) when it is not UTF-8, (-1, 0) at the end."""
    for size in range(1, 5):
        try:
            decoded = text[:size].decode()
        except UnicodeDecodeError:
            continue
        return (ord(decoded), size) if decoded else (-1, 0)
    return -1, 1
