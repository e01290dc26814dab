"""Makes the process of a command start faster; programs that use the library are left alone.

What bounds the start of a command is loading what it is made of: gRPC and protobuf, typer and peewee. Some of what
those load in turn they only name, or use for what few commands do: gRPC its asyncio face and asyncio itself, protobuf
its messages in pure Python. In its place stands a module that loads the real one when it is asked for anything, so
whoever does need it finds it. Most of what a dataclass costs is compiling methods that no run calls, so they are
compiled when they are first looked up. And while modules load, nobody looks for garbage: what is loaded stays.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class _Late:
    """Stands for a method of a dataclass until somebody looks it up; then the method is made and takes its place."""

    __slots__ = ("__name__", "_make", "_method")

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.__name__ = name
        self._make = make
        self._method: Any = None

    def __get__(self, instance: object, owner: type) -> Any:
        if self._method is None:
            self._method = self._make()
        for one in owner.__mro__:
            if one.__dict__.get(self.__name__) is self:
                self._method.__qualname__ = f"{one.__qualname__}.{self.__name__}"
                setattr(one, self.__name__, self._method)
        return self._method if instance is None else self._method.__get__(instance, owner)

    def __call__(self, instance: object) -> object:
        """Call the method: ``dataclasses`` wraps ``__repr__`` in a function of its own."""
        return self.__get__(instance, type(instance))()


def _compile_late() -> None:
    """Let the methods of dataclasses be made when they are first looked up, from here to the end of the process.

    A class takes half a millisecond less, and a command loads up to eighty. From Python 3.13 on nothing is changed:
    there the methods of a class are compiled together, and the private function that is replaced here is gone.

    Reference: CPython 3.11 and 3.12, Lib/dataclasses.py, _create_fn.
    """
    import dataclasses  # noqa: PLC0415 (without what it only names)

    create = getattr(dataclasses, "_create_fn", None)
    if create is not None and not hasattr(create, "is_late"):

        def create_late(name: str, *args: Any, **options: Any) -> _Late:
            return _Late(name, lambda: create(name, *args, **options))

        create_late.is_late = True  # type: ignore[attr-defined]
        dataclasses._create_fn = create_late  # type: ignore[attr-defined]


@contextmanager
def lean_imports() -> Iterator[None]:
    """Load modules without what they only name, and without collecting garbage in between.

    For the first steps of a command's process, while one thread imports: stand-ins are taken out again at the end, and
    what was bound to one goes on to reach the module through it. Methods of dataclasses stay late.
    """
    standing = {name: _OnDemand(name) for name in _ON_DEMAND if name not in sys.modules}
    sys.modules.update(standing)
    _compile_late()
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
