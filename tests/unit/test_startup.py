"""What a command does not load."""

import json
import subprocess
import sys

import pytest

LOADED = "import json, sys, gc; print(json.dumps([sorted(sys.modules), gc.isenabled()]))"


def loaded(code: str) -> tuple[set[str], bool]:
    done = subprocess.run([sys.executable, "-c", f"{code}; {LOADED}"], capture_output=True, text=True, check=True)
    names, is_collecting = json.loads(done.stdout)
    return set(names), is_collecting


@pytest.mark.parametrize("first", ["", "import gc; gc.disable(); "])
def test_lean_imports_load_grpc_without_its_asyncio_face_and_leave_the_collector_as_it_was(first: str) -> None:
    code = "from buildkit_client.startup import lean_imports\nwith lean_imports(): import buildkit_client.client\n0"
    names, is_collecting = loaded(first + code)
    assert "grpc" in names
    assert "grpc.aio._channel" not in names
    assert is_collecting is not bool(first)


def test_the_library_leaves_grpc_as_it_is() -> None:
    names, _ = loaded("import buildkit_client.client, grpc.aio; grpc.aio.insecure_channel")
    assert "grpc.aio._channel" in names


def test_a_build_loads_no_module_that_few_builds_need() -> None:
    names, _ = loaded("import buildkit_client.cli.build")
    few = ("history", "subrequests", "gateway", "session.ssh", "session.policy", "session.upload", "session.exporter")
    assert not {f"buildkit_client.{name}" for name in few} & names
