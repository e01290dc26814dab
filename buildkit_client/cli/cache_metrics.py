"""How much of a build came from the cache, as ``--debug-json-cache-metrics`` prints it.

Reference: cmd/buildctl/cachemetrics.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit_client.progress.graph import is_user_step

if TYPE_CHECKING:
    from buildkit_client.progress.model import StatusUpdate

_FROM = re.compile(r"\[.*\] FROM")


@dataclass(slots=True)
class _Seen:
    name: str
    is_from: bool = False
    is_cached: bool = False
    is_completed: bool = False


class CacheMetrics:
    """Counts the steps of a build; feed it with every status message."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def update(self, update: StatusUpdate) -> None:
        """Take a message in."""
        for vertex in update.vertexes:
            seen = self._seen.setdefault(vertex.digest, _Seen(vertex.name))
            seen.is_from = seen.is_from or _FROM.match(vertex.name) is not None
            seen.is_cached = seen.is_cached or vertex.cached
            seen.is_completed = seen.is_completed or vertex.completed_ns is not None

    def lines(self, *, duration_s: float) -> list[str]:
        """A line for each of the user's steps that missed the cache, then one of JSON with the counts.

        Args:
            duration_s: How long the whole command took.
        """
        user = [seen for seen in self._seen.values() if is_user_step(seen.name)]
        missed = [seen for seen in user if not seen.is_cached and not seen.is_from]
        from_count = sum(seen.is_from for seen in user)
        counts = {
            "total": len(self._seen),
            "completed": sum(seen.is_completed for seen in self._seen.values()),
            "user_total": len(user),
            "user_cached": sum(seen.is_cached for seen in user),
            "user_completed": sum(seen.is_completed for seen in user),
            "user_cacheable": len(user) - from_count,
            "from": from_count,
            "miss": len(missed),
            "client_duration_ms": int(duration_s * 1000),
        }
        return [*(f"cache miss: {seen.name}" for seen in missed), json.dumps(counts, separators=(",", ":"))]
