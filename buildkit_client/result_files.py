"""Files that tell what a build made: each appears whole or not at all, with the modes that the umask wants.

Reference: cmd/buildctl/build.go, writeMetadataFile; containerd/continuity, AtomicWriteFile.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def metadata_json(metadata: Mapping[str, object]) -> str:
    """Write the exporters' answers as a metadata file has them: sorted, indented by two, HTML characters escaped."""
    text = json.dumps(dict(sorted(metadata.items())), indent=2, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OSError: It cannot be written; names this file, not the one that stands in for it meanwhile.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
            path.write_text(text, encoding="utf-8")
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            umask = os.umask(0)
            os.umask(umask)
            part.chmod(0o666 & ~umask)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
