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
    names, _ = loaded(
        "from buildkit_client.startup import lean_imports\nwith lean_imports(): import buildkit_client.cli.build\n0"
    )
    few = (
        *("history", "subrequests", "gateway", "records", "llb", "local_cache", "image_layouts", "cli.cache_metrics"),
        *("session.ssh", "session.policy", "session.upload", "session.exporter", "session.filesend", "transport.tls"),
        *("oci.layout", "oci.image", "oci.descriptor", "oci.token", "oci.credential_helper"),
        *("options.frontend", "options.contexts", "options.caches", "options.exporters", "options.outputs"),
        *("options.secrets", "options.attestations", "options.source_policy", "options.cloud_caches"),
        *("progress.tty", "progress.rawjson", "progress.colours"),
    )
    assert {f"buildkit_client.{name}" for name in few} & names == set()
    others = ("asyncio", "google.protobuf.internal.python_message", "hashlib", "shutil", "socket", "ssl", "subprocess")
    assert {*others, "tempfile", "traceback"} & names == set()


def test_what_is_loaded_on_demand_is_the_module_itself() -> None:
    code = """
import gc, sys
from buildkit_client.startup import lean_imports
with lean_imports():
    import calendar as stand_in
    assert "timegm" not in vars(stand_in)
    from calendar import monthrange
    assert stand_in.timegm is sys.modules["calendar"].timegm
    import tempfile as never_asked
import calendar, tempfile
assert stand_in is not calendar and stand_in.timegm is calendar.timegm and monthrange is calendar.monthrange
assert never_asked is not tempfile and never_asked.mkstemp is tempfile.mkstemp
try:
    stand_in.nothing
except AttributeError:
    pass
else:
    raise AssertionError
"""
    loaded(code + "0")
