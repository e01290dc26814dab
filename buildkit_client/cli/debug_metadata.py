"""``debug dump-metadata``: shows what lies in the metadata files of a daemon that does not run.

Reference: cmd/buildctl/debug/dumpmetadata.go.
"""

from __future__ import annotations

import fcntl
import mmap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.cli.console import EXIT_OK, output, write_out
from buildkit_client.cli.debug_bolt import BoltFormatError, read_bolt
from buildkit_client.cli.go_values import go_quote
from buildkit_client.errors import BuildKitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from buildkit_client.cli.debug_bolt import Entry
    from buildkit_client.cli.flags import Invocation

_FILE_NAME = "metadata_v2.db"
_LOCK_TIMEOUT_S = 3.0
_LOCK_RETRY_S = 0.05


def run_dump_metadata(invocation: Invocation) -> int:
    """Print the entries of every metadata file below the daemon's state directory."""
    for path in metadata_files(Path(invocation.text("root"))):
        write_out(f"===== {path} =====\n")
        with path.open("rb") as file:
            _lock(file)
            entries = _read(file)
        for entry in entries:
            output().buffer.writelines(bucket_lines(entry))
        output().buffer.flush()
    return EXIT_OK


def metadata_files(root: Path) -> list[Path]:
    """The metadata files below a state directory, one for each worker at most, in order.

    Raises:
        OSError: The directory cannot be read.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    return [path for path in (folder / _FILE_NAME for folder in folders) if path.exists()]


def bucket_lines(bucket: Entry, indent: str = "") -> Iterator[bytes]:
    """A bucket's lines with line ends: its name, and below it its entries; values are written as they are."""
    yield f"{indent}bucket {go_quote(bucket.key)}:\n".encode()
    for entry in bucket.bucket or ():
        if entry.bucket is not None:
            yield from bucket_lines(entry, indent + "  ")
        else:
            yield f"{indent}  {go_quote(entry.key)}: ".encode() + entry.value + b"\n"


def _lock(file: BinaryIO) -> None:
    """Take the lock that a running daemon holds against readers."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > deadline:
                raise BuildKitError("timeout", hint="stop the buildkitd that uses this directory") from exc
            time.sleep(_LOCK_RETRY_S)
        else:
            return


def _read(file: BinaryIO) -> Sequence[Entry]:
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_bolt(data)
    except ValueError as exc:  # an empty file cannot be mapped
        raise BoltFormatError("invalid database", why="the file is empty") from exc
