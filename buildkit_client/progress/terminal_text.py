r"""Makes text from a build harmless for a terminal.

A build's output, and the names of its steps, may come from people who wish the reader ill: control sequences can move
the cursor over lines that were printed before, set the window title, fill the clipboard, or make some terminals answer
as if somebody typed. What a terminal would act on is removed; the rest stays readable.
"""

from __future__ import annotations

import re

# Whole sequences first, so that no harmless-looking rest of them stays: CSI; the string commands (OSC, DCS, SOS, PM,
# APC) to their end; any other escape. Then single controls of C0 and C1, except tab and newline.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\)?"
    r"|\x1b[ -/]*[0-Z\\-~]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CARRIAGE_RETURN_BEFORE_END = re.compile(r"\r+(?=\n)")


def neutralise(text: str) -> str:
    r"""Return the text without anything that a terminal acts on.

    Args:
        text: Any text, also a piece of a line. Newlines and tabs stay.

    Returns:
        The text with escape sequences removed, a carriage return inside a line turned into a space, and each other
        control character, and each that turns the direction of writing, replaced by U+FFFD.
    """
    if _CONTROL.search(text) is None:
        return text
    text = _SEQUENCE.sub("", text)
    text = _CARRIAGE_RETURN_BEFORE_END.sub("", text).replace("\r", " ")
    return _CONTROL.sub("\ufffd", text)
