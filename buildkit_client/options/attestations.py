"""Attestations: what a build says about the image it makes. Off unless asked for.

Reference: frontend/attestations/parse.go; solver/llbsolver/provenance.go, NewProvenanceCreator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Attestation(Protocol):
    """One kind of statement about an image."""

    @property
    def type(self) -> str:
        """``provenance`` or ``sbom``."""

    def to_value(self) -> str:
        """Return the parameters as the wire has them: comma-separated, quoted where needed, may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How the image came about (SLSA provenance).

    Attributes:
        mode: ``min`` names sources and parameters; ``max`` adds every step and the Dockerfile, build arguments
            included. Always sent, so that a daemon's default cannot change what becomes public.
        version: Of SLSA; empty takes the daemon's default, ``v1`` at present.
        builder_id: Says who built it, usually an address of the CI job.
        reproducible: Claim that the build gives the same result again.
        inline_only: Leave it out of ``local`` and ``tar`` exports.
        filename: Its file's name in ``local`` and ``tar`` exports; empty takes the daemon's default.
        capture_usage: Record what CPU, memory and network the steps used; with ``max``.
        complete_materials: Fail when a source cannot be named by digest.
    """

    mode: Literal["min", "max"] = "min"
    version: Literal["", "v1", "v0.2"] = ""
    builder_id: str = ""
    reproducible: bool = False
    inline_only: bool = False
    filename: str = ""
    capture_usage: bool = False
    complete_materials: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise OptionError(f"unknown provenance mode {self.mode!r}", hint="choose min or max")
        if self.version not in ("", "v1", "v0.2"):
            raise OptionError(f"unknown provenance version {self.version!r}", hint="choose v1 or v0.2")

    @property
    def type(self) -> str:
        """``provenance``."""
        return "provenance"

    def to_value(self) -> str:
        """Return the parameters: ``mode`` and every other that is set."""
        texts = (("version", self.version), ("builder-id", self.builder_id), ("filename", self.filename))
        params = {"mode": str(self.mode)} | {key: text for key, text in texts if text}
        for key, wanted in (
            ("reproducible", self.reproducible),
            ("inline-only", self.inline_only),
            ("capture-usage", self.capture_usage),
            ("complete-materials", self.complete_materials),
        ):
            if wanted:
                params[key] = "true"
        return _csv(params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbom:
    """What is in the image (a software bill of materials), found out by a scanner.

    Attributes:
        generator: Image of the scanner; empty takes the daemon's default.
        params: Passed on to the scanner.
    """

    generator: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "generator" in self.params:
            raise OptionError("the scanner's image is no parameter of it", hint="give it as generator=")

    @property
    def type(self) -> str:
        """``sbom``."""
        return "sbom"

    def to_value(self) -> str:
        """Return the generator and the parameters; empty for all defaults."""
        return _csv({"generator": self.generator, **self.params} if self.generator else dict(self.params))


def attestation_attrs(attestations: Sequence[Attestation]) -> dict[str, str]:
    """Return the frontend's attributes for attestations.

    Raises:
        OptionError: There are two of one kind, or a parameter has no name.
    """
    attrs: dict[str, str] = {}
    for one in attestations:
        key = f"attest:{one.type}"
        if key in attrs:
            raise OptionError(f"two attestations of type {one.type}", hint="give one of each kind")
        attrs[key] = one.to_value()
    return attrs


def _csv(params: Mapping[str, str]) -> str:
    if any(not key or "=" in key for key in params):
        raise OptionError("a parameter of an attestation has no name, or one with =")
    return ",".join(_csv_field(f"{key}={value}") for key, value in params.items())


def _csv_field(text: str) -> str:
    """Quote a field where it must be, with quotes doubled inside."""
    return '"' + text.replace('"', '""') + '"' if any(letter in text for letter in ',"\r\n') else text
