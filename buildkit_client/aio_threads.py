"""Runs blocking calls for asyncio, each in a thread of its own.

Not in the loop's pool: builds last long, and a pool full of them would leave nobody to make other calls.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(function: Callable[[], T], *, on_cancel: Callable[[], object] | None = None) -> T:
    """Run a function and wait for it.

    Args:
        function: What to run.
        on_cancel: Called when the task is cancelled, to make the function end; the task then waits for that.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as exc:
            error = exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="buildkit-aio", daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
            await asyncio.wait([future])
            future.exception()  # it is retrieved: a cancelled build has one
        raise
