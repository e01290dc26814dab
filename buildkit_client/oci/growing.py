"""Reading a blob while somebody else still writes it, without ever giving out all of one that was not checked.

Reference: none; the writer is :class:`~buildkit_client.oci.blob_store.BlobWriter`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from buildkit_client.errors import LayoutError
from buildkit_client.oci.digest import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_client.oci.blob_store import BlobWriter

_MEASURED_BYTES = 8 << 20
_SOON_S = 5.0  # a reader may be in the middle of a request to a registry, which does not wait for ever


class GrowingBlob:
    """A blob of known size on its way into a store.

    Args:
        writer: Writes it, in another thread than those that read.
        size_bytes: How long it will be.
    """

    def __init__(self, writer: BlobWriter, size_bytes: int) -> None:
        self._writer = writer
        self._size_bytes = size_bytes
        self._changed = threading.Condition()
        self._began_s = time.monotonic()
        self._written_bytes = 0
        self._is_whole = self._is_broken = False

    def grow(self) -> None:
        """Tell that more was written."""
        with self._changed:
            self._written_bytes = self._writer.size_bytes
            self._changed.notify_all()

    def finish(self, *, is_whole: bool) -> None:
        """Tell that no more is written.

        Args:
            is_whole: The blob is sealed and has the digest that it should have.
        """
        with self._changed:
            self._is_whole, self._is_broken = is_whole, not is_whole
            self._changed.notify_all()

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start, as they come; the last ones only when all are there and right.

        Nothing is given before the rest is likely to come within seconds.

        Yields:
            Chunks of at most 1 MiB, in order, never empty.

        Raises:
            LayoutError: The blob did not become whole, or cannot be read.
        """
        position = 0
        with self._writer.open_written() as stream:
            while position < self._size_bytes:
                self._wait(position)
                chunk = stream.read(CHUNK_BYTES)
                if not chunk:
                    raise LayoutError(
                        "a temporary file got shorter while it was read", why="another program changed it"
                    )
                position += len(chunk)
                yield chunk

    def _wait(self, position: int) -> None:
        with self._changed:
            while not self._is_whole:
                if self._is_broken:
                    raise LayoutError("a blob did not come to its end")
                # Twice, since up to a buffer of the last bytes written may not be in the file yet.
                if self._written_bytes - position >= 2 * CHUNK_BYTES and (position or self._comes_soon()):
                    return
                self._changed.wait()

    def _comes_soon(self) -> bool:
        elapsed_s = time.monotonic() - self._began_s
        left = self._size_bytes - self._written_bytes
        return self._written_bytes >= _MEASURED_BYTES and left * elapsed_s <= _SOON_S * self._written_bytes
