"""Keeping secrets out of what is shown and stored: known values, and text that looks like credentials.

Two tools, for two situations. :class:`MaskingWriter` knows the secrets of a build and takes them out of a stream of
bytes, whatever way the stream was cut into chunks. :func:`scrub` knows no values; it takes out what looks like a
credential in an error text: ``user:pass@``, bearer tokens, ``Authorization`` and ``X-Registry-Auth`` headers.

Both are best effort: a program that prints a secret reversed, or encrypted, or one letter a line, is not caught.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MASK = "***"
"""What is shown in place of a secret."""

MIN_SECRET_BYTES = 4
"""Shorter values are not masked: they would take letters out of every other word."""

_MIN_FRAGMENT = 8  # a line of a longer secret, or base64 text cut out of its surroundings, must not be a common word


class MaskingWriter:
    """Replace secrets by ``***`` in a stream of bytes, across the borders of its chunks.

    What comes out does not depend on how the bytes were cut: text that may be the start of a secret is held back until
    the next bytes decide, everything else is written at once. Of two secrets that start at one place the longer wins.

    Args:
        secrets: Values to hide. Also found are their base64 form (at any offset in a longer base64 text), their
            URL-encoded and JSON-escaped forms, and each longer line of a value with several lines. Values under
            four bytes are left out.
        write: Takes what may be shown; called with bytes that are never empty.
    """

    def __init__(self, secrets: Iterable[str], write: Callable[[bytes], object]) -> None:
        self._write = write
        self._needles = _needles(secrets)
        self._pattern = re.compile(b"|".join(re.escape(needle) for needle in self._needles))
        self._longest = max((len(needle) for needle in self._needles), default=0)
        self._held = b""

    def write(self, data: bytes) -> None:
        """Take the next bytes and write on what is sure."""
        if not self._needles:
            if data:
                self._write(data)
            return
        buffer = self._held + data
        out: list[bytes] = []
        position = 0
        hold = self._hold_from(buffer, 0)
        # A match is only taken where no longer secret can still start, so the cut of the chunks never shows.
        while (match := self._pattern.search(buffer, position)) and match.start() < hold:
            out += (buffer[position : match.start()], MASK.encode())
            position = match.end()
            if position > hold:
                hold = self._hold_from(buffer, position)
        out.append(buffer[position:hold])
        self._held = buffer[hold:]
        shown = b"".join(out)
        if shown:
            self._write(shown)

    def flush(self) -> None:
        """Write what is held back, masked where it is a whole secret; the stream may go on afterwards."""
        held, self._held = self._held, b""
        if held:
            self._write(self._pattern.sub(MASK.encode(), held))

    def _hold_from(self, buffer: bytes, start: int) -> int:
        """Return where the longest end of ``buffer[start:]`` begins that is the beginning of a secret."""
        earliest = max(start, len(buffer) - self._longest + 1)
        best = len(buffer)
        for needle in self._needles:
            at = buffer.find(needle[:1], max(earliest, len(buffer) - len(needle) + 1))
            while 0 <= at < best:
                if needle.startswith(buffer[at:]):
                    best = at
                    break
                at = buffer.find(needle[:1], at + 1)
        return best


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every secret replaced by ``***``, in all the forms :class:`MaskingWriter` knows."""
    out: list[bytes] = []
    writer = MaskingWriter(secrets, out.append)
    writer.write(text.encode("utf-8", "surrogateescape"))
    writer.flush()
    return b"".join(out).decode("utf-8", "surrogateescape")


def secret_values(
    values: Mapping[str, str], *, is_secret: Callable[[str], bool] = lambda _: True, least: int = 8
) -> list[str]:
    """Return the values to hide of an environment or of build arguments.

    Args:
        values: By name.
        is_secret: Says of a name whether its value is one.
        least: Characters of the shortest one; a shorter one may well be a word that every text has.
    """
    return [value for name, value in values.items() if len(value) >= least and is_secret(name)]


def _needles(secrets: Iterable[str]) -> list[bytes]:
    """Return every byte string to look for, longest first."""
    found: set[bytes] = set()
    for secret in secrets:
        for value in {secret, secret.strip()}:
            raw = value.encode("utf-8", "surrogateescape")
            if len(raw) < MIN_SECRET_BYTES:
                continue
            found.add(raw)
            found |= _encoded_forms(raw)
            lines = [line.strip() for line in raw.splitlines()]
            if len(lines) > 1:
                found.update(line for line in lines if len(line) >= _MIN_FRAGMENT)
    return sorted(found, key=lambda needle: (-len(needle), needle))


def _encoded_forms(raw: bytes) -> set[bytes]:
    forms: set[bytes] = set()
    for encode in (quote, quote_plus):
        for safe in ("", "/"):
            text = encode(raw, safe=safe)
            forms.add(text.encode())
            forms.add(re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), text).encode())
    try:
        decoded = raw.decode()
    except UnicodeDecodeError:
        pass
    else:
        for ascii_only in (True, False):
            forms.add(json.dumps(decoded, ensure_ascii=ascii_only)[1:-1].encode())
    for encode_base64 in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode_base64(raw))
        for offset in range(3):
            # Within longer base64 text the letters at both ends also carry bits of the neighbours: those are left off.
            padded = encode_base64(b"\0" * offset + raw)
            first = (offset * 8 + 5) // 6
            last = (offset + len(raw)) * 8 // 6
            if last - first >= _MIN_FRAGMENT:
                forms.add(padded[first:last])
    return forms


_SCRUBS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Headers first, so that "Authorization: Bearer x" becomes one mask; quoted and unquoted, with ":" or "=". A refused
    # push "may require authorization: server message: ...": that is no header.
    (
        re.compile(
            r"""(?ix) \b ( (?:proxy-)? authorization | x-registry-auth ) ( ["']? \s* [:=] \s* ) (?! server[ ]message: )
                (?: "[^"\r\n]*" | '[^'\r\n]*' | (?: (?:basic|bearer|token|negotiate|digest) \s+ )? [^\s,;"'}\]]+ )"""
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer)(\s+|%20)[A-Za-z0-9._~+/%-]{4,}=*"), rf"\1\2{MASK}"),
    (
        re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#\"'<>@]*:[^\s/?#\"'<>]*|[^\s/?#:\"'<>@]{16,})@"),
        rf"\1{MASK}@",
    ),
    (re.compile(r"(?<![\w:/@.%+~-])[\w.%+~-]+:[^\s:/@\"'<>]{3,}@(?=[A-Za-z0-9\[])(?!sha(?:256|512):)"), f"{MASK}@"),
    (
        re.compile(
            r"(?i)([?&](?:access_token|token|password|secret|sig|signature|x-amz-(?:signature|credential|security-token))=)"
            r"[^&\s\"'<>]+"
        ),
        rf"\1{MASK}",
    ),
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Return an error text without credentials.

    Args:
        text: Any text, of one or more lines; nothing else in it is changed or cut.
        secrets: Known values to take out as well.

    Returns:
        The text with ``user:pass@`` as ``***@``, ``Bearer x`` as ``Bearer ***``, and the values of ``Authorization``
        and ``X-Registry-Auth`` as ``***``.
    """
    if secrets:
        text = mask(text, secrets)
    for pattern, replacement in _SCRUBS:
        text = pattern.sub(replacement, text)
    return text
