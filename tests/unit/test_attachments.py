"""Which error of ours a failed build is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit_client.attachments import Attachments
from buildkit_client.errors import ExportError
from buildkit_client.options import Exporter, LocalExporter, TarExporter
from buildkit_client.session.filesend import FileReceiver
from buildkit_client.session.filesend_local import DirectoryReceiver

FULL = ExportError("cannot write out/a", why="No space left on device")


@pytest.mark.parametrize("kind", [LocalExporter, TarExporter])
def test_the_end_of_a_stream_that_we_ended(kind: type[LocalExporter | TarExporter], tmp_path: Path) -> None:
    """A daemon that is still sending says "EOF" and nothing else."""
    exporters: list[Exporter] = [TarExporter(dest=tmp_path / "other.tar"), kind(dest=tmp_path / "out")]
    attachments = Attachments({}, exporters=exporters)
    assert attachments.error("EOF") is None
    match attachments._receivers[1]:
        case DirectoryReceiver() as directory:
            directory._errors.append(FULL)
        case FileReceiver() as file:
            file.error = FULL
    assert attachments.error("EOF") is FULL
    assert attachments.error("failed to copy: EOF") is FULL
    assert attachments.error("exporting: cannot write out/a: No space left on device") is FULL
    assert attachments.error("another exporter failed") is None
