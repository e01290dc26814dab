"""What an import keeps for a later export: everything in a file that this program has no place for in its records.

A build that came from elsewhere may have fields in its record that nobody here knows, and releases of the place it came
from. They lie beside its log, so that the next export has them again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from convox.models import Build
    from convox.store import Store

MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What came with a build.

    Attributes:
        fields: Fields of ``build.json`` by name, as the JSON parser gives them.
        releases: Records of ``releases.json``, newest first.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    releases: Sequence[Mapping[str, object]] = ()


def kept_path(logs_dir: Path, app: str, build_id: str) -> Path:
    """Return where it lies, whether or not there is any.

    Raises:
        StoreError: The name of the app or the build cannot be part of a path.
    """
    from convox.store.logs import log_path  # noqa: PLC0415 (not needed by every command)

    return log_path(logs_dir, app, build_id).with_suffix(".kept.json")


def forget(store: Store, build: Build) -> None:
    """Remove what was kept for a build, if anything was.

    Raises:
        StoreError: It cannot be removed.
    """
    path = kept_path(store.logs_dir, build.app, build.id)
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StoreError(f"cannot remove {path}", why=exc.strerror or str(exc)) from exc


def keep(store: Store, build: Build, kept: Kept) -> None:
    """Write what came with a build; nothing where nothing did.

    Raises:
        StoreError: It cannot be written.
    """
    from convox.store.files import make_folder, open_file  # noqa: PLC0415 (not needed by every command)

    if not (kept.fields or kept.releases):
        return
    path = kept_path(store.logs_dir, build.app, build.id)
    make_folder(path.parent)
    data = json.dumps({"fields": dict(kept.fields), "releases": [dict(one) for one in kept.releases]}).encode()
    try:
        with os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(data)
    except OSError as exc:
        raise StoreError(f"cannot write {path}", why=exc.strerror or str(exc)) from exc


def read_kept(store: Store, build: Build) -> Kept:
    """Return what came with a build; empty where nothing did.

    Raises:
        StoreError: It cannot be read, or somebody changed it.
    """
    from convox.regular_files import read_regular_file  # noqa: PLC0415 (not needed by every command)

    path = kept_path(store.logs_dir, build.app, build.id)
    try:
        document = json.loads(read_regular_file(path, limit_bytes=MAX_BYTES, follow_symlinks=False))
        return Kept(dict(document["fields"]), [dict(one) for one in document["releases"]])
    except FileNotFoundError:
        return Kept()
    except OSError as exc:
        raise StoreError(f"cannot read {path}", why=exc.strerror or str(exc)) from exc
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise StoreError(f"{path} is damaged", why=str(exc) or type(exc).__name__, hint="delete it") from exc
