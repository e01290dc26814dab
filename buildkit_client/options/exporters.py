"""Exporters: where a build's result goes; here those that give files, and any other by name.

An exporter has two halves: attributes for the daemon, and, for results that come back to us, an output that says
where the bytes go. The output's path is never sent.

Reference: exporter/local; exporter/tar; client/solve.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from buildkit_client.errors import OptionError
from buildkit_client.options.compression import bool_text
from buildkit_client.options.known import check_exporter
from buildkit_client.options.outputs import OutputDirectory, as_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.options.outputs import Output, OutputFile, OutputStream


_SENDING = frozenset({"oci", "docker", "local", "tar"})


class Exporter(Protocol):
    """Where a build's result goes."""

    @property
    def type(self) -> str:
        """The exporter's name on the wire."""

    @property
    def output(self) -> Output | None:
        """Where bytes that come back to us go; None for results that stay with the daemon or a registry."""

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesOptions:
    """What the exporters that give files take.

    Attributes:
        platform_split: Put each platform's files into a folder of its own; None does so when there are several.
        attestation_prefix: Put in front of the names of attestations' files.
        source_date_epoch: Time of the files, seconds since 1970; None takes the build argument of that name.
        attrs: Further attributes, passed on as they are; they win over the fields above.
    """

    platform_split: bool | None = None
    attestation_prefix: str = ""
    source_date_epoch: int | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)

    def _files_attrs(self, kind: str) -> dict[str, str]:
        check_exporter(kind, self.attrs)
        attrs: dict[str, str] = {}
        if self.platform_split is not None:
            attrs["platform-split"] = bool_text(self.platform_split)
        if self.attestation_prefix:
            attrs["attestation-prefix"] = self.attestation_prefix
        if self.source_date_epoch is not None:
            attrs["source-date-epoch"] = str(self.source_date_epoch)
        return attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalExporter(FilesOptions):
    """Bring the result's files into a directory (``type=local``).

    Attributes:
        dest: The directory; made when it is missing.
        mode: ``copy`` leaves other files there alone, ``delete`` removes what the result does not have.

    The other fields are those of :class:`FilesOptions`.
    """

    dest: Path | str
    mode: Literal["copy", "delete"] = "copy"

    @property
    def type(self) -> str:
        """``local``."""
        return "local"

    @property
    def output(self) -> Output:
        """The directory."""
        return OutputDirectory(Path(self.dest))

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon.

        Raises:
            OptionError: There is no such mode, or an attribute is misspelt.
        """
        if self.mode not in ("copy", "delete"):
            raise OptionError(f"unknown mode {self.mode!r} of a local exporter", hint="choose copy or delete")
        attrs = self._files_attrs(self.type)
        if self.mode != "copy":
            attrs["mode"] = self.mode
        return attrs | dict(self.attrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TarExporter(FilesOptions):
    """Bring the result's files to us as a tar archive (``type=tar``).

    Attributes:
        dest: A file's path, or an output of another kind.

    The other fields are those of :class:`FilesOptions`.
    """

    dest: Path | str | OutputFile | OutputStream

    @property
    def type(self) -> str:
        """``tar``."""
        return "tar"

    @property
    def output(self) -> Output:
        """Where the archive goes."""
        return as_output(self.dest)

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes for the daemon.

        Raises:
            OptionError: An attribute is misspelt.
        """
        return self._files_attrs(self.type) | dict(self.attrs)


@dataclass(frozen=True, slots=True)
class RawExporter:
    """An exporter by name, with attributes passed on as they are.

    Attributes:
        type: For example ``tar``.
        attrs: Attributes for the daemon.
        output: Where bytes that come back to us go.
        unchecked: Take types and attributes that this library does not know, for daemons that know more.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    output: Output | None = None
    unchecked: bool = field(default=False, kw_only=True)

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes unchanged.

        Raises:
            OptionError: The type is not known, an attribute is misspelt, or an output is missing or in vain.
        """
        if not self.unchecked:
            check_exporter(self.type, self.attrs)
            if self.output is None and self.type in _SENDING:
                raise OptionError(
                    f"an exporter {self.type} sends its result to us, and nothing takes it",
                    hint="give an output, for example OutputFile(Path(...))",
                )
            if self.output is not None and self.type not in _SENDING:
                raise OptionError(f"an exporter {self.type} sends nothing to us", hint="leave out its output")
        return dict(self.attrs)
