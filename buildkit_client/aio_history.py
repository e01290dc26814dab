"""The asynchronous face of the daemon's history; see :class:`~buildkit_client.history.History` for every argument."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from buildkit_client.aio_threads import in_thread

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from buildkit_client.errors import BuildKitError
    from buildkit_client.history import History
    from buildkit_client.progress.model import StatusUpdate, VertexLog
    from buildkit_client.records import BlobDescriptor, BuildEvent, BuildRecord

    T = TypeVar("T")


class AsyncHistory:
    """The history of one daemon; see :attr:`AsyncClient.history`.

    Args:
        history: The blocking face.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    async def list(self, filters: Sequence[str] = (), *, limit: int = 0, ref: str = "") -> builtins.list[BuildRecord]:
        """Return builds; see :meth:`History.list`."""
        return await in_thread(partial(self._history.list, filters, limit=limit, ref=ref))

    async def follow(
        self,
        filters: Sequence[str] = (),
        *,
        limit: int = 0,
        ref: str = "",
        active_only: bool = False,
        is_live: bool = True,
    ) -> AsyncIterator[BuildEvent]:
        """Yield what is known of builds, and then what happens to them; see :meth:`History.follow`."""
        start = partial(self._history.follow, filters, limit=limit, ref=ref, active_only=active_only, is_live=is_live)
        events = await in_thread(start)
        try:
            while (event := await in_thread(partial(next, events, None), on_cancel=events.close)) is not None:
                yield event
        finally:
            await in_thread(events.close)

    async def get(self, ref: str) -> BuildRecord:
        """Return one build; see :meth:`History.get`."""
        return await in_thread(partial(self._history.get, ref))

    async def pin(self, ref: str) -> None:
        """Keep a build's record; see :meth:`History.pin`."""
        await in_thread(partial(self._history.pin, ref))

    async def unpin(self, ref: str) -> None:
        """Let the daemon remove a build's record when it is old; see :meth:`History.unpin`."""
        await in_thread(partial(self._history.unpin, ref))

    async def delete(self, ref: str) -> None:
        """Remove a build's record; see :meth:`History.delete`."""
        await in_thread(partial(self._history.delete, ref))

    async def finalize(self, ref: str) -> None:
        """Wait until the daemon has stored a build's trace; see :meth:`History.finalize`."""
        await in_thread(partial(self._history.finalize, ref))

    async def status(self, ref: str) -> AsyncIterator[StatusUpdate]:
        """Yield a build's progress; see :meth:`History.status`."""
        async for update in _each(self._history.status(ref)):
            yield update

    async def logs(self, ref: str) -> AsyncIterator[VertexLog]:
        """Yield what a build's steps wrote; see :meth:`History.logs`."""
        async for log in _each(self._history.logs(ref)):
            yield log

    async def error(self, ref: str) -> BuildKitError | None:
        """Return the error a build ended with; see :meth:`History.error`."""
        return await in_thread(partial(self._history.error, ref))

    async def trace(self, ref: str) -> bytes:
        """Return a build's trace; see :meth:`History.trace`."""
        return await in_thread(partial(self._history.trace, ref))

    async def provenance(self, ref: str, platform: str = "") -> Mapping[str, Any] | None:
        """Return how a build came about; see :meth:`History.provenance`."""
        return await in_thread(partial(self._history.provenance, ref, platform))

    async def read_blob(self, blob: BlobDescriptor | str) -> bytes:
        """Return a blob of the daemon's content store; see :meth:`History.read_blob`."""
        return await in_thread(partial(self._history.read_blob, blob))

    async def stream_blob(self, blob: BlobDescriptor | str) -> AsyncIterator[bytes]:
        """Yield a blob of the daemon's content store; see :meth:`History.stream_blob`."""
        async for chunk in _each(self._history.stream_blob(blob)):
            yield chunk


async def _each(items: Iterator[T]) -> AsyncIterator[T]:
    """Yield what a blocking iterator gives; none of its items is None."""
    while (item := await in_thread(partial(next, items, None))) is not None:
        yield item
