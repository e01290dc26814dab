"""The state that status messages are folded into."""

from __future__ import annotations

from buildkit_client.progress import (
    BuildGraph,
    ProgressGroup,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexState,
    VertexStatus,
    VertexWarning,
)
from tests.support.status_streams import read_wire

S = 1_000_000_000


def graph_of(*vertexes: Vertex) -> BuildGraph:
    graph = BuildGraph()
    for vertex in vertexes:
        graph.apply(StatusUpdate(vertexes=(vertex,)))
    return graph


def only(graph: BuildGraph) -> VertexState:
    (state,) = graph
    return state


def test_a_vertex_is_announced_runs_and_ends() -> None:
    graph = BuildGraph()
    graph.apply(StatusUpdate(vertexes=(Vertex("a", ("b",), "step"),)))
    state = only(graph)
    assert (state.name, state.inputs, state.is_started, graph.started) == ("step", ("b",), False, ())
    graph.apply(StatusUpdate(vertexes=(Vertex("a", ("b",), "step", started_ns=1 * S),)))
    assert graph.running == (state,)
    assert (state.duration_s(), state.duration_s(now_ns=4 * S)) == (0.0, 3.0)
    graph.apply(StatusUpdate(vertexes=(Vertex("a", ("b",), "step", started_ns=1 * S, completed_ns=3 * S),)))
    assert (state.is_completed, state.started_ns, state.completed_ns, state.duration_s()) == (True, 1 * S, 3 * S, 2.0)
    assert (graph.running, graph.counts().completed) == ((), 1)


def test_a_restart_opens_another_interval() -> None:
    graph = graph_of(Vertex("a", name="s", started_ns=0, completed_ns=1 * S), Vertex("a", name="s", started_ns=5 * S))
    assert not only(graph).is_completed
    graph.apply(StatusUpdate(vertexes=(Vertex("a", name="s", started_ns=5 * S, completed_ns=7 * S),)))
    assert only(graph).intervals == [(0, 1 * S), (5 * S, 7 * S)]
    assert only(graph).duration_s() == 3.0
    assert len(graph.started) == 1


def test_the_announcement_repeated_after_the_start_changes_nothing() -> None:
    graph = graph_of(Vertex("a", name="good", cached=True, started_ns=1, completed_ns=2))
    assert graph.apply(StatusUpdate(vertexes=(Vertex("a", name="other"),))) == []
    assert (only(graph).name, only(graph).cached, only(graph).is_completed) == ("good", True, True)


def test_completed_twice_counts_once() -> None:
    done = Vertex("a", name="s", started_ns=1, completed_ns=2)
    graph = graph_of(done, done)
    assert (graph.counts().total, graph.counts().completed, len(graph.started)) == (1, 1, 1)


def test_an_end_before_its_start_lasts_no_time() -> None:
    assert only(graph_of(Vertex("a", started_ns=5 * S, completed_ns=1 * S))).duration_s() == 0.0


def test_what_refers_to_a_vertex_never_announced_is_left_out() -> None:
    graph = BuildGraph()
    graph.apply(
        StatusUpdate(
            statuses=(VertexStatus("s", "x"),), logs=(VertexLog("x", data=b"y"),), warnings=(VertexWarning("x"),)
        )
    )
    assert list(graph) == []
    assert graph.vertex("x") is None
    assert graph.last_output("x") == ()


def test_failed_and_cancelled_vertexes_are_told_apart() -> None:
    graph = graph_of(
        Vertex("a", name="bad", started_ns=1, completed_ns=2, error="exit code: 1"),
        Vertex("b", name="gone", started_ns=1, completed_ns=2, error="process did not end: context canceled"),
    )
    assert [state.name for state in graph.failed] == ["bad"]
    counts = graph.counts()
    assert (counts.failed, counts.cancelled, counts.completed) == (1, 1, 2)


