"""Colours of the live display, and how the environment chooses them.

Reference: util/progress/progressui/colors.go and init.go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_CODES = {
    "default": "39",
    **{name: str(30 + index) for index, name in enumerate(_NAMES)},
    **{f"light-{name}": str(90 + index) for index, name in enumerate(_NAMES)},
}
_ROLES = ("run", "cancel", "error", "warning")


@dataclass(frozen=True, slots=True)
class Colours:
    """SGR parameters by what they mark; an empty one leaves the text as it is.

    Attributes:
        run: Lines of what ended well.
        cancel: Lines of what was cancelled.
        error: Lines of what failed.
        warning: Lines of warnings.
        output: The output of running steps.
    """

    run: str = "34"
    cancel: str = "33"
    error: str = "31"
    warning: str = "33"
    output: str = "2"

    @classmethod
    def none(cls) -> Colours:
        """Colours that leave everything as it is."""
        return cls("", "", "", "", "")


def paint(text: str, code: str) -> str:
    """Put a colour around a line; a line end stays outside of it."""
    if not code:
        return text
    body = text.rstrip("\n")
    return f"\x1b[{code}m{body}\x1b[0m{text[len(body) :]}"


def colours_from_environ(environ: Mapping[str, str]) -> Colours:
    """Choose colours from ``NO_COLOR`` and ``BUILDKIT_COLORS``.

    ``BUILDKIT_COLORS`` is a list such as ``run=light-green:error=200,0,0``. Entries that make no sense are left out, as
    in the reference, which only logs them.
    """
    if environ.get("NO_COLOR"):
        return Colours.none()
    colours = Colours()
    for entry in environ.get("BUILDKIT_COLORS", "").split(":"):
        role, _, name = entry.partition("=")
        code = _CODES.get(name.lower()) or _rgb(name)
        if code and role.lower() in _ROLES:
            colours = replace(colours, **{role.lower(): code})
    return colours


def _rgb(text: str) -> str:
    parts = text.strip('"').split(",")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) <= 255 for part in parts):
        return ""
    red, green, blue = (int(part) // 43 for part in parts)
    return f"38;5;{16 + 36 * red + 6 * green + blue}"
