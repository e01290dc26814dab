"""What a frontend's contexts need served by the session of the build."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the session must serve; names as in :class:`~buildkit_client.solve_options.SessionOptions`.

    Attributes:
        local_dirs: Directory by name.
        layouts: OCI image layout by store name.
        uploads: Stream by id.
    """

    local_dirs: Mapping[str, Path] = field(default_factory=dict)
    layouts: Mapping[str, Path] = field(default_factory=dict)
    uploads: Mapping[str, BinaryIO] = field(default_factory=dict)
