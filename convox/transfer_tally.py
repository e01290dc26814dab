"""What a transfer sent, and what it did not have to send because the other side had it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_client.oci import Digest, TransferProgress

_UNITS = ("B", "kB", "MB", "GB", "TB")


class TransferTally:
    """Counts blobs; reports may come from any thread, and several times for one blob."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[Digest, int] = {}
        self._kept: dict[Digest, int] = {}

    def add(self, progress: TransferProgress) -> None:
        """Take a report of :mod:`buildkit_client.oci`."""
        with self._lock:
            if not progress.is_skipped:
                self._kept.pop(progress.digest, None)
                self._sent[progress.digest] = progress.total
            elif progress.digest not in self._sent:
                self._kept[progress.digest] = progress.total

    @property
    def sent_bytes(self) -> int:
        """How large the blobs are that were sent."""
        return sum(self._sent.values())

    @property
    def kept_bytes(self) -> int:
        """How large the blobs are that were there already."""
        return sum(self._kept.values())

    def __str__(self) -> str:
        """Return a sentence for people."""
        sent = f"{_count(len(self._sent))} sent ({show_bytes(self.sent_bytes)})"
        return f"{sent}, {len(self._kept)} already there ({show_bytes(self.kept_bytes)})"


def show_bytes(count: int) -> str:
    """Return a number of bytes with its unit, powers of ten, three digits at most: ``1.25 GB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"


def _count(blobs: int) -> str:
    return "1 blob" if blobs == 1 else f"{blobs} blobs"
