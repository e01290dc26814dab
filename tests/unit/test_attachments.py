"""Which error of ours a failed build is about."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit_client.attachments import Attachments
from buildkit_client.errors import ExportError, OptionError
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


@pytest.mark.parametrize("exporter", [LocalExporter, TarExporter])
@pytest.mark.parametrize(("flag", "why"), [(os.ST_RDONLY, "is on a read-only file system"), (0, "no permission")])
def test_a_place_that_cannot_be_written(
    exporter: type[LocalExporter | TarExporter], flag: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flag))
    with pytest.raises(OptionError) as caught:
        Attachments({}, exporters=[exporter(dest=tmp_path / "out")])
    assert why in caught.value.why
