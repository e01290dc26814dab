"""Makes the process of a command start faster; programs that use the library are left alone.

What bounds the start of a build is loading gRPC and protobuf. Two things of that can be saved: gRPC loads its asyncio
face too, which no command uses, and Python looks for garbage in what is loaded and stays.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def lean_imports() -> Iterator[None]:
    """Load modules without gRPC's asyncio face, and without collecting garbage in between."""
    sys.modules.setdefault("grpc.aio", ModuleType("grpc.aio"))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
