"""The generator script: what it refuses, and what it makes of the generator's output."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything the script reads and writes."""
    pytest.importorskip("grpc_tools")
    for name in ("protos", "scripts", "buildkit_client/_proto"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def generate(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tree / "scripts" / "gen_protos.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def stubs(tree: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tree / "buildkit_client/_proto").iterdir() if path.is_file()}


def test_check_accepts_what_is_there_and_writing_changes_nothing(tree: Path) -> None:
    before = stubs(tree)
    checked = generate(tree, "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert generate(tree).returncode == 0
    assert stubs(tree) == before


def test_check_finds_a_changed_definition_and_leaves_the_stubs(tree: Path) -> None:
    before = stubs(tree)
    with (tree / "protos" / "stack.proto").open("a", encoding="utf-8") as file:
        file.write("message Extra { string note = 1; }\n")
    done = generate(tree, "--check")
    assert done.returncode == 1
    assert "stack_pb2.pyi" in done.stderr
    assert "are stale; run scripts/gen_protos.sh" in done.stderr
    assert stubs(tree) == before


def test_check_finds_an_edited_and_a_left_over_stub(tree: Path) -> None:
    package = tree / "buildkit_client" / "_proto"
    with (package / "ssh_pb2.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    (package / "gone_pb2.py").write_text("")
    done = generate(tree, "--check")
    assert done.returncode == 1
    assert "ssh_pb2.py" in done.stderr
    assert "gone_pb2.py" in done.stderr
    assert generate(tree).returncode == 0
    assert stubs(tree) == stubs(ROOT)


def test_another_generator_version_is_refused(tree: Path) -> None:
    project = tree / "pyproject.toml"
    project.write_text(re.sub(r"grpcio-tools==[\d.]+", "grpcio-tools==0.1.2", project.read_text()))
    done = generate(tree, "--check")
    assert done.returncode == 1
    assert "pinned is 0.1.2" in done.stderr


def test_unknown_argument(tree: Path) -> None:
    done = generate(tree, "--chekc")
    assert done.returncode == 1
    assert "unknown argument --chekc" in done.stderr


def test_every_definition_has_a_comment() -> None:
    bare = []
    for path in sorted((ROOT / "protos").glob("*.proto")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("// "), path.name
        for before, line in itertools.pairwise(lines):
            if re.match(r"\s*(message|service|rpc|enum) ", line) and not before.lstrip().startswith("// "):
                bare.append(f"{path.name}: {line.strip()}")
    assert bare == []


@pytest.fixture(scope="module")
def finish_stubs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("finish_stubs", ROOT / "scripts" / "finish_stubs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_output_of_another_generator_is_refused(finish_stubs: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"expected exactly one .*descriptor_pool"):
        finish_stubs.finish_module("DESCRIPTOR = something_new.AddSerializedFile(b'')\n")


def test_a_field_that_hides_its_type_gets_an_alias(finish_stubs: ModuleType) -> None:
    stub = (
        "class Outer(_message.Message):\n"
        '    __slots__ = ("Inner", "other")\n'
        "    INNER_FIELD_NUMBER: _ClassVar[int]\n"
        "    Inner: Inner\n"
        "    other: _containers.RepeatedCompositeFieldContainer[Other]\n"
        "    def __init__(self, Inner: _Optional[_Union[Inner, _Mapping]] = ..., **kwargs) -> None: ...\n"
        "\n"
        "class Inner(_message.Message):\n"
        "    __slots__ = ()\n"
        "\n"
        "class Other(_message.Message):\n"
        '    __slots__ = ("inner",)\n'
        "    inner: Inner\n"
    )
    expected = (
        stub.replace("Inner: Inner", "Inner: _InnerType", 1)
        .replace("_Union[Inner, _Mapping]", "_Union[_InnerType, _Mapping[str, object]]")
        .replace("**kwargs)", "**kwargs: object)")
    )
    assert finish_stubs.finish_stub(stub) == expected + "\n_InnerType = Inner\n"
