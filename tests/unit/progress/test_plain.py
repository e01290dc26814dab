"""Plain text: options and oddities that the recorded streams do not show."""

from __future__ import annotations

import pytest

from buildkit_client.progress import PlainProgress, StatusUpdate, Vertex, VertexLog, VertexStatus
from tests.support.status_streams import FakeClock

S = 1_000_000_000
MS = 1_000_000


class Screen:
    """A display, its clock and what it wrote."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.pieces: list[str] = []
        self.display = PlainProgress(self.pieces.append, clock=self.clock, **options)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def show(self, *parts: Vertex | VertexStatus | VertexLog, at_ns: int | None = None) -> None:
        if at_ns is not None:
            self.clock.now_ns = at_ns
        self.display.update(
            StatusUpdate(
                vertexes=tuple(part for part in parts if isinstance(part, Vertex)),
                statuses=tuple(part for part in parts if isinstance(part, VertexStatus)),
                logs=tuple(part for part in parts if isinstance(part, VertexLog)),
            )
        )


def test_messages_within_the_print_interval_wait_for_the_tick() -> None:
    screen = Screen()
    screen.show(Vertex("a", name="one", started_ns=0))
    screen.show(VertexLog("a", data=b"x\n"), at_ns=50 * MS)
    assert screen.text == "#1 one\n"
    screen.clock.now_ns = 199 * MS
    screen.display.tick()
    assert screen.text == "#1 one\n"
    screen.clock.now_ns = 200 * MS
    screen.display.tick()
    assert screen.text == "#1 one\n#1 0.000 x\n"


def test_a_hidden_vertex_gets_the_screen_after_ten_seconds() -> None:
    screen = Screen()
    screen.show(Vertex("a", name="one", started_ns=0), Vertex("b", name="two", started_ns=0))
    screen.show(VertexLog("b", data=b"hidden\n", timestamp_ns=1 * S), at_ns=1 * S)
    first = "one" if screen.text.startswith("#1 one") else "two"
    hidden = VertexLog("b" if first == "one" else "a", data=b"now\n", timestamp_ns=12 * S)
    screen.show(hidden, at_ns=12 * S)
    assert "#1 ...\n\n#2 " in screen.text
    assert screen.text.endswith("12.00 now\n")


def test_output_cut_inside_a_line_is_continued_without_prefix() -> None:
    screen = Screen()
    screen.show(Vertex("a", name="one", started_ns=0), VertexLog("a", data=b"begin "))
    screen.show(VertexLog("a", data=b"end\n"), at_ns=1 * S)
    assert screen.text == "#1 one\n#1 0.000 begin end\n"


def test_a_character_cut_in_two_comes_out_whole() -> None:
    screen = Screen()
    screen.show(Vertex("a", name="one", started_ns=0), VertexLog("a", data="caf\u00e9".encode()[:-1]))
    assert screen.text == "#1 one\n#1 0.000 caf"
    screen.show(VertexLog("a", data="caf\u00e9\n".encode()[-2:]), at_ns=1 * S)
    assert screen.text == "#1 one\n#1 0.000 caf\u00e9\n"


def test_half_a_character_at_the_end_of_a_vertex_is_replaced() -> None:
    screen = Screen()
    screen.show(Vertex("a", name="one", started_ns=0), VertexLog("a", data=b"caf\xc3"))
    screen.show(Vertex("a", name="one", started_ns=0, completed_ns=1 * S), at_ns=1 * S)
    assert screen.text.endswith("#1 DONE 1.0s\n")


@pytest.mark.parametrize(("errors", "shown"), [("replace", "\ufffd"), ("surrogateescape", "\udcff")])
def test_bytes_that_are_not_utf8(errors: str, shown: str) -> None:
    screen = Screen(errors=errors)
    screen.show(Vertex("a", name="one", started_ns=0), VertexLog("a", data=b"\xff\n"))
    assert screen.text == f"#1 one\n#1 0.000 {shown}\n"


def test_a_terminal_gets_no_control_sequences() -> None:
    screen = Screen(terminal=True)
    screen.show(
        Vertex("a", name="\x1b[2Jone", started_ns=0),
        VertexLog("a", data=b"\x1b[1A\x1b[31mred\x1b[0m\rover\xff\n"),
        VertexStatus("\x1b]0;x\x07id", "a", started_ns=0),
    )
    assert screen.text == "#1 one\n#1 id\n#1 0.000 red over\ufffd\n"


def test_elsewhere_everything_passes() -> None:
    screen = Screen()
    screen.show(Vertex("a", name="one", started_ns=0), VertexLog("a", data=b"\x1b[31mred\x1b[0m\n"))
    assert screen.text == "#1 one\n#1 0.000 \x1b[31mred\x1b[0m\n"


def test_names_are_cut_on_request() -> None:
    screen = Screen(truncate_names=True)
    screen.show(Vertex("a", name="n" * 73, started_ns=0))
    assert screen.text == f"#1 {'n' * 72}...\n"


def test_the_header_is_a_vertex_with_number_zero() -> None:
    screen = Screen(header="building with x")
    screen.show(Vertex("a", name="one", started_ns=0))
    assert screen.text == "#0 building with x\n\n#1 one\n"


def test_solves_with_names_stand_in_the_headers() -> None:
    screen = Screen()
    screen.display.update(StatusUpdate(vertexes=(Vertex("a", name="[1/2] RUN", started_ns=0),)), solve="web")
    assert screen.text == "#1 [web 1/2] RUN\n"


def test_a_status_is_repeated_only_for_five_percent_or_five_seconds() -> None:
    screen = Screen(print_interval_s=0)
    screen.show(Vertex("a", name="one", started_ns=0))
    for current, seconds in ((0, 0), (4, 1), (5, 2), (6, 3), (7, 7.1)):
        screen.show(VertexStatus("s", "a", "", current, 100, round(seconds * S), 0))
    assert screen.text == "#1 one\n#1 s 0B / 100B\n#1 s 5B / 100B 2.0s\n#1 s 7B / 100B 7.1s\n"


def test_the_recap_has_the_last_ten_lines() -> None:
    screen = Screen()
    output = VertexLog("a", data=b"".join(b"%d\n" % number for number in range(15)))
    screen.show(Vertex("a", name="one", started_ns=0, completed_ns=1 * S, error="bad"), output)
    screen.display.finish()
    recap = "".join(f"0.000 {number}\n" for number in range(5, 15))
    assert screen.text.endswith(f"#1 ERROR: bad\n------\n > one:\n{recap}------\n")


def test_a_line_without_end_of_many_megabytes_is_printed_whole_and_not_kept() -> None:
    screen = Screen(print_interval_s=0)
    screen.show(Vertex("a", name="one", started_ns=0))
    for _ in range(160):
        screen.show(VertexLog("a", data=b"x" * (1 << 16)))
    assert screen.text == f"#1 one\n#1 0.000 {'x' * (160 << 16)}"
    (line,) = screen.display._printed["a"].output.lines
    assert len(line) <= 1 << 20


def test_an_empty_message_is_no_harm() -> None:
    screen = Screen()
    screen.show()
    screen.display.tick()
    screen.display.finish()
    assert screen.text == ""
