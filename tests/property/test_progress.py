"""Progress under any cutting of output and any stream of messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.progress import (
    BuildGraph,
    PlainProgress,
    ProgressGroup,
    StatusUpdate,
    TtyProgress,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
    neutralise,
    read_rawjson,
    to_rawjson,
)
from buildkit_client.progress.logtail import LogTail
from tests.support.status_streams import FakeClock

DIGESTS = st.sampled_from(["sha256:a", "sha256:b", "sha256:c"])
MOMENTS = st.integers(0, 10**12)
OPTIONAL_MOMENTS = st.none() | MOMENTS
GROUPS = st.none() | st.builds(ProgressGroup, st.sampled_from("gh"), st.text(max_size=3), st.booleans())
OUTPUT = st.binary(max_size=20) | st.sampled_from([b"\n", b"a\n", b"\r", b"\x1b[", b"31m", b"\xc3", b"\xa9"])
UPDATES = st.builds(
    StatusUpdate,
    vertexes=st.lists(
        st.builds(
            Vertex, DIGESTS, st.just(()), st.text(max_size=5), st.booleans(), OPTIONAL_MOMENTS, OPTIONAL_MOMENTS,
            st.sampled_from(["", "bad", "context canceled"]), GROUPS,
        ),
        max_size=3,
    ).map(tuple),
    statuses=st.lists(
        st.builds(
            VertexStatus, st.sampled_from("st"), DIGESTS, st.just(""), st.integers(-9, 10**12), st.integers(0, 10**12),
            MOMENTS, OPTIONAL_MOMENTS, OPTIONAL_MOMENTS,
        ),
        max_size=2,
    ).map(tuple),
    logs=st.lists(st.builds(VertexLog, DIGESTS, st.just(1), OUTPUT, MOMENTS), max_size=3).map(tuple),
    warnings=st.lists(
        st.builds(lambda vertex, short: VertexWarning(vertex, 1, short), DIGESTS, OUTPUT), max_size=1
    ).map(tuple),
)  # fmt: skip


@given(st.lists(OUTPUT), st.integers(1, 6))
def test_the_tail_of_an_output_does_not_depend_on_how_it_is_cut(pieces: list[bytes], limit: int) -> None:
    cut, whole = LogTail(limit), LogTail(limit)
    for piece in pieces:
        cut.feed(piece)
    whole.feed(b"".join(pieces))
    assert cut.lines(limit) == whole.lines(limit)
    expected = [line.decode("utf-8", "replace") for line in b"".join(pieces).split(b"\n")]
    if not expected[-1]:
        expected.pop()
    if not any("\r" in line for line in expected):
        assert list(cut.lines(limit)) == expected[-limit:]


@given(st.lists(OUTPUT, min_size=1), st.lists(st.integers(0, 10**9), min_size=1))
def test_plain_progress_shows_the_same_output_however_it_is_cut(pieces: list[bytes], pauses: list[int]) -> None:
    texts = []
    for cut in (pieces, [b"".join(pieces)]):
        clock, shown = FakeClock(), []
        display = PlainProgress(shown.append, clock=clock)
        display.update(StatusUpdate(vertexes=(Vertex("a", name="one", started_ns=0),)))
        for number, piece in enumerate(part for part in cut if part):
            clock.now_ns += pauses[number % len(pauses)]
            display.update(StatusUpdate(logs=(VertexLog("a", data=piece),)))
        done = Vertex("a", name="one", started_ns=0, completed_ns=10**9)
        clock.now_ns += 10**9
        display.update(StatusUpdate(vertexes=(done,)))
        texts.append("".join(shown))
    assert texts[0] == texts[1]


@given(st.lists(UPDATES, max_size=12), st.lists(st.integers(0, 2 * 10**10), min_size=12, max_size=12))
def test_any_stream_of_messages_is_shown_without_harm(updates: list[StatusUpdate], pauses: list[int]) -> None:
    clock = FakeClock()
    plain_text: list[str] = []
    frames: list[str] = []
    displays = [
        PlainProgress(plain_text.append, clock=clock, terminal=True),
        TtyProgress(frames.append, size=lambda: (50, 12), clock=clock),
    ]
    for update, pause in zip(updates, pauses, strict=False):
        clock.now_ns += pause
        for display in displays:
            display.update(update)
            display.tick()
    for display in displays:
        display.finish()
    assert not any(char in "".join(plain_text) for char in "\x1b\r\x07\x9b")
    assert not any(char in "".join(frames) for char in "\x07\x9b")


@given(st.lists(UPDATES, max_size=12))
def test_the_counts_of_a_graph_add_up(updates: list[StatusUpdate]) -> None:
    graph = BuildGraph()
    for update in updates:
        graph.apply(update)
        counts = graph.counts()
        assert counts.failed + counts.cancelled <= counts.completed <= counts.total
        assert counts.completed + len(graph.running) == len(graph.started)
        assert all(state.duration_s() >= 0 for state in graph)


@given(UPDATES)
def test_rawjson_can_be_read_back(update: StatusUpdate) -> None:
    line = to_rawjson(update)
    assert "\n" not in line
    assert to_rawjson(read_rawjson(line)) == line


@given(st.text(alphabet=st.characters(codec=None) | st.sampled_from("\x1b[]m;0\x9b\x07\r\n\\P")))
def test_harmless_text_has_no_controls_and_stays_so(text: str) -> None:
    safe = neutralise(text)
    assert not any(
        char in "\t\n" or (ord(char) < 32 or 0x7F <= ord(char) < 0xA0) for char in safe.translate({9: None, 10: None})
    )
    assert neutralise(safe) == safe
    assert safe.count("\n") == text.count("\n")
