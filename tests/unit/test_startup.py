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


DATACLASSES = """
import copy, dataclasses, inspect, pickle
from dataclasses import dataclass, field, replace

def refuses(call):
    try:
        call()
    except (dataclasses.FrozenInstanceError, TypeError) as exc:
        return f"{type(exc).__name__}: {exc}"
    raise AssertionError("accepted")

@dataclass(frozen=True, slots=True, order=True)
class Point:
    "A point."
    x: int
    y: int = 0
    tags: list = field(default_factory=list, compare=False)
    secret: str = field(default="s", repr=False)

@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Point):
    "A point with a name."
    name: str
    def __post_init__(self):
        object.__setattr__(self, "secret", self.name.upper())

@dataclass
class Plain:
    "A plain one."
    a: int

def look():
    p, n, plain = Point(1), Named(x=1, name="n"), Plain(3)
    plain.a = 4
    yield repr(p), repr(n), repr(plain)
    yield p == Point(1, tags=[1]), p != Point(2), p < Point(2), hash(p) == hash(Point(1)), plain == Plain(4), n == p
    yield n.secret, replace(n, name="m").secret, dataclasses.asdict(n), [f.name for f in dataclasses.fields(Named)]
    yield copy.copy(n) == n, copy.deepcopy(p) == p, pickle.loads(pickle.dumps(n)) == n
    yield refuses(lambda: setattr(p, "x", 2)), refuses(lambda: delattr(n, "name")), refuses(lambda: Plain())
    yield refuses(lambda: hash(plain)), str(inspect.signature(Named)), Point.__init__.__qualname__, Point.__match_args__
    match p:
        case Point(x, y):
            yield x, y
for line in look():
    print(line)
"""


def test_methods_of_dataclasses_that_are_made_late_do_the_same() -> None:
    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    usual = run(DATACLASSES)
    assert usual.count("\n") == 7
    late = run("from buildkit_client.startup import lean_imports\nwith lean_imports(): pass\n" + DATACLASSES)
    assert late == usual


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python compiles all methods of a class at once")
def test_methods_of_dataclasses_are_not_made_before_they_are_used() -> None:
    code = """
from buildkit_client.startup import lean_imports
with lean_imports():
    from buildkit_client.options import DockerfileFrontend as Frontend
waits = lambda name: type(vars(Frontend)[name]).__name__ == "_Late"
assert waits("__init__") and waits("__eq__")
Frontend()
assert not waits("__init__") and waits("__eq__")
"""
    loaded(code + "0")
