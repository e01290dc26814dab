"""Whatever graph is written: its definition is whole, ordered, the same every time, and survives being read."""

from __future__ import annotations

import posixpath
import shlex

from hypothesis import given
from hypothesis import strategies as st

from buildkit_client import OptionError, llb
from buildkit_client._proto import ops_pb2
from buildkit_client.llb import go_path
from buildkit_client.llb.words import split_words
from buildkit_client.oci import Digest

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
paths = st.lists(st.sampled_from(["a", "b", "..", ".", ""]), max_size=5).map("/".join)


@st.composite
def states(draw: st.DrawFn) -> llb.State:
    """Grow a graph: each step takes earlier states, so parts are shared."""
    grown = [llb.scratch(), llb.image("base"), llb.local("context")]
    for _ in range(draw(st.integers(0, 8))):
        one, other = draw(st.sampled_from(grown)), draw(st.sampled_from(grown))
        match draw(st.integers(0, 5)):
            case 0:
                target = draw(st.sampled_from(["/m", "/é", "!m"]))
                step = one.run([draw(texts)], mounts=[llb.Mount(target, other)], custom_name=draw(texts))
                grown += [step.root(), step.get_mount(target)]
            case 1:
                action = llb.mkfile(draw(paths), draw(texts)).copy(other, draw(paths), draw(paths))
                grown.append(one.dir(draw(paths)).file(action.rm(draw(paths))))
            case 2:
                grown.append(llb.merge([one, other], ignore_cache=draw(st.booleans())))
            case 3:
                grown.append(llb.diff(one, other))
            case 4:
                grown.append(one.file(llb.copy(llb.mkdir("/x").with_state(other), "/x", "/y")))
            case _:
                grown.append(one.add_env("A", draw(texts)).run("true", readonly_root=draw(st.booleans())))
    return grown[-1]


@given(states())
def test_definitions_are_whole_and_ordered(state: llb.State) -> None:
    definition = state.marshal(platform="linux/amd64", local_unique_id="x")
    assert state.marshal(platform="linux/amd64", local_unique_id="x") == definition
    known: list[str] = []
    for data in definition.ops:
        op = ops_pb2.Op.FromString(data)
        assert {source.digest for source in op.inputs} <= set(known)
        known.append(Digest.of(data))
    assert len(set(known)) == len(known)
    message = definition.to_proto()
    assert set(message.metadata) == set(known)
    assert set(message.Source.locations) == set(known[:-1])
    if known:
        assert llb.Definition.from_bytes(definition.to_bytes()) == definition
        assert ops_pb2.Op.FromString(definition.ops[-1]).inputs[0].digest == definition.head


@given(states(), st.data())
def test_damaged_bytes_are_refused_or_whole(state: llb.State, data: st.DataObject) -> None:
    raw = bytearray(state.marshal().to_bytes())
    if raw:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(raw), data.draw(st.binary(max_size=40))):
        try:
            definition = llb.Definition.from_bytes(damaged)
        except OptionError:
            continue
        assert definition.head in {Digest.of(op) for op in definition.ops}


@given(st.lists(texts))
def test_words_that_a_shell_would_keep_are_kept(words: list[str]) -> None:
    assert split_words(shlex.join(words)) == words


@given(paths, paths)
def test_paths(directory: str, path: str) -> None:
    cleaned = go_path.clean(path)
    assert go_path.clean(cleaned) == cleaned
    assert cleaned.lstrip("/") == posixpath.normpath(path).lstrip("/")
    absolute = go_path.absolute("/" + directory, path, keep_slash=True)
    assert absolute.startswith("/")
    assert not absolute.startswith("//")
    assert ".." not in absolute.split("/")
