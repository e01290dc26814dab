"""Nothing that a terminal acts on passes."""

from __future__ import annotations

import pytest

from buildkit_client.progress import neutralise


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode\ttab\n", "plain ünïcode\ttab\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b[2K\x1b[1Gb", "ab"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;ZXZpbA==\x1b\\text", "text"),
        ("\x1bP$qm\x1b\\text", "text"),
        ("\x1bctext", "text"),
        ("\x9b31mtext", "text"),
        ("bell\x07", "bell\ufffd"),
        ("back\x08space", "back\ufffdspace"),
        ("10%\r20%", "10% 20%"),
        ("windows\r\n", "windows\n"),
        ("\x1b", "\ufffd"),
        ("\u202etxt", "\ufffdtxt"),
        ("\x7f\x85", "\ufffd\ufffd"),
    ],
)
def test_control_sequences_go(text: str, shown: str) -> None:
    assert neutralise(text) == shown


def test_a_string_command_without_end_does_not_swallow_the_next_line() -> None:
    assert neutralise("a\x1b]0;title\nnext") == "a\nnext"
