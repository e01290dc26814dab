"""Which receiver takes what an exporter sends to us."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.errors import OptionError
from buildkit_client.options.outputs import OutputDirectory, OutputFile, OutputStream
from buildkit_client.session.filesend import FileReceiver, StreamReceiver
from buildkit_client.session.filesend_local import DirectoryReceiver

if TYPE_CHECKING:
    from buildkit_client.options import Exporter
    from buildkit_client.options.outputs import Output
    from buildkit_client.session.filesend import Receiver


def receiver_for(exporter: Exporter) -> Receiver:
    """Return the receiver of an exporter whose result is a file, a stream or a directory of ours.

    Raises:
        OptionError: The output cannot be written.
    """
    match exporter.output:
        case OutputFile(path):
            file = FileReceiver(Path(path))
            file.check()
            return file
        case OutputStream(stream):
            return StreamReceiver(stream)
        case OutputDirectory(path):
            directory = DirectoryReceiver(Path(path), mode=exporter.to_attrs().get("mode", "copy"))
            directory.check()
            return directory
        case other:
            raise OptionError(f"an exporter cannot write to {other!r}")


def place_of(output: Output) -> object:
    """Return what tells one output from another: two exporters with equal ones would write over each other."""
    return id(output.stream) if isinstance(output, OutputStream) else Path(output.path).resolve()
