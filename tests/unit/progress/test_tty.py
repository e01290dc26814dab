"""The live display: what fits, what is painted, what is made harmless."""

from __future__ import annotations

from buildkit_client.progress import StatusUpdate, TtyProgress, Vertex, VertexLog, VertexStatus
from buildkit_client.progress.colours import Colours, colours_from_environ, paint
from tests.support.status_streams import FakeClock, render_screen

S = 1_000_000_000


class Terminal:
    """A display and the terminal it draws on."""

    def __init__(self, width: int = 60, height: int = 30, colours: Colours | None = None) -> None:
        self.size = (width, height)
        self.clock = FakeClock()
        self.pieces: list[str] = []
        self.display = TtyProgress(
            self.pieces.append,
            size=lambda: self.size,
            clock=self.clock,
            print_interval_s=0,
            colours=colours or Colours.none(),
        )

    @property
    def screen(self) -> list[str]:
        return render_screen("".join(self.pieces)).rstrip("\n").split("\n")

    def show(self, *parts: Vertex | VertexStatus | VertexLog) -> None:
        self.display.update(
            StatusUpdate(
                vertexes=tuple(part for part in parts if isinstance(part, Vertex)),
                statuses=tuple(part for part in parts if isinstance(part, VertexStatus)),
                logs=tuple(part for part in parts if isinstance(part, VertexLog)),
            )
        )


def test_a_running_step_has_a_window_of_its_last_lines() -> None:
    terminal = Terminal()
    output = b"".join(b"line %d\n" % number for number in range(20))
    terminal.show(Vertex("a", name="[1/2] RUN make", started_ns=100 * S), VertexLog("a", data=output))
    terminal.clock.now_ns = 2 * S
    terminal.display.tick()
    assert terminal.screen == [
        "[+] Building 2.0s (0/1)",
        " => [1/2] RUN make                                     2.0s",
        *(f" => => # line {number}" for number in range(14, 20)),
    ]


def test_the_window_goes_when_the_step_ends() -> None:
    terminal = Terminal()
    terminal.show(Vertex("a", name="step", started_ns=0), VertexLog("a", data=b"x\ny\n"))
    terminal.show(Vertex("a", name="step", started_ns=0, completed_ns=1 * S))
    assert terminal.screen == ["[+] Building 0.0s (1/1)", " => step                                               1.0s"]


def test_no_row_is_wider_than_the_terminal() -> None:
    terminal = Terminal(width=40)
    name = "漢字の長い名前がここにあります" * 3
    terminal.show(
        Vertex("a", name=name, started_ns=0),
        VertexLog("a", data=(name + "\n").encode()),
        VertexStatus("n" * 90, "a", "", 5, 10_000_000, 0, 0),
    )
    for line in terminal.screen:
        assert sum(2 if ord(char) > 0x2E80 else 1 for char in line) < 40


def test_a_terminal_too_narrow_shows_only_the_head() -> None:
    terminal = Terminal(width=15)
    terminal.show(Vertex("a", name="step", started_ns=0))
    assert terminal.screen == ["[+] Building 0."]


def test_a_terminal_too_low_keeps_what_runs() -> None:
    terminal = Terminal(height=8)
    running = Vertex("r", name="running", started_ns=0)
    ended = [Vertex(f"e{number}", name=f"ended {number}", started_ns=0, completed_ns=1) for number in range(20)]
    terminal.show(running, *ended)
    names = [line.split("  ")[0] for line in terminal.screen[1:]]
    assert names == [" => running", *(f" => ended {number}" for number in range(15, 20))]


def test_an_unknown_size_is_eighty_by_ten() -> None:
    terminal = Terminal(width=0, height=0)
    terminal.show(Vertex("a", name="step", started_ns=0))
    assert len(terminal.screen[1]) == 79


def test_control_sequences_of_the_build_never_reach_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;title\x07evil\x9b1A"
    terminal = Terminal()
    terminal.show(
        Vertex("a", name=evil, started_ns=0),
        VertexStatus(evil, "a", started_ns=0),
        VertexLog("a", data=evil.encode() + b"\n"),
    )
    terminal.show(Vertex("a", name=evil, started_ns=0, completed_ns=1, error="bad"))
    terminal.display.finish()
    output = "".join(terminal.pieces)
    assert "\x1b[2J" not in output
    assert "\x07" not in output
    assert "\x9b" not in output
    assert "evil" in output


def test_the_recap_has_the_whole_output_of_the_failed_step() -> None:
    terminal = Terminal()
    lines = b"".join(b"%d\n" % number for number in range(50))
    terminal.show(Vertex("a", name="step", started_ns=0), VertexLog("a", data=lines, timestamp_ns=2 * S))
    terminal.show(Vertex("a", name="step", started_ns=0, completed_ns=3 * S, error="exit code: 1"))
    terminal.display.finish()
    recap = [f"2.000 {number}" for number in range(50)]
    assert terminal.screen[-53:] == ["------", " > step:", *recap, "------"]


def test_a_failed_step_that_wrote_very_much_is_not_kept_whole() -> None:
    terminal = Terminal()
    terminal.show(Vertex("a", name="step", started_ns=0))
    for number in range(64):
        terminal.show(VertexLog("a", data=b"x" * 65_535 + b"\n" if number % 2 else b"y" * 65_536))
    kept = sum(len(line) for line in terminal.display._outputs["a"].lines)
    assert 1 << 18 < kept < 1 << 21


def test_colours_mark_how_a_step_ended() -> None:
    terminal = Terminal(colours=Colours())
    terminal.show(
        Vertex("a", name="good", started_ns=0, completed_ns=1),
        Vertex("b", name="bad", started_ns=0, completed_ns=1, error="x"),
        Vertex("c", name="gone", started_ns=0, completed_ns=1, error="context canceled"),
        Vertex("d", name="open", started_ns=0),
    )
    output = "".join(terminal.pieces)
    assert "\x1b[34m => good" in output
    assert "\x1b[31m => ERROR bad" in output
    assert "\x1b[33m => CANCELED gone" in output
    assert "m => open" not in output


def test_colours_come_from_the_environment() -> None:
    assert colours_from_environ({"NO_COLOR": "1", "BUILDKIT_COLORS": "run=green"}) == Colours.none()
    chosen = colours_from_environ(
        {"BUILDKIT_COLORS": "run=light-green:ERROR=200,0,0:cancel=nonsense:x=red:warning=1,2"}
    )
    assert chosen == Colours(run="92", error="38;5;160")
    assert colours_from_environ({}) == Colours()


def test_paint_leaves_the_line_end_outside() -> None:
    assert paint("text\n", "31") == "\x1b[31mtext\x1b[0m\n"
    assert paint("text\n", "") == "text\n"
