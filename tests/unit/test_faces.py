"""The two faces of the client offer the same: method by method, argument by argument."""

import asyncio
import inspect
import subprocess
import sys
import threading
import time

import pytest

import buildkit_client
from buildkit_client import AsyncClient, Client
from buildkit_client.aio import _BuildControl
from buildkit_client.aio_history import AsyncHistory
from buildkit_client.aio_threads import in_thread
from buildkit_client.history import History

ONLY_BLOCKING = {
    "close",
    "start_solve",
    "start_gateway",
}  # a start leaves waiting to a thread; a task is cancelled instead
ONLY_ASYNC = {"aclose"}


def public(cls):
    return {name for name, value in vars(cls).items() if not name.startswith("_") and callable(value)}


FACES = [(Client, AsyncClient), (History, AsyncHistory)]


@pytest.mark.parametrize(("blocking", "asynchronous"), FACES)
def test_methods_are_the_same(blocking, asynchronous):
    assert public(blocking) - ONLY_BLOCKING == public(asynchronous) - ONLY_ASYNC


@pytest.mark.parametrize(
    ("blocking", "asynchronous", "name"),
    [
        (*faces, name)
        for faces in FACES
        for name in ["__init__", *sorted(public(faces[1]) - ONLY_ASYNC)]
        if (faces[1], name) != (AsyncHistory, "__init__")
    ],
)
def test_arguments_are_the_same(blocking, asynchronous, name):
    def shape(cls):
        parameters = inspect.signature(getattr(cls, name)).parameters.values()
        return [(p.name, p.kind, p.default, str(p.annotation)) for p in parameters]

    assert shape(blocking) == shape(asynchronous)


def test_every_public_name_is_there_and_sorted():
    assert buildkit_client.__all__ == sorted(buildkit_client.__all__)
    for name in buildkit_client.__all__:
        assert getattr(buildkit_client, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_like_it"):
        buildkit_client.nothing_like_it  # noqa: B018


def test_importing_the_package_loads_neither_grpc_nor_protobuf():
    code = "import sys, buildkit_client; print([m for m in ('grpc', 'google.protobuf', 'urllib3') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_cancelled_task_cancels_the_work_and_waits_for_its_end():
    ended = threading.Event()
    stop = threading.Event()

    def work():
        stop.wait(5)
        time.sleep(0.05)
        ended.set()
        raise RuntimeError("ended by cancel")

    async def main():
        task = asyncio.create_task(in_thread(work, on_cancel=stop.set))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(main())


def test_errors_and_results_pass():
    async def main():
        assert await in_thread(lambda: 7) == 7
        with pytest.raises(KeyError):
            await in_thread(lambda: {}["x"])

    asyncio.run(main())


def test_a_build_cancelled_before_it_started_is_cancelled_when_it_starts():
    class Build:
        cancelled = False

        def cancel(self):
            self.cancelled = True

    control, build = _BuildControl(), Build()
    control.cancel()
    control.started(build)
    assert build.cancelled