def test_a_group_is_one_vertex() -> None:
    group = ProgressGroup("g", "the group")
    graph = BuildGraph()
    first = Vertex("a", name="one", cached=True, started_ns=1, completed_ns=2, progress_group=group)
    second = Vertex("b", name="two", started_ns=4, progress_group=group)
    graph.apply(StatusUpdate(vertexes=(first, second), logs=(VertexLog("b", data=b"out\n"),)))
    (state,) = graph.started
    assert (state.name, state.is_group, state.cached, state.is_completed) == ("the group", True, False, False)
    assert graph.vertex("a") is graph.vertex("b") is state
    assert graph.counts().total == 1
    failed = Vertex("b", name="two", started_ns=4, completed_ns=5, error="bad", progress_group=group)
    graph.apply(StatusUpdate(vertexes=(failed,)))
    assert (state.is_completed, state.error, state.intervals) == (True, "bad", [(1, 2), (4, 5)])
    assert graph.last_output("a") == ("out",)


def test_a_weak_group_stays_hidden() -> None:
    group = ProgressGroup("g", "weak", weak=True)
    graph = graph_of(Vertex("a", started_ns=1, completed_ns=2, progress_group=group))
    assert (graph.started, graph.counts().total) == ((), 0)
    strong = ProgressGroup("g", "weak", weak=False)
    graph.apply(StatusUpdate(vertexes=(Vertex("b", started_ns=3, progress_group=strong),)))
    assert [state.name for state in graph.started] == ["weak"]


def test_two_solves_that_share_a_step_count_it_once() -> None:
    graph = BuildGraph()
    update = StatusUpdate(
        vertexes=(Vertex("a", name="[1/2] RUN make", started_ns=1, completed_ns=2),),
        logs=(VertexLog("a", data=b"line\n"),),
        warnings=(VertexWarning("a", short=b"w"),),
    )
    graph.apply(update, solve="web")
    graph.apply(update, solve="api")
    assert (graph.counts().total, graph.counts().warnings, only(graph).last_output()) == (1, 1, ("line",))
    assert only(graph).solves == ["web", "api"]
    assert only(graph).label == "[web,api 1/2] RUN make"


def test_labels_have_the_solve_in_front_only_when_it_has_a_name() -> None:
    assert only(graph_of(Vertex("a", name="exporting"))).label == "exporting"
    graph = BuildGraph()
    graph.apply(StatusUpdate(vertexes=(Vertex("a", name="exporting"),)), solve="web")
    assert only(graph).label == "[web] exporting"


def test_the_cache_summary_names_the_users_own_steps() -> None:
    graph = BuildGraph()
    for _, update in read_wire("cached"):
        graph.apply(update)
    summary = graph.cache_summary()
    assert [name.partition("] ")[0] for name in summary.run_cached] == ["[base 2/2", "[left 1/1", "[right 1/1"]
    assert summary.run_executed == ()
    assert len(summary.cached) == 6
    assert graph.counts().total == graph.counts().completed == 11


def test_a_cached_step_whose_layer_is_fetched_later_stays_cached() -> None:
    graph = graph_of(
        Vertex("a", name="[1/2] RUN make", started_ns=1, completed_ns=2, cached=True),
        Vertex("a", name="[1/2] RUN make", started_ns=3),
        Vertex("a", name="[1/2] RUN make", started_ns=3, completed_ns=4),
        Vertex("b", name="[2/2] RUN test", started_ns=5, completed_ns=6),
    )
    summary = graph.cache_summary()
    assert summary.run_cached == ("[1/2] RUN make",)
    assert summary.run_executed == ("[2/2] RUN test",)


def test_a_failed_step_is_found_with_its_last_output() -> None:
    graph = BuildGraph()
    for _, update in read_wire("failed"):
        graph.apply(update)
    (failed,) = graph.failed
    assert failed.name.startswith("[base 2/2] RUN i=0;")
    assert failed.last_output(3) == ("line 13", "line 14", "over tail")
    assert graph.counts().cancelled == 1
    assert [warning.text.partition(":")[0] for warning in graph.warnings] == [
        "FromAsCasing",
        "MaintainerDeprecated",
        "ConsistentInstructionCasing",
    ]


def test_a_hundred_thousand_log_messages_stay_small() -> None:
    graph = graph_of(Vertex("a", started_ns=1))
    for number in range(100):
        graph.apply(StatusUpdate(logs=tuple(VertexLog("a", data=b"%d-%d\n" % (number, line)) for line in range(1000))))
    state = only(graph)
    assert state.last_output(2) == ("99-998", "99-999")
    assert len(state.last_output(1_000_000)) == 20
    assert state.log_bytes > 600_000
