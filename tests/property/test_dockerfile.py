"""ARG names are found however a Dockerfile is laid out, and never in what is no instruction."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from convox.build_args import parse_build_args, select_build_args
from convox.dockerfile import DockerfileFacts, scan_dockerfile

NAMES = st.text("ABCXYZ_019", min_size=1, max_size=5)
VALUES = st.sampled_from(["", "=", "=1", '="a b"', "='c  d'", "=e\\ f", '="x=y"', "=$Z", "=${Z:-z}"])
SPACES = st.sampled_from([" ", "  ", "\t", " \\\n", " \\\n  ", " \\ \n\t", " \\\n# ARG HIDDEN\n", " \\\n\n "])
ENDS = st.sampled_from(["\n", "\r\n"])
NOISE = st.sampled_from(
    [
        "",
        "# ARG HIDDEN",
        "RUN echo ARG HIDDEN",
        "RUN <<EOF\nARG HIDDEN\nEOF",
        "COPY <<-'A B' <<C /\n\tARG HIDDEN\nA B\nARG HIDDEN\nC",
        "RUN a \\\n  ARG HIDDEN",
        'RUN ["<<EOF"]',
        "ENV A=<<EOF",
        "ONBUILD ARG HIDDEN",
        "LABEL a='\\\nARG HIDDEN\\\n'",
    ]
)


@st.composite
def dockerfiles(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A Dockerfile and the names it declares, in order."""
    parts = ["FROM scratch"]
    names: list[str] = []
    for _ in range(draw(st.integers(0, 6))):
        parts.append(draw(NOISE))
        declared = draw(st.lists(st.tuples(NAMES, VALUES, SPACES), min_size=1, max_size=4))
        names += [name for name, _, _ in declared]
        word = draw(st.sampled_from(["ARG", "arg", "Arg", " \tARG"]))
        parts.append(word + "".join(f"{space}{name}{value}" for name, value, space in declared))
    return "\n".join(parts).replace("\n", draw(ENDS)), names


@given(dockerfiles())
def test_names_are_found_in_any_layout(case: tuple[str, list[str]]) -> None:
    text, names = case
    assert scan_dockerfile(text.encode()).args == tuple(dict.fromkeys(names))


@given(dockerfiles())
def test_the_other_escape_character_means_the_same(case: tuple[str, list[str]]) -> None:
    text, names = case
    if "<<" in text or "e\\ f" in text:  # here-documents know the backslash only; so does that value
        return
    other = "# escape=`\n" + text.replace("\\", "`")
    assert scan_dockerfile(other.encode()).args == tuple(dict.fromkeys(names))


@given(st.binary(max_size=300))
def test_any_bytes_are_scanned(data: bytes) -> None:
    facts = scan_dockerfile(data)
    assert len(set(facts.args)) == len(facts.args)
    assert not any("=" in name or not name for name in facts.args)


ENVIRONMENTS = st.dictionaries(NAMES, st.text(max_size=3), max_size=6)


@given(st.lists(NAMES, unique=True, max_size=6), ENVIRONMENTS, ENVIRONMENTS, ENVIRONMENTS)
def test_selection(declared: list[str], app: dict[str, str], manifest: dict[str, str], given_: dict[str, str]) -> None:
    chosen = select_build_args(
        DockerfileFacts(args=tuple(declared)),
        app_env=app,
        manifest_args=[f"{name}={value}" for name, value in manifest.items()],
        given=given_,
    )
    expected = {name: value for name, value in (app | manifest | given_).items() if name in declared}
    assert list(chosen.items()) == sorted(expected.items())


@given(st.dictionaries(NAMES, st.text(max_size=10), max_size=5))
def test_values_survive_the_command_line(values: dict[str, str]) -> None:
    assert parse_build_args([f"{name}={value}" for name, value in values.items()], {}) == values
