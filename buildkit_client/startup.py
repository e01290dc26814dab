"""Makes the process of a command start faster; programs that use the library are left alone.

What bounds the start of a command is loading what it is made of: gRPC and protobuf, typer and peewee. Some of what
those load in turn they only name, or use for what few commands do: gRPC its asyncio face and asyncio itself, protobuf
its messages in pure Python. In its place stands a module that loads the real one when it is asked for anything, so
whoever does need it finds it. And while modules load, nobody looks for garbage: what is loaded stays.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ON_DEMAND = (
    "asyncio",
    "base64",
    "bz2",
    "calendar",
    "google.protobuf.internal.python_message",
    "grpc.aio",
    "hashlib",
    "hmac",
    "inspect",
    "ipaddress",
    "lzma",
    "pkgutil",
    "secrets",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "traceback",
)


class _OnDemand(ModuleType):
    """Stands for a module until somebody asks for anything that is in it."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        value: object = getattr(import_module(self.__name__), name)
        self.__dict__[name] = value
        return value


@contextmanager
def lean_imports() -> Iterator[None]:
    """Load modules without what they only name, and without collecting garbage in between.

    For the first steps of a process, while one thread imports: stand-ins are taken out again at the end, and what was
    bound to one goes on to reach the module through it.
    """
    standing = {name: _OnDemand(name) for name in _ON_DEMAND if name not in sys.modules}
    sys.modules.update(standing)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name, module in standing.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        gc.freeze()
        if was_enabled:
            gc.enable()
