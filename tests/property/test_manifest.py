"""Values go into a manifest as Convox puts them, line numbers stay those of the file, and nothing else than our error
comes out, whatever the text."""

from __future__ import annotations

import contextlib
import re

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from convox.errors import ManifestError
from convox.manifest import interpolate, missing_environment, parse_manifest
from convox.manifest_yaml import YamlList, YamlMap, YamlNode, YamlScalar, parse_yaml

PIECES = st.sampled_from(["${A}", "${B}", "${", "}", "$", "{", "A", "x", "\n", "\r\n", "${A\nB}", "${}", " ", "é"])
TEXTS = st.lists(PIECES, max_size=30).map("".join)
VALUES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(["", "1", "a\nb", "${A}", "}\n\n"]) for name in ("A", "B", "A\nB", "")}
)


@given(TEXTS, VALUES)
def test_interpolation_is_one_pass_of_the_obvious_pattern(text: str, env: dict[str, str]) -> None:
    assert interpolate(text, env)[0] == re.sub(r"\$\{([^}]*)\}", lambda match: env.get(match[1], ""), text)


@given(TEXTS, VALUES)
def test_there_is_a_line_of_the_file_for_each_line(text: str, env: dict[str, str]) -> None:
    filled, lines = interpolate(text, env)
    # A carriage return and a newline that met only in the filled text count as two; YAML then stops at the first.
    assert len(lines) >= len(re.split("\r\n|[\n\r\x85\u2028\u2029]", filled))
    assert list(lines) == sorted(lines)
    assert lines[0] == 1
    assert lines[-1] <= len(re.split("\r\n|\n", text))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=8))
def test_services_keep_their_lines_among_values_of_several_lines(shape: list[tuple[bool, int]]) -> None:
    rows = ["services:"]
    expected = []
    for index, (is_filled, extra) in enumerate(shape):
        rows += ["  # comment"] * extra
        expected.append(len(rows) + 1)
        rows.append(f"  s{index}: ${{V}}" if is_filled else f"  s{index}: {{}}")
    manifest = parse_manifest("\n".join(rows), {"V": "{build: x,\n    environment:\n    [A=1]}"})
    assert [service.line for service in manifest.services] == expected


@given(st.text(max_size=200) | TEXTS, st.dictionaries(st.text(max_size=3), st.text(max_size=20), max_size=3))
def test_any_text_is_a_manifest_or_our_error(text: str, env: dict[str, str]) -> None:
    with contextlib.suppress(ManifestError):
        assert parse_manifest(text, env).services


KEYS = st.text("abcxyz0123456789", min_size=1, max_size=4)
TREES = st.recursive(
    st.text(max_size=8) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


def plain(node: YamlNode | None) -> object:
    """Turn nodes into what PyYAML's loader gives, scalars as texts."""
    match node:
        case YamlMap():
            return {entry.key.value: plain(entry.value) for entry in node.entries}
        case YamlList():
            return [plain(item) for item in node.items]
        case YamlScalar(kind="null") | None:
            return None
        case YamlScalar():
            return node.value


def texts(tree: object) -> object:
    match tree:
        case dict():
            return {str(key): texts(value) for key, value in tree.items()}
        case list():
            return [texts(item) for item in tree]
        case bool():
            return str(tree).lower()
        case None:
            return None
        case _:
            return str(tree)


@given(TREES, st.booleans())
@example("\x85", False)
def test_what_is_written_as_yaml_is_read_back(tree: object, is_flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=is_flow, allow_unicode=True)
    if (
        "\x85" in text
    ):  # a line break in YAML 1.1: the writer leaves it bare, and no reader, its own neither, gets it back
        text = yaml.safe_dump(tree, default_flow_style=is_flow)
    node = parse_yaml(text, name="f", source=text, lines=range(1, text.count("\n") + 2))
    assert plain(node) == texts(tree)


NAMES = st.sampled_from(["A", "B", "C", "D"])


@given(
    st.lists(NAMES | NAMES.map(lambda name: f"{name}=x") | st.just("*"), max_size=8),
    st.dictionaries(NAMES, st.text(max_size=2), max_size=4),
)
def test_required_names_are_the_bare_ones_without_a_value(environment: list[str], env: dict[str, str]) -> None:
    missing = missing_environment(environment, env)
    assert missing == sorted(set(missing))
    assert set(missing) == {item for item in environment if item in ("A", "B", "C", "D")} - set(env)


SECRET = "hunter2swordfish"
SHAPES = st.sampled_from(
    [
        "_",
        "*_",
        "&_",
        "'_",
        '"_',
        "!_",
        "[_",
        "{_",
        "{_: _",
        "_: _",
        "? _",
        "%_",
        "@_",
        "\t_",
        "- _",
        "a: _: b",
        "\n_\n _",
    ]
)


@given(SHAPES, TEXTS)
def test_no_error_shows_a_value(shape: str, rest: str) -> None:
    try:
        parse_manifest(f"services:\n  web:\n    build: ${{S}}\n{rest}", {"S": shape.replace("_", SECRET)})
    except ManifestError as exc:
        assert SECRET not in f"{exc} {exc!r} {exc.why} {exc.hint}"
